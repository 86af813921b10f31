// What does not fit into the matrix: the ladder of transports, what a page goes through, who is refused for good.
//
// { name, peers, short, long, run }: `peers` are where it is run, `short` where also in the short form; what is `long` is
// begun first. `run` gets the tools of run.mjs, and fails by throwing.

import assert from 'node:assert/strict';
import { patience, sleep, until } from '../support/shared.mjs';
import { make } from './payload.mjs';

export const SCENARIOS = [];

const BROWSERS = ['chromium', 'firefox'];
const SOCKETS = ['chromium', 'firefox', 'node+ws'];
const ALL = ['chromium', 'firefox', 'node', 'node+ws'];

function scenario(name, { peers = ALL, short = [], long = false }, run) {
  SCENARIOS.push({ name, peers, short, long, run });
}

const seconds = ms => `${(ms / 1000).toFixed(1)} s`;
const facts = ({ received, lost, doubled, announced }) => ({ received, lost: lost.length, doubled: doubled.length, announced });

/** Publishing goes on, and everything since `live` is owed. */
async function flowing(stage, start = {}) {
  await stage.start(start);
  await stage.live(start.patience);
  stage.publisher.start();
  await sleep(700);
}

const FORBIDDEN = { type: 'status', status: 403 };

// ---------------------------------------------------------------- the ladder

/** What happens to WebSockets (and streams) from the start, and which transport is reached within how long. */
const LADDER = [
  ['WebSocket answered 403', { ws: { type: 'status', status: 403 } }, 'sse', 4000],
  ['WebSocket answered 400', { ws: { type: 'status', status: 400 } }, 'sse', 4000],
  ['WebSocket answered 503', { ws: { type: 'status', status: 503, retryAfter: 2 } }, 'sse', 4000],
  ['WebSocket reset', { ws: { type: 'refuse' } }, 'sse', 4000],
  ['Upgrade stripped', { ws: { type: 'strip' } }, 'sse', 4000],
  ['WebSocket opens, then is mute', { ws: { type: 'mute' } }, 'sse', 9000, ['chromium']],
  ['WebSocket never answered', { ws: { type: 'stall', passes: true } }, 'sse', 9000],
  ['WebSocket and event stream held back', { ws: { type: 'buffer' }, sse: { type: 'buffer' } }, 'poll', 15_000, ['chromium']],
  ['WebSocket mute, event stream held back', { ws: { type: 'mute' }, sse: { type: 'buffer' } }, 'poll', 15_000],
  ['WebSocket answered 403, event stream 502', { ws: { type: 'status', status: 403 }, sse: { type: 'status', status: 502 } }, 'poll', 15_000],
];
for (const [what, faults, transport, limit, short = []] of LADDER) {
  scenario(`ladder: ${what}`, { peers: SOCKETS, short }, async tools => {
    const stage = await tools.stage();
    for (const [kind, fault] of Object.entries(faults)) stage.proxy.set(kind, fault);
    const began = Date.now();
    await flowing(stage, { patience: limit + 10_000 });
    const opened = stage.log.find(e => e.k === 'open').t - began;
    await sleep(1500);
    await stage.settle();
    assert.ok(stage.proxy.hits > 0, 'the fault hit nobody');
    assert.equal(stage.now.transport, transport);
    assert.ok(opened <= limit * patience(), `it took ${opened} ms to come to ${transport}`);
    return { ...facts(stage.judged()), note: `${transport} after ${seconds(opened)}` };
  });
}

scenario('ladder: WebSocket worked, then opens and is mute', { peers: SOCKETS, short: ['chromium'], long: true }, async tools => {
  const stage = await tools.stage({ every: 100 });
  await flowing(stage);
  assert.equal(stage.now.transport, 'ws');
  stage.proxy.set('ws', { type: 'mute' });
  stage.mark('mute from now on');
  stage.proxy.cut('ws');
  const began = Date.now();
  await stage.state('open', 'sse', 60_000);
  const tries = stage.proxy.count('ws', began);
  assert.ok(tries >= 2, `given up after ${tries} tries`);
  await stage.settle();
  return { ...facts(stage.judged()), recover: stage.recovery(began), note: `sse after ${tries} tries` };
});

