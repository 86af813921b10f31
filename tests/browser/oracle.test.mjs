// The oracle itself: each thing that it must see is shown to it once. `node --test tests/browser/`

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ledger, judge, recovery } from './oracle.mjs';

/** Ten messages on two channels in turn, one every 10 ms. */
function world(epoch = 'aaaaaa') {
  const ledger = new Ledger();
  for (let i = 0; i < 10; i++) ledger.offer(i % 2 ? 'b' : 'a', i, 1000 + i * 10).id = `${epoch}-${i + 1}`;
  return ledger;
}

const heard = ledger => ledger.published.map(({ channel, n, id, t }) => ({ k: 'message', channel, n, id, t: t + 2 }));
const faults = ({ lost, doubled, disordered, strange }) => ({ lost: lost.length, doubled: doubled.length, disordered: disordered.length, strange: strange.length });
const none = { lost: 0, doubled: 0, disordered: 0, strange: 0 };
const gap = fields => ({ k: 'gap', t: 0, channels: ['a', 'b'], reason: 'trimmed', since: 'aaaaaa-3', resumed: 'aaaaaa-5', ...fields });

test('all is well', () => {
  const ledger = world();
  assert.deepEqual(faults(judge(ledger, heard(ledger))), none);
  assert.equal(judge(ledger, heard(ledger)).received, 10);
});

test('a lost one', () => {
  const ledger = world();
  const log = heard(ledger);
  log.splice(4, 1);
  assert.deepEqual(judge(ledger, log).lost, ['a 4 (aaaaaa-5)']);
});

test('the last one is lost too', () => {
  const ledger = world();
  assert.deepEqual(judge(ledger, heard(ledger).slice(0, 9)).lost, ['b 9 (aaaaaa-10)']);
});

test('one that came twice, at once or later', () => {
  const ledger = world();
  for (const at of [5, 10]) {
    const log = heard(ledger);
    log.splice(at, 0, log[4]);
    assert.equal(judge(ledger, log).doubled.length, 1);
  }
});

test('an older one after a newer one, of one channel and of two', () => {
  const ledger = world();
  for (const [x, y] of [[2, 4], [2, 3]]) {
    const log = heard(ledger);
    [log[x], log[y]] = [log[y], log[x]];
    assert.notEqual(judge(ledger, log).disordered.length, 0);
  }
});

test('what nobody published, and what has another id', () => {
  const ledger = world();
  const log = heard(ledger);
  log.push({ k: 'message', channel: 'a', n: 77, id: 'aaaaaa-11', t: 0 });
  log[3].id = 'aaaaaa-9';
  assert.notEqual(judge(ledger, log).strange.length, 0);
  assert.ok(judge(ledger, log).strange.length >= 2);
});

test('a gap covers what it names', () => {
  const ledger = world();
  const log = heard(ledger);
  log.splice(3, 2, gap({}));
  const verdict = judge(ledger, log);
  assert.deepEqual(faults(verdict), none);
  assert.equal(verdict.announced, 2);
});

test('a gap covers nothing else', () => {
  for (const fields of [{ channels: ['b'] }, { since: 'aaaaaa-5', resumed: 'aaaaaa-7' }, { since: 'aaaaaa-1', resumed: 'aaaaaa-3' }, { resumed: '' }, { since: 'cccccc-1', resumed: 'dddddd-9' }]) {
    const ledger = world();
    const log = heard(ledger);
    log.splice(4, 1, gap(fields)); // a 4, which is aaaaaa-5
    assert.equal(judge(ledger, log).lost.length, 1, JSON.stringify(fields));
  }
});

test('a gap that is told too early or too late covers nothing', () => {
  for (const at of [0, 8]) {
    const ledger = world();
    const log = heard(ledger);
    log.splice(4, 1);
    log.splice(at, 0, gap({}));
    assert.equal(judge(ledger, log).lost.length, 1, `at ${at}`);
  }
});

test('a new epoch without a gap is strange, with one it is not', () => {
  const ledger = world();
  ledger.published.slice(6).forEach((entry, i) => { entry.id = `bbbbbb-${i + 1}`; });
  const log = heard(ledger);
  assert.equal(judge(ledger, log).strange.length, 1);
  log.splice(6, 0, gap({ reason: 'epoch', since: 'aaaaaa-6', resumed: 'bbbbbb-0' }));
  assert.deepEqual(faults(judge(ledger, log)), none);
});

test('what the server never confirmed may come or not, but once', () => {
  const ledger = world();
  ledger.published[4].id = null;
  const log = heard(world());
  assert.deepEqual(faults(judge(ledger, log)), none);
  assert.equal(judge(ledger, [...log, log[4]]).doubled.length, 1);
  assert.deepEqual(faults(judge(ledger, log.filter(e => e.n !== 4))), none);
});

test('recovery is when the last late one came', () => {
  const ledger = world();
  const log = heard(ledger);
  assert.equal(recovery(ledger, log, 1030), 0);
  log[3].t = 5000;
  assert.equal(recovery(ledger, log, 1030), 3970);
});
