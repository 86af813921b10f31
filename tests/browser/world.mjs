// The real server, and somebody who publishes to it without a pause.

import http from 'node:http';
import { serve, sleep } from '../support/shared.mjs';
import { Ledger } from './oracle.mjs';
import { make } from './payload.mjs';

/** A server that can be ended, and started again. */
export class Server {
  #binary;
  #options;
  #run = null;

  constructor(binary, options = []) {
    this.#binary = binary;
    this.#options = options;
  }

  async start() {
    this.#run = await serve(this.#binary, '--listen', '127.0.0.1:0', ...this.#options);
    return this.port;
  }

  get port() {
    return this.#run.port;
  }

  /** Asks for an orderly end (SIGTERM) or takes it away (SIGKILL); resolves when it is gone. */
  async end(signal = 'SIGTERM') {
    await this.#run?.stop(signal);
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