scenario('ladder: WebSocket worked, one failure changes nothing', { peers: SOCKETS }, async tools => {
  const stage = await tools.stage();
  await flowing(stage);
  const began = Date.now();
  stage.proxy.cut('ws');
  await stage.until('a second open', () => stage.log.filter(e => e.k === 'open').length >= 2);
  await stage.settle();
  assert.equal(stage.now.transport, 'ws');
  assert.equal(stage.proxy.count('sse'), 0);
  return { ...facts(stage.judged()), recover: stage.recovery(began) };
});

scenario('ladder: the next page begins where this one ended', { peers: BROWSERS, short: ['chromium'] }, async tools => {
  const stage = await tools.stage();
  stage.proxy.set('ws', FORBIDDEN);
  await flowing(stage);
  assert.equal(stage.now.transport, 'sse');
  await stage.publisher.stop();
  const reloaded = Date.now();
  await stage.peer.reload();
  stage.reborn();
  stage.log = [];
  await stage.start();
  await stage.live();
  assert.equal(stage.proxy.count('ws', reloaded), 0, 'it tried a WebSocket first again');
  assert.equal(stage.now.transport, 'sse');
  return {};
});

scenario('all transports answer 503, then one works', { short: ['node'] }, async tools => {
  const stage = await tools.stage();
  stage.proxy.set('any', { type: 'status', status: 503, retryAfter: 2 });
  await stage.start();
  await stage.until('that it waits', () => stage.now.state === 'waiting' && stage.now.retryAt > Date.now());
  await sleep(4000);
  const requests = stage.proxy.count('any');
  assert.ok(requests <= 12, `${requests} requests in 4 s`);
  stage.proxy.clear();
  const began = Date.now();
  await stage.live(40_000);
  return { note: `${requests} requests in 4 s, live ${seconds(Date.now() - began)} later` };
});

scenario('six seconds there and back, from the start', { peers: ['chromium', 'node'] }, async tools => {
  const stage = await tools.stage();
  stage.proxy.set('any', { type: 'latency', ms: 6000 });
  await flowing(stage, { patience: 60_000 });
  await sleep(2000);
  await stage.publisher.stop();
  await stage.caughtUp(Date.now(), 40_000);
  return { ...facts(stage.judged()), note: `${stage.now.transport} after ${stage.proxy.count('any')} requests` };
});

// ---------------------------------------------------------------- another transport, other channels, in mid-stream

scenario('switch: event stream to WebSocket in mid-stream', { peers: BROWSERS, short: ['chromium'] }, async tools => {
  const stage = await tools.stage({ every: 12 });
  stage.proxy.set('ws', FORBIDDEN);
  await flowing(stage);
  assert.equal(stage.now.transport, 'sse');
  stage.proxy.clear();
  stage.mark('WebSockets work again; the network changes');
  await stage.peer.call('dispatch', 'online');
  const began = Date.now();
  await stage.state('open', 'ws', 20_000);
  await stage.settle();
  return { ...facts(stage.judged()), note: `over after ${seconds(Date.now() - began)}`, recover: stage.recovery(began) };
});

scenario('switch: down and up again, twice, in mid-stream', { peers: BROWSERS, long: true }, async tools => {
  // Down both rungs that have worked, three failures each, may take minutes: history must hold what comes meanwhile.
  const server = await tools.server(['--history', '20000,20m,16M']);
  const stage = await tools.stage({ server, every: 60 });
  await flowing(stage);
  for (let round = 0; round < 2; round++) {
    stage.proxy.set('ws', { type: 'status', status: 403 });
    if (round % 2) stage.proxy.set('sse', { type: 'buffer' });
    stage.mark(`round ${round}: down`);
    for (let i = 0; i < 3 && stage.now.transport === 'ws'; i++) {
      stage.proxy.cut('ws');
      await stage.until('another try', () => stage.now.state === 'open', 60_000);
    }
    await stage.until('another transport', () => stage.now.state === 'open' && stage.now.transport !== 'ws', 90_000);
    stage.proxy.clear();
    stage.mark(`round ${round}: up`);
    await stage.peer.call('dispatch', 'online');
    await stage.state('open', 'ws', 30_000);
  }
  await stage.settle();
  return facts(stage.judged());
});

