// Drives the console page of a running server in headless Chromium, as a person would.
//
//   NODE_PATH=/some/node_modules node .ci/console.mjs http://127.0.0.1:7070 screenshots/
//
// Needs playwright-core (from NODE_PATH or ./node_modules) and a Chromium (CHROMIUM, else the usual places).
// The server must run with its defaults: on loopback, without --open. One line a check; exit code 1 if one failed.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';

const [baseArgument, shots] = process.argv.slice(2);
if (!baseArgument || !shots) {
  console.error('usage: node .ci/console.mjs BASE_URL SCREENSHOT_DIRECTORY');
  process.exit(2);
}
const base = baseArgument.replace(/\/+$/, '');
const channel = `console-${Date.now().toString(36)}`;
const at = `${base}/channels/${channel}`;
const TRANSPORTS = ['ws', 'sse', 'poll'];
const PATIENCE = 15_000;

const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP evil.example 127.0.0.1'];

function load(name) {
  const require = createRequire(import.meta.url);
  const places = (process.env.NODE_PATH || '').split(path.delimiter).filter(Boolean).concat(path.resolve('node_modules'));
  for (const place of places) {
    const found = path.resolve(place, name);
    if (fs.existsSync(found)) return require(found);
  }
  console.error(`${name} is not in ${places.join(' or ')}: npm install ${name} there`);
  process.exit(2);
}

function browserPath() {
  const usual = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
  return process.env.CHROMIUM || usual.find(p => fs.existsSync(p)) || usual[0];
}

// ---------------------------------------------------------------- checks

let passed = 0;
let failed = 0;

async function check(name, run) {
  try {
    const detail = await run();
    passed++;
    console.log(`ok    ${name}${detail ? ` (${detail})` : ''}`);
  } catch (e) {
    failed++;
    console.log(`FAIL  ${name}: ${String(e.message).split('\n').slice(0, 6).join(' | ')}`);
  }
}

async function until(what, probe) {
  const end = Date.now() + PATIENCE;
  let last;
  for (;;) {
    try {
      last = await probe();
      if (last === true) return;
    } catch (e) {
      last = e.message;
    }
    if (Date.now() > end) throw new Error(`not within ${PATIENCE / 1000} s: ${what}; last: ${JSON.stringify(last)}`);
    await new Promise(r => setTimeout(r, 50));
  }
}

// ---------------------------------------------------------------- what the page shows

const column = (page, t) => page.locator(`section[data-transport="${t}"]`);
const state = (page, t) => column(page, t).getAttribute('data-state');
const act = (page, t, action) => column(page, t).locator(`[data-action="${action}"]`).click();
const agree = page => page.getAttribute('#agreement', 'data-agree');

/** Oldest first. */
const rows = (page, t) => page.$$eval(`section[data-transport="${t}"] [data-id]`, list => list.reverse().map(r => ({
  id: r.dataset.id, replayed: 'replayed' in r.dataset, text: r.querySelector('.payload').textContent,
})));
const ids = async (page, t) => (await rows(page, t)).map(r => r.id);

async function publish(page, text) {
  const before = await page.textContent('#answer');
  await page.fill('#payload', text);
  await page.press('#payload', 'Enter');
  await until(`an answer to ${text}`, async () => {
    const now = await page.textContent('#answer');
    return now !== before || now;
  });
  assert.match(await page.textContent('#answer'), /^Published \S+-\d+/);
}

async function allLive(page) {
  for (const t of TRANSPORTS) await until(`${t} live`, async () => (await state(page, t)) === 'live' || state(page, t));
}

/** All columns show the same ids, each once, `n` of them. */
async function same(page, n) {
  for (const t of TRANSPORTS) {
    await until(`${n} messages on ${t}`, async () => { const l = await ids(page, t); return l.length >= n || l; });
  }
  await page.waitForTimeout(250); // a doubled one would come now
  const all = await Promise.all(TRANSPORTS.map(t => ids(page, t)));
  for (const list of all) {
    assert.equal(new Set(list).size, list.length, `an id twice: ${list}`);
    assert.deepEqual(list, all[0]);
  }
  assert.equal(all[0].length, n);
  await until('agreement', async () => (await agree(page)) === 'yes' || agree(page));
  return all[0];
}

