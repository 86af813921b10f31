// A proxy that fails on demand, in front of a real server.
//
// It passes TCP on byte by byte and looks only for where requests and answers begin and end, so that a fault can be
// given to one transport alone, can begin in the middle of an answer, and can cut at any byte. What it can do is the
// list FAULTS; `docs/browser.md` says what each stands for.

import net from 'node:net';
import { once } from 'node:events';
import { Answer, answer, openAndClose, parseHead, splitHead } from './http.mjs';

/** What a fault object may have as its `type`. */
export const FAULTS = ['refuse', 'stall', 'cut', 'buffer', 'idle', 'status', 'slow', 'latency', 'strip', 'mute', 'close-code', 'token'];

/** Which transport a request is of. */
export function kindOf(path, fields) {
  const name = path.split('?')[0].split('/').pop();
  if (name === 'ws' || name === 'poll' || name === 'publish') return name;
  if (name === 'events') return 'sse';
  if (!path.includes('/channels/')) return 'page';
  if (/websocket/i.test(fields.get('upgrade') ?? '')) return 'ws';
  return /event-stream/.test(fields.get('accept') ?? '') ? 'sse' : 'poll';
}

export class FaultProxy {
  #server;
  #lines = new Set();
  #faults = {};
  #port = 0;
  #accepts = true;
  #now;

  /**
   * `target`: the port on loopback that it stands before. `random`: () => [0, 1), for cuts.
   * `pages`: path → { type, body }, answered by the proxy itself.
   */
  constructor({ target, random = Math.random, pages = {}, now = Date.now }) {
    this.target = target;
    this.random = random;
    this.pages = pages;
    this.#now = now;
    /** Every request that came: { t, kind, path, status } (status is what the proxy did, or what the server said). */
    this.requests = [];
    /** When connections were accepted, and when some were refused at once. */
    this.accepted = [];
    this.refused = [];
    /** How often a fault did something to somebody: a test in which that is 0 has tested nothing. */
    this.hits = 0;
  }

  async listen() {
    this.#server = net.createServer({ noDelay: true }, socket => this.#accept(socket));
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = this.#server.address().port;
    return this.#port;
  }

  get port() {
    return this.#port;
  }