for (const transport of ['ws', 'sse', 'poll']) {
  const peers = transport === 'ws' ? SOCKETS : ['chromium', 'firefox', 'node'];
  scenario(`channels change in mid-stream: ${transport}`, { peers, short: transport === 'poll' ? ['chromium'] : [] }, async tools => {
    const stage = await tools.stage({ every: 20 });
    const [a, b, c] = stage.channels;
    await stage.start({ options: { transports: [transport] }, channels: [a] });
    await stage.until('live', () => stage.log.some(e => e.k === 'live'));
    stage.owed = { channels: [a, b], apart: true };
    stage.publisher.start();
    await sleep(800);
    await stage.peer.call('subscribe', b, { since: 'earliest' });
    await stage.until('the second is live', () => stage.log.some(e => e.k === 'live' && e.channel === b));
    await stage.peer.call('subscribe', c, {});
    await stage.until('the third has something', () => stage.log.some(e => e.k === 'message' && e.channel === c));
    await stage.peer.call('unsubscribe', c);
    await sleep(600);
    await stage.settle();
    const left = stage.log.find(e => e.k === 'sub-close' && e.channel === c).t;
    assert.ok(!stage.log.some(e => e.k === 'message' && e.channel === c && e.t > left + 5), 'it still came after the unsubscription');
    return facts(stage.judged());
  });

  scenario(`cut while a channel catches up: ${transport}`, { peers, short: transport === 'sse' ? ['chromium'] : [] }, async tools => {
    const stage = await tools.stage({ every: 40 });
    const [a, b] = stage.channels;
    stage.owed = { channels: [a, b], apart: true };
    await stage.start({ options: { transports: [transport] }, channels: [a] });
    await stage.until('live', () => stage.log.some(e => e.k === 'live'));
    for (let i = 0; i < 12; i++) await stage.publisher.publish(60);
    stage.publisher.start();
    stage.proxy.set(transport, { type: 'cut', within: 40_000 });
    await stage.peer.call('subscribe', b, { since: 'earliest' });
    await sleep(5000);
    stage.proxy.clear();
    const began = Date.now();
    await stage.caughtUp(began, 40_000);
    await stage.settle();
    return { ...facts(stage.judged()), recover: stage.recovery(began) };
  });

  scenario(`history too short, the gap is told: ${transport}`, { peers, short: transport === 'sse' ? ['node'] : [] }, async tools => {
    const server = await tools.server(['--history', '20']);
    const stage = await tools.stage({ server });
    await flowing(stage, { options: { transports: [transport] } });
    stage.proxy.accepts(false);
    stage.proxy.cut();
    for (let i = 0; i < 4; i++) await stage.publisher.publish(60);
    stage.proxy.accepts(true);
    const began = Date.now();
    await stage.caughtUp(began, 35_000);
    await stage.settle();
    const verdict = stage.judged({ gaps: ['trimmed'] });
    assert.ok(verdict.announced > 50, `only ${verdict.announced} were lost`);
    return { ...facts(verdict), recover: stage.recovery(began), note: `${verdict.announced} announced as lost` };
  });
}

scenario('a page that is busy for three seconds', { peers: BROWSERS }, async tools => {
  const stage = await tools.stage({ every: 5 });
  await flowing(stage);
  await stage.peer.run('{ const end = Date.now() + 3000; while (Date.now() < end); }'.replace(/^\{(.*)\}$/, '(() => {$1})()'));
  const began = Date.now();
  await stage.settle();
  return { ...facts(stage.judged()), recover: stage.recovery(began, { until: began }) };
});

// ---------------------------------------------------------------- publishing through the client

