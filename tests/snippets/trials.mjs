// What must become of a snippet that is run.

import * as lib from '../support/shared.mjs';
import { RUNNERS } from './runners.mjs';

const GAP = 'missed something'; // so every snippet says it

// A text with this server's address in place of those that documents name.
export const at = (address, text) =>
  text.replaceAll('127.0.0.1:7070', address).replaceAll('https://example.org', `http://${address}`);

// A snippet that calls what only a whole page would have.
export const after = (prelude, trial) => what => trial({ ...what, begin: () => what.begin(prelude) });

// A listener hears what is published, is cut off, and goes on: it hears what it missed, once and in order. Then it is
// cut off again, and is told that there is something which it cannot be given.
//
//   first    something has been published before, and it hears that too
//   own      what it says itself
//   resumes  false: it does not come back
//   gap      false: it is not told
export function listens(channel, { first = false, own, resumes = true, gap = resumes } = {}) {
  return async ({ begin, server, wire }) => {
    const publish = text => lib.publish(server.base, channel, text);
    const subscribers = async count => (await lib.about(server.base, channel)).subscribers === count;
    const heard = (...words) => lib.becomes(`it says ${words}`, () =>
      words.every(word => run.said.includes(word)) || `${run.said} ${run.erred}`);
    const cut = async () => {
      wire.sever();
      await lib.becomes('the server has noticed', () => subscribers(0));
    };

    if (first) await publish('first-word');
    const run = await begin();
    await lib.becomes('it listens', async () => await subscribers(1) || run.erred);
    await publish('second-word');
    await heard(...[first && 'first-word', own, 'second-word'].filter(Boolean));
    if (!resumes) return '';

    await cut();
    await publish('third-word');
    await publish('fourth-word');
    wire.mend();
    await heard('third-word', 'fourth-word');
    await lib.becomes('it listens again', () => subscribers(1));
    await publish('fifth-word');
    await heard('fifth-word');
    const words = run.said.match(/\w+(?=-word)/g).join(' ');
    if (words !== `${first ? 'first ' : ''}second third fourth fifth`) throw new Error(`it said ${words}`);
    if (!gap) return 'resumed';

    await cut();
    await publish('lost');
    await fetch(`${server.base}/channels/${channel}`, { method: 'DELETE' });
    await publish('sixth-word');
    wire.mend();
    await heard(GAP, 'sixth-word');
    if (run.said.includes('lost') || run.said.indexOf(GAP) > run.said.indexOf('sixth')) throw new Error(run.said);
    return 'resumed, told of a gap';
  };
}

// Ends by itself, having said what matches each of these.
export function ends(...expected) {
  return async ({ begin, server }) => {
    await lib.publish(server.base, 'news', 'hello');
    const run = await begin();
    const matches = () => expected.every(one => one.test(run.said));
    // A page has no end.
    if (run.ended) await run.ended;
    else await lib.becomes('it says so', () => matches() || `${run.said} ${run.erred}`);
    if (run.status || !matches()) throw new Error(`status ${run.status}: ${run.said} ${run.erred}`);
  };
}

// A page that keeps its position: what came while it was not there comes when it is loaded again.
export async function reloads({ begin, server }) {
  const run = await begin();
  await lib.becomes('it listens', async () => (await lib.about(server.base, 'news')).subscribers === 1);
  await lib.publish(server.base, 'news', 'one');
  await lib.becomes('it hears', () => run.said === 'one\n' || run.said);
  await run.page.reload();
  await lib.publish(server.base, 'news', 'two'); // before, while or after it has loaded
  await lib.becomes('it goes on', () => run.said === 'one\ntwo\n' || run.said);
  return 'loaded again';
}

// A page that takes only the copy of the client that it names the hash of.
export async function takesCopy({ begin }) {
  const run = await begin();
  const isThere = () => run.page.evaluate(() => typeof globalThis.Holdline === 'function');
  await lib.becomes('the client is there', async () => await isThere() || run.erred);
  if (run.erred) throw new Error(run.erred);
}

// The first line listens, and goes on; the others say something each.
export async function firstLineListens({ text, wire, server }) {
  const [listen, ...rest] = at(wire.at, text).trimEnd().split('\n');
  const stream = RUNNERS.sh(`exec ${listen}`);
  await lib.becomes('it listens', async () => (await lib.about(server.base, 'demo')).subscribers === 1);
  const others = RUNNERS.sh(rest.join('\n'));
  await others.ended;
  await lib.becomes('the stream has it', () => /^id: \w+-1\ndata: hello$/m.test(stream.said) || stream.said);
  const [answer, message, poll] = others.said.match(/^\{"id":.*?\}\n?|hello(?=\{)|\{"cursor".*$/gs) ?? [];
  if (!answer?.includes('"subscribers":1') || message !== 'hello' || JSON.parse(poll).messages[0].text !== 'hello') {
    throw new Error(`${others.said} ${others.erred}`);
  }
  await stream.stop();
}

export async function websocatTyped({ begin, server }) {
  await lib.publish(server.base, 'chat', 'before');
  const run = await begin();
  await lib.becomes('it hears what was', () => run.said === 'before\n' || `${run.said} ${run.erred}`);
  run.child.stdin.write('typed\n');
  await lib.becomes('it hears what it said', () => /^before\ntyped\n+$/.test(run.said) || run.said);
  const kept = await (await fetch(`${server.base}/poll?channel=chat&since=earliest`)).json();
  if (kept.messages[1].text.trim() !== 'typed') throw new Error(JSON.stringify(kept));
}
