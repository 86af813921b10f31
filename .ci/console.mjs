// Drives the console page in headless Chromium, as a person would: against a server of its own, through a proxy
// below a path, without a server, and with one that refuses.
//
//   NODE_PATH=/some/node_modules node .ci/console.mjs target/release/holdline screenshots/
//
// Needs playwright-core and axe-core (from NODE_PATH or ./node_modules) and a Chromium (CHROMIUM, else the usual
// places). One line a check; exit code 1 if one failed.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import * as lib from '../tests/support/shared.mjs';
import { PATIENCE, becomes, serve } from '../tests/support/shared.mjs';

const [binary, shots] = process.argv.slice(2);
if (!binary || !shots) {
  console.error('usage: node .ci/console.mjs BINARY SCREENSHOT_DIRECTORY');
  process.exit(2);
}
const TRANSPORTS = ['ws', 'sse', 'poll'];
const axe = fs.readFileSync(lib.place('axe-core/axe.min.js') ?? 'axe-core is neither in NODE_PATH nor in node_modules', 'utf8');
const began = Date.now();

/** A check, to which pages may belong: they are closed at its end. */
const check = (name, run) => lib.check(name, async () => {
  const left = [];
  try {
    return await run(({ page }) => { left.push(page); return page; });
  } finally {
    await Promise.all(left.map(page => page.close()));
  }
});

// ---------------------------------------------------------------- servers

/** A proxy below `/realtime/`, whose `rewrite` may answer itself or change a page. */
const PREFIX = '/realtime';
function proxy(port) {
  const own = { port: 0, asked: [], refuses: false, hides: false, inject: '' };
  const inner = url => (url.startsWith(`${PREFIX}/`) ? url.slice(PREFIX.length) : null);
  const server = http.createServer((req, res) => {
    const url = inner(req.url);
    own.asked.push(`${req.method} ${req.url}`);
    if (url === null) return res.writeHead(404).end('not below the path');
    if (own.hides && url === '/client.js') return res.writeHead(404).end('hidden');
    if (own.refuses && /^\/(events|poll|stats|channels\b.*|publish)\b/.test(url) && !/text\/html/.test(req.headers.accept)) {
      res.writeHead(403, { 'Content-Type': 'application/json' });
      return res.end('{"error":"forbidden","message":"this is <b>not</b> allowed to you here"}');
    }
    const onward = http.request({ host: '127.0.0.1', port, path: url, method: req.method, headers: req.headers }, answer => {
      const isPage = /^text\/html/.test(answer.headers['content-type']) && own.inject;
      if (isPage) delete answer.headers['content-length'];
      res.writeHead(answer.statusCode, answer.headers);
      if (isPage) res.write(own.inject);
      answer.pipe(res);
    });
    onward.on('error', () => res.destroy());
    res.on('close', () => onward.destroy());
    req.pipe(onward);
  });
  server.on('upgrade', (req, socket, head) => {
    own.asked.push(`UPGRADE ${req.url}`);
    socket.on('error', () => {});
    const fields = req.rawHeaders.reduce((all, v, i) => all + (i % 2 ? `: ${v}\r\n` : v), '');
    if (own.refuses) return refuseSocket(req, socket);
    const onward = net.connect(port, '127.0.0.1', () => {
      onward.write(`GET ${inner(req.url)} HTTP/1.1\r\n${fields}\r\n`);
      onward.write(head);
      onward.pipe(socket).pipe(onward);
    });
    onward.on('error', () => socket.destroy());
    socket.on('close', () => onward.destroy());
  });
  return new Promise(done => server.listen(0, '127.0.0.1', () => { own.port = server.address().port; own.close = () => server.close(); done(own); }));
}

/** As a server says it to a browser, which cannot see the status of a refused handshake: 101, Close 4403. */
function refuseSocket(req, socket) {
  const accept = crypto.createHash('sha1').update(`${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: holdline.v1.json\r\n\r\n`);
  const reason = Buffer.from('forbidden');
  socket.write(Buffer.concat([Buffer.from([0x88, 2 + reason.length, 4403 >> 8, 4403 & 255]), reason]));
}

// ---------------------------------------------------------------- what the page shows

