// The real server, and somebody who publishes to it without a pause.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import os from 'node:os';
import readline from 'node:readline';
import { Ledger } from './oracle.mjs';
import { make } from './payload.mjs';

export const sleep = ms => new Promise(resolve => { setTimeout(resolve, ms); });

/** By how much a time that is allowed grows, because others use this machine too. What is counted does not grow. */
export function patience() {
  return Math.min(6, Math.max(1, os.loadavg()[0] / os.cpus().length / 1.5));
}

/** Waits until `probe` gives something truthy, and gives it back. */
export async function until(what, probe, limit = 10_000, every = 50) {
  const ms = limit * patience();
  const end = Date.now() + ms;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${(ms / 1000).toFixed(1)} s: ${typeof what === 'function' ? what() : what}`);
    await sleep(every);
  }
}

const running = new Set();
process.once('exit', () => running.forEach(child => child.kill('SIGKILL')));

export class Server {
  #binary;
  #options;
  #process = null;
  port = 0;
  said = [];

  constructor(binary, options = []) {
    this.#binary = binary;
    this.#options = options;
  }

  async start() {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('HOLDLINE_')));
    const child = spawn(this.#binary, ['--listen', '127.0.0.1:0', ...this.#options], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    child.stderr.on('data', text => this.said.push(String(text)));
    const lines = readline.createInterface(child.stdout);
    const [line] = await Promise.race([once(lines, 'line'), once(child, 'exit').then(() => [''])]);
    this.port = Number(/:(\d+)$/.exec(line)?.[1] ?? 0);
    if (!this.port) throw new Error(`the server did not start: ${this.said.join('')}`);
    return this.port;
  }

  /** Asks for an orderly end (SIGTERM) or takes it away (SIGKILL); resolves when it is gone. */
  async end(signal = 'SIGTERM') {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    await gone;
  }

  signal(name) {
    this.#process.kill(name);
  }
}

/** Publishes numbered messages on its channels in turn, and writes down what the server said of each. */
export class Publisher {
  #agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  #running = null;
  #stop = false;
  #n = 0;

  /** `every`: ms between requests, on average. `rhythm`: { on, off }, ms of that and ms of silence in turn. */
  constructor(server, channels, { every = 50, rhythm = null, random = Math.random } = {}) {
    this.rhythm = rhythm;
    this.server = server;
    this.channels = channels;
    this.every = every;
    this.random = random;
    this.ledger = new Ledger();
  }

  start() {
    this.#stop = false;
    this.#running = this.#run();
  }

  async stop() {
    this.#stop = true;
    await this.#running;
  }

  async #run() {
    const began = Date.now();
    while (!this.#stop) {
      const { on, off } = this.rhythm ?? { on: 1, off: 0 };
      if ((Date.now() - began) % (on + off) >= on) { await sleep(50); continue; }
      await this.publish(this.random() < 0.05 ? 12 : 1);
      await sleep(this.every * (0.5 + this.random()));
    }
  }

  /** One request with that many messages. What is not answered stays unconfirmed. */
  async publish(count = 1) {
    const entries = [];
    const lines = [];
    for (let i = 0; i < count; i++) {
      const n = this.#n++;
      const channel = this.channels[n % this.channels.length];
      entries.push(this.ledger.offer(channel, n, Date.now()));
      lines.push(JSON.stringify({ channel, ...make(n) }));
    }
    try {
      const answers = (await this.#post(lines.join('\n'))).trimEnd().split('\n').map(line => JSON.parse(line));
      answers.forEach(({ id }, i) => { entries[i].id = id ?? null; });
      return answers;
    } catch {
      await sleep(50); // it is away; what was on its way may have been taken or not
      return [];
    }
  }

  #post(body) {
    return new Promise((resolve, reject) => {
      const options = { agent: this.#agent, port: this.server.port, host: '127.0.0.1', path: '/publish', method: 'POST', timeout: 5000,
        headers: { 'Content-Type': 'application/x-ndjson', 'Content-Length': Buffer.byteLength(body) } };
      const request = http.request(options, answer => {
        let text = '';
        answer.setEncoding('utf8').on('data', part => { text += part; }).on('end', () => resolve(text)).on('error', reject);
      });
      request.on('timeout', () => request.destroy(new Error('timeout'))).on('error', reject).end(body);
    });
  }

  end() {
    this.#agent.destroy();
  }
}
