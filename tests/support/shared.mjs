// What all tests in JavaScript share: waiting, checks, processes and servers, a wire that can be cut, a browser.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

// No settings of whoever runs this: each option of the server is a variable too, and no proxy is on loopback.
export const environment = Object.fromEntries(Object.entries(process.env)
  .filter(([name]) => !/^holdline_|_proxy$/i.test(name)));
Object.assign(environment, { CURL_HOME: '/nonexistent', PYTHONUNBUFFERED: '1', PYTHONDONTWRITEBYTECODE: '1' });

// ---------------------------------------------------------------- waiting

export const PATIENCE = 30_000;

export const sleep = ms => new Promise(resolve => { setTimeout(resolve, ms); });

/** By how much a time that is allowed grows, because others use this machine too. What is counted does not grow. */
export function patience() {
  return Math.min(6, Math.max(1, os.loadavg()[0] / os.cpus().length / 1.5));
}

/** Waits until `probe` gives something truthy, and gives it back. What it throws ends the waiting. */
export async function until(what, probe, ms = PATIENCE, every = 20) {
  const begun = Date.now();
  for (;;) {
    const found = await probe();
    if (found) return found;
    const left = begun + ms * patience() - Date.now();
    if (left < 0) throw new Error(`not within ${(Date.now() - begun) / 1000} s: ${typeof what === 'function' ? what() : what}`);
    await sleep(every);
  }
}

/** Waits until `probe` gives true; else says what it gave, or threw, last. */
export function becomes(what, probe, ms) {
  let last;
  const attempt = async () => (last = await probe());
  const isTrue = () => attempt().catch(error => { last = error.message; }).then(() => last === true);
  return until(() => `${what}; last: ${JSON.stringify(last)}`, isTrue, ms, 40);
}

/** Runs all, so many at a time. */
export async function together(width, jobs) {
  const queue = [...jobs];
  const work = async () => {
    for (let job; (job = queue.shift());) await job();
  };
  await Promise.all(Array.from({ length: width }, work));
}

// ---------------------------------------------------------------- checks

const tally = { passed: 0, failed: 0, skipped: 0 };

/** Thrown where something cannot be tried here. */
export class Skip extends Error {}

export async function check(name, run) {
  const begun = Date.now();
  try {
    const detail = await run();
    const took = `${((Date.now() - begun) / 1000).toFixed(1)} s`;
    tally.passed++;
    console.log(`ok    ${name} (${detail ? `${detail}, ` : ''}${took})`);
  } catch (error) {
    const verdict = error instanceof Skip ? 'SKIPPED' : 'FAIL ';
    tally[error instanceof Skip ? 'skipped' : 'failed']++;
    console.log(`${verdict} ${name}: ${String(error.message).split('\n').slice(0, 12).join(' | ')}`);
  }
}

/** The sum, and the exit status. */
export function sum() {
  const { passed, failed, skipped } = tally;
  console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

// ---------------------------------------------------------------- processes

const children = new Set();
const folders = [];

process.on('exit', () => {
  for (const child of children) end(child, 'SIGKILL');
  for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));

/** One of its own, which ends with this process. */
export function folder() {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'holdline-'));
  folders.push(made);
  return made;
}

/** A process in a group of its own, for a shell has children; `said` and `erred` grow with what it writes. */
export function start(command, args, options = {}) {
  const child = spawn(command, args, { env: environment, detached: true, stdio: ['pipe', 'pipe', 'pipe'], ...options });
  const run = { child, said: '', erred: '', status: undefined };
  children.add(child);
  child.stdout.setEncoding('utf8').on('data', text => { run.said += text; });
  child.stderr.setEncoding('utf8').on('data', text => { run.erred += text; });
  child.stdin.on('error', () => {}); // who ends without reading it may
  run.ended = new Promise(resolve => {
    child.on('error', error => { run.erred += error.message; run.status = -1; resolve(-1); });
    child.on('close', (code, signal) => {
      children.delete(child);
      run.status = code ?? signal;
      resolve(run.status);
    });
  });
  run.stop = (signal = 'SIGKILL') => { end(child, signal); return run.ended; };
  return run;
}

function end(child, signal) {
  try {
    if (children.has(child)) process.kill(-child.pid, signal);
  } catch {
    // it has ended by itself
  }
}