const column = (page, t) => page.locator(`section[data-transport="${t}"]`);
const state = (page, t) => column(page, t).getAttribute('data-state');
const note = (page, t) => column(page, t).locator('.note').textContent();
const act = (page, t, action) => column(page, t).locator(`[data-action="${action}"]`).click();
const agree = page => page.getAttribute('#agreement', 'data-agree');
const facts = (page, t) => column(page, t).locator('.facts dd').allTextContents();

/** Oldest first. */
const rows = (page, t) => page.$$eval(`section[data-transport="${t}"] [data-id]`, list => list.reverse().map(r => ({
  id: r.dataset.id, replayed: 'replayed' in r.dataset, text: r.querySelector('.payload').textContent,
})));
const ids = async (page, t) => (await rows(page, t)).map(r => r.id);

async function publish(page, text, what = 'Published') {
  const before = await page.textContent('#answer');
  await page.fill('#payload', text);
  await page.press('#payload', 'Enter');
  await becomes(`an answer to ${text}`, async () => {
    const now = await page.textContent('#answer');
    return (now !== before && !now.startsWith('Still')) || now;
  });
  assert.match(await page.textContent('#answer'), new RegExp(`^${what} \\S+-\\d+`));
}

async function allLive(page, ms) {
  for (const t of TRANSPORTS) await becomes(`${t} live`, async () => (await state(page, t)) === 'live' || state(page, t), ms);
}

/** All columns show the same ids, each once, `n` of them. */
async function same(page, n) {
  for (const t of TRANSPORTS) {
    await becomes(`${n} messages on ${t}`, async () => { const l = await ids(page, t); return l.length >= n || l; });
  }
  await becomes('agreement', async () => (await agree(page)) === 'yes' || page.textContent('#agreement'));
  const all = await Promise.all(TRANSPORTS.map(t => ids(page, t)));
  for (const list of all) {
    assert.equal(new Set(list).size, list.length, `an id twice: ${list}`);
    assert.deepEqual(list, all[0]);
  }
  assert.equal(all[0].length, n);
  return all[0];
}

async function accessible(page) {
  await page.evaluate(axe); // by the debugger: the page's own policy would not let it in
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const words = found.violations.map(v => `${v.id} (${v.impact}): ${v.nodes.slice(0, 3).map(one => one.target.join(' ')).join(', ')}`);
  assert.deepEqual(words, []);
  return `${found.passes.length} rules of axe-core hold`;
}

async function fits(page) {
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert.ok(wide <= room, `${wide} px wide in ${room}`);
}

// ---------------------------------------------------------------- the run

fs.mkdirSync(shots, { recursive: true });
const shoot = (page, name) => page.screenshot({ path: path.join(shots, `console-${name}.png`), fullPage: true });
const listens = port => serve(binary, '--listen', `127.0.0.1:${port}`);
let server = await listens(0);
const { base } = server;
const channel = 'console-test';
const at = `${base}/channels/${channel}`;
const browser = await lib.chromium({ args: ['--host-resolver-rules=MAP evil.example 127.0.0.1'] });

const troubles = [];
const strangers = [];

async function open(url, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1360, height: 1000 }, colorScheme: 'light', ...options });
  page.on('pageerror', e => troubles.push(String(e)));
  page.on('console', m => { if (/Content Security Policy|Refused to|TrustedHTML/i.test(m.text())) troubles.push(m.text()); });
  page.on('dialog', d => { troubles.push(`dialog: ${d.message()}`); d.dismiss(); });
  page.on('request', r => {
    const u = r.url();
    if (!u.startsWith('data:') && new URL(u).host !== new URL(url).host) strangers.push(u);
  });
  const answer = await page.goto(url);
  return { page, answer };
}

const quiet = (await open(`${base}/channels/quiet`)).page; // nothing happens there: heartbeats are looked for at the end

let count = 0;
const { page, answer } = await open(at);

await check('the page is html with the policy', async () => {
  assert.equal(answer.status(), 200);
  const h = answer.headers();
  assert.match(h['content-type'], /^text\/html/);
  const policy = h['content-security-policy'] || '';
  for (const part of ["default-src 'none'", "script-src 'self' 'sha256-", "style-src 'sha256-", "connect-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'"]) {
    assert.ok(policy.includes(part), `no ${part}`);
  }
  assert.ok(!policy.includes('unsafe'), policy);
  return `${(await answer.body()).length} bytes`;
});

