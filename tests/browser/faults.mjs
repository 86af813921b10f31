// The rows of the matrix: each fault, how it begins and ends, and how long a client may take afterwards.
//
// `lasts`: ms between begin and end; without it the fault is one blow. `limit`: ms until everything is here, counted from
// the end (from the blow). `fromBegin`: the time to recover is told from the begin. `own`: options of a server of its own. `gap`: the reason that is to be announced.

const KINDS = { ws: 'ws', sse: 'sse', poll: 'poll' };
const BACKOFF = 32_000; // the longest that a client may wait for its next attempt, and a little

/** The transport's requests, for the proxy. */
const kind = ({ transport }) => KINDS[transport] ?? 'any';

const lasting = fault => ({
  begin: stage => { stage.proxy.set(kind(stage), fault); if (fault.cuts) stage.proxy.cut(kind(stage)); },
  end: stage => stage.proxy.clear(kind(stage)),
});

export const MATRIX = [
  { name: 'rst', title: 'connection reset', limit: 6000,
    begin: stage => stage.proxy.cut(kind(stage), 'rst') },
  { name: 'fin', title: 'connection closed in mid-stream', limit: 6000,
    begin: stage => stage.proxy.cut(kind(stage), 'fin') },
  { name: 'cuts', title: 'cut again and again, at any byte', lasts: 9000, limit: BACKOFF,
    ...lasting({ type: 'cut', within: 5000 }) },
  { name: 'reset-at-accept', title: 'reset at accept', lasts: 5000, limit: BACKOFF,
    begin: stage => { stage.proxy.accepts(false); stage.proxy.cut(); },
    end: stage => stage.proxy.accepts(true) },
  { name: 'nobody', title: 'nobody listens', lasts: 5000, limit: BACKOFF,
    begin: async stage => { stage.proxy.hits++; await stage.proxy.gone(); },
    end: stage => stage.proxy.back() },
  { name: 'half-open', title: 'half-open: dead without a word', lasts: 1000, limit: 40_000, fromBegin: true,
    ...lasting({ type: 'stall' }) },
  { name: 'pause', title: 'nothing passes for a while', lasts: 6000, limit: 6000,
    ...lasting({ type: 'stall', passes: true }) },
  { name: 'held', title: 'held back up to 16 KiB', lasts: 7000, limit: 6000,
    ...lasting({ type: 'buffer', bytes: 16384 }) },
  { name: 'slow', title: 'one byte at a time', lasts: 7000, limit: 12_000, every: 400,
    ...lasting({ type: 'slow', bytes: 1, tick: 2 }) },
  { name: 'latency', title: '400 ms later', lasts: 5000, limit: 6000,
    ...lasting({ type: 'latency', ms: 400 }) },
  { name: 'idle-cut', title: 'cut when idle for 1.5 s', lasts: 12_000, limit: BACKOFF, rhythm: { on: 300, off: 2600 },
    ...lasting({ type: 'idle', ms: 1500 }) },
  { name: '503', title: '503, Retry-After: 2', lasts: 5000, limit: BACKOFF,
    ...lasting({ type: 'status', status: 503, retryAfter: 2, cuts: true }) },
  { name: '502', title: '502 of a proxy', lasts: 5000, limit: BACKOFF,
    ...lasting({ type: 'status', status: 502, cuts: true }) },
  { name: 'crash', title: 'server killed, started again', own: [], gap: ['epoch'], lasts: 1500, limit: BACKOFF,
    begin: async stage => { stage.proxy.hits++; await stage.server.end('SIGKILL'); },
    end: async stage => { stage.proxy.target = await stage.server.start(); } },
  { name: 'restart', title: 'server restarted in order, --data', own: ['--drain', '3s', '--data'], lasts: 100, limit: BACKOFF,
    begin: async stage => { stage.proxy.hits++; await stage.server.end('SIGTERM'); },
    end: async stage => { stage.proxy.target = await stage.server.start(); } },
];
