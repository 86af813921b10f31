// One test's world: a proxy of its own, a subject behind it, a publisher past it, and what was written down.

import { sleep, until } from '../support/shared.mjs';
import { FaultProxy } from './proxy.mjs';
import { judge, recovery } from './oracle.mjs';
import { PAGES } from './peers.mjs';
import { seeded } from './subject.mjs';
import { Publisher } from './world.mjs';

export class Stage {
  /** Everything that the subject wrote, of all its lives. */
  log = [];
  now = {};
  marks = [];
  /** What the oracle is told of the rules: see `judge`. */
  owed = {};
  #pulled = 0;
  #puller = null;
  #open = true;
  #made = Date.now();

  /** `server`: one that runs. `client`: text to be served as /client.js instead of the server's. */
  static async open({ home, server, seed, name, client, every, rhythm }) {
    const own = new Stage();
    Object.assign(own, { seed, name, server, home });
    own.random = seeded(seed);
    const pages = client ? { ...PAGES, '/client.js': { type: 'text/javascript', body: client } } : PAGES;
    own.proxy = new FaultProxy({ target: server.port, random: own.random, pages });
    await own.proxy.listen();
    // A name that no other test has: they share a server.
    own.channels = ['a', 'b', 'c'].map(letter => `t${seed}.${letter}`);
    own.publisher = new Publisher(server, own.channels, { random: own.random, every, rhythm });
    own.peer = await home.open(own.proxy.origin, Math.floor(own.random() * 2 ** 31));
    own.#puller = own.#pull();
    return own;
  }

  get ledger() {
    return this.publisher.ledger;
  }

  // ---------------------------------------------------------------- the subject

  async start({ options = {}, channels = this.channels, ...rest } = {}) {
    this.mark('start');
    await this.peer.call('start', { options: { heartbeat: 10, ...options }, channels, ...rest });
  }

  /** All channels are live: from here on each message is owed. */
  async live(ms = 20_000) {
    await this.until('live on all channels', () => this.channels.every(channel => this.log.some(e => e.k === 'live' && e.channel === channel)), ms);
  }

  async #pull() {
    while (this.#open) {
      await this.pull().catch(() => {}); // it may be frozen, or away
      await sleep(200); // times are the subject's own; asking it costs
    }
  }

  async pull() {
    const { log, now } = await this.peer.call('take', this.#pulled);
    this.#pulled += log.length;
    this.log.push(...log);
    this.now = now;
  }

  /** The subject begins anew, in a page that was loaded again. */
  reborn() {
    this.#pulled = 0;
  }

  async state(state, transport, ms = 20_000) {
    await this.until(`state ${state} ${transport ?? ''}`, () => this.now.state === state && (!transport || this.now.transport === transport), ms);
  }

  /** Waits for something, and no longer than the line is open. */
  async until(what, probe, ms = 20_000) {
    await until(() => `${typeof what === 'function' ? what() : what}; the client is ${JSON.stringify(this.now)}`, () => {
      const found = probe();
      if (!found && this.now.state === 'closed') throw new Error(`the client has given up: ${JSON.stringify(this.log.findLast(e => e.k === 'close'))}`);
      return found;
    }, ms, 100);
  }

  states() {
    return this.log.filter(e => e.k === 'state');
  }

  mark(text) {
    this.marks.push({ k: 'mark', t: Date.now(), text });
  }

  // ---------------------------------------------------------------- what is owed

  /** Everything that was confirmed before `t` is here, or was announced as lost. */
  async caughtUp(t, ms) {
    const missing = () => this.verdict({ until: t }).lost;
    await this.until(() => `everything that was published; missing ${missing().length} (${missing().slice(0, 3)})`, () => this.now.state === 'open' && missing().length === 0, ms);
  }

  /** Publishes a little more, stops, and waits until all is here and nothing more comes. */
  async settle(ms = 20_000) {
    await sleep(500);
    await this.publisher.stop();
    await this.caughtUp(Date.now(), ms);
    await sleep(400); // a doubled one would come now
    await this.pull();
  }

  verdict({ until: last = Infinity, ...options } = {}) {
    const ledger = { confirmed: () => this.ledger.confirmed().filter(e => e.t <= last), published: this.ledger.published, find: (c, n) => this.ledger.find(c, n) };
    return judge(ledger, this.log, { ...this.owed, ...options });
  }

  recovery(from, options) {
    return recovery(this.ledger, this.log, from, options);
  }

  /** Fails on anything that the client lost, doubled or disordered; `gaps`: the reason that gaps must have, else there must be none. */
  judged({ gaps = null } = {}) {
    const verdict = this.verdict();
    const wrong = [];
    for (const kind of ['lost', 'doubled', 'disordered', 'strange']) {
      if (verdict[kind].length > 0) wrong.push(`${verdict[kind].length} ${kind}: ${verdict[kind].slice(0, 4).join(', ')}`);
    }
    const broken = this.log.filter(e => e.k === 'broken');
    if (broken.length > 0) wrong.push(`${broken.length} broken: ${broken[0].message}`);
    if (this.peer.troubles.length > 0) wrong.push(`uncaught: ${this.peer.troubles[0].slice(0, 300)}`);
    const reasons = [...new Set(verdict.gaps.map(gap => gap.reason))];
    if (gaps === null && reasons.length > 0) wrong.push(`a gap (${reasons}) where nothing was missing`);
    if (gaps !== null && (reasons.length !== 1 || !gaps.includes(reasons[0]))) wrong.push(`gaps ${reasons.join() || 'none'}, expected ${gaps}`);
    if (verdict.received === 0) wrong.push('nothing was received at all');
    if (wrong.length > 0) throw Object.assign(new Error(wrong.join('; ')), { verdict });
    return verdict;
  }

  // ---------------------------------------------------------------- after a failure

  /** What happened, with messages folded; times in ms from the start. */
  story(lines = 60) {
    const zero = this.marks[0]?.t ?? this.#made;
    const requests = this.proxy.requests.filter(r => r.kind !== 'page').map(r => ({ ...r, k: 'request' }));
    const all = [...this.log, ...this.marks, ...requests].sort((x, y) => x.t - y.t);
    const told = [];
    let run = [];
    const fold = () => {
      if (run.length > 0) told.push(`${run[0].t - zero} … ${run.at(-1).t - zero}: ${run.length} messages, n ${run[0].n} … ${run.at(-1).n}, ${run[0].id} … ${run.at(-1).id}`);
      run = [];
    };
    for (const entry of all) {
      if (entry.k === 'message') { run.push(entry); continue; }
      if (entry.kind === 'poll' && entry.status === 200 && run.length > 0) continue;
      fold();
      const { k, t, ...rest } = entry;
      told.push(`${t - zero}: ${k} ${JSON.stringify(rest)}`);
    }
    fold();
    const cut = told.length > lines ? [...told.slice(0, 8), `… ${told.length - lines} lines …`, ...told.slice(8 - lines)] : told;
    return cut.map(line => line.slice(0, 260));
  }

  async close() {
    this.#open = false;
    await this.publisher.stop().catch(() => {});
    await this.#puller;
    await this.peer.close().catch(() => {});
    await this.proxy.close();
    this.publisher.end();
  }
}
