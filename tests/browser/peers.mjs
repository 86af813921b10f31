// Where a subject can live: a page of Chromium, a page of Firefox, a process of Node. All answer to the same words.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium, load } from '../support/shared.mjs';
import { Bidi } from './bidi.mjs';

const here = name => fileURLToPath(new URL(name, import.meta.url));

const FIREFOX = ['/usr/bin/firefox-esr', '/usr/bin/firefox'];

/** What the proxy serves itself: the page, and what it loads besides the client. */
export const PAGES = {
  '/_test': { type: 'text/html', body: fs.readFileSync(here('page.html')) },
  '/_test/elsewhere': { type: 'text/html', body: '<!doctype html><title>elsewhere</title>' },
  '/_test/subject.mjs': { type: 'text/javascript', body: fs.readFileSync(here('subject.mjs')) },
  '/_test/payload.mjs': { type: 'text/javascript', body: fs.readFileSync(here('payload.mjs')) },
};

// ---------------------------------------------------------------- Chromium

export class Chromium {
  name = 'chromium';
  isBrowser = true;
  #browser;

  static async launch() {
    const own = new Chromium();
    own.#browser = await chromium({ ignoreDefaultArgs: ['--disable-back-forward-cache'] });
    return own;
  }

  get version() {
    return `Chromium ${this.#browser.version()}`;
  }

  async open(origin, seed) {
    const context = await this.#browser.newContext();
    return ChromiumPage.open(context, origin, seed);
  }

  close() {
    return this.#browser.close();
  }
}

class ChromiumPage {
  troubles = [];

  static async open(context, origin, seed) {
    const own = new ChromiumPage();
    own.context = context;
    own.page = await context.newPage();
    own.page.on('pageerror', error => own.troubles.push(String(error)));
    await own.page.goto(`${origin}/_test?seed=${seed}`);
    await own.page.waitForFunction(() => window.subject);
    return own;
  }

  /** Another page of the same visitor. */
  another(origin, seed) {
    return ChromiumPage.open(this.context, origin, seed);
  }

  call(name, ...values) {
    return this.page.evaluate(([n, v]) => window.subject[n](...v), [name, values]);
  }

  run(text) {
    return this.page.evaluate(text);
  }

  async reload() {
    await this.page.reload();
    await this.page.waitForFunction(() => window.subject);
  }

  offline(yes) {
    return this.context.setOffline(yes);
  }

  async frozen(yes) {
    this.cdp ??= await this.context.newCDPSession(this.page);
    await this.cdp.send('Page.setWebLifecycleState', { state: yes ? 'frozen' : 'active' });
  }

  async awayAndBack(origin, away) {
    await this.page.goto(`${origin}/_test/elsewhere`);
    await away();
    // Not goBack(), which waits for a page to be loaded.
    await this.page.evaluate(() => { setTimeout(() => history.back()); });
    await this.page.waitForURL(/seed=/, { waitUntil: 'commit' }).catch(() => {});
    await this.page.waitForFunction(() => window.subject);
  }

  close() {
    return this.context.close();
  }
}

// ---------------------------------------------------------------- Firefox

export class Firefox {
  name = 'firefox';
  isBrowser = true;
  #bidi;

  static async launch() {
    const executable = process.env.FIREFOX ?? FIREFOX.find(one => fs.existsSync(one));
    if (!executable) throw new Error(`no Firefox: looked for ${FIREFOX.join(', ')}`);
    const own = new Firefox();
    own.#bidi = await Bidi.launch(executable, load('ws'));
    return own;
  }

  get version() {
    return `Firefox ${this.#bidi.version}`;
  }

  async open(origin, seed) {
    // A visitor of its own, or what one page remembers would be known to the next.
    const { userContext } = await this.#bidi.send('browser.createUserContext', {});
    return FirefoxPage.open(this.#bidi, userContext, origin, seed);
  }

  close() {
    return this.#bidi.close();
  }
}

class FirefoxPage {
  troubles = [];

  static async open(bidi, userContext, origin, seed) {
    const own = new FirefoxPage();
    Object.assign(own, { bidi, userContext });
    const { context } = await bidi.send('browsingContext.create', { type: 'window', userContext });
    own.context = context;
    await bidi.navigate(context, `${origin}/_test?seed=${seed}`);
    await own.ready();
    return own;
  }

  async ready() {
    const wait = 'async () => { for (let i = 0; i < 400 && !window.subject; i++) await new Promise(r => setTimeout(r, 25)); return Boolean(window.subject); }';
    if (!await this.bidi.call(this.context, wait)) throw new Error('the page has no subject');
  }

  another(origin, seed) {
    return FirefoxPage.open(this.bidi, this.userContext, origin, seed);
  }

  call(name, ...values) {
    return this.bidi.call(this.context, '(n, v) => window.subject[n](...v)', name, values);
  }

  run(text) {
    return this.bidi.call(this.context, `() => (${text})`);
  }

  async reload() {
    await this.bidi.send('browsingContext.reload', { context: this.context, wait: 'complete' });
    await this.ready();
  }

  offline(yes) {
    return this.bidi.send('emulation.setNetworkConditions', { contexts: [this.context], networkConditions: yes ? { type: 'offline' } : null });
  }

  async awayAndBack(origin, away) {
    await this.bidi.navigate(this.context, `${origin}/_test/elsewhere`);
    await away();
    await this.bidi.send('browsingContext.traverseHistory', { context: this.context, delta: -1 });
    await this.ready();
  }

  async close() {
    await this.bidi.send('browser.removeUserContext', { userContext: this.userContext });
  }
}

// ---------------------------------------------------------------- Node

export class Node {
  isBrowser = false;
  #injects;

  constructor({ injects }) {
    this.#injects = injects;
    this.name = injects ? 'node+ws' : 'node';
  }

  get version() {
    return `Node ${process.version}${this.#injects ? ` with ws ${load('ws/package.json').version}` : ''}`;
  }

  async open(origin, seed) {
    const child = fork(here('node-peer.mjs'), [origin, String(seed), String(this.#injects)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const own = new NodeProcess(child, origin);
    await own.ready;
    return own;
  }

  async close() { /* each process ends with its peer */ }
}

class NodeProcess {
  troubles = [];
  #waiting = new Map();
  #next = 1;

  constructor(child, origin) {
    this.child = child;
    this.origin = origin;
    this.ready = new Promise((resolve, reject) => {
      child.on('message', message => this.#heard(message, resolve));
      child.on('exit', code => reject(new Error(`the process ended with ${code}`)));
    });
    this.ready.catch(() => {});
  }

  #heard({ ready, trouble, id, value, error }, resolve) {
    if (ready) return resolve();
    if (trouble) return this.troubles.push(trouble);
    const { resolve: give, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) reject(new Error(error));
    else give(value);
  }

  call(name, ...values) {
    // There is no page that a relative base could be relative to.
    if (name === 'start') values[0] = { base: this.origin, ...values[0] };
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.child.send({ id, name, values });
    });
  }

  stopped(yes) {
    this.child.kill(yes ? 'SIGSTOP' : 'SIGCONT');
  }

  async close() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await gone;
  }
}
