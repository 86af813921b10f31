// Ways to run a snippet. Each starts a text, in which the server's address has been put, and gives what it says: a
// process has `said`, `erred`, `status`, `ended` and `stop`, a page has `page` besides and no end.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import * as lib from '../support/shared.mjs';

export const top = fileURLToPath(new URL('../..', import.meta.url));
const packages = (process.env.PYTHON_PACKAGES ?? '').split(/[=\s]+/);
const has = command => (process.env.PATH ?? '').split(':').some(place => fs.existsSync(path.join(place, command)));

export const RUNNERS = {
  sh: text => shell('sh', text),
  bash: text => shell('bash', text),
  python(text) {
    const [, wanted] = text.match(/(requests|websockets)/) ?? [];
    if (wanted && !packages.includes(wanted)) throw new lib.Skip(`there is no ${wanted}`);
    return lib.start('python3', ['-c', text]);
  },
  // As a program beside which the package is installed.
  node(text) {
    const home = lib.folder();
    fs.mkdirSync(path.join(home, 'node_modules'));
    fs.symlinkSync(path.join(top, 'client'), path.join(home, 'node_modules', 'holdline'));
    fs.writeFileSync(path.join(home, 'snippet.mjs'), text);
    return lib.start('node', ['snippet.mjs'], { cwd: home });
  },
  page: text => open(`<!doctype html><title>snippet</title><script type="module">${text}</script>`),
  html: open,
  websocket: () => open('<!doctype html><title>websocket</title>'),
};

function shell(name, text) {
  for (const command of ['websocat', 'jq', 'curl']) {
    if (new RegExp(`\\b${command} `).test(text) && !has(command)) throw new lib.Skip(`there is no ${command}`);
  }
  return lib.start(name, ['-c', text], { cwd: lib.folder() });
}

// Pages come from another port than the server's, as those of most people do, with copies of the client beside them.
const pages = [];
const host = http.createServer((request, response) => {
  if (request.url === '/favicon.ico') return void response.writeHead(204).end();
  const copy = path.join(top, 'client/dist', path.basename(request.url));
  const isCopy = request.url.endsWith('.js') && fs.existsSync(copy);
  const found = isCopy ? fs.readFileSync(copy) : pages[Number(request.url.slice(1))];
  const type = isCopy ? 'text/javascript' : 'text/html; charset=utf-8';
  response.writeHead(found ? 200 : 404, { 'Content-Type': type }).end(found);
});

await new Promise(resolve => { host.listen(0, '127.0.0.1', resolve); });

// One visitor with many tabs: its objects are said as JSON, for the test to read.
async function visitor() {
  const chromium = await lib.chromium().catch(error => { throw new lib.Skip(error.message); });
  const context = await chromium.newContext();
  await context.addInitScript(() => {
    const log = console.log;
    console.log = (...what) => log(...what.map(one => (typeof one === 'object' ? JSON.stringify(one) : one)));
  });
  return { chromium, context };
}

let visit;

async function open(html) {
  visit ??= visitor();
  const { context } = await visit;
  const page = await context.newPage();
  const run = { page, said: '', erred: '', stop: () => page.close() };
  page.on('console', message => {
    run[message.type() === 'log' ? 'said' : 'erred'] += `${message.text()}\n`;
  });
  page.on('pageerror', error => { run.erred += `${error.message}\n`; });
  await page.goto(`http://127.0.0.1:${host.address().port}/${pages.push(html) - 1}`);
  return run;
}

export async function close() {
  await visit?.then(({ chromium }) => chromium.close(), () => {}); // or there was none
}
