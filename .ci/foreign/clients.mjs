// Clients that others wrote, from Node: `ws`, `eventsource` and the built-in fetch, against a running binary.
//
//   NODE_PATH=/some/node_modules node .ci/foreign/clients.mjs target/release/holdline
//
// Each subscribes, receives, is cut and resumes with the one string it kept; meets a gap after more messages than are
// kept; and is told when the server ends. EventSource does so by itself, through a proxy that cuts it. One line a
// check; exit code 1 if one failed.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import net from 'node:net';
import path from 'node:path';
import readline from 'node:readline';

const require = createRequire(path.join(process.env.NODE_PATH ?? path.resolve('node_modules'), '_'));
const { WebSocket } = require('ws');
const { EventSource } = require('eventsource');

const KEPT = 5;
const PATIENCE = 15_000;
const sleep = ms => new Promise(done => setTimeout(done, ms));
const numbers = (from, count) => [...Array(count).keys()].map(n => String(from + n));

/** What came and was not asked for yet. */
class Queue {
  #came = [];
  #asked = [];

  push(told) {
    const ask = this.#asked.shift();
    if (ask) ask(told);
    else this.#came.push(told);
  }

  next() {
    if (this.#came.length) return this.#came.shift();
    return new Promise((done, fail) => {
      const timer = setTimeout(() => fail(new Error('nothing more came')), PATIENCE);
      this.#asked.push(told => { clearTimeout(timer); done(told); });
    });
  }
}

// ---------------------------------------------------------------- the lines

/** A subscription to one channel that remembers where it is, as clients are told to: the newest string received. */
class Line {
  constructor(base, channel) {
    Object.assign(this, { base, channel, cursor: '', queue: new Queue() });
  }

  remember(...strings) {
    this.cursor = strings.find(Boolean) ?? this.cursor;
  }

  address(route, pairs = {}) {
    const query = new URLSearchParams({ ...pairs, ...(this.cursor && { since: this.cursor }) });
    return `${this.base}${route}?${query}`;
  }

  next() {
    return this.queue.next();
  }

  ready() {}
  async finish() {}
}

class Socket extends Line {
  async connect(address, protocol) {
    const queue = this.queue = new Queue();
    this.socket = new WebSocket(address.replace('http', 'ws'), protocol);
    this.socket.on('message', (data, isBinary) => {
      assert.equal(isBinary, false);
      this.told(data.toString(), queue);
    });
    this.socket.on('close', code => queue.push(code === 1012 && this.socket.bye !== null ? 'end' : `closed ${code}`));
    this.socket.on('error', () => {}); // `close` follows
    await once(this.socket, 'open');
    assert.equal(this.socket.protocol, protocol);
  }

  async cut() {
    this.socket.terminate();
  }
}

class Envelopes extends Socket {
  static title = 'ws on /ws';

  async open() {
    await this.connect(this.address('/ws', { channel: this.channel }), 'holdline.v1.json');
    this.socket.bye = null;
  }

  told(frame, queue) {
    const told = JSON.parse(frame);
    this.remember(told.cursor, told.resumed, told.id);
    if (told.op === 'message') queue.push(told.text);
    else if (told.op === 'gap') queue.push(`gap ${told.reason}`);
    else if (told.op === 'bye' && told.code === 1012 && told.retry_ms > 0) this.socket.bye = told;
    else if (!['hello', 'ok', 'live', 'heartbeat'].includes(told.op)) queue.push(`unexpected ${frame}`);
  }
}

class Meta extends Socket {
  static title = 'ws on /channels/…, holdline.v1.meta';

  async open() {
    await this.connect(this.address(`/channels/${this.channel}`), 'holdline.v1.meta');
  }

  told(frame, queue) {
    const end = frame.indexOf('\n\n');
    const fields = Object.fromEntries(frame.slice(0, end).split('\n').map(line => line.split(/: (.*)/s)));
    const gap = fields.gap && Object.fromEntries(fields.gap.split('; ').map(part => part.split('=')));
    this.remember(fields.cursor, gap?.resumed, fields.id);
    if (gap) queue.push(`gap ${gap.reason}`);
    else if (fields.id) queue.push(frame.slice(end + 2));
  }
}

/** Passes bytes on until it is told to drop everyone. */
class Proxy {
  static async before(base) {
    const proxy = new Proxy();
    proxy.sockets = new Set();
    proxy.connections = 0;
    proxy.server = net.createServer(near => {
      const far = net.connect(Number(new URL(base).port), '127.0.0.1');
      proxy.connections += 1;
      for (const [from, to] of [[near, far], [far, near]]) {
        proxy.sockets.add(from);
        from.on('error', () => to.destroy()).on('close', () => { proxy.sockets.delete(from); to.destroy(); });
        from.pipe(to);
      }
    });
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.base = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  cut() {
    for (const socket of this.sockets) socket.destroy();
  }
}

/** Opened once: from then on it reconnects with Last-Event-ID by itself. */
class Stream extends Line {
  async open() {
    if (this.source) return;
    this.proxy = await Proxy.before(this.base);
    this.source = new EventSource(this.proxy.base + this.route());
    this.source.addEventListener(this.gap, e => this.queue.push(`gap ${JSON.parse(e.data).reason}`));
    this.source.addEventListener('message', e => this.queue.push(this.text(e.data)));
    this.source.addEventListener('bye', e => { this.bye = JSON.parse(e.data); });
    this.source.addEventListener('error', e => this.errors.push(e));
    this.errors = [];
    await once(this.source, 'open');
  }