await check('it opens on the channel of its address', async () => {
  await becomes('its channel', async () => (await page.inputValue('#channel')) === channel || page.inputValue('#channel'));
});

await check('the three columns are live', () => allLive(page));

await check('5 messages: the same ids in all three', async () => {
  for (let i = 1; i <= 5; i++) await publish(page, `message ${i}`);
  count += 5;
  const list = await same(page, count);
  for (const t of TRANSPORTS) {
    assert.deepEqual((await rows(page, t)).map(r => r.text), [1, 2, 3, 4, 5].map(i => `message ${i}`));
    assert.ok((await rows(page, t)).every(r => !r.replayed), `${t} marks live messages as replayed`);
  }
  return `${list[0]} … ${list.at(-1)}`;
});

await check('published over the WebSocket', async () => {
  await page.selectOption('#over', 'ws');
  await publish(page, 'by frame');
  await page.selectOption('#over', 'http');
  count += 1;
  await same(page, count);
});

await check('latency and round trip are shown for each', async () => {
  for (const t of TRANSPORTS) {
    await becomes(`figures of ${t}`, async () => (await facts(page, t)).slice(1, 3).every(f => /^(< 1|[\d,]+) ms$/.test(f)) || facts(page, t));
  }
  return (await Promise.all(TRANSPORTS.map(async t => `${t} ${(await facts(page, t)).slice(1, 3).join(', ')}`))).join('; ');
});

for (const t of TRANSPORTS) {
  await check(`cut ${t}: 3 more, resumed: nothing lost, nothing doubled, 3 replayed`, async () => {
    await act(page, t, 'cut');
    await becomes('cut', async () => (await state(page, t)) === 'cut' || state(page, t));
    await becomes('amber', async () => (await agree(page)) === 'waiting' || agree(page));
    for (let i = 1; i <= 3; i++) await publish(page, `while ${t} is cut ${i}`);
    for (const o of TRANSPORTS.filter(o => o !== t)) {
      await becomes(`${o} goes on`, async () => (await ids(page, o)).length === count + 3);
    }
    assert.equal((await ids(page, t)).length, count, 'the cut line received something');
    await becomes('what was missed is counted', async () => /^3 messages missed/.test(await note(page, t)) || note(page, t));
    await act(page, t, 'resume');
    await becomes(`${t} live`, async () => (await state(page, t)) === 'live' || state(page, t));
    count += 3;
    const list = await same(page, count);
    assert.deepEqual((await rows(page, t)).filter(r => r.replayed).map(r => r.id), list.slice(-3));
    await becomes('it says so', async () => /^Resumed from \S+, 3 messages replayed/.test(await note(page, t)) || note(page, t));
  });
}

await check('all three cut, 10 published, all resumed', async () => {
  for (const t of TRANSPORTS) await act(page, t, 'cut');
  await page.fill('#payload', 'ten');
  await page.click('[data-action="publish-10"]');
  await becomes('10 published', async () => {
    const now = await page.textContent('#answer');
    return /^10 published/.test(now) || now;
  });
  for (const t of TRANSPORTS) await act(page, t, 'resume');
  await allLive(page);
  count += 10;
  const list = await same(page, count);
  for (const t of TRANSPORTS) {
    assert.deepEqual((await rows(page, t)).slice(-10).map(r => r.text), [...Array(10).keys()].map(i => `ten ${i + 1}`));
    assert.ok((await rows(page, t)).slice(-10).every(r => r.replayed), `${t} did not mark them as replayed`);
  }
  await publish(page, 'live again');
  count += 1;
  await same(page, count);
  for (const t of TRANSPORTS) assert.equal((await rows(page, t)).at(-1).replayed, false, `${t}: live after the replay`);
  return `${list.length} ids so far`;
});

// ---------------------------------------------------------------- what others publish

const EVIL = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script><svg onload=alert(1)>';

