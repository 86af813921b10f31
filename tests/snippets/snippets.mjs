// Runs every snippet of the documents. See `run` beside this.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';

import { documents, snippets } from './documents.mjs';
import { talks } from './frames.mjs';
import * as lib from './lib.mjs';
import { transcript } from './transcript.mjs';

const [top, binary, only = ''] = process.argv.slice(2);
const ADDRESS = /127\.0\.0\.1:7070/g;

// ---------------------------------------------------------------- ways to run a snippet

const packages = (process.env.PYTHON_PACKAGES ?? '').split(/[=\s]+/);
const has = command => (process.env.PATH ?? '').split(':').some(place => fs.existsSync(path.join(place, command)));

// Each starts a text with the server's address put in, and gives { said, status, stop }.
const RUNNERS = {
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

// Pages come from another port than the server's, as those of most people do.
const pages = [];
const host = http.createServer((request, response) => {
  const page = pages[Number(request.url.slice(1))];
  response.writeHead(page ? 200 : 404, { 'Content-Type': 'text/html; charset=utf-8' }).end(page);
});
let visit;

// One visitor with many tabs: its objects are said as JSON, for the test to read.
async function visitor() {
  const { chromium, lacks } = await lib.browser();
  const context = await chromium?.newContext();
  await context?.addInitScript(() => {
    const log = console.log;
    console.log = (...what) => log(...what.map(one => (typeof one === 'object' ? JSON.stringify(one) : one)));
  });
  return { chromium, context, lacks };
}

async function open(html) {
  visit ??= visitor();
  const { context, lacks } = await visit;
  if (lacks) throw new lib.Skip(lacks);
  const page = await context.newPage();
  const run = { page, said: '', erred: '', stop: () => page.close() };
  page.on('console', message => {
    run[message.type() === 'log' ? 'said' : 'erred'] += `${message.text()}\n`;
  });
  page.on('pageerror', error => { run.erred += `${error.message}\n`; });
  await page.goto(`http://127.0.0.1:${host.address().port}/${pages.push(html) - 1}`);
  return run;
}

// ---------------------------------------------------------------- what becomes of it

// A listener hears what is published, is cut off, hears what it missed, once and in order, and is told if there is
// something that it cannot be given. What: channel; `first`, published before; `own`, what it says itself; `gap`, how it
// tells; `resumes: false` for one that does not.
function listens(channel, { first, own, gap, resumes = true } = {}) {
  return async ({ begin, server, wire }) => {
    const publish = text => lib.publish(server.base, channel, text);
    const subscribers = async count => (await lib.about(server.base, channel)).subscribers === count;
    if (first) await publish('first-word');
    const run = await begin();
    await lib.until('it listens', async () => await subscribers(1) || run.erred);
    const heard = (...words) => lib.until(`it says ${words}`, () => words.every(word => run.said.includes(word)) || `${run.said} ${run.erred}`);
    await publish('second-word');
    await heard(...[first && 'first-word', own, 'second-word'].filter(Boolean));
    if (resumes) {
      wire.cut();
      await lib.until('the server has noticed', () => subscribers(0));
      await publish('third-word');
      await publish('fourth-word');
      wire.mend();
      await heard('third-word', 'fourth-word');
      await lib.until('it listens again', () => subscribers(1));
      await publish('fifth-word');
      await heard('fifth-word');
      const words = run.said.match(/(first|second|third|fourth|fifth)-word/g).join(' ');
      const expected = `${first ? 'first-word ' : ''}second-word third-word fourth-word fifth-word`;
      if (words !== expected) throw new Error(`it said ${words}`);
    }
    if (gap) {
      wire.cut();
      await lib.until('the server has noticed', () => subscribers(0));
      await publish('lost');
      await fetch(`${server.base}/channels/${channel}`, { method: 'DELETE' });
      await publish('kept-word');
      wire.mend();
      await heard(gap, 'kept-word');
      if (/\blost\b/.test(run.said) || run.said.indexOf(gap) > run.said.indexOf('kept-word')) throw new Error(run.said);
    }
    return [resumes && 'resumed', gap && 'told of a gap'].filter(Boolean).join(', ');
  };
}

// Ends by itself, having said what matches each of these.
function ends(...expected) {
  return async ({ begin, server }) => {
    await lib.publish(server.base, 'news', 'hello');
    const run = await begin();
    const matches = () => expected.find(one => !one.test(run.said)) === undefined;
    // A page has no end.
    if (run.ended) await run.ended;
    else await lib.until('it says so', () => matches() || `${run.said} ${run.erred}`);
    if (run.status || !matches()) throw new Error(`status ${run.status}: ${run.said} ${run.erred}`);
  };
}

// A page that keeps its position: what came while it was not there comes when it is loaded again.
async function reloads({ begin, server }) {
  const run = await begin();
  await lib.until('it listens', async () => (await lib.about(server.base, 'news')).subscribers === 1);
  await lib.publish(server.base, 'news', 'one');
  await lib.until('it hears', () => run.said === 'one\n' || run.said);
  await run.page.reload();
  await lib.publish(server.base, 'news', 'two'); // before, while or after it has loaded
  await lib.until('it goes on', () => run.said === 'one\ntwo\n' || run.said);
  return 'loaded again';
}

// The first line listens, and goes on; the others say something each.
async function firstLineListens({ text, wire, server }) {
  const [listen, ...rest] = text.replace(ADDRESS, wire.at).trimEnd().split('\n');
  const stream = RUNNERS.sh(`exec ${listen}`);
  await lib.until('it listens', async () => (await lib.about(server.base, 'demo')).subscribers === 1);
  const others = RUNNERS.sh(rest.join('\n'));
  await others.ended;
  await lib.until('the stream has it', () => /^id: \w+-1\ndata: hello$/m.test(stream.said) || stream.said);
  const [answer, message, poll] = others.said.match(/^\{"id":.*?\}\n?|hello(?=\{)|\{"cursor".*$/gs) ?? [];
  if (!answer?.includes('"subscribers":1') || message !== 'hello' || JSON.parse(poll).messages[0].text !== 'hello') {
    throw new Error(`${others.said} ${others.erred}`);
  }
  await stream.stop();
}

async function websocatTyped({ begin, server }) {
  await lib.publish(server.base, 'chat', 'before');
  const run = await begin();
  await lib.until('it hears what was', () => run.said === 'before\n' || `${run.said} ${run.erred}`);
  run.child.stdin.write('typed\n');
  await lib.until('it hears what it said', () => /^before\ntyped\n+$/.test(run.said) || run.said);
  const kept = await (await fetch(`${server.base}/poll?channel=chat&since=earliest`)).json();
  if (kept.messages[1].text.trim() !== 'typed') throw new Error(JSON.stringify(kept));
}

// ---------------------------------------------------------------- who knows what

const aside = why => ({ aside: why });
const run = (runner, test) => ({ runner, test });
const META = 'holdline.v1.meta';
const text = word => new TextEncoder().encode(word); // so that no type is given
const HELLO = [text('hello')];
const BYTES = [Uint8Array.of(0x00, 0xff), { 'Content-Type': 'application/octet-stream' }];
const BUILDS = 'builds, or measures for long';

// Each: a document, a part of the snippet's text (of one only), how it is run and what must come of it. `on` has more than
// one runner for what runs in a browser and in Node alike.
const KNOWN = [
  ['README.md', 'cargo run --release', aside('builds; the banner is tested with the binary')],
  ['README.md', '# listen', run('sh', firstLineListens)],
  ['README.md', 'line.publish("news", "hello")', run('page', listens('news', { first: true, own: 'hello' }))],
  ['README.md', 'const events', run('page', listens('news', { gap: 'missed something' }))],
  ['README.md', 'hello, everyone', run('page', listens('chat', { own: 'hello, everyone', resumes: false }))],
  ['README.md', '/poll?channel=news&since=${since}', run(['page', 'node'], listens('news', { resumes: false }))],
  ['PROTOCOL.md', 'while sleep 0.1', run('sh', listens('news'))],
  ['PROTOCOL.md', '> (binary) 00 ff', run('websocket', talks({ channel: 'lobby' }))],
  ['PROTOCOL.md', '< (binary) id:', run('websocket', talks({ channel: 'lobby', protocol: META, after: [HELLO, BYTES] }))],
  ['PROTOCOL.md', '< gap: reason', run('websocket', talks({ channel: 'lobby', path: 'channels/lobby?since=k3J9xQ-42', protocol: META, after: [HELLO] }))],
  ['PROTOCOL.md', '< {"op":"hello"', run('websocket', talks({ path: 'ws', protocol: 'holdline.v1.json', before: ['hello', 'soup', 'x'].map(word => ['news', text(word)]) }))],
  ['docs/clients.md', 'await line.publish("news", { gold: 2431 });', run('html', listens('news', { first: true, own: '2431', gap: 'missed something' }))],
  ['docs/clients.md', '/client.iife.js', run('html', listens('news'))],
  ['docs/clients.md', 'from "holdline"', run('node', listens('news'))],
  ['docs/clients.md', 'sessionStorage', run('page', reloads)],
  ['docs/clients.md', 'const news = new EventSource', run('page', listens('news', { first: true, gap: 'missed something' }))],
  ['docs/clients.md', 'const events = new EventSource', run('page', listens('news', { gap: 'missed something' }))],
  ['docs/clients.md', 'function connect()', run('page', listens('chat', { own: 'here I am', gap: 'missed something' }))],
  ['docs/clients.md', 'hello, everyone', run('page', listens('chat', { first: true, own: 'hello, everyone', resumes: false }))],
  ['docs/clients.md', 'const { cursor, gap, messages }', run(['page', 'node'], listens('news', { gap: 'missed something' }))],
  ['docs/clients.md', 'crypto.randomUUID()', run(['page', 'node'], ends(/^202 .*\bid"?: ?["']\w+-2["']/m))],
  ['docs/clients.md', '# publish', run('sh', ends(/"id":"\w+-2"/, /"id":"\w+-3"/, /\}hello\{/, /"event":"price","data":\{"gold":2431\}/))],
  ['docs/clients.md', "'id: '*", run('bash', listens('news'))],
  ['docs/clients.md', 'websocat \'ws:', run('sh', websocatTyped)],
  ['docs/clients.md', 'websocat -n', run('bash', listens('chat'))],
  ['docs/clients.md', 'urllib.request', run('python', listens('news', { gap: 'missed something' }))],
  ['docs/clients.md', 'requests.get', run('python', listens('news', { gap: 'missed something' }))],
  ['docs/clients.md', 'websockets.sync', run('python', listens('chat', { own: 'here I am', gap: 'missed something' }))],
  ['docs/clients.md', 'requests.post', run('python', ends(/^202 \w+-2$/m))],
  ['CONTRIBUTING.md', '', aside(BUILDS)],
  ['capi/README.md', '', aside(BUILDS)],
  ['load/README.md', '', aside(BUILDS)],
  ['docs/performance.md', '', aside(BUILDS)],
];

async function try_(snippet, runner, test) {
  const server = await lib.serve(binary, '--listen', '127.0.0.1:0');
  const wire = await lib.wire(server.at);
  const begun = [];
  const begin = async () => {
    const text = snippet.text.replace(ADDRESS, wire.at);
    begun.push(await RUNNERS[runner](text));
    return begun.at(-1);
  };
  try {
    return await test({ ...snippet, begin, server, wire });
  } finally {
    for (const one of begun) await one.stop();
    wire.close();
    await server.stop();
  }
}

// All transcripts of a document tell of one server, in their order, but for the first, which starts one.
async function tryTranscripts(name, [first, ...rest]) {
  for (const them of [[first], rest]) {
    const server = await lib.serve(binary, '--listen', '127.0.0.1:0');
    const home = lib.folder();
    for (const { line, text } of them) {
      await lib.check(`${name}:${line} transcript`, () => transcript(text.replace(ADDRESS, server.at), server, home));
    }
    await server.stop();
  }
}

await new Promise(resolve => { host.listen(0, '127.0.0.1', resolve); });
const jobs = [];
const seen = new Set();
for (const name of documents(top)) {
  const them = snippets(fs.readFileSync(path.join(top, name), 'utf8'));
  const transcripts = them.filter(({ text }) => name === 'PROTOCOL.md' && text.startsWith('$ '));
  if (transcripts.length && name.includes(only)) jobs.push(() => tryTranscripts(name, transcripts));
  for (const snippet of them.filter(one => !transcripts.includes(one))) {
    const title = `${name}:${snippet.line} ${snippet.language}`;
    const known = KNOWN.filter(([its, part]) => its === name && snippet.text.includes(part));
    known.forEach(one => seen.add(one));
    if (known.length !== 1) {
      jobs.push(() => lib.check(title, () => { throw new Error(`${known.length} entries of tests/snippets/snippets.mjs know it`); }));
    } else if (known[0][2].test) {
      const { runner, test } = known[0][2];
      for (const one of [runner].flat()) {
        if (`${title} ${one}`.includes(only)) {
          jobs.push(() => lib.check(`${title}, by ${one}`, () => try_({ name, ...snippet }, one, test)));
        }
      }
    }
  }
}
for (const one of KNOWN.filter(each => !seen.has(each))) {
  jobs.push(() => lib.check(`${one[0]} ${one[1]}`, () => { throw new Error('there is no such snippet any more'); }));
}
await lib.together(8, jobs);
await (await visit)?.chromium?.close();
process.exit(lib.sum());
