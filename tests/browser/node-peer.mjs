// A subject in a process of Node. Started by peers.mjs with the origin of the proxy, a seed, and whether a WebSocket is
// injected. The client is the one that the server serves.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { load as required } from '../support/shared.mjs';
import { Subject, seeded } from './subject.mjs';

const [origin, seed, injects] = process.argv.slice(2);

async function load() {
  const source = await (await fetch(`${origin}/client.js`)).text();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'holdline-client-'));
  const file = path.join(folder, 'client.mjs');
  fs.writeFileSync(file, source);
  try {
    return (await import(pathToFileURL(file))).default;
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

process.on('uncaughtException', error => process.send({ trouble: String(error.stack) }));
process.on('unhandledRejection', error => process.send({ trouble: String(error?.stack ?? error) }));
process.on('disconnect', () => process.exit());
Math.random = seeded(Number(seed));
const subject = new Subject(await load());
process.on('message', async ({ id, name, values }) => {
  try {
    if (name === 'start' && injects === 'true') values[0].options = { ...values[0].options, WebSocket: required('ws').WebSocket };
    process.send({ id, value: await subject[name](...values) });
  } catch (error) {
    process.send({ id, error: String(error.stack) });
  }
});
process.send({ ready: true });
