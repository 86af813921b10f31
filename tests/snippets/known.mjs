// What is known of the documents' snippets: by document, a part of its text that no other has, how it is run, and what
// must come of it. A snippet that stands here nowhere, or a part that stands in no snippet, fails.

import { talks } from './frames.mjs';
import { after, ends, firstLineListens, listens, reloads, takesCopy, websocatTyped } from './trials.mjs';

const META = 'holdline.v1.meta';
const bytes = word => new TextEncoder().encode(word); // so that no type is given
const HELLO = [bytes('hello')];
const BINARY = [Uint8Array.of(0x00, 0xff), { 'Content-Type': 'application/octet-stream' }];
const PAGE = 'const show = () => {};\n';

// Whole documents whose snippets are no clients.
export const ASIDE = {
  'CONTRIBUTING.md': 'builds and tests',
  'capi/README.md': 'builds; capi/test runs it',
  'docs/browser.md': 'tests/browser makes it',
  'docs/performance.md': 'measures for long',
  'docs/proxies.md': 'tests/proxies tries what it says',
  'load/README.md': 'builds, and measures for long',
};

export const KNOWN = {
  'README.md': [
    ['$ cargo run --release'], // the banner is tested with the binary
    ['# listen', 'sh', firstLineListens],
    ['line.publish("news", "hello")', 'page', listens('news', { first: true, own: 'hello', gap: false })],
    ['const events', 'page', listens('news')],
    ['hello, everyone', 'page', listens('chat', { own: 'hello, everyone', resumes: false })],
    ['/poll?channel=news', ['page', 'node'], listens('news', { resumes: false })],
  ],
  'PROTOCOL.md': [
    ['while sleep 0.1', 'sh', listens('news', { gap: false })],
    ['> (binary) 00 ff', 'websocket', talks({ channel: 'lobby' })],
    ['< (binary) id:', 'websocket', talks({ channel: 'lobby', protocol: META, after: [HELLO, BINARY] })],
    ['< gap: reason', 'websocket', talks({ channel: 'lobby', since: 'k3J9xQ-42', protocol: META, after: [HELLO] })],
    ['< {"op":"hello"', 'websocket', talks({ before: ['hello', 'soup', 'x'].map(word => ['news', bytes(word)]) })],
  ],
  'client/README.md': [
    ['fetchAllAgain', 'page', after(PAGE, listens('news', { first: true, own: '2431', gap: false }))],
    ['integrity', 'html', takesCopy],
  ],
  'docs/clients.md': [
    ['news.ongap', 'html', listens('news', { first: true, own: '2431' })],
    ['/client.iife.js', 'html', listens('news', { gap: false })],
    ['from "holdline"', 'node', listens('news', { gap: false })],
    ['sessionStorage', 'page', reloads],
    ['const news = new EventSource', 'page', listens('news', { first: true })],
    ['const events = new EventSource', 'page', listens('news')],
    ['function connect()', 'page', listens('chat', { own: 'here I am' })],
    ['hello, everyone', 'page', listens('chat', { first: true, own: 'hello, everyone', resumes: false })],
    ['const { cursor, gap, messages }', ['page', 'node'], listens('news')],
    ['`gold-${Date.now()}', ['page', 'node'], ends(/^202 .*\bid"?: ?["']\w+-2["']/m)],
    ['# publish', 'sh', ends(/"id":"\w+-2"/, /"id":"\w+-3"/, /\}hello\{/, /"event":"price","data":\{"gold":2431\}/)],
    ["'id: '*", 'bash', listens('news', { gap: false })],
    ["websocat 'ws:", 'sh', websocatTyped],
    ['websocat -n', 'bash', listens('chat', { gap: false })],
    ['urllib.request', 'python', listens('news')],
    ['requests.get', 'python', listens('news')],
    ['websockets.sync', 'python', listens('chat', { own: 'here I am' })],
    ['requests.post', 'python', ends(/^202 \w+-2$/m)],
  ],
};
