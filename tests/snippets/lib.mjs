// What the tests of snippets and of the browser examples share: servers, a wire that can be cut, a browser, checks.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import { createRequire } from 'node:module';
import path from 'node:path';

export const PATIENCE = 20_000;

const BROWSER = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];

// No settings of whoever runs this: each option of the server is a variable too, and no proxy is on loopback.
export const environment = Object.fromEntries(Object.entries(process.env)
  .filter(([name]) => !/^holdline_|_proxy$/i.test(name)));
Object.assign(environment, { CURL_HOME: '/nonexistent', PYTHONUNBUFFERED: '1', PYTHONDONTWRITEBYTECODE: '1' });

// ---------------------------------------------------------------- checks

const tally = { passed: 0, failed: 0, skipped: 0 };

// Thrown where something cannot be tried here.
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

// The sum, and the exit status.
export function sum() {
  const { passed, failed, skipped } = tally;
  console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

// Waits for a probe that gives true; else says what it gave last.
export async function until(what, probe, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (let wait = 20; ; wait = Math.min(1.5 * wait, 150)) { // to ask costs time, too
    let last;
    try {
      last = await probe();
      if (last === true) return;
    } catch (error) {
      last = error.message;
    }
    if (Date.now() > end) throw new Error(`not within ${patience / 1000} s: ${what}; last: ${JSON.stringify(last)}`);
    await pause(wait);
  }
}

export const pause = ms => new Promise(resolve => { setTimeout(resolve, ms); });

// Runs all, so many at a time.
export async function together(width, jobs) {
  const queue = [...jobs];
  const work = async () => {
    for (let job; (job = queue.shift());) await job();
  };
  await Promise.all(Array.from({ length: width }, work));
}

// ---------------------------------------------------------------- processes

const children = new Set();
const folders = [];

process.on('exit', () => {
  for (const child of children) end(child);
  for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

export function folder() {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'holdline-'));
  folders.push(made);
  return made;
}

// A process in a group of its own, for a shell has children; `said` grows with what it writes.
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
  run.stop = () => { end(child); return run.ended; };
  return run;
}

function end(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // it has ended by itself
  }
}

// A server that prints `listening on http://…`.
export async function serve(program, ...args) {
  const run = start(program, args);
  await until(`${path.basename(program)} listens`, () => {
    if (run.status !== undefined) throw new Error(`it ended with ${run.status}: ${run.erred}`);
    return /^listening on http:\S+\n/m.test(run.said);
  });
  run.base = run.said.match(/^listening on (http:\S+)/m)[1];
  run.at = new URL(run.base).host;
  return run;
}

// ---------------------------------------------------------------- a wire

// Passes TCP on to a server, at an address of its own, until it is cut.
export async function wire(target) {
  const live = new Set();
  let whole = true;
  const server = net.createServer(near => {
    near.on('error', () => {});
    if (!whole) return near.resetAndDestroy();
    const [host, port] = target.split(':');
    const far = net.connect(Number(port), host);
    far.on('error', () => near.destroy());
    near.on('close', () => { far.destroy(); live.delete(near); });
    far.on('close', () => near.destroy());
    near.setNoDelay(true);
    far.setNoDelay(true);
    near.pipe(far).pipe(near);
    live.add(near);
  });
  await new Promise(resolve => { server.listen(0, '127.0.0.1', resolve); });
  const at = `127.0.0.1:${server.address().port}`;
  return {
    at,
    base: `http://${at}`,
    get connections() { return live.size; },
    // All connections are reset, and new ones as well.
    cut() {
      whole = false;
      for (const near of live) near.resetAndDestroy();
    },
    mend() { whole = true; },
    close() {
      this.cut();
      server.close();
    },
  };
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

export function load(name) {
  const require = createRequire(import.meta.url);
  const places = (process.env.NODE_PATH ?? '').split(path.delimiter).filter(Boolean);
  for (const place of places) {
    const found = path.resolve(place, name);
    if (fs.existsSync(found)) return require(found);
  }
  return undefined;
}

// A headless Chromium, or why there is none.
export async function browser() {
  const usual = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
  const executablePath = process.env.CHROMIUM ?? usual.find(place => fs.existsSync(place));
  const playwright = load('playwright-core');
  if (!playwright) return { lacks: 'there is no playwright-core in NODE_PATH' };
  if (!executablePath) return { lacks: 'there is no Chromium' };
  return { chromium: await playwright.chromium.launch({ executablePath, args: BROWSER, env: environment }) };
}