/** A server that prints `listening on http://…`: a process with `base`, `at` (host and port) and `port` besides. */
export async function serve(program, ...args) {
  const run = start(program, args);
  const [, base] = await until(`${path.basename(program)} listens`, () => {
    if (run.status !== undefined) throw new Error(`${path.basename(program)} ended with ${run.status}: ${run.erred}`);
    return run.said.match(/^listening on (http:\S+)\n/m);
  }, PATIENCE, 5);
  const { host, port } = new URL(base);
  return Object.assign(run, { base, at: host, port: Number(port) });
}

// ---------------------------------------------------------------- a wire

/**
 * Passes TCP on to a port of this machine, at an address of its own. What becomes of a connection is said by
 * `rule(first line)`: 'pass', 'reset', 'mute' (nothing ever comes back) or { answer }, which is sent in place of one.
 */
export async function wire(target) {
  const self = { target, rule: () => 'pass', seen: [], open: new Set(), clients: new Set() };
  const server = net.createServer({ noDelay: true }, client => {
    self.clients.add(client);
    client.on('error', () => {}).on('close', () => self.clients.delete(client));
    client.once('data', first => {
      const line = first.toString('latin1').split('\r\n')[0];
      const rule = self.rule(line);
      self.seen.push(line);
      if (rule === 'reset') client.resetAndDestroy();
      else if (typeof rule === 'object') client.end(rule.answer);
      else if (rule === 'pass') pass(self, line, client, first);
    });
  });
  await new Promise(resolve => { server.listen(0, '127.0.0.1', resolve); });
  const { port } = server.address();
  const reset = clients => { for (const client of clients) client.resetAndDestroy(); };
  return Object.assign(self, {
    port,
    at: `127.0.0.1:${port}`,
    base: `http://127.0.0.1:${port}`,
    /** Resets what passes; who comes then passes. */
    cut: () => reset([...self.open].map(pair => pair.client)),
    /** Resets all connections, and new ones as well, until it is mended. */
    sever() {
      self.rule = () => 'reset';
      reset(self.clients);
    },
    mend() { self.rule = () => 'pass'; },
    close() {
      for (const client of self.clients) client.destroy();
      server.close();
    },
  });
}

/** Both ways, until one of them ends; nothing at all while the pair `isMute`. */
function pass(wire, line, client, first) {
  const server = net.connect({ port: wire.target, host: '127.0.0.1', noDelay: true });
  const pair = { line, client, server, isMute: false };
  wire.open.add(pair);
  const over = () => wire.open.delete(pair);
  client.on('data', bytes => pair.isMute || server.write(bytes)).on('close', () => { over(); server.destroy(); });
  // What it has said before its end comes, too.
  server.on('data', bytes => pair.isMute || client.write(bytes)).on('error', () => client.destroy())
    .on('close', () => { over(); client.destroySoon(); });
  server.write(first);
}

// ---------------------------------------------------------------- what the server says

export async function publish(base, channel, body, headers = {}) {
  const response = await fetch(`${base}/channels/${channel}`, { method: 'POST', body, headers });
  const answer = await response.json();
  if (!response.ok) throw new Error(`publishing to ${channel}: ${response.status} ${JSON.stringify(answer)}`);
  return answer.id;
}

export async function about(base, channel) {
  return (await fetch(`${base}/channels/${channel}`)).json();
}

// ---------------------------------------------------------------- a browser

/** Where a Node package, or a file of one, is; undefined if it is nowhere. */
export function place(name) {
  const places = (process.env.NODE_PATH ?? '').split(path.delimiter).filter(Boolean).concat('node_modules');
  return places.map(one => path.resolve(one, name)).find(one => fs.existsSync(one));
}

export function load(name) {
  const found = place(name);
  if (!found) throw new Error(`there is no ${name}, neither in NODE_PATH nor in node_modules`);
  return createRequire(import.meta.url)(found);
}

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const QUIET = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];

/** A headless Chromium: that of the variable, or the system's. */
export function chromium({ args = [], ...options } = {}) {
  const executablePath = process.env.CHROMIUM ?? CHROMIUM.find(one => fs.existsSync(one));
  if (!executablePath) throw new Error(`there is no Chromium: looked for ${CHROMIUM.join(', ')}`);
  return load('playwright-core').chromium.launch({ executablePath, args: [...QUIET, ...args], env: environment, ...options });
}