  async cut() {
    this.errors.length = 0;
    this.proxy.cut();
    while (!this.errors.length) await sleep(10);
  }

  ready() {
    this.errors.length = 0;
    this.ended = (async () => {
      while (!this.errors.length) await sleep(10);
      // It would come back, as it must not be told to stay away.
      assert.equal(this.source.readyState, EventSource.CONNECTING);
      assert.ok(!this.says_bye || this.bye?.retry_ms > 0, 'no bye');
      this.queue.push('end');
    })().catch(error => this.queue.push(error.message));
  }

  async finish() {
    this.source.close();
    this.proxy.cut();
    this.proxy.server.close();
  }
}

class Events extends Stream {
  static title = 'eventsource on /events';
  gap = 'gap';
  says_bye = true;
  route = () => `/events?channel=${this.channel}`;
  text = data => JSON.parse(data).text;
}

class RawStream extends Stream {
  static title = 'eventsource on /channels/…';
  gap = 'holdline-gap';
  says_bye = false;
  route = () => `/channels/${this.channel}`;
  text = data => data;
}

class Poll extends Line {
  static title = 'fetch on /poll';

  async open() {
    this.control = new AbortController();
    if (!this.cursor) await this.poll();
  }

  async poll() {
    const answer = await fetch(this.address('/poll', { channel: this.channel, wait: 10 }), { signal: this.control.signal });
    assert.equal(answer.status, 200);
    const told = await answer.json();
    this.remember(told.cursor);
    for (const gap of told.gap ?? []) this.queue.push(`gap ${gap.reason}`);
    for (const message of told.messages) this.queue.push(message.text);
    if (told.retry_ms) this.queue.push('end');
    return told.messages.length + (told.gap ?? []).length + (told.retry_ms ? 1 : 0);
  }

  async next() {
    this.waiting ??= 0;
    while (!this.waiting) this.waiting += await this.poll();
    this.waiting -= 1;
    return this.queue.next();
  }

  async cut() {
    this.control.abort();
  }
}

// ---------------------------------------------------------------- the server

async function start(binary) {
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('HOLDLINE_')));
  const args = ['--listen', '127.0.0.1:0', '--history', String(KEPT), '--log-level', 'warn'];
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'inherit'], env: clean });
  const [line] = await once(readline.createInterface(child.stdout), 'line');
  return { child, base: line.replace('listening on ', ''), exit: once(child, 'exit') };
}

async function publish(line, texts) {
  for (const body of texts) {
    const answer = await fetch(`${line.base}/channels/${line.channel}`, { method: 'POST', body });
    assert.ok([201, 202].includes(answer.status), `publishing: ${answer.status}`);
  }
}

async function subscribed(line) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await sleep(20)) {
    const told = await (await fetch(`${line.base}/channels/${line.channel}`)).json();
    if (told.subscribers === 1) return;
  }
  throw new Error('is not counted as a subscriber');
}

// ---------------------------------------------------------------- the checks

let passed = 0;
let failed = 0;

async function check(name, run) {
  try {
    await run();
    passed += 1;
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}: ${String(error.message).split('\n').slice(0, 12).join(' | ')}`);
  }
}

async function came(line, expected) {
  const got = [];
  while (got.length < expected.length) got.push(await line.next());
  assert.deepEqual(got, expected);
}

async function live(line, texts) {
  const waiting = came(line, texts);
  await Promise.all([waiting, subscribed(line).then(() => publish(line, texts))]);
}

async function travel(line) {
  const { title } = line.constructor;
  await check(`${title}: receives`, async () => {
    await line.open();
    await live(line, numbers(1, 3));
  });
  await check(`${title}: cut, resumes, nothing lost or doubled`, async () => {
    await line.cut();
    await publish(line, numbers(4, 3));
    await line.open();
    await came(line, numbers(4, 3));
    await live(line, numbers(7, 1));
  });
  await check(`${title}: a gap, then what is kept`, async () => {
    await line.cut();
    await publish(line, numbers(10, KEPT + 3));
    await line.open();
    await came(line, ['gap trimmed', ...numbers(13, KEPT)]);
  });
}

const { child, base, exit } = await start(process.argv[2]);
const watchdog = setTimeout(() => { console.log('FAIL  the run took longer than 2 minutes'); child.kill(); process.exit(1); }, 120_000);
const lines = [Envelopes, Meta, Events, RawStream, Poll].map((Kind, n) => new Kind(base, `node.${n}`));
try {
  await Promise.all(lines.map(travel));
  await check('ws on /channels/…, no subprotocol: closed with 1013 for a gap', async () => {
    const socket = new WebSocket(`${base.replace('http', 'ws')}/channels/node.0?since=${'zzzzzzzz-1'}`);
    const [code, reason] = await once(socket, 'close');
    assert.deepEqual([code, reason.toString()], [1013, 'gap']);
  });
  const ends = lines.map(line => {
    line.ready();
    return check(`${line.constructor.title}: told of the end`, () => came(line, ['end']));
  });
  await Promise.all(lines.map(subscribed));
  child.kill('SIGTERM');
  await Promise.all([...ends, check('the server exits with 0', async () => assert.deepEqual(await exit, [0, null]))]);
} finally {
  await Promise.all(lines.map(line => line.finish()));
  child.kill('SIGKILL');
  clearTimeout(watchdog);
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