scenario('publish: queued while nobody listens, each arrives once', {}, async tools => {
  const stage = await tools.stage();
  await stage.start({ options: { queue: 20 } });
  await stage.live();
  stage.proxy.accepts(false);
  stage.proxy.cut();
  await stage.until('that it has noticed', () => stage.now.state !== 'open');
  await publishThrough(stage, 10);
  await sleep(1500);
  stage.proxy.accepts(true);
  return published(stage, 10, { all: true });
});

for (const transport of ['ws', 'sse']) {
  scenario(`publish: cut again and again over ${transport}, each arrives once`, { peers: transport === 'ws' ? SOCKETS : ['chromium', 'firefox', 'node'], short: ['node', 'node+ws'] }, async tools => {
    const stage = await tools.stage();
    await stage.start({ options: { queue: 50, transports: [transport] } });
    await stage.live();
    const kind = transport === 'ws' ? 'ws' : 'publish';
    stage.proxy.set(kind, { type: 'cut', within: 700 });
    for (let i = 0; i < 30; i++) {
      await publishThrough(stage, 1);
      await sleep(80 * stage.random());
    }
    stage.proxy.clear();
    assert.ok(stage.proxy.hits > 0, 'the fault hit nobody');
    return published(stage, 30, { all: true });
  });
}

/** Hands publications to the client; the ledger knows them unconfirmed until it is answered. */
async function publishThrough(stage, count) {
  for (let i = 0; i < count; i++) {
    const n = 3 * stage.ledger.published.length; // those that are objects
    const channel = stage.channels[n / 3 % 3];
    stage.ledger.offer(channel, n, Date.now());
    await stage.peer.call('publish', channel, n, make(n).data);
  }
}

/** Waits until each has an answer, and compares the answers with what came. */
async function published(stage, count, { all }) {
  let answers;
  await until(() => `${count} answers; there are ${JSON.stringify(answers)}`.slice(0, 300), async () => (answers = await stage.peer.call('answers')).length === count, 45_000);
  for (const { channel, n, id } of answers) if (id) stage.ledger.find(channel, n).id = id;
  const refused = answers.filter(a => a.error);
  if (all) assert.deepEqual(refused, []);
  await stage.caughtUp(Date.now(), 20_000);
  await sleep(400);
  await stage.pull();
  stage.owed = { apart: true }; // a publication that is tried again is younger than one that was not
  const doubled = stage.verdict().doubled;
  assert.deepEqual(doubled, []);
  const came = stage.log.filter(e => e.k === 'message').length;
  assert.equal(came, count);
  assert.deepEqual(stage.log.filter(e => e.k === 'broken'), []);
  return { received: came, note: `${answers.length - refused.length} confirmed` };
}

// ---------------------------------------------------------------- what a page goes through

scenario('offline for four seconds, then online', { peers: BROWSERS, short: BROWSERS }, async tools => {
  const stage = await tools.stage();
  await flowing(stage);
  await stage.peer.offline(true);
  stage.mark('offline');
  await stage.until('that it knows', () => stage.now.state === 'offline', 8000);
  await sleep(4000);
  assert.equal(stage.now.state, 'offline');
  await stage.peer.offline(false);
  const began = Date.now();
  stage.mark('online');
  await stage.caughtUp(began, 6000);
  await stage.settle();
  return { ...facts(stage.judged()), recover: stage.recovery(began, { until: began }) };
});

scenario('offline from the start', { peers: BROWSERS }, async tools => {
  const stage = await tools.stage();
  await stage.peer.offline(true);
  await stage.start();
  await stage.until('a state that says so', () => ['offline', 'waiting'].includes(stage.now.state), 15_000);
  const { state } = stage.now;
  await stage.peer.offline(false);
  await stage.live(35_000);
  return { note: `it said ${state}` };
});

for (const transport of ['ws', 'sse', 'poll']) {
  scenario(`hidden, cut, shown again: ${transport}`, { peers: BROWSERS }, async tools => {
    const stage = await tools.stage();
    await flowing(stage, { options: { transports: [transport] } });
    await stage.peer.call('pretend', 'hidden');
    await sleep(1500);
    const began = Date.now();
    stage.proxy.cut(transport);
    await stage.caughtUp(began + 2000, 6000);
    await stage.peer.call('pretend', 'visible');
    await stage.settle();
    return { ...facts(stage.judged()), recover: stage.recovery(began) };
  });
}

