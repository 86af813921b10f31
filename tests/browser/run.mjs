// The browser tests: see `run` beside this for how to call it.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { patience, sleep } from '../support/shared.mjs';
import { BROKEN, broken } from './broken.mjs';
import { MATRIX } from './faults.mjs';
import { Chromium, Firefox, Node } from './peers.mjs';
import { SCENARIOS } from './scenarios.mjs';
import { Stage } from './stage.mjs';
import { written, writtenBroken } from './table.mjs';
import { Server } from './world.mjs';

const TRANSPORTS = ['ws', 'sse', 'poll'];
const HOMES = {
  chromium: () => Chromium.launch(),
  firefox: () => Firefox.launch(),
  node: async () => new Node({ injects: false }),
  'node+ws': async () => new Node({ injects: true }),
};

const given = { peers: Object.keys(HOMES), rounds: 1, width: 8, seed: Date.now() % 1_000_000 };
const args = process.argv.slice(2);
while (args.length > 0) {
  const name = args.shift();
  switch (name) {
    case '--short': given.short = true; break;
    case '--broken': given.broken = true; break;
    case '--write': given.write = args.shift(); break;
    case '--only': given.only = args.shift(); break;
    case '--peers': given.peers = args.shift().split(','); break;
    case '--seed': given.seed = Number(args.shift()); break;
    case '--rounds': given.rounds = Number(args.shift()); break;
    case '--width': given.width = Number(args.shift()); break;
    case '--client': given.client = fs.readFileSync(args.shift()); break;
    default: given.binary = path.resolve(name);
  }
}

// ---------------------------------------------------------------- what is to be run

/** { name, peer, seed, run(tools) } for each, in the order in which they are begun. */
function jobs() {
  const all = [];
  for (const peer of given.peers) {
    for (const fault of MATRIX) {
      for (const transport of TRANSPORTS) {
        if (peer === 'node' && transport === 'ws') continue; // it has none
        if (peer === 'node+ws' && transport !== 'ws') continue; // the same as node
        all.push({ peer, transport, fault, name: `${transport} · ${fault.name}`, short: isShort(peer, fault, transport), run: tools => cell(tools, transport, fault) });
      }
    }
    for (const scenario of SCENARIOS) {
      if (!scenario.peers.includes(peer)) continue;
      all.push({ peer, scenario, name: scenario.name, short: scenario.short?.includes(peer), run: scenario.run });
    }
  }
  if (given.broken) return brokenJobs(all);
  const chosen = all.filter(job => (!given.short || job.short) && (!given.only || given.only.split('|').some(text => `${job.peer}: ${job.name}`.includes(text))));
  const repeated = Array.from({ length: given.rounds }, (_, round) => chosen.map(job => ({ ...job, round }))).flat();
  // Its seed follows from its name, so that `--only` with the same `--seed` is the same test.
  repeated.sort((x, y) => Number(isLong(y)) - Number(isLong(x)));
  for (const job of repeated) job.seed = hash(`${given.seed} ${job.peer} ${job.name} ${job.round}`);
  return repeated;
}

/** What takes longest is begun first. */
const isLong = ({ fault, scenario }) => fault?.limit > 32_000 || scenario?.long;

/** Tests that must fail, each with a client of its own. */
function brokenJobs(all) {
  const source = fs.readFileSync(new URL('../../client/holdline.js', import.meta.url), 'utf8');
  return BROKEN.filter(({ name }) => !given.only || name.includes(given.only)).map(fault => {
    const job = all.find(({ peer, name }) => peer === fault.peer && name === fault.test);
    return { ...job, name: `broken: ${fault.name}`, seed: hash(`${given.seed} ${fault.name}`), run: tools => seen(tools, job, fault, broken(source, fault)) };
  });
}

async function seen(tools, job, fault, client) {
  tools.client = client;
  let said;
  try {
    await job.run(tools);
  } catch (error) {
    said = String(error.message);
  }
  if (said === undefined) throw new Error(`“${fault.test}” did not notice`);
  if (!fault.sees.test(said)) throw new Error(`“${fault.test}” failed with something else: ${said}`);
  return { note: `“${fault.test}”: ${said.replace(/; the client is.*/, '').replace(/\s+/g, ' ').slice(0, 110)}` };
}

/** Each fault once in Chromium, over the transports in turn; a few elsewhere. */
function isShort(peer, { name }, transport) {
  const at = MATRIX.findIndex(fault => fault.name === name);
  if (peer === 'chromium') return TRANSPORTS[at % 3] === transport;
  const elsewhere = { firefox: ['ws · crash'], node: ['sse · rst', 'poll · cuts', 'sse · half-open'], 'node+ws': ['ws · cuts'] };
  return elsewhere[peer].includes(`${transport} · ${name}`);
}

function hash(text) {
  let h = 2166136261;
  for (const c of text) h = Math.imul(h ^ c.codePointAt(0), 16777619) >>> 0;
  return h;
}

// ---------------------------------------------------------------- one cell of the matrix

