// What is under test, as a page or a Node process holds it: a client, and everything that it says, written down with
// the time. It decides nothing; `oracle.mjs` does. Runs in pages and in Node.

import { read } from './payload.mjs';

/** Chance that can be had again: with a seed, `Math.random` is this, for the client's delays. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = state + 0x6d2b79f5 >>> 0;
    let t = Math.imul(state ^ state >>> 15, state | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
}

export class Subject {
  #Holdline;
  #log = [];
  #line = null;
  #subs = new Map();
  #answers = [];

  constructor(Holdline) {
    this.#Holdline = Holdline;
  }

  /** `base`: undefined for the default; `tokens`: a list that a token function gives out in turn, the last for ever. */
  start({ base, options = {}, channels = [], tokens, subscribe = {} }) {
    const own = { ...options };
    if (tokens) own.token = async () => {
      const token = tokens.length > 1 ? tokens.shift() : tokens[0];
      this.#write('token', { token });
      return token;
    };
    this.#line = base === undefined ? new this.#Holdline(undefined, own) : new this.#Holdline(base, own);
    this.#watch(this.#line);
    for (const channel of channels) this.subscribe(channel, subscribe);
  }

  subscribe(channel, options) {
    const sub = this.#line.subscribe(channel, options);
    this.#subs.set(channel, sub);
    sub.addEventListener('message', event => this.#message(channel, event));
    sub.addEventListener('gap', event => this.#write('gap', event.detail));
    sub.addEventListener('live', () => this.#write('live', { channel }));
    sub.addEventListener('close', event => this.#write('sub-close', { channel, code: event.code ?? event.detail?.code }));
  }

  unsubscribe(channel) {
    this.#subs.get(channel).close();
  }

  #watch(line) {
    line.addEventListener('open', () => this.#write('open', { transport: line.transport }));
    line.addEventListener('state', event => {
      const { state, transport, reason, code, retryAt } = { ...event, ...event.detail };
      this.#write('state', { state: state ?? line.state, transport: transport ?? line.transport, reason, code, retryAt: retryAt ?? line.retryAt });
    });
    line.addEventListener('close', event => {
      const { code, reason, final } = event;
      this.#write('close', { code, reason, final, ...event.detail });
    });
    line.addEventListener('error', event => this.#write('error', { message: String(event.message ?? event.error ?? event.detail ?? '') }));
  }

  #message(channel, event) {
    try {
      this.#write('message', { channel, n: read(event.data), id: event.lastEventId });
    } catch (error) {
      this.#write('broken', { channel, id: event.lastEventId, message: error.message });
    }
  }

  #write(k, fields) {
    this.#log.push({ k, t: Date.now(), ...fields });
  }

  /** A word from outside, for the log. */
  note(text) {
    this.#write('note', { text });
  }

  /** What was written from there on. */
  take(from) {
    return { log: this.#log.slice(from), now: this.now() };
  }

  now() {
    const { state, transport, readyState, retryAt, cursor } = this.#line ?? {};
    return { state, transport, readyState, retryAt, cursor };
  }

  /** Publishes without waiting: what became of it is among `answers()`. */
  publish(channel, n, payload) {
    const began = Date.now();
    this.#line.publish(channel, payload).then(
      ({ id, subscribers }) => this.#answers.push({ channel, n, id, subscribers, began, t: Date.now() }),
      error => this.#answers.push({ channel, n, error: String(error?.message ?? error), began, t: Date.now() }),
    );
  }

  answers() {
    return this.#answers;
  }

  close() {
    this.#line.close();
  }

  /** Pretends that the tab is hidden or shown, where the browser cannot be told to. */
  pretend(visibility) {
    for (const [name, value] of [['visibilityState', visibility], ['hidden', visibility === 'hidden']]) {
      Object.defineProperty(document, name, { configurable: true, get: () => value });
    }
    document.dispatchEvent(new Event('visibilitychange'));
  }

  dispatch(name) {
    globalThis.dispatchEvent(new Event(name));
  }
}