scenario('frozen for eight seconds, as a hidden tab may be', { peers: ['chromium'], short: ['chromium'] }, async tools => {
  const stage = await tools.stage();
  await flowing(stage);
  await stage.peer.frozen(true);
  stage.mark('frozen');
  await sleep(8000);
  await stage.peer.frozen(false);
  const began = Date.now();
  stage.mark('thawed');
  await stage.caughtUp(began, 10_000);
  await stage.settle();
  return { ...facts(stage.judged()), recover: stage.recovery(began, { until: began }) };
});

scenario('frozen for eight seconds, the line cut meanwhile', { peers: ['chromium'] }, async tools => {
  const stage = await tools.stage();
  await flowing(stage);
  await stage.peer.frozen(true);
  await sleep(2000);
  stage.proxy.cut();
  await sleep(6000);
  await stage.peer.frozen(false);
  const began = Date.now();
  await stage.caughtUp(began, 10_000);
  await stage.settle();
  return { ...facts(stage.judged()), recover: stage.recovery(began, { until: began }) };
});

for (const transport of ['ws', 'sse', 'poll']) {
  scenario(`away and back by the back button: ${transport}`, { peers: BROWSERS, short: transport === 'sse' ? ['chromium'] : [] }, async tools => {
    const stage = await tools.stage();
    await flowing(stage, { options: { transports: [transport] } });
    await stage.peer.run('void addEventListener("pageshow", event => window.subject.note(event.persisted ? "kept" : "anew"))');
    await stage.peer.awayAndBack(stage.proxy.origin, () => sleep(2500));
    const began = Date.now();
    const kept = await stage.peer.run('Boolean(window.subject?.now().state)');
    if (!kept) return { note: 'the browser loaded the page anew' };
    await stage.caughtUp(began, 10_000);
    await stage.settle();
    assert.ok(stage.log.some(e => e.k === 'note' && e.text === 'kept'), 'no pageshow with persisted');
    return { ...facts(stage.judged()), recover: stage.recovery(began, { until: began }), note: 'the page was kept' };
  });
}

for (const transport of ['ws', 'sse', 'poll']) {
  scenario(`asleep for 25 s: ${transport}`, { peers: transport === 'ws' ? ['node+ws'] : ['node'], short: [] }, async tools => {
    const stage = await tools.stage({ every: 100 });
    await flowing(stage, { options: { transports: [transport] } });
    stage.proxy.set('any', { type: 'stall' }); // what was open is forgotten on the way
    await sleep(200);
    stage.peer.stopped(true);
    stage.mark('stopped');
    await sleep(25_000);
    stage.proxy.clear();
    stage.peer.stopped(false);
    const began = Date.now();
    stage.mark('woken');
    await stage.caughtUp(began, 10_000); // five seconds for a sign of life, then at once
    await stage.settle();
    return { ...facts(stage.judged()), recover: stage.recovery(began, { until: began }) };
  });
}

scenario('six connections to a host: streams of seven tabs', { peers: BROWSERS, short: ['chromium'] }, async tools => {
  const stage = await tools.stage();
  const tabs = [stage.peer];
  for (let i = 1; i < 7; i++) tabs.push(await stage.peer.another(stage.proxy.origin, i));
  for (const tab of tabs) await tab.call('start', { options: { transports: ['sse'], heartbeat: 10 }, channels: [stage.channels[0]] });
  const open = async () => (await Promise.all(tabs.map(tab => tab.call('now')))).filter(({ state }) => state === 'open').length;
  await until('six that are open', async () => await open() === 6, 20_000);
  await sleep(2500);
  const held = await open();
  assert.equal(held, 6, 'the seventh had a place');
  await tabs[0].call('close');
  const freed = Date.now();
  await until('the seventh, when one has gone', async () => await open() === 6, 40_000);
  const took = Date.now() - freed;
  for (const tab of tabs) await tab.call('close').catch(() => {});
  return { note: `six of seven opened; the seventh ${seconds(took)} after one had closed` };
});