await check('a hostile payload and event name are inert', async () => {
  const name = '<img/src=x/onerror=window.pwned=1>';
  await act(page, 'ws', 'wire'); // there, too
  await publish(page, EVIL);
  const sent = await fetch(at, { method: 'POST', headers: { Event: name, 'Content-Type': 'text/html' }, body: EVIL });
  assert.ok(sent.ok, `publishing: ${sent.status}`);
  count += 2;
  await same(page, count);
  await becomes('it is on the wire', async () => (await column(page, 'ws').locator('.frames').textContent()).includes('onerror'));
  await act(page, 'ws', 'wire');
  for (const t of TRANSPORTS) {
    assert.deepEqual((await rows(page, t)).slice(-2).map(r => r.text), [EVIL, EVIL]);
    assert.ok((await column(page, t).textContent()).includes(name), 'the event name is not shown');
  }
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.equal(await page.locator('section img, section script, section svg').count(), 0);
});

await check('the policy keeps a string from becoming markup or script', async () => {
  const outcome = await page.evaluate(html => {
    const tried = [() => { document.body.innerHTML += html; }, () => document.write(html), () => setTimeout('window.pwned=1'), () => { document.createElement('script').text = 'window.pwned=1'; }];
    return tried.map(one => { try { one(); return 'done'; } catch (e) { return e.name; } });
  }, EVIL);
  assert.deepEqual(outcome, ['TypeError', 'TypeError', 'TypeError', 'TypeError']);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.ok(troubles.length > 0, 'nothing was reported');
  troubles.length = 0;
});

await check('bytes, JSON and an empty payload are shown', async () => {
  for (const [type, body] of [['application/octet-stream', new Uint8Array([255, 0, 254])], ['application/json', '{"a":[1,null]}'], ['application/json', '"<b>"'], ['text/plain', '']]) {
    assert.ok((await fetch(at, { method: 'POST', headers: { 'Content-Type': type }, body })).ok, type);
  }
  count += 4;
  await same(page, count);
  for (const t of TRANSPORTS) {
    assert.deepEqual((await rows(page, t)).slice(-4).map(r => r.text), ['binary, 3 bytes: ff 00 fe', '{"a":[1,null]}', '"<b>"', 'empty']);
  }
});

await check('a gap is shown on the line that has it', async () => {
  await act(page, 'sse', 'cut');
  await publish(page, 'to be forgotten');
  count += 1;
  await becomes('forgotten', async () => {
    if (/^Forgotten/.test(await page.textContent('#answer'))) return true;
    await page.click('[data-action="forget"]'); // it asks again, and not for ever
    return page.textContent('#answer');
  });
  await act(page, 'sse', 'resume');
  await column(page, 'sse').locator('[data-gap="trimmed"]').waitFor({ timeout: PATIENCE });
  assert.match(await column(page, 'sse').locator('[data-gap]').textContent(), /^Gap \(trimmed\): what was missed is no longer kept/);
  await publish(page, 'after the gap');
  count += 1;
  await becomes('agreement', async () => (await agree(page)) === 'yes' || page.textContent('#agreement'));
  assert.equal((await ids(page, 'sse')).length, count - 1);
});

await check('what goes over the wire is shown', async () => {
  for (const t of TRANSPORTS) await act(page, t, 'wire');
  await publish(page, 'look at the wire');
  for (const [t, marks] of [['ws', ['"op":"message"']], ['sse', ['event: message', 'id: ']], ['poll', ['GET /poll?', '200 OK', '"messages":[']]]) {
    for (const mark of [...marks, 'look at the wire']) {
      await becomes(`${mark} on ${t}`, async () => (await column(page, t).locator('.frames').textContent()).includes(mark));
    }
  }
  for (const t of TRANSPORTS) await act(page, t, 'wire');
});

await check('nothing is to be complained of for screen readers', () => accessible(page));

await check('a wrong channel name shows the rule and changes nothing', async () => {
  const before = await ids(page, 'ws');
  await page.fill('#channel', 'no/slash');
  await page.press('#channel', 'Enter');
  assert.equal(await page.getAttribute('#channel', 'aria-invalid'), 'true');
  assert.match(await page.textContent('#channel-hint'), /letter or digit/);
  assert.deepEqual(await ids(page, 'ws'), before);
});