  get origin() {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** From now on requests of that kind ('ws', 'sse', 'poll', 'publish', or 'any' of these) meet this fault. */
  set(kind, fault) {
    if (!FAULTS.includes(fault.type)) throw new Error(`no such fault: ${fault.type}`);
    this.#faults[kind] = fault;
    for (const line of this.#lines) line.faulted(this.fault(line.kind));
  }

  /** No more faults of that kind, or none at all. */
  clear(kind) {
    if (kind) delete this.#faults[kind];
    else this.#faults = {};
    for (const line of this.#lines) line.pump();
  }

  fault(kind) {
    if (kind === 'page' || kind === null) return undefined;
    return this.#faults[kind] ?? this.#faults.any;
  }

  /** Cuts what is open of that kind ('any': all but idle ones of pages), by RST or by an orderly end of TCP. */
  cut(kind = 'any', how = 'rst') {
    let n = 0;
    for (const line of [...this.#lines]) {
      if (kind !== 'any' && line.kind !== kind) continue;
      line.end(how);
      this.hits++;
      n++;
    }
    return n;
  }

  /** Whether connections are accepted, or reset at once. */
  accepts(yes) {
    this.#accepts = yes;
  }

  /** Nobody listens any more: connections are cut, new ones refused by the system. */
  async gone() {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.cut();
    await closed;
  }

  /** Listens again, on the same port. */
  async back() {
    await this.listen();
  }

  async close() {
    if (this.#server.listening) await this.gone();
    for (const line of [...this.#lines]) line.end('rst');
  }

  /** Requests of that kind since then. */
  count(kind, since = 0) {
    return this.requests.filter(r => r.t >= since && (kind === 'any' ? r.kind !== 'page' : r.kind === kind)).length;
  }

  /** What is open at this moment, by kind. */
  open(kind) {
    return [...this.#lines].filter(line => line.kind === kind && line.busy).length;
  }

  #accept(socket) {
    if (!this.#accepts) {
      this.refused.push(Date.now());
      this.hits++;
      socket.on('error', () => {});
      socket.resetAndDestroy();
      return;
    }
    this.accepted.push(Date.now());
    const line = new Line(this, socket, () => this.#lines.delete(line));
    this.#lines.add(line);
  }

  heard(kind, path) {
    const request = { t: this.#now(), kind, path, status: null };
    this.requests.push(request);
    return request;
  }
}

/** One connection of a client, and the one to the server behind it. */
class Line {
  /** Of the request that is being answered; null before the first. */
  kind = null;
  busy = false;
  #proxy;
  #client;
  #server = null;
  #gone;
  #in = Buffer.alloc(0); // from the client, not yet understood
  #bodyLeft = 0;
  #dropsBody = false;
  #up = []; // for the server
  #down = []; // for the client: { bytes, due }
  #answer = null;
  #request = null;
  #passed = 0; // bytes of this answer that the client got
  #cutAt = Infinity;
  #cutHow = 'rst';
  #dead = false; // in a hole that this connection never leaves
  #timer = null;
  #idle = null;
  #serverEnded = false;
  #ended = false;

  constructor(proxy, client, gone) {
    this.#proxy = proxy;
    this.#client = client;
    this.#gone = gone;
    client.on('data', bytes => this.#fromClient(bytes));
    client.on('error', () => {});
    client.on('close', () => this.#clientClosed());
    client.on('end', () => { if (!this.#dead) this.#server?.end(); });
  }

  /** Ends it on both sides. */
  end(how) {
    if (how === 'rst') this.#client.resetAndDestroy();
    else this.#client.destroySoon(); // what was written goes out, then FIN
    this.#finish();
  }

  /** A fault has begun. */
  faulted(fault) {
    if (fault?.type === 'stall' && !fault.passes) {
      this.#dead = true;
      this.#proxy.hits++;
    }
    if (fault?.type === 'cut') this.#drawCut(fault);
    if (fault?.type === 'idle') this.#rearm();
    this.pump();
  }

  /** Passes on what may be passed on now. */
  pump() {
    if (this.#ended || this.#dead) return;
    const fault = this.#proxy.fault(this.kind);
    this.#pumpUp(fault);
    this.#pumpDown(fault);
  }

  #finish() {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#idle);
    this.#server?.destroy();
    this.#gone();
  }

  #clientClosed() {
    // The server does not hear of it through a hole.
    if (this.#dead) { this.busy = false; return; }
    this.#finish();
  }

  // ---------------------------------------------------------------- from the client

  #fromClient(bytes) {
    this.#rearm();
    if (this.#answer?.tunnel) {
      this.#up.push(bytes);
      return this.pump();
    }
    this.#in = Buffer.concat([this.#in, bytes]);
    while (this.#takeRequest());
    this.pump();
  }

  /** One step of a request: its head, or its body. */
  #takeRequest() {
    if (this.#bodyLeft > 0) {
      const body = this.#in.subarray(0, this.#bodyLeft);
      if (body.length === 0) return false;
      this.#in = this.#in.subarray(body.length);
      this.#bodyLeft -= body.length;
      if (!this.#dropsBody) this.#up.push(body);
      return true;
    }
    const split = splitHead(this.#in);
    if (!split) return false;
    this.#in = split.rest;
    this.#begin(split.head);
    return true;
  }

  #begin(head) {
    const { first, fields } = parseHead(head);
    const path = first.split(' ')[1];
    this.kind = kindOf(path, fields);
    this.busy = true;
    this.#bodyLeft = Number(fields.get('content-length') ?? 0);
    this.#dropsBody = false;
    this.#answer = new Answer();
    this.#passed = 0;
    this.#cutAt = Infinity;
    this.#request = this.#proxy.heard(this.kind, path);
    const page = this.#proxy.pages[path.split('?')[0]];
    if (page) return this.#reply(200, answer(200, { 'Content-Type': page.type, 'Cache-Control': 'no-cache' }, page.body));
    const fault = this.#proxy.fault(this.kind);
    this.#rearm();
    if (['refuse', 'status', 'close-code', 'strip', 'token'].includes(fault?.type)) this.#proxy.hits++;
    switch (fault?.type) {
      case 'refuse':
        this.#request.status = 'reset';
        return this.end('rst');
      case 'status': {
        const own = { 'Content-Type': 'text/html', ...(fault.retryAfter ? { 'Retry-After': fault.retryAfter } : {}) };
        return this.#reply(fault.status, answer(fault.status, own, `<h1>${fault.status}</h1>\n`));
      }
      case 'close-code':
        return this.#reply(101, openAndClose(fields, fault.code, fault.reason ?? ''), true);
      case 'token': {
        if (hasToken(fields, fault.good)) return this.#forward(head);
        if (this.kind === 'ws') return this.#reply(101, openAndClose(fields, 4401, 'the token is not good'), true);
        return this.#reply(401, answer(401, { 'Content-Type': 'application/json' }, '{"error":"unauthorized","message":"the token is not good"}'));
      }
      case 'strip':
        return this.#forward(withoutUpgrade(head));
      case 'cut':
        this.#drawCut(fault);
        return this.#forward(head);
      default:
        return this.#forward(head);
    }
  }

  /** Answers itself; what comes of a body is dropped. */
  #reply(status, bytes, last = false) {
    this.#request.status = status;
    this.#dropsBody = true;
    this.#client.write(bytes);
    this.busy = false;
    if (last) this.#client.end();
  }

  #forward(head) {
    this.#up.push(head);
    if (!this.#server) this.#connect();
  }

  #connect() {
    this.#server = net.connect({ port: this.#proxy.target, host: '127.0.0.1', noDelay: true });
    this.#server.on('data', bytes => this.#fromServer(bytes));
    this.#server.on('error', () => {});
    this.#server.on('close', failed => this.#serverClosed(failed));
  }

  /** Each answer gets its own place, drawn anew. */
  #drawCut({ after, within, how }) {
    const bytes = after ?? 1 + Math.floor(this.#proxy.random() * within);
    this.#cutAt = this.#passed + bytes;
    this.#cutHow = how ?? (this.#proxy.random() < 0.5 ? 'rst' : 'fin');
  }

  #pumpUp(fault) {
    if (fault?.type === 'stall') {
      if (this.#up.length > 0) this.#proxy.hits++;
      return;
    }
    if (fault?.type === 'mute' && this.#answer?.tunnel) this.#up = [];
    for (const bytes of this.#up.splice(0)) this.#server?.write(bytes);
  }

  // ---------------------------------------------------------------- from the server

  #fromServer(bytes) {
    this.#rearm();
    const fault = this.#proxy.fault(this.kind);
    this.#answer?.push(bytes);
    if (this.#request && this.#request.status === null) this.#request.status = this.#answer.status || null;
    this.#down.push({ bytes, due: Date.now() + (fault?.type === 'latency' ? fault.ms : 0) });
    this.pump();
  }

  #serverClosed(failed) {
    if (this.#ended || this.#dead) return;
    // Nothing is behind us: the client sees what it would see of the server itself.
    if (failed && this.#down.length === 0) return this.end('rst');
    this.#serverEnded = true;
    this.pump();
  }

  #pumpDown(fault) {
    if (this.#down.length > 0 && ['stall', 'buffer', 'slow', 'latency', 'mute'].includes(fault?.type)) this.#proxy.hits++;
    switch (fault?.type) {
      case 'stall': return undefined;
      case 'buffer': return this.#held(fault) ? undefined : this.#flush();
      case 'slow': return this.#later(fault.tick, () => this.#writeSome(fault.bytes ?? 1));
      case 'latency': return this.#writeDue();
      case 'mute': return this.#writeHeadOnly();
      default: return this.#flush();
    }
  }

  #held({ bytes = Infinity }) {
    const waiting = this.#down.reduce((sum, { bytes: { length } }) => sum + length, 0);
    return !this.#answer.ended && !this.#serverEnded && waiting < bytes;
  }

  #flush() {
    for (const { bytes } of this.#down.splice(0)) this.#write(bytes);
    this.#afterWriting();
  }

  #writeSome(count) {
    const first = this.#down[0];
    if (first) {
      this.#write(first.bytes.subarray(0, count));
      first.bytes = first.bytes.subarray(count);
      if (first.bytes.length === 0) this.#down.shift();
    }
    if (this.#down.length > 0) this.pump();
    else this.#afterWriting();
  }

  #writeDue() {
    while (this.#down.length > 0 && this.#down[0].due <= Date.now()) this.#write(this.#down.shift().bytes);
    if (this.#down.length > 0) this.#later(this.#down[0].due - Date.now(), () => this.pump());
    else this.#afterWriting();
  }

  /** The 101 alone. */
  #writeHeadOnly() {
    const all = Buffer.concat(this.#down.splice(0).map(({ bytes }) => bytes));
    if (this.#passed === 0 && all.length > 0) this.#write(splitHead(all)?.head ?? all);
  }

  #later(ms, act) {
    if (this.#timer || this.#down.length === 0) return this.#afterWriting();
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (!this.#ended && !this.#dead) act();
    }, ms);
    return undefined;
  }

  #write(bytes) {
    if (this.#ended) return;
    if (this.#passed + bytes.length >= this.#cutAt) {
      this.#cut(bytes.subarray(0, Math.max(0, this.#cutAt - this.#passed)));
      return;
    }
    this.#passed += bytes.length;
    this.#client.write(bytes);
  }

  #cut(last) {
    this.#proxy.hits++;
    this.#down = [];
    this.#dead = true; // nothing more is passed on
    // A RST overtakes what was written just before it: these bytes may or may not arrive, as in the world.
    this.#client.write(last, () => this.end(this.#cutHow));
  }

  #afterWriting() {
    if (this.#down.length > 0 || this.#ended) return;
    if (this.#answer?.ended) this.busy = false;
    if (this.#serverEnded) {
      this.#client.end();
      this.#finish();
    }
  }

  /** Nothing went either way for too long. */
  #rearm() {
    clearTimeout(this.#idle);
    const fault = this.#proxy.fault(this.kind);
    if (fault?.type !== 'idle' || !this.busy) return;
    this.#idle = setTimeout(() => {
      if (this.#proxy.fault(this.kind)?.type !== 'idle') return;
      this.#proxy.hits++;
      this.end(fault.how ?? 'fin');
    }, fault.ms);
  }
}

/** As a header, or as browsers can say it on a WebSocket. */
function hasToken(fields, good) {
  const offered = fields.get('sec-websocket-protocol') ?? '';
  return fields.get('authorization') === `Bearer ${good}` || offered.includes(`holdline.bearer.${Buffer.from(good).toString('base64url')}`);
}

function withoutUpgrade(head) {
  return Buffer.from(head.toString('latin1').replace(/^(upgrade|connection|sec-websocket-[a-z]*):.*\r\n/gim, ''), 'latin1');
}