async function cell(tools, transport, fault) {
  const server = fault.own ? await tools.server(fault.own) : tools.shared;
  const stage = await tools.stage({ server, every: fault.every, rhythm: fault.rhythm });
  stage.transport = transport;
  await stage.start({ options: { transports: [transport] } });
  await stage.live();
  stage.publisher.start();
  await sleep(700 + stage.random() * 400);
  const began = Date.now();
  stage.mark(`fault begins: ${fault.name}`);
  await fault.begin(stage);
  let from = began;
  if (fault.lasts) {
    await sleep(fault.lasts);
    await fault.end(stage);
    from = Date.now();
    stage.mark('fault ends');
  }
  await stage.caughtUp(from, fault.limit);
  const reached = Date.now();
  await stage.settle();
  if (stage.proxy.hits === 0) throw new Error('the fault hit nobody: this tested nothing');
  const verdict = stage.judged({ gaps: fault.gap ?? null });
  return { ...summary(verdict), recover: stage.recovery(fault.fromBegin ? began : from, { until: reached }) };
}

const summary = ({ received, lost, doubled, announced }) => ({ received, lost: lost.length, doubled: doubled.length, announced });

// ---------------------------------------------------------------- running them

/** What a test may ask for; all of it is taken away at its end. */
function toolsOf(job, home, shared) {
  const undo = [];
  const tools = {
    home, shared, seed: job.seed, client: given.client,
    async server(options = []) {
      const own = [...options];
      if (own.at(-1) === '--data') {
        const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'holdline-data-'));
        undo.push(() => fs.rmSync(folder, { recursive: true, force: true }));
        own.push(folder);
      }
      const server = new Server(given.binary, own);
      undo.push(() => server.end('SIGKILL'));
      await server.start();
      return server;
    },
    async stage(options = {}) {
      const stage = await Stage.open({ home: tools.home, server: shared, seed: job.seed, name: job.name, client: tools.client, ...options });
      undo.push(() => stage.close());
      tools.last = stage;
      return stage;
    },
    async undo() {
      for (const act of undo.reverse()) await Promise.resolve(act()).catch(() => {});
    },
  };
  return tools;
}

const results = [];
const HANGS_AFTER = 240_000;

/** What hangs fails, and does not hold up the others. */
async function within(what, ms, promise) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${what} hangs: not done within ${ms / 1000} s`)), ms); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function perform(job, home, shared) {
  const tools = toolsOf(job, home, shared);
  const began = Date.now();
  const result = { ...job, ok: true };
  try {
    Object.assign(result, await within(job.name, HANGS_AFTER * patience(), job.run(tools)));
  } catch (error) {
    Object.assign(result, { ok: false, error: String(error.message ?? error), story: tools.last?.story() ?? [String(error.stack)] });
    if (error.verdict) Object.assign(result, summary(error.verdict));
  } finally {
    await within('its end', 30_000 * patience(), tools.undo()).catch(() => {});
  }
  result.took = Date.now() - began;
  results.push(result);
  tell(result);
}

function tell({ ok, peer, name, received, recover, note, error, story, seed, took }) {
  const facts = [received === undefined ? '' : `${received} messages`, recover === undefined ? '' : `recovered in ${(recover / 1000).toFixed(1)} s`, note ?? ''].filter(Boolean);
  if (ok) return console.log(`ok    ${peer}: ${name}${facts.length > 0 ? ` (${facts.join(', ')})` : ''}`);
  console.log(`FAIL  ${peer}: ${name}: ${error.slice(0, 600)}`);
  console.log(`      seed ${seed}, after ${(took / 1000).toFixed(1)} s; again: tests/browser/run --seed ${given.seed} --peers ${peer} --only '${name}'`);
  for (const line of story) console.log(`      | ${line}`);
  return undefined;
}

/** `width` at a time. */
async function performAll(list, homes, shared) {
  const left = [...list];
  await Promise.all(Array.from({ length: given.width }, async () => {
    while (left.length > 0) {
      const job = left.shift();
      await perform(job, homes[job.peer], shared);
    }
  }));
}

/** Who judges is judged first. */
function judgeTheOracle() {
  const file = fileURLToPath(new URL('oracle.test.mjs', import.meta.url));
  const { status, stdout } = spawnSync(process.execPath, ['--test', file], { encoding: 'utf8' });
  const count = /^# pass (\d+)/m.exec(stdout)?.[1] ?? 0;
  results.push({ ok: status === 0 });
  console.log(status === 0 ? `ok    the oracle (${count} tests of its own)` : `FAIL  the oracle\n${stdout}`);
}

const list = jobs();
console.log(`seed ${given.seed}${patience() > 1 ? `; the machine is busy, so times may be ${patience().toFixed(1)} times as long` : ''}`);
const homes = {};
let skipped = 0;
for (const peer of new Set(list.map(job => job.peer))) {
  try {
    homes[peer] = await HOMES[peer]();
  } catch (error) {
    skipped++;
    console.log(`SKIPPED ${peer}: ${error.message.split('\n')[0]}`);
  }
}
const versions = Object.fromEntries(Object.entries(homes).map(([peer, home]) => [peer, home.version])); // as long as they live
judgeTheOracle();
const shared = new Server(given.binary);
await shared.start();
try {
  await performAll(list.filter(job => homes[job.peer]), homes, shared);
} finally {
  await Promise.all(Object.values(homes).map(home => within('the browser', 20_000, home.close()).catch(() => {})));
  await shared.end();
}
if (given.write && given.broken) writtenBroken(given.write, results);
else if (given.write) written(given.write, results, versions, given);
const failed = results.filter(result => !result.ok).length;
console.log(`${results.length - failed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exit(failed > 0 ? 1 : 0);