// ---------------------------------------------------------------- the run

const { chromium } = load('playwright-core');
fs.mkdirSync(shots, { recursive: true });
const shoot = (page, name) => page.screenshot({ path: path.join(shots, `console-${name}.png`), fullPage: true });
const watchdog = setTimeout(() => { console.log('FAIL  the run took longer than 5 minutes'); process.exit(1); }, 300_000);
const browser = await chromium.launch({ executablePath: browserPath(), args: ARGS });

const troubles = [];
const strangers = [];

async function open(url, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1360, height: 1000 }, colorScheme: 'light', ...options });
  page.on('pageerror', e => troubles.push(String(e)));
  page.on('console', m => { if (/Content Security Policy|Refused to/i.test(m.text())) troubles.push(m.text()); });
  page.on('dialog', d => { troubles.push(`dialog: ${d.message()}`); d.dismiss(); });
  page.on('request', r => {
    const u = r.url();
    if (!u.startsWith('data:') && new URL(u).host !== new URL(base).host) strangers.push(u);
  });
  const answer = await page.goto(url);
  return { page, answer };
}

let count = 0;
const { page, answer } = await open(at);

await check('the page is html with the policy', async () => {
  assert.equal(answer.status(), 200);
  const h = answer.headers();
  assert.match(h['content-type'], /^text\/html/);
  for (const part of ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"]) {
    assert.ok((h['content-security-policy'] || '').includes(part), `no ${part}`);
  }
});