await check('another channel opens empty, and its address works', async () => {
  await page.fill('#channel', `${channel}.b`);
  await page.press('#channel', 'Enter');
  await becomes('its address', () => page.url() === `${at}.b` || page.url());
  await allLive(page);
  for (const t of TRANSPORTS) assert.deepEqual(await ids(page, t), []);
  await publish(page, 'over here');
  await same(page, 1);
  await page.reload();
  await allLive(page);
  assert.equal(await page.inputValue('#channel'), `${channel}.b`);
});

await check('the keyboard alone publishes, cuts and resumes', async () => {
  const focused = () => page.evaluate(() => document.activeElement.dataset.action || document.activeElement.id || document.activeElement.textContent);
  const tabTo = async (what, least = 1) => {
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press('Tab');
      if (i + 1 >= least && (await focused()) === what) return;
    }
    throw new Error(`no way to ${what}, only to ${await focused()}`);
  };
  await page.evaluate(() => scrollTo(0, 0));
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'skip');
  await tabTo('payload');
  await page.keyboard.press('Enter');
  await same(page, 1);
  await tabTo('cut');
  await page.keyboard.press('Enter');
  await becomes('cut', async () => (await state(page, 'ws')) === 'cut');
  await page.keyboard.press('Enter'); // the focus stays on the button
  await allLive(page);
  await tabTo('match');
  await tabTo(`${channel}.b`);
  await page.keyboard.press('Enter');
  await becomes('the members have the focus', async () => (await focused()) === 'members-title');
  await becomes('members', async () => (await page.locator('#members tbody tr').count()) === 3 || page.textContent('#members'));
  await page.keyboard.press('Escape');
  assert.equal(await focused(), `${channel}.b`);
  assert.equal(await page.isVisible('#members'), false);
});

// ---------------------------------------------------------------- for an operator

await check('the numbers of /stats are shown, with plots', async () => {
  await page.locator('#stats').waitFor({ state: 'visible', timeout: PATIENCE });
  const { published } = await (await fetch(`${base}/stats`)).json();
  await publish(page, 'one more');
  await becomes('it counts', async () => (await page.textContent('#stats')).includes(`${published + 1} in all`) || page.textContent('#stats'));
  const labels = await page.$$eval('#stats svg', all => all.map(s => s.getAttribute('aria-label')));
  assert.equal(labels.length, 6);
  assert.match(labels[1], /^Published per second over the last two minutes: now [\d.]+, at most [\d.]+$/);
  const points = await page.$$eval('#stats path:last-child', all => all.map(p => p.getAttribute('d').split('L').length));
  assert.ok(points.every(p => p > 1), `drawn: ${points}`);
  assert.match(await page.textContent('#server'), /^version \S+ · epoch \S+ · up \d/);
});

const listeners = [];
function listen(name) {
  return new Promise(done => {
    const req = http.get(`${base}/events?channel=${name}`, res => { res.resume(); done(); });
    req.on('error', () => {});
    listeners.push(req);
  });
}

const names = () => page.$$eval('#list tbody button', all => all.map(b => b.textContent));

await check('2,000 channels: the busiest first, never more rows than 50, or 200', async () => {
  const line = i => JSON.stringify({ channel: `room.${i}`, text: 'x' });
  for (const from of [0, 1000]) {
    const body = [...Array(1000).keys()].map(i => line(from + i)).join('\n');
    assert.equal((await fetch(`${base}/publish`, { method: 'POST', headers: { 'Content-Type': 'application/x-ndjson' }, body })).status, 200);
  }
  for (const [name, times] of [['busy.hall', 12], ['busy.kitchen', 7], ['room.77', 5]]) for (let i = 0; i < times; i++) await listen(name);
  await page.locator('#channels').scrollIntoViewIfNeeded();
  await page.mouse.move(5, 5);
  await becomes('the busiest', async () => (await names()).slice(0, 3).join() === 'busy.hall,busy.kitchen,room.77' || names());
  assert.equal((await names()).length, 50);
  const foot = () => page.textContent('#channels-foot');
  await becomes('its foot', async () => /^50 of 2,0\d\d channels, those with the most subscribers/.test(await foot()) || foot());
  await becomes('its first row', async () => /^busy\.hall12/.test(await page.textContent('#list tbody tr')));
  await page.click('[data-action="more"]');
  await becomes('more', async () => (await names()).length === 200 || (await names()).length);
});

