// Firefox through WebDriver BiDi, without a library: JSON over a WebSocket. Only what these tests need.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';

const PREFERENCES = {
  'app.update.disabledForTesting': true,
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.homepage': 'about:blank',
  'browser.startup.page': 0,
  'browser.aboutwelcome.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'network.dns.disablePrefetch': true,
  'network.proxy.type': 0,
  'services.settings.server': 'data:,#remote-settings-dummy/v1',
  'toolkit.telemetry.enabled': false,
  'extensions.update.enabled': false,
  'extensions.getAddons.cache.enabled': false,
  'browser.safebrowsing.update.enabled': false,
  'dom.ipc.processPrelaunch.enabled': false,
  'privacy.reduceTimerPrecision': false,
  'fission.bfcacheInParent': true,
  'browser.sessionhistory.max_total_viewers': 8,
};

export class Bidi {
  #socket;
  #process;
  #profile;
  #next = 1;
  #waiting = new Map();

  static async launch(executable, WebSocket) {
    const bidi = new Bidi();
    bidi.#profile = fs.mkdtempSync(path.join(os.tmpdir(), 'holdline-firefox-'));
    const prefs = Object.entries(PREFERENCES).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});`);
    fs.writeFileSync(path.join(bidi.#profile, 'user.js'), prefs.join('\n'));
    const child = spawn(executable, ['--headless', '--no-remote', '--profile', bidi.#profile, '--remote-debugging-port', '0', 'about:blank'],
      { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, MOZ_HEADLESS: '1', HOME: bidi.#profile, MOZ_CRASHREPORTER_DISABLE: '1' } });
    bidi.#process = child;
    process.on('exit', () => child.kill('SIGKILL'));
    const url = await new Promise((resolve, reject) => {
      const said = [];
      const timer = setTimeout(() => reject(new Error(`no BiDi after 60 s: ${said.join(' | ').slice(-500)}`)), 60_000);
      readline.createInterface(child.stderr).on('line', line => {
        said.push(line);
        const found = /WebDriver BiDi listening on (\S+)/.exec(line);
        if (found) { clearTimeout(timer); resolve(found[1]); }
      });
      child.on('exit', code => { clearTimeout(timer); reject(new Error(`it ended with ${code}: ${said.join(' | ').slice(-500)}`)); });
    });
    bidi.#socket = new WebSocket(`${url}/session`);
    await once(bidi.#socket, 'open');
    bidi.#socket.on('message', text => bidi.#heard(JSON.parse(text)));
    bidi.session = await bidi.send('session.new', { capabilities: {} });
    return bidi;
  }

  get version() {
    return this.session.capabilities.browserVersion;
  }

  send(method, params, ms = 60_000) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      // A page that goes while it is asked never answers.
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new Error(`${method}: no answer within ${ms / 1000} s`));
      }, ms);
      timer.unref();
      this.#waiting.set(id, { resolve, reject, method, timer });
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  #heard({ id, type, result, error, message }) {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    if (type === 'error') waiting.reject(new Error(`${waiting.method}: ${error}: ${message}`));
    else waiting.resolve(result);
  }

  /** A window of its own, because a tab behind another one is hidden. */
  async open(url) {
    const { context } = await this.send('browsingContext.create', { type: 'window' });
    await this.navigate(context, url);
    return context;
  }

  navigate(context, url) {
    return this.send('browsingContext.navigate', { context, url, wait: 'complete' });
  }

  /** Calls a function, given as text, with values that JSON can carry. */
  async call(context, text, ...values) {
    const { result, exceptionDetails } = await this.send('script.callFunction', {
      functionDeclaration: `async (values) => JSON.stringify(await (${text})(...JSON.parse(values))) ?? 'null'`,
      arguments: [{ type: 'string', value: JSON.stringify(values) }],
      target: { context },
      awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return JSON.parse(result.value);
  }

  async close() {
    const gone = once(this.#process, 'exit');
    try {
      await this.send('browser.close', {}, 5000);
    } catch { /* it is going */ }
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), 5000);
    await gone;
    clearTimeout(timer);
    fs.rmSync(this.#profile, { recursive: true, force: true, maxRetries: 3 });
  }
}
