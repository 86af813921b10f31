// Carries the words of `drivers.py` between `matrix.py` and page.html in headless Chromium.
//
// The page comes from a port of its own, so all that it does is cross-origin. Needs playwright-core (in NODE_PATH) and
// a Chromium (CHROMIUM, else the usual places).

import fs from 'node:fs';
import { once } from 'node:events';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import readline from 'node:readline';

const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
const USUAL = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const CLIENTS = ['Chromium-WebSocket', 'Chromium-EventSource', 'Chromium-fetch'];

const tell = (...fields) => process.stdout.write(`${fields.join('\t')}\n`);

async function start() {
  const require = createRequire(path.join(process.env.NODE_PATH ?? path.resolve('node_modules'), '_'));
  const { chromium } = require('playwright-core');
  const executablePath = process.env.CHROMIUM ?? USUAL.find(p => fs.existsSync(p));
  if (!executablePath) throw new Error(`no browser: looked for ${USUAL.join(', ')}`);
  return chromium.launch({ executablePath, args: ARGS });
}

async function serve() {
  const page = fs.readFileSync(new URL('page.html', import.meta.url));
  const server = http.createServer((_, answer) => answer.setHeader('Content-Type', 'text/html').end(page));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://localhost:${server.address().port}/`;
}

let browser;
try {
  browser = await start();
} catch (error) {
  const why = String(error.message).split('\n')[0].replaceAll('\t', ' ');
  for (const name of CLIENTS) tell('missing', name, why);
  tell('ready');
  process.exit(0);
}
for (const name of CLIENTS) tell('client', name, browser.version());
const page = await browser.newPage();
page.on('pageerror', error => console.error(error));
await page.exposeFunction('tell', tell);
await page.goto(await serve());
tell('ready');
const input = readline.createInterface(process.stdin);
input.on('line', line => page.evaluate(text => window.obey(text), line));
await once(input, 'close');
await browser.close();
process.exit(0);