await check('a part of the name finds channels; what none can have is said', async () => {
  await page.fill('#match', '.77');
  await becomes('found', async () => (await names()).length === 11 || names());
  assert.equal((await names())[0], 'room.77');
  await page.fill('#match', 'no channel');
  await becomes('said', async () => /^No channel can have such a name/.test(await page.textContent('#channels-foot')));
  await becomes('none', async () => !(await names()).length || names());
  await page.fill('#match', '');
  await becomes('all again', async () => (await names()).length === 200 || (await names()).length);
});

await check('members of a channel, and from there to it', async () => {
  await page.click('#list tbody tr:first-child button');
  await becomes('12 members', async () => (await page.locator('#members tbody tr').count()) === 12);
  await becomes('their sum', async () => /^12 subscribers: 12 streams\.$/.test(await page.textContent('#members-sum')) || page.textContent('#members-sum'));
  await fits(page);
  await page.click('[data-action="listen"]');
  await becomes('its address', () => page.url() === `${base}/channels/busy.hall` || page.url());
  await allLive(page);
  await becomes('this page is among them', async () => /this page/.test(await page.textContent('#members tbody')) || page.textContent('#members'));
  await becomes('15 members', async () => (await page.locator('#members tbody tr').count()) === 15);
  await page.click('[data-action="close-members"]');
});
listeners.forEach(one => one.destroy());

// ---------------------------------------------------------------- a page of another origin

const evilPage = http.createServer((_, res) => {
  res.writeHead(200, { 'Content-Type': 'text/html' });
  res.end('<!doctype html><title>evil</title>');
});
await new Promise(r => evilPage.listen(0, '127.0.0.1', r));
const evil = await browser.newPage();

const messagesKept = async () => (await (await fetch(at)).json()).messages;

async function foreignPost(frame, mode, status) {
  const before = await messagesKept();
  const [seen] = await Promise.all([
    status,
    frame.evaluate(([url, m]) => fetch(url, { method: 'POST', body: 'forged', mode: m }).catch(() => {}), [at, mode]),
  ]);
  assert.equal(seen, 403);
  assert.equal(await messagesKept(), before, 'it was published all the same');
}

const plainStatus = () => evil.waitForResponse(r => r.url() === at && r.request().method() === 'POST', { timeout: PATIENCE })
  .then(r => r.status());

/** The status of an answer that the browser withholds from the page is known to the debugger only. */
function withheldStatus(debug) {
  return new Promise((done, fail) => {
    setTimeout(() => fail(new Error('no answer was seen')), PATIENCE).unref();
    debug.on('Network.responseReceivedExtraInfo', e => done(e.statusCode));
  });
}

await evil.goto(`http://evil.example:${evilPage.address().port}/`);
await check('a POST from another origin is refused with 403 (no-cors)', () => foreignPost(evil, 'no-cors', plainStatus()));

await check('a POST from another origin is refused with 403 (cors)', async () => {
  const debug = await evil.context().newCDPSession(evil);
  await debug.send('Network.enable');
  await foreignPost(evil, 'cors', withheldStatus(debug));
  await debug.detach();
});

await check('a POST from an opaque origin is refused with 403', async () => {
  await evil.setContent('<iframe sandbox="allow-scripts" srcdoc="<p>sandboxed"></iframe>');
  const frame = await (await evil.waitForSelector('iframe')).contentFrame();
  await frame.waitForSelector('p');
  await foreignPost(frame, 'no-cors', plainStatus());
});

await check('a WebSocket from another origin is refused', async () => {
  for (const target of [`${base}/ws?channel=${channel}`, at]) {
    const outcome = await evil.evaluate(url => new Promise(done => {
      const s = new WebSocket(url);
      s.onopen = () => done('open');
      s.onclose = e => done(`closed ${e.code}`);
    }), target.replace(/^http/, 'ws'));
    assert.equal(outcome, 'closed 1006', target);
  }
});

await check('the page does not load in a frame of another origin', async () => {
  await evil.setContent(`<iframe src="${base}/"></iframe>`);
  await becomes('blocked', async () => evil.frames().some(f => f.url().startsWith('chrome-error:')) || evil.frames().map(f => f.url()));
});