await check('it opens on the channel of its address', async () => {
  assert.equal(await page.inputValue('#channel'), channel);
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

for (const t of TRANSPORTS) {
  await check(`cut ${t}: 3 more, resumed: nothing lost, nothing doubled, 3 replayed`, async () => {
    await act(page, t, 'cut');
    assert.equal(await state(page, t), 'cut');
    await until('amber', async () => (await agree(page)) === 'waiting' || agree(page));
    for (let i = 1; i <= 3; i++) await publish(page, `while ${t} is cut ${i}`);
    for (const o of TRANSPORTS.filter(o => o !== t)) {
      await until(`${o} goes on`, async () => (await ids(page, o)).length === count + 3);
    }
    assert.equal((await ids(page, t)).length, count, 'the cut line received something');
    if (t === 'sse') await shoot(page, 'light-cut');
    await act(page, t, 'resume');
    await until(`${t} live`, async () => (await state(page, t)) === 'live' || state(page, t));
    count += 3;
    const list = await same(page, count);
    assert.deepEqual((await rows(page, t)).filter(r => r.replayed).map(r => r.id), list.slice(-3));
  });
}

await check('all three cut, 10 published, all resumed', async () => {
  for (const t of TRANSPORTS) await act(page, t, 'cut');
  await page.fill('#payload', 'ten');
  await page.click('[data-action="publish-10"]');
  await until('10 published', async () => {
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
  return `${list.length} ids so far`;
});

await check('a live message after the replay is not marked', async () => {
  await publish(page, 'live again');
  count += 1;
  await same(page, count);
  for (const t of TRANSPORTS) assert.equal((await rows(page, t)).at(-1).replayed, false, t);
});

await check('a hostile payload and event name are inert', async () => {
  const evil = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script><svg onload=alert(1)>';
  const name = '<img/src=x/onerror=window.pwned=1>';
  await publish(page, evil);
  const sent = await fetch(at, { method: 'POST', headers: { Event: name, 'Content-Type': 'text/html' }, body: evil });
  assert.ok(sent.ok, `publishing: ${sent.status}`);
  count += 2;
  await same(page, count);
  await page.waitForTimeout(300);
  for (const t of TRANSPORTS) {
    assert.deepEqual((await rows(page, t)).slice(-2).map(r => r.text), [evil, evil]);
    assert.ok((await column(page, t).textContent()).includes(name), 'the event name is not shown');
  }
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.equal(await page.locator('section img, section script, section svg').count(), 0);
});

await check('bytes, JSON and an empty payload are shown', async () => {
  for (const [type, body] of [['application/octet-stream', new Uint8Array([255, 0, 254])], ['application/json', '{"a":[1,null]}'], ['text/plain', '']]) {
    assert.ok((await fetch(at, { method: 'POST', headers: { 'Content-Type': type }, body })).ok, type);
  }
  count += 3;
  await same(page, count);
  for (const t of TRANSPORTS) {
    assert.deepEqual((await rows(page, t)).slice(-3).map(r => r.text), ['binary, 3 bytes: /wD+', '{"a":[1,null]}', 'empty']);
  }
});

await check('the cursor a column shows is the newest it received', async () => {
  for (const t of TRANSPORTS) {
    const shown = await column(page, t).locator('.cursor code').textContent();
    assert.match(shown, /^[A-Za-z0-9]{6,12}-\d+$/, t);
  }
});

await check('the numbers of /stats are shown', async () => {
  await page.locator('#stats').waitFor({ state: 'visible', timeout: PATIENCE });
  assert.match(await page.textContent('#stats'), /Published\d/);
});

await check('a wrong channel name shows the rule and changes nothing', async () => {
  await page.fill('#channel', 'no/slash');
  await page.press('#channel', 'Enter');
  assert.equal(await page.getAttribute('#channel', 'aria-invalid'), 'true');
  assert.match(await page.textContent('#channel-hint'), /letter or digit/);
  assert.equal((await ids(page, 'ws')).length, count);
});

await check('another channel opens empty, and its address works', async () => {
  await page.fill('#channel', `${channel}.b`);
  await page.press('#channel', 'Enter');
  assert.equal(page.url(), `${at}.b`);
  await allLive(page);
  for (const t of TRANSPORTS) assert.deepEqual(await ids(page, t), []);
  await publish(page, 'over here');
  await same(page, 1);
  await page.reload();
  await allLive(page);
  assert.equal(await page.inputValue('#channel'), `${channel}.b`);
});

await check('the keyboard alone publishes, cuts and resumes', async () => {
  await page.focus('#payload');
  await page.keyboard.press('Enter');
  await same(page, 1);
  await column(page, 'ws').locator('[data-action="cut"]').focus();
  await page.keyboard.press('Enter');
  await until('cut', async () => (await state(page, 'ws')) === 'cut');
  await page.keyboard.press('Enter'); // the focus stays on the button
  await allLive(page);
});

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

await check('the server under a foreign host name is refused with 421', async () => {
  const { port, pathname } = new URL(base);
  const r = await evil.goto(`http://evil.example:${port || 80}${pathname}`);
  assert.equal(r.status(), 421);
});

await evil.close();
evilPage.close();

// ---------------------------------------------------------------- how it looks

await page.close();
const looks = {
  light: {},
  dark: { colorScheme: 'dark' },
  phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  narrow: { viewport: { width: 360, height: 740 }, colorScheme: 'dark' },
};
for (const [name, options] of Object.entries(looks)) {
  await check(`${name}: fits its width, screenshot taken`, async () => {
    const { page: p } = await open(`${at}.${name}`, options);
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
    await p.waitForTimeout(2500); // numbers in the footer
    const width = await p.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    assert.ok(width[0] <= width[1], `${width[0]} px wide in ${width[1]}`);
    await shoot(p, name);
    await p.close();
  });
}

await check('`/` opens the channel demo', async () => {
  const { page: p } = await open(`${base}/`);
  assert.equal(await p.inputValue('#channel'), 'demo');
  await allLive(p);
  await p.close();
});

await check('no script error, no policy violation, no dialog', async () => assert.deepEqual(troubles, []));
await check('the page asked no other host for anything', async () => assert.deepEqual(strangers, []));

await browser.close();
clearTimeout(watchdog);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