scenario('six connections to a host: WebSockets of seven tabs', { peers: BROWSERS }, async tools => {
  const stage = await tools.stage();
  const tabs = [stage.peer];
  for (let i = 1; i < 7; i++) tabs.push(await stage.peer.another(stage.proxy.origin, i));
  for (const tab of tabs) await tab.call('start', { options: { heartbeat: 10 }, channels: [stage.channels[0]] });
  await until('all seven', async () => (await Promise.all(tabs.map(tab => tab.call('now')))).every(({ state, transport }) => state === 'open' && transport === 'ws'), 20_000);
  const status = await tabs[6].run('fetch("/health").then(answer => answer.status)');
  assert.equal(status, 200);
  return { note: 'seven of seven, and a fetch beside them' };
});

// ---------------------------------------------------------------- the server goes, or refuses

scenario('planned restart with --data: drained, no gap', { short: ['node'] }, async tools => {
  const server = await tools.server(['--drain', '4s', '--data']);
  const stage = await tools.stage({ server });
  await flowing(stage);
  const began = Date.now();
  stage.mark('SIGTERM');
  await server.end('SIGTERM');
  stage.mark('it has ended');
  await sleep(1000);
  stage.proxy.target = await server.start();
  const back = Date.now();
  await stage.caughtUp(back, 32_000);
  await stage.settle();
  const requests = stage.proxy.count('any', began);
  assert.ok(requests <= 20, `${requests} requests from SIGTERM on`);
  return { ...facts(stage.judged()), recover: stage.recovery(back, { until: back }), note: `${requests} requests from SIGTERM on` };
});

scenario('restart with a new epoch: the gap is told', {}, async tools => {
  const server = await tools.server();
  const stage = await tools.stage({ server });
  await flowing(stage);
  await server.end('SIGKILL');
  stage.proxy.target = await server.start();
  const back = Date.now();
  await stage.caughtUp(back, 32_000);
  await stage.settle();
  return { ...facts(stage.judged({ gaps: ['epoch'] })), recover: stage.recovery(back, { until: back }) };
});

scenario('the server is gone: it says when it comes again, and does', { short: ['node'] }, async tools => {
  const stage = await tools.stage();
  await flowing(stage);
  stage.proxy.accepts(false);
  stage.proxy.cut();
  await stage.publisher.stop();
  const began = Date.now();
  await sleep(11_000);
  const waits = stage.states().filter(e => e.t > began && e.state === 'waiting');
  assert.ok(waits.length > 0, 'it never said that it waits');
  for (const { t, retryAt, reason } of waits) {
    assert.ok(retryAt >= t && retryAt <= t + 46_000, `retryAt is ${retryAt - t} ms from then`);
    assert.match(reason, /^(cut|timeout|unreachable, or origin not allowed)$/, 'the same words in every browser');
  }
  // It does not come before the time that it said. Its own attempts are counted: Firefox makes ten of each.
  const tries = stage.states().filter(e => e.t > began && e.state === 'connecting').map(e => e.t);
  for (const { t, retryAt } of waits) {
    const early = tries.filter(at => at > t + 50 && at < retryAt - 150);
    assert.equal(early.length, 0, `it said ${retryAt - t} ms and came after ${early.map(at => at - t)}`);
  }
  assert.ok(tries.length >= 2 && tries.length <= 20, `${tries.length} attempts in 11 s`);
  assert.ok(stage.proxy.refused.length > 0, 'the fault hit nobody');
  stage.proxy.accepts(true);
  const back = Date.now();
  stage.publisher.start();
  await stage.caughtUp(back, 32_000);
  await stage.settle();
  return { ...facts(stage.judged()), note: `${tries.length} attempts in 11 s`, recover: stage.recovery(back) };
});

