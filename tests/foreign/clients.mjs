// Drives `ws`, `eventsource` and the built-in fetch of Node, as `matrix.py` tells it: see `drivers.py` for the words.
//
// What they are given by the server is passed on as they gave it; nothing is judged here.

import { once } from 'node:events';
import { createRequire } from 'node:module';
import path from 'node:path';
import readline from 'node:readline';

const require = createRequire(path.join(process.env.NODE_PATH ?? path.resolve('node_modules'), '_'));

const tell = (...fields) => process.stdout.write(`${fields.join('\t')}\n`);
const packed = payload => Buffer.from(payload).toString('base64');
const oneLine = text => String(text).replace(/[\t\n]/g, ' ');

function load(name) {
  try {
    const module = require(name);
    tell('client', name, require(`${name}/package.json`).version);
    return module;
  } catch (error) {
    tell('missing', name, oneLine(error.message));
    return {};
  }
}

const { WebSocket } = load('ws');
const { EventSource } = load('eventsource');
tell('client', 'node-fetch', process.versions.undici ?? process.version);

// ---------------------------------------------------------------- each returns what drops it

function ws(n, url, protocol) {
  const socket = new WebSocket(url, protocol || undefined);
  let said = 'no Close';
  socket.on('open', () => tell(n, 'open', socket.protocol));
  socket.on('message', (data, isBinary) => tell(n, isBinary ? 'binary' : 'text', packed(data)));
  socket.on('ping', () => tell(n, 'ping'));
  socket.on('error', error => { said = oneLine(error.message); }); // `close` follows
  socket.on('close', (code, reason) => {
    if (code === 1006) tell(n, 'lost', said);
    else tell(n, 'closed', code, reason.toString());
  });
  return () => { socket.removeAllListeners('close'); socket.terminate(); };
}

/** Comes back by itself, with Last-Event-ID. */
function eventsource(n, url) {
  const source = new EventSource(url);
  source.onopen = () => tell(n, 'open', '');
  for (const name of ['message', 'gap', 'holdline-gap', 'bye', 'binary', 'price']) {
    source.addEventListener(name, e => tell(n, 'event', packed(name), e.lastEventId, packed(e.data), ''));
  }
  source.onerror = e => {
    tell(n, source.readyState === EventSource.CONNECTING ? 'lost' : 'dead', oneLine(e.message ?? ''));
  };
  return () => source.close();
}

function stream(n, url, last) {
  const control = new AbortController();
  const headers = { Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) };
  (async () => {
    const answer = await fetch(url, { headers, signal: control.signal });
    if (answer.status !== 200) return tell(n, 'lost', `status ${answer.status}`);
    for await (const piece of answer.body) tell(n, 'bytes', packed(piece));
    tell(n, 'end');
  })().catch(error => control.signal.aborted || tell(n, 'lost', oneLine(error.cause?.message ?? error.message)));
  return () => control.abort();
}

function get(n, url) {
  const control = new AbortController();
  (async () => {
    const answer = await fetch(url, { signal: control.signal });
    const body = await answer.arrayBuffer();
    const head = [...answer.headers].map(([name, value]) => `${name}: ${value}\n`).join('');
    tell(n, 'answer', answer.status, packed(head), packed(body));
  })().catch(error => control.signal.aborted || tell(n, 'lost', oneLine(error.cause?.message ?? error.message)));
  return () => control.abort();
}

const open = {
  'ws ws': (n, url, protocol) => ws(n, url, protocol),
  'eventsource source': (n, url) => eventsource(n, url),
  'node-fetch stream': (n, url, _protocol, last) => stream(n, url, last),
  'node-fetch get': (n, url) => get(n, url),
};

const drops = new Map();
tell('ready');
const input = readline.createInterface(process.stdin);
input.on('line', line => {
  const [verb, n, client, kind, ...how] = line.split('\t');
  if (verb === 'drop') {
    drops.get(n)?.();
    tell(n, 'dropped');
  } else {
    drops.set(n, open[`${client} ${kind}`](n, ...how));
  }
});
await once(input, 'close');
process.exit(0);