await check('the server under a foreign host name is refused with 421', async () => {
  const r = await evil.goto(`http://evil.example:${server.port}/`);
  assert.equal(r.status(), 421);
});

await evil.close();
evilPage.close();

// ---------------------------------------------------------------- how it looks

await page.close();
const looks = {
  light: {},
  dark: { colorScheme: 'dark' },
  phone: { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true },
};
await Promise.all(Object.entries(looks).map(([name, options]) => check(`${name}: fits its width, readable, screenshot taken`, async own => {
  const p = own(await open(`${at}.${name}`, options));
  await allLive(p);
  await publish(p, 'hello');
  await p.fill('#event', 'price');
  await publish(p, '{"symbol":"ACME","price":42.5}');
  await p.fill('#event', '');
  await same(p, 2);
  await act(p, 'sse', 'cut');
  await publish(p, 'while the line is cut');
  await act(p, 'sse', 'resume');
  await allLive(p);
  await same(p, 3);
  await p.locator('#channels').scrollIntoViewIfNeeded();
  await p.locator('#list tbody button').first().click();
  await becomes('members', async () => /connection/.test(await p.textContent('#members-foot')));
  await fits(p);
  const said = name === 'light' ? '' : await accessible(p); // that was looked at above
  await p.evaluate(() => scrollTo(0, 0));
  await shoot(p, name);
  return said;
})));

await check('`/` opens the channel demo', async own => {
  const p = own(await open(`${base}/`));
  await allLive(p);
  assert.equal(await p.inputValue('#channel'), 'demo');
});

// ---------------------------------------------------------------- below a path, and refused

const between = await proxy(server.port);
const below = `http://127.0.0.1:${between.port}${PREFIX}`;

await check('below a path everything works', async own => {
  for (const [url, name] of [[`${below}/`, 'demo'], [`${below}/channels/${channel}.c`, `${channel}.c`]]) {
    const p = own(await open(url));
    await allLive(p);
    assert.equal(await p.inputValue('#channel'), name);
    await publish(p, 'through a proxy');
    await same(p, 1);
    await p.locator('#channels').scrollIntoViewIfNeeded();
    await becomes('channels', async () => (await p.locator('#list tbody tr').count()) === 50);
    assert.ok((await p.textContent('#cmds')).includes(`${below}/channels/${name}`));
    }
  assert.deepEqual(between.asked.filter(a => !a.includes(`${PREFIX}/`)), [], 'asked for beside the path');
});

await check('script that something puts into the page does not run', async own => {
  between.inject = '<script>window.pwned=1</script><img src="x" onerror="window.pwned=1"><script src="data:text/javascript,window.pwned=1"></script><a style="color:red" href="javascript:window.pwned=1">x</a>';
  const p = own(await open(`${below}/`));
  await allLive(p);
  await p.click('a:text-is("x")');
  assert.equal(await p.evaluate(() => window.pwned), undefined);
  await becomes('reported', async () => troubles.length >= 3 || troubles);
  troubles.length = 0;
  between.inject = '';
});

await check('a proxy that hides the client: the page says so, and shows the rest', async own => {
  between.hides = true;
  const p = own(await open(`${below}/`));
  await becomes('said', async () => /This page cannot listen: \/realtime\/client\.js does not load/.test(await p.textContent('#agreement')) || p.textContent('#agreement'));
  await p.locator('#stats').waitFor({ state: 'visible', timeout: PATIENCE });
  between.hides = false;
  await p.click('#agreement button');
  await allLive(p);
});