/** Refused for good: which fault, over which transport, and how many requests it may take at most. */
const FINAL = [
  // It asks for each channel alone, because others may be allowed.
  ['403', 'sse', { type: 'status', status: 403 }, 5],
  ['403', 'poll', { type: 'status', status: 403 }, 5],
  ['404', 'sse', { type: 'status', status: 404 }],
  ['421', 'poll', { type: 'status', status: 421 }, 2], // browsers and Node ask once more, on another connection
  ['401 without a token', 'sse', { type: 'status', status: 401 }],
  ['close code 4403', 'ws', { type: 'close-code', code: 4403, reason: 'you may not' }],
  ['close code 1008', 'ws', { type: 'close-code', code: 1008, reason: 'policy' }],
  ['close code 4401 without a token', 'ws', { type: 'close-code', code: 4401, reason: 'who are you?' }],
];
for (const [what, transport, fault, most = 1] of FINAL) {
  const peers = transport === 'ws' ? SOCKETS : ['chromium', 'firefox', 'node'];
  const short = { 403: ['node'], 'close code 4403': ['node+ws'] }[what] ?? [];
  scenario(`refused for good: ${what} over ${transport}`, { peers, short }, async tools => {
    const stage = await tools.stage();
    await flowing(stage, { options: { transports: [transport] } });
    stage.proxy.set(transport, fault);
    const began = Date.now();
    stage.proxy.cut(transport);
    await until(() => `the end; the client is ${JSON.stringify(stage.now)}`, () => stage.now.state === 'closed', 10_000);
    await stage.pull();
    const end = stage.log.findLast(e => e.k === 'close');
    assert.ok(end?.final === true, `close says ${JSON.stringify(end)}`);
    assert.equal(end.code, fault.code ?? 4000 + fault.status);
    assert.ok(typeof end.reason === 'string' && end.reason.length > 3, `the reason is ${JSON.stringify(end.reason)}`);
    assert.equal(stage.now.readyState, 2);
    assert.equal(stage.now.retryAt, null);
    await sleep(5000);
    const refused = ({ t, status }) => t >= began && status !== null && status !== 200;
    const requests = stage.proxy.requests.filter(refused).length;
    assert.ok(requests >= 1 && requests <= most, `${requests} refused requests`);
    assert.ok(stage.proxy.count('any', began) <= 10, `${stage.proxy.count('any', began)} requests`);
    return { note: `${requests} ${requests === 1 ? 'request' : 'requests'}, then ${end.code} “${end.reason}”` };
  });
}

for (const transport of ['ws', 'sse', 'poll']) {
  const peers = transport === 'ws' ? SOCKETS : ['chromium', 'firefox', 'node'];
  scenario(`an old token is asked for anew once: ${transport}`, { peers, short: transport === 'ws' ? ['node+ws'] : [] }, async tools => {
    const stage = await tools.stage();
    stage.proxy.set('any', { type: 'token', good: 'new' });
    await stage.start({ options: { transports: [transport] }, tokens: ['old', 'new'] });
    await stage.live();
    stage.publisher.start();
    await sleep(1000);
    await stage.settle();
    const told = facts(stage.judged());
    // A poll for each message at most.
    assert.ok(stage.proxy.count('any') <= 10 + told.received, `${stage.proxy.count('any')} requests for ${told.received} messages`);
    return { ...told, note: `${stage.log.filter(e => e.k === 'token').length} tokens asked for` };
  });

  scenario(`a token that stays bad is no storm: ${transport}`, { peers }, async tools => {
    const stage = await tools.stage();
    stage.proxy.set('any', { type: 'token', good: 'new' });
    await stage.start({ options: { transports: [transport] }, tokens: ['old'] });
    await until(() => `the end; the client is ${JSON.stringify(stage.now)}`, () => stage.now.state === 'closed', 10_000);
    await sleep(4000);
    const requests = stage.proxy.count('any');
    assert.ok(requests <= 2, `${requests} requests`);
    await stage.pull();
    return { note: `${requests} requests, then ${stage.log.findLast(e => e.k === 'close')?.code}` };
  });
}
