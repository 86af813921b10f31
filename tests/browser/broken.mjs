// The client, broken in one place each: what was tried shows something only if these are seen.
//
// { name, breaks: [[from, to], …], peer, test, sees }: `test` is the name of a test that must fail, with a message that
// `sees` matches. A `from` that is not in client/holdline.js any more fails too: look where that has gone.

export const BROKEN = [
  { name: 'passes on what it has passed on before', peer: 'node', test: 'channels change in mid-stream: poll', sees: /doubled|disordered/,
    breaks: [['|| record._last && compare(id, record._last) <= 0) return;', ') return;']] },
  { name: 'forgets where it was', peer: 'node', test: 'sse · rst', sees: /missing|lost/,
    breaks: [['if (!this._isPast) this._line._cursor = cursor;', '']] },
  { name: 'keeps a gap to itself', peer: 'node', test: 'sse · crash', sees: /missing|lost|strange/,
    breaks: [['channels.get(name)?._each((target) => target._emit("gap", detail));', ';']] },
  { name: 'comes back at once', peer: 'node', test: 'the server is gone: it says when it comes again, and does', sees: /attempts|came after|waits|retryAt/,
    breaks: [['this._wait(delay(this._attempt++, why.retry), why);', 'this._wait(0, why);']] },
  { name: 'never gives up', peer: 'node', test: 'refused for good: 403 over sse', sees: /the end/,
    breaks: [['const isFinal = (code) => ', 'const isFinal = (code) => false && ']] },
  { name: 'does not notice silence', peer: 'node', test: 'sse · half-open', sees: /missing/,
    breaks: [['link._interval + GRACE_MS', 'Infinity']] },
  { name: 'publishes again without its key', peer: 'node', test: 'publish: cut again and again over sse, each arrives once', sees: /doubled|came|strange|published|equal/,
    breaks: [['idempotency_key: key });', 'idempotency_key: undefined });']] },
];

/** The client with one fault; throws if there is no such place in it. */
export function broken(source, { name, breaks }) {
  let text = source;
  for (const [from, to] of breaks) {
    if (!text.includes(from)) throw new Error(`“${name}”: the client has no “${from}” any more`);
    text = text.replaceAll(from, to);
  }
  return text;
}
