// A transcript of a WebSocket on the protocol's page: what its `>` lines say is sent by a browser's WebSocket, and what
// comes must be what its `<` lines say, but for what differs each time.

import * as lib from '../support/shared.mjs';
import { CURSOR, pattern } from './transcript.mjs';

// The lines of a transcript: { way, frame }, `way` being `<`, `>`, or `…` for frames that are left out.
function frames(text) {
  const found = [];
  for (const line of text.trimEnd().split('\n')) {
    if (/^[<>] /.test(line)) found.push({ way: line[0], frame: line.slice(2) });
    else if (line === '…') found.push({ way: '…' });
    else if (/^ +/.test(line) && found.length) found.at(-1).frame += line.trim(); // broken for the page
  }
  return found;
}

// How it is done: on the channel's own path, or on `/ws`; what others publish, `before` it and `after` it is open.
export function talks({ channel, since = 'latest', protocol, before = [], after = [] }) {
  if (!channel) protocol = 'holdline.v1.json';
  const path = channel ? `channels/${channel}?since=${since}` : 'ws';
  return async ({ text, begin, server }) => {
    const { page } = await begin();
    for (const [its, payload] of before) await lib.publish(server.base, its, payload);
    await page.evaluate(open, [`ws://${server.at}/${path}`, protocol]);
    for (const [payload, headers] of after) {
      await lib.becomes('it listens', async () => (await lib.about(server.base, channel)).subscribers === 1);
      await lib.publish(server.base, channel, payload, headers);
    }
    let cursor;
    let skips = false;
    for (const { way, frame } of frames(text)) {
      if (way === '…') skips = true;
      if (way === '>') await page.evaluate(send, frame.replace(CURSOR, cursor));
      if (way !== '<') continue;
      const wanted = pattern(frame, '^', '$');
      let came;
      do {
        await lib.becomes(`${frame} after ${came}`, async () => (came = await page.evaluate(take) ?? '') !== '');
      } while (skips && !wanted.test(came));
      if (!wanted.test(came)) throw new Error(`${came} is not ${wanted}`);
      skips = false;
      [cursor = cursor] = came.match(new RegExp(CURSOR, 'g'))?.slice(-1) ?? [];
    }
    return `${frames(text).length} frames`;
  };
}

// These run in the page.

function open([url, protocol]) {
  const hex = bytes => Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join(' ');
  const head = bytes => new TextDecoder().decode(bytes).split('\n\n')[0];
  const show = data => {
    if (typeof data === 'string') return data.replaceAll('\n', '\\n');
    const bytes = new Uint8Array(data);
    if (!protocol) return `(binary) ${hex(bytes)}`;
    const lines = head(bytes);
    return `(binary) ${lines.replaceAll('\n', '\\n')}\\n\\n + ${hex(bytes.slice(lines.length + 2))}`;
  };
  globalThis.came = [];
  globalThis.socket = new WebSocket(url, protocol ? [protocol] : []);
  globalThis.socket.binaryType = 'arraybuffer';
  globalThis.socket.onmessage = ({ data }) => globalThis.came.push(show(data));
  globalThis.socket.onclose = ({ code, reason }) => globalThis.came.push(`close ${code} ${reason}`);
  return new Promise(resolve => { globalThis.socket.onopen = () => resolve(); });
}

function take() {
  return globalThis.came.shift();
}

function send(frame) {
  const [, bytes] = frame.match(/^\(binary\) (.*)/) ?? [];
  globalThis.socket.send(bytes ? Uint8Array.from(bytes.split(' '), byte => parseInt(byte, 16)) : frame);
}
