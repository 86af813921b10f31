// A transcript of the protocol's page: its commands are run, and what they say must be what the page says that they
// say, but for what differs each time: ids, times, random numbers, and what the page has shortened (`…`).

import fs from 'node:fs';
import path from 'node:path';

import * as lib from '../support/shared.mjs';

// What others publish while a command of a transcript waits for it: part of the command, channel, text.
const MEANWHILE = [
  ['/events?channel=news&channel=chat', 'chat', 'hi'],
  ['/poll?channel=news&channel=chat&since=', 'news', 'soup'],
];
export const CURSOR = /\b[A-Za-z0-9]{8}-\d+\b/;

// The commands of a transcript, each with what it says.
function commands(text) {
  const found = [];
  for (const line of text.trimEnd().split('\n')) {
    if (line.startsWith('$ ')) found.push({ command: line.slice(2), says: [] });
    else found.at(-1).says.push(line);
  }
  return found;
}

// Patterns of what is said. Of a head that the page has shortened each line is looked for by itself.
function patterns(says) {
  const text = says.join('\n').trim();
  const [head, body] = text.split('\n…\n');
  if (body === undefined) return [pattern(text, '^')];
  return [...head.split('\n').map(line => pattern(line, '^', '$', 'm')), pattern(body.trim(), '\n\n', '$')];
}

export function pattern(text, before, after = '', flags = '') {
  const loose = text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    .replace(/\n +/g, '\\s*') // one line, broken for the page
    .replace(new RegExp(CURSOR, 'g'), '\\w{8}-\\d+')
    .replace(/\d{13}|(?<=retry: |"spread_ms":)\d+/g, '\\d+')
    .replace(/(?<="connection":")[0-9a-f]{16}/g, '[0-9a-f]{16}')
    .replace(/(?<=Date: ).*/g, '.*')
    .replace(/…/g, '.*');
  return new RegExp(before + loose + after, flags);
}

export async function transcript(text, server, home) {
  let cursor = '';
  for (const { command, says } of commands(text)) {
    if (command.startsWith('holdline')) continue; // it runs
    if (command.startsWith('cat ')) {
      fs.writeFileSync(path.join(home, command.slice(4)), `${says.join('\n')}\n`);
      continue;
    }
    const mine = command.replace(CURSOR, cursor).replace(/^curl /, 'exec curl -sS ');
    const run = lib.start('sh', ['-c', mine], { cwd: home });
    const said = () => run.said.replace(/\r/g, '').trimEnd();
    try {
      await meanwhile(command, server);
      const wanted = patterns(says);
      const isSo = () => wanted.every(one => one.test(said())) || `${said()} ${run.erred} is not ${wanted}`;
      await lib.becomes(command, isSo);
    } finally {
      await run.stop();
    }
    [cursor = cursor] = said().match(new RegExp(CURSOR, 'g'))?.slice(-1) ?? [];
  }
}

async function meanwhile(command, server) {
  for (const [, channel, text] of MEANWHILE.filter(([part]) => command.includes(part))) {
    await lib.becomes('it waits', async () => (await lib.about(server.base, channel)).subscribers === 1);
    await lib.publish(server.base, channel, new TextEncoder().encode(text)); // bytes, so that no type is given
  }
}