await check('refused: a readable state, and no storm of attempts', async own => {
  between.refuses = true;
  const p = own(await open(`${below}/`));
  for (const t of TRANSPORTS) {
    await becomes(`${t} refused`, async () => (await state(p, t)) === 'refused' || state(p, t));
    await becomes('it says so', async () => /^Refused \((403|forbidden)\): .*It does not try again by itself\.$/.test(await note(p, t)) || note(p, t));
  }
  assert.match(await note(p, 'sse'), /this is <b>not<\/b> allowed to you here/);
  await becomes('the page, too', async () => /The server refuses this page/.test(await p.textContent('#agreement')) || p.textContent('#agreement'));
  await becomes('the numbers, too', async () => /^403 this is <b>not/.test(await p.textContent('#server')) || p.textContent('#server'));
  await p.fill('#payload', 'x');
  await p.press('#payload', 'Enter');
  await becomes('publishing, too', async () => /^forbidden: this is/.test(await p.textContent('#answer')) || p.textContent('#answer'));
  const asked = between.asked.length;
  await accessible(p);
  await p.waitForTimeout(3000); // in which somebody who came back would have
  assert.deepEqual(between.asked.slice(asked), []);
  await shoot(p, 'refused');
  between.refuses = false;
  await p.click('#agreement button');
  await allLive(p);
});
between.close();

// ---------------------------------------------------------------- a server that is gone

await check('heartbeats are counted on all three', async () => {
  for (const t of TRANSPORTS) await becomes(`a heartbeat on ${t}`, async () => Number((await facts(quiet, t))[3]) > 0 || facts(quiet, t));
});

await check('a server that is gone: what happens next, and when', async () => {
  await publish(quiet, 'before');
  await same(quiet, 1);
  await act(quiet, 'poll', 'cut');
  await publish(quiet, 'lost with its server');
  await becomes('missed', async () => /^1 message missed/.test(await note(quiet, 'poll')) || note(quiet, 'poll'));
  await server.stop();
  await act(quiet, 'poll', 'resume');
  for (const t of TRANSPORTS) await becomes(`${t} waits`, async () => /^(waiting|connecting)$/.test(await state(quiet, t)) || state(quiet, t));
  await becomes('it says so', async () => /The server does not answer.*Next attempt: .* in \d+ s/.test(await quiet.textContent('#agreement')) || quiet.textContent('#agreement'));
  for (const t of TRANSPORTS) {
    await becomes(`${t} says when`, async () => /Next attempt in [1-9]\d* s, from \S+-\d+\.$/.test(await note(quiet, t)) || note(quiet, t));
  }
  const shown = async () => Number((await note(quiet, 'ws')).match(/in (\d+) s/)?.[1]);
  await becomes('it counts down', async () => { const a = await shown(); await quiet.waitForTimeout(1100); return (await shown()) < a; });
  await becomes('the numbers are stale', async () => (await quiet.getAttribute('#server', 'data-server')) === 'gone');
  await quiet.fill('#payload', 'x');
  await quiet.press('#payload', 'Enter');
  await becomes('publishing is answered', async () => (await quiet.textContent('#answer')) === 'No answer from the server.' || quiet.textContent('#answer'));
  await accessible(quiet);
  await shoot(quiet, 'gone');
});

await check('it is back: all go on, and say that the log began anew', async () => {
  // Somebody else may have been given its port for a moment.
  server = await lib.until('its port', () => listens(server.port).catch(() => null));
  // It may have come back by itself before there is anything to press.
  if (await quiet.isVisible('#agreement button')) await quiet.click('#agreement button', { timeout: 1000 }).catch(() => {});
  await allLive(quiet, 2 * PATIENCE); // or it does within half a minute
  for (const t of TRANSPORTS) {
    await becomes(`gap on ${t}`, async () => (await column(quiet, t).locator('[data-gap="epoch"]').count()) === 1);
  }
  for (const t of TRANSPORTS) await becomes('it says so', async () => /^Resumed from \S+ with a gap, see below/.test(await note(quiet, t)) || note(quiet, t));
  await becomes('and of what was lost', async () => /^The last message was not published/.test(await quiet.textContent('#answer')) || quiet.textContent('#answer'));
  await publish(quiet, 'after');
  await becomes('the ids of before are no longer waited for', async () => (await agree(quiet)) === 'yes' || quiet.textContent('#agreement'));
  await becomes('numbers', async () => (await quiet.getAttribute('#server', 'data-server')) === 'up');
});

await check('no script error, no policy violation, no dialog', async () => assert.deepEqual(troubles, []));
await check('the page asked no other host for anything', async () => assert.deepEqual(strangers, []));

await browser.close();
console.log(`${Math.round((Date.now() - began) / 1000)} s; screenshots in ${shots}`);
process.exit(lib.sum());
