/**
 * holdline: the browser's end of a line to a holdline server. It listens to any number of channels
 * over WebSocket, Server-Sent Events or long-polling, whichever the network lets through, comes back
 * by itself, goes on where it was, and says so if something is missing.
 *
 * From the top: `Holdline` owns what outlives a connection: the channels, the one position (`cursor`)
 * that resumes all of them, and the ladder of transports. A `Link` is one connection; `WsLink`,
 * `SseLink` and `PollLink` translate their transport into the objects of `/ws`, which
 * `Holdline._take` understands. Names with a leading underscore are shortened when this is built.
 */

/** How long a transport may take for its first word, in which any byte counts. */
const WORD_MS = 5000;
/** A connection that lasted this long was a success: what comes after it begins anew. */
const STEADY_MS = 10000;
/** Silence beyond the server's own interval after which a connection counts as dead. */
const GRACE_MS = 10000;
/** So many failures within a minute, and a transport that has worked is given up for the next. */
const FAILURES_MAX = 3;
const MINUTE_MS = 60000;
/** Changes of channels that come together are made together on transports that must reopen for them. */
const SETTLE_MS = 20;
const TICK_MS = 5000;
const QUEUE_MAX = 100;

const random = (low, high) => low + Math.random() * (high - low);
const isFunction = (what) => typeof what == "function";

/** Whether a position lies behind another of the same log; of different logs nothing is known. */
export function isNewer(id, than) {
  if (!than) return true;
  const [epoch, seq] = id.split("-");
  const [thanEpoch, thanSeq] = than.split("-");
  // Without leading zeros the longer number is the larger one; a double would not hold them all.
  return epoch != thanEpoch || (seq.length - thanSeq.length || (seq > thanSeq ? 1 : -1)) > 0 && seq != thanSeq;
}

/** Full jitter: a random time up to a bound that doubles, and never less than the server asked for. */
export class Backoff {
  constructor() {
    this.attempt = 0;
  }
  /** After a steady connection the first try may come soon. */
  reset() {
    this.attempt = -1;
  }
  next(least = 0) {
    const attempt = this.attempt++;
    const own = attempt < 0
      ? random(100, 1500)
      : Math.max(100, random(0, Math.min(30000, 1000 * 2 ** attempt)));
    return Math.max(own, least * random(1, 1.5));
  }
}

/**
 * A parser of event streams, as the HTML standard has it: give it text in any pieces, it calls back
 * for each block with `event`, `data` (undefined if there was none), `id` and `retry`. Blocks without
 * data are told too: their id moves the position. A block that is cut off is never told.
 */
export function parser(onBlock) {
  let rest = "", wasCr = false, block = {};
  const field = (line) => {
    if (!line) {
      onBlock(block);
      block = {};
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] == " " ? colon + 2 : colon + 1);
    if (name == "data") block.data = block.data == null ? value : block.data + "\n" + value;
    else if (name == "event") block.event = value;
    else if (name == "id" && !value.includes("\0")) block.id = value;
    else if (name == "retry" && /^\d+$/.test(value)) block.retry = +value;
  };
  return (text) => {
    if (!text) return;
    // A CR ends a line at once; a LF that follows it in the next piece belongs to it.
    if (wasCr && text[0] == "\n") text = text.slice(1);
    wasCr = text.endsWith("\r");
    const lines = (rest + text).split(/\r\n|\r|\n/);
    rest = lines.pop();
    lines.forEach(field);
  };
}

/** Reads a body to its end in pieces of text. */
async function read(response, onText) {
  const reader = response.body.getReader(), decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    onText(decoder.decode(value, { stream: !done }));
    if (done) return;
  }
}

/** What went wrong, with a `code`: that of a WebSocket's end, or 4000 and the HTTP status, or a word. */
function failure(reason, code, retry) {
  return Object.assign(new Error(reason), { code, retry });
}

/** An answer that is an error, as `failure`. */
async function refusal(response) {
  const after = response.headers.get("retry-after") || 0;
  const ms = isNaN(after) ? Date.parse(after) - Date.now() : after * 1000;
  const said = await response.json().catch(() => ({}));
  const error = failure(said.message || "HTTP status " + response.status, 4000 + response.status, ms || 0);
  return Object.assign(error, { status: response.status, word: said.error });
}

/** Whether it is no use to come back after this code. 4401 is asked about elsewhere. */
function isFinal(code) {
  const status = code - 4000;
  if (status > 0) {
    return status == 204 || status == 501 || status == 505
      || status >= 400 && status < 500 && ![401, 408, 409, 425, 429].includes(status);
  }
  return [1002, 1003, 1007, 1008, 1009, 1010].includes(code);
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));

function base64Of(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** The payload's field of a publication. */
function payload(data) {
  if (typeof data == "string") return { text: data };
  if (data instanceof ArrayBuffer) data = new Uint8Array(data);
  if (ArrayBuffer.isView(data)) {
    return { b64: base64Of(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) };
  }
  return { data };
}

/** An EventTarget whose `on…` properties work, and whose events carry their fields, also as `detail`. */
class Target extends EventTarget {
  constructor(types) {
    super();
    for (const type of types) {
      this["on" + type] = null;
      // As a listener, so that what it throws is reported and stops nothing else.
      this.addEventListener(type, (event) => {
        const handler = this["on" + type];
        if (isFunction(handler)) handler.call(this, event);
      });
    }
  }
  _emit(type, detail) {
    this.dispatchEvent(Object.assign(new Event(type), detail, { detail }));
  }
  _emitMessage(message, origin) {
    const { channel, id, event = "", time, type } = message;
    const [data, contentType] = "data" in message ? [message.data, "application/json"]
      : "b64" in message ? [bytesOf(message.b64), "application/octet-stream"]
      : [message.text, "text/plain"];
    const fields = { channel, event, time, contentType: type || contentType };
    this.dispatchEvent(Object.assign(new MessageEvent("message", { data, lastEventId: id, origin }), fields));
  }
}

/** One listener to a channel. There may be several to a channel; the line listens once for all. */
class Subscription extends Target {
  constructor(line, channel, since) {
    super(["message", "gap", "live", "close", "error"]);
    this._line = line;
    this.channel = channel;
    this.state = "pending";
    /** The newest message that it has seen; older ones are copies. */
    this._last = since;
  }
  close() {
    this._end({ code: 1000, reason: "closed" });
    this._line._leave(this);
  }
  _end(why) {
    if (this.state == "closed") return;
    this.state = "closed";
    this._emit("close", { ...why, final: true });
  }
  async *[Symbol.asyncIterator]() {
    const events = [];
    let wake;
    const take = (event) => {
      events.push(event);
      if (wake) wake();
    };
    this.addEventListener("message", take);
    this.addEventListener("close", take);
    try {
      for (;;) {
        while (events.length) {
          const event = events.shift();
          if (event.type == "close") return;
          yield event;
        }
        if (this.state == "closed") return;
        await new Promise((resolve) => (wake = resolve));
      }
    } finally {
      this.removeEventListener("message", take);
      this.removeEventListener("close", take);
    }
  }
}

/** One connection, from the attempt to its end. It ends once: by `_close` here, or as `_lost` there. */
class Link {
  constructor(line, name) {
    this._line = line;
    this._name = name;
    /** What it carries: by name the line's record of the channel. */
    this._channels = new Map();
    this._abort = new AbortController();
    this._interval = (line._heartbeat || 15) * 1000;
    this._heard();
    this._start().catch((error) => this._lost(error));
  }
  _heard() {
    this._stamp = Date.now();
  }
  /** Gives up if nothing is heard for so long before the first word. */
  _expect(ms) {
    this._heard();
    const check = () => {
      const left = this._stamp + ms - Date.now();
      if (left > 0) this._timer = setTimeout(check, left);
      else this._lost(failure("no answer within " + ms / 1000 + " s"));
    };
    clearTimeout(this._timer);
    check();
  }
  _word() {
    if (this._isOpen) return;
    this._isOpen = true;
    clearTimeout(this._timer);
    this._line._opened(this);
  }
  _close() {
    this._isDone = true;
    clearTimeout(this._timer);
    this._abort.abort();
  }
  _lost(why) {
    if (this._isDone) return;
    this._close();
    this._line._lost(this, why);
  }
  /** An HTTP request of this connection; what is not a 200 is thrown. */
  async _fetch(path, query) {
    const response = await this._line._fetch(path, query, { signal: this._abort.signal });
    this._heard();
    if (response.status != 200) throw await refusal(response);
    return response;
  }
  /** One poll; its gaps and messages are given to `channels`. */
  async _poll(channels, since, wait) {
    const response = await this._fetch("poll", this._query(channels.values(), since, { wait }));
    let text = "";
    await read(response, (piece) => {
      this._heard();
      text += piece;
    });
    const answer = JSON.parse(text);
    if (!this._isDone) {
      for (const gap of answer.gap || []) this._line._gap(channels, gap);
      for (const message of answer.messages) this._line._message(channels, message);
    }
    return answer;
  }
  _query(records, since, more) {
    const query = new URLSearchParams(more);
    let isLive = true;
    for (const record of records) {
      query.append("channel", record._name);
      isLive = isLive && record._gap == "live";
    }
    if (since) query.append("since", since);
    if (isLive) query.append("gap", "live");
    query.append("v", 1);
    return query;
  }
  /**
   * Streams and polls have one position for all channels. Those that are still to start from one of
   * their own are brought up to now by polls; from the oldest position all go on together.
   */
  async _align() {
    const line = this._line;
    let since = line.cursor;
    const behind = new Map();
    for (const record of line._channels.values()) {
      if (record._isPending && record._since != since) groupOf(behind, record).push(record);
    }
    const groups = [...behind.values()];
    if (groups.length == 1 && groups[0].length == line._channels.size && !line._wasOpen) {
      since = groups[0][0]._since; // everything begins at the same place
    } else {
      for (const group of groups) {
        const reached = await this._catchUp(group);
        if (reached && since && isNewer(since, reached) && since.split("-")[0] == reached.split("-")[0] || !since) since = reached;
      }
    }
    for (const record of line._channels.values()) this._channels.set(record._name, record);
    return since;
  }
  async _catchUp(group) {
    const channels = new Map(group.map((record) => [record._name, record]));
    let since = group[0]._since, answer;
    do {
      try {
        answer = await this._poll(channels, since, 0);
      } catch (error) {
        if (!error.status || !isFinal(error.code)) throw error;
        if (group.length == 1) return this._line._refuse(group[0], error);
        let least;
        for (const record of group) {
          const reached = await this._catchUp([record]);
          if (!least || reached && isNewer(least, reached)) least = reached;
        }
        return least;
      }
      since = answer.cursor;
      for (const record of group) {
        record._since = since;
        record._start(since);
      }
    } while (answer.more && !this._isDone);
    return since;
  }
}

class WsLink extends Link {
  async _start() {
    const line = this._line;
    this._asked = new Map();
    this._sent = new Map();
    this._ref = 0;
    const protocols = ["holdline.v1.json"];
    const token = await line._credential();
    if (this._isDone) return;
    if (token) {
      const base64 = base64Of(new TextEncoder().encode(token));
      protocols.push("holdline.bearer." + base64.replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, ""));
    }
    const url = line._url("ws", new URLSearchParams(line._heartbeat && { heartbeat: line._heartbeat }));
    url.protocol = url.protocol.replace("http", "ws");
    this._expect(WORD_MS);
    const socket = this._socket = new line._WebSocket(url.href, protocols);
    socket.onmessage = ({ data }) => {
      if (this._isDone) return;
      this._heard();
      try {
        this._take(JSON.parse(data));
      } catch (error) {
        this._lost(error);
      }
    };
    socket.onerror = () => {}; // its close follows
    socket.onclose = ({ code, reason }) => this._lost(failure(reason || this._reason || "the WebSocket closed", code, this._retry));
  }
  _take(message) {
    const line = this._line, { op, ref, channel, cursor } = message;
    const asked = this._asked.get(ref);
    if (op == "hello") {
      this._interval = message.heartbeat_ms;
      this._bytesMax = message.message_bytes_max;
      // The position of others is no place to come back to for who has one already.
      if (!line.cursor) line.cursor = cursor;
      this._word();
      return this._sync();
    }
    if (op == "ok" && asked) {
      if (asked._resolve) {
        this._asked.delete(ref);
        asked._resolve({ id: message.id, subscribers: message.subscribers });
      } else {
        this._channels.set(channel, asked.find((record) => record._name == channel));
      }
    } else if (op == "error") {
      this._error(message, asked);
    } else if (op == "message") {
      line._message(this._channels, message);
    } else if (op == "gap") {
      line._gap(this._channels, message);
    } else if (op == "bye") {
      this._retry = message.retry_ms;
      this._reason = "the server shuts down";
    } else if (op == "unsubscribed") {
      const record = this._channels.get(channel);
      if (record) line._refuse(record, failure("unsubscribed by the server", message.code));
    }
    if (op != "ok") line._move(cursor || op == "message" && message.id);
    // A channel that had to catch up may be resumed with the rest from the first position after its ok.
    if (cursor) this._channels.forEach((record) => (record._isPending = false));
    if (op == "live") {
      const record = this._channels.get(channel);
      if (record) record._live(line, cursor);
    }
  }
  _error({ ref, code, message, retry_ms: retry }, asked) {
    const error = Object.assign(failure(message, code, retry), { word: code });
    this._asked.delete(ref);
    if (!asked) return this._line._emit("error", { code, reason: message, error });
    if (asked._reject) return asked._reject(error);
    if (code == "unauthorized") return this._lost(failure(message, 4401));
    if (retry || code == "overloaded") {
      setTimeout(() => this._resend(asked), (retry || 1000) * random(1, 1.5));
    } else if (asked.length > 1) {
      for (const record of asked) this._subscribe([record]); // one of them is refused, not all
    } else {
      this._line._refuse(asked[0], error);
    }
  }
  _resend(records) {
    for (const record of records) this._sent.delete(record._name);
    if (!this._isDone) this._sync();
  }
  /** Asks for what is not asked for yet, and gives up what is no longer wanted. */
  _sync() {
    const { _channels: wanted } = this._line;
    const gone = [];
    for (const [name, record] of this._sent) {
      if (wanted.get(name) == record) continue;
      gone.push(name);
      this._sent.delete(name);
      if (!wanted.has(name)) this._channels.delete(name);
    }
    if (gone.length) this._send({ op: "unsubscribe", channels: gone });
    const groups = new Map();
    for (const record of wanted.values()) {
      if (this._sent.has(record._name)) continue;
      if (!record._isPending) record._since = this._line.cursor;
      record._isPending = true;
      groupOf(groups, record).push(record);
    }
    // Together, so that they replay in one order.
    groups.forEach((records) => this._subscribe(records));
  }
  _subscribe(records) {
    const ref = ++this._ref;
    this._asked.set(ref, records);
    const [{ _since: since, _gap: gap }] = records;
    for (const record of records) this._sent.set(record._name, record);
    this._send({ op: "subscribe", ref, channels: records.map((record) => record._name), since, gap });
  }
  _publish(fields, resolve, reject) {
    const ref = ++this._ref;
    this._asked.set(ref, { _resolve: resolve, _reject: reject });
    this._send({ op: "publish", ref, ...fields });
  }
  _send(command) {
    this._socket.send(JSON.stringify(command));
  }
  _ping() {
    this._send({ op: "ping" });
  }
  _close() {
    super._close();
    if (this._socket) {
      this._socket.onclose = null;
      try {
        this._socket.close(1000);
      } catch {} // some implementations throw before they are open
    }
    const lost = failure("the connection was lost before the answer: it may have been published, or not", "lost");
    for (const asked of (this._asked || new Map()).values()) {
      if (asked._reject) asked._reject(lost);
    }
  }
}

class SseLink extends Link {
  async _start() {
    const line = this._line;
    this._expect(WORD_MS);
    const since = await this._align();
    const more = line._heartbeat ? { heartbeat: line._heartbeat } : {};
    if (this._isDone) return;
    const response = await this._fetch("events", this._query(this._channels.values(), since, more));
    if (!/^text\/event-stream/i.test(response.headers.get("content-type"))) {
      throw failure("the answer is no event stream");
    }
    const push = parser((block) => this._isDone || this._take(block));
    await read(response, (text) => {
      this._heard();
      push(text);
    });
    throw failure(this._reason || "the stream ended", 0, this._retry);
  }
  _take({ event, data, id, retry }) {
    const line = this._line;
    if (retry) this._retry = retry;
    if (!this._isOpen) {
      this._word();
      line._carry(this, id);
    }
    line._move(id);
    if (data == null) return;
    const message = JSON.parse(data);
    if (event == "message") line._message(this._channels, message);
    else if (event == "gap") line._gap(this._channels, message);
    else if (event == "bye") {
      this._retry = message.retry_ms;
      this._reason = "the server shuts down";
    }
  }
}

class PollLink extends Link {
  async _start() {
    const line = this._line, wait = Math.min(line._heartbeat || 25, 55);
    this._interval = wait * 1000;
    this._expect(2 * WORD_MS);
    let since = await this._align();
    // The first answer comes at once: it shows that this works.
    for (let answer = {}; !this._isDone; ) {
      this._heard();
      answer = await this._poll(this._channels, since, this._isOpen && !answer.more ? wait : 0);
      if (this._isDone) return;
      since = answer.cursor;
      if (answer.retry_ms) throw failure("the server shuts down", 0, answer.retry_ms);
      if (!this._isOpen) {
        this._word();
        line._carry(this, since);
      }
      line._move(since);
    }
  }
}

const LINKS = { ws: WsLink, sse: SseLink, poll: PollLink };

/** The list of those that begin at the same place in the same way. */
function groupOf(groups, record) {
  const key = record._since + " " + record._gap;
  if (!groups.has(key)) groups.set(key, []);
  return groups.get(key);
}

/** What the line knows about a channel. */
class Channel {
  constructor(name, since, gap, subscriptions) {
    this._name = name;
    this._since = since;
    this._gap = gap;
    this._subscriptions = subscriptions;
    /** Until a connection has taken it over, it begins at `_since`, then with all others at the cursor. */
    this._isPending = true;
  }
  /** Whatever lies before this is not for those who listen from now on. */
  _start(cursor) {
    for (const target of [this, ...this._subscriptions]) target._last = target._last || cursor;
  }
  _live(line, cursor) {
    this._start(cursor);
    for (const subscription of this._subscriptions) subscription._goLive();
    line._emit("live", { channel: this._name });
  }
}

Subscription.prototype._goLive = function () {
  if (this.state != "pending") return;
  this.state = "live";
  this._emit("live", { channel: this.channel });
};

/** Whether a message is not older than what this target has seen, which it now has. */
function isFresh(target, id) {
  const fresh = isNewer(id, target._last);
  if (fresh) target._last = id;
  return fresh;
}

export class Holdline extends Target {
  constructor(url = ".", options = {}) {
    super(["open", "message", "gap", "live", "state", "close", "error"]);
    const here = globalThis.document ? document.baseURI : globalThis.location && location.href;
    this._base = new URL(url, here);
    this._base.search = this._base.hash = "";
    if (!this._base.pathname.endsWith("/")) this._base.pathname += "/";
    this._WebSocket = options.WebSocket || globalThis.WebSocket;
    this._fetcher = options.fetch || ((...args) => fetch(...args));
    this._token = options.token;
    this._since = options.since == "latest" ? undefined : options.since;
    this._gapDefault = options.gap;
    this._heartbeat = options.heartbeat;
    this._queueMax = Math.min(options.queue || 0, QUEUE_MAX);
    this._ladder = (options.transports || ["ws", "sse", "poll"]).filter((name) => {
      if (!LINKS[name]) throw new TypeError("unknown transport: " + name);
      return name != "ws" || this._WebSocket;
    });
    if (!this._ladder.length) throw new TypeError("no transport: there is no WebSocket here");
    this.cursor = /^\w+-\d+$/.test(this._since) ? this._since : null;
    this.state = "connecting";
    this.retryAt = null;
    this._channels = new Map();
    this._queue = [];
    this._backoff = new Backoff();
    this._failures = [];
    this._worked = new Set();
    this._home = this._at = Math.max(0, this._ladder.indexOf(this._remembered()));
    this._notBefore = 0;
    this._watch();
    this._timer = setTimeout(() => this._connect());
  }

  get transport() {
    return this._link ? this._link._name : null;
  }
  get readyState() {
    return this.state == "open" ? 1 : this.state == "closed" ? 2 : 0;
  }

  subscribe(channel, { since = this._since, gap = this._gapDefault } = {}) {
    if (this.state == "closed") throw failure("the line is closed", "closed");
    if (since == "latest") since = undefined;
    const known = this._channels.get(channel);
    const subscription = new Subscription(this, channel, known && !since ? known._last : undefined);
    if (known && !since) {
      known._subscriptions.add(subscription);
      if (this._link && this._link._channels.get(channel) == known && !known._isPending) {
        queueMicrotask(() => subscription._goLive());
      }
    } else {
      // Who listens already has what comes again; the newcomer has not.
      const all = new Set(known && known._subscriptions).add(subscription);
      const record = new Channel(channel, since, gap, all);
      record._last = known && known._last;
      this._channels.set(channel, record);
      this._changed();
    }
    return subscription;
  }

  publish(channel, data, { event, type, ttl, idempotencyKey } = {}) {
    if (this._queueMax && !idempotencyKey) {
      idempotencyKey = Array.from({ length: 4 }, () => Math.random().toString(36).slice(2, 8)).join("");
    }
    const fields = { channel, event, type, ttl, idempotency_key: idempotencyKey, ...payload(data) };
    return new Promise((resolve, reject) => {
      if (this.state == "closed") return reject(failure("the line is closed", "closed"));
      const item = { _fields: fields, _resolve: resolve, _reject: reject };
      if (this._queueMax && (this.state != "open" || this._queue.length)) this._enqueue(item);
      else this._publish(item);
    });
  }

  close() {
    this._stop(failure("closed", 1000));
  }

  // Publishing

  _enqueue(item) {
    if (this._queue.length < this._queueMax) this._queue.push(item);
    else item._reject(failure("not connected, and the queue is full", "queue_full"));
  }
  /** One publication, on the WebSocket if there is one, else by POST; settles its promise, or keeps it. */
  async _publish(item) {
    const { _fields: fields, _resolve, _reject } = item;
    try {
      const link = this._link, text = JSON.stringify(fields);
      // A frame has a limit for all of it, a POST only for the payload. A character has up to 3 bytes.
      const fits = link && link._publish && text.length * 3 < link._bytesMax;
      _resolve(await (fits ? new Promise((...settle) => link._publish(fields, ...settle)) : this._post(text)));
    } catch (error) {
      const isLost = error.code == "lost" || error instanceof TypeError;
      if (isLost && this._queueMax && this.state != "closed") this._enqueue(item);
      else _reject(error);
    }
  }
  async _post(body, isSecond) {
    const init = { method: "POST", headers: { "Content-Type": "application/json" }, body };
    const response = await this._fetch("publish", "", init);
    if (response.status == 401 && isFunction(this._token) && !isSecond) {
      this._isRefused = true;
      return this._post(body, true);
    }
    if (!response.ok) {
      const error = await refusal(response);
      throw Object.assign(error, { code: error.word || error.code });
    }
    const { id, subscribers } = await response.json();
    return { id, subscribers };
  }
  async _flush() {
    while (this.state == "open" && this._queue.length) await this._publish(this._queue.shift());
  }

  // What connections need

  _url(path, query) {
    const url = new URL(path, this._base);
    url.search = query;
    return url;
  }
  async _credential() {
    const isRefused = this._isRefused;
    this._isRefused = false;
    return isFunction(this._token) ? this._token(isRefused) : this._token;
  }
  async _fetch(path, query, init) {
    const token = await this._credential();
    const headers = { ...init.headers, ...(token && { Authorization: "Bearer " + token }) };
    const fetcher = this._fetcher;
    return fetcher(this._url(path, query).href, { cache: "no-store", ...init, headers });
  }

  // What connections tell

  _move(cursor) {
    if (cursor) this.cursor = cursor;
  }
  _message(channels, message) {
    const record = channels.get(message.channel);
    if (!record) return;
    if (isFresh(record, message.id)) this._emitMessage(message, this._base.origin);
    for (const subscription of record._subscriptions) {
      if (isFresh(subscription, message.id)) subscription._emitMessage(message, this._base.origin);
    }
  }
  _gap(channels, { channels: names, reason, since, resumed, spread_ms }) {
    const detail = { channels: names, reason, since, resumed, spread_ms };
    this._emit("gap", detail);
    for (const name of names) {
      const record = channels.get(name);
      if (record) for (const subscription of record._subscriptions) subscription._emit("gap", detail);
    }
  }
  /** A stream or poll has taken over its channels. */
  _carry(link, cursor) {
    for (const record of link._channels.values()) {
      record._isPending = false;
      record._live(this, cursor);
    }
    // What was asked for since it began needs another.
    for (const record of this._channels.values()) {
      if (link._channels.get(record._name) != record) return this._changed();
    }
  }
  /** A channel may not be listened to; the others go on. */
  _refuse(record, error) {
    if (this._channels.get(record._name) != record) return;
    this._channels.delete(record._name);
    const detail = { channel: record._name, code: error.word || error.code, reason: error.message };
    for (const subscription of record._subscriptions) {
      subscription._emit("error", detail);
      subscription._end(detail);
    }
    this._emit("error", detail);
    this._changed();
  }
  _leave(subscription) {
    const record = this._channels.get(subscription.channel);
    if (!record || !record._subscriptions.delete(subscription) || record._subscriptions.size) return;
    this._channels.delete(subscription.channel);
    this._changed();
  }
  /** The set of channels is another: at once on a WebSocket, else by a new connection before the old ends. */
  _changed() {
    if (this._change || this.state == "closed") return;
    const isWs = this._link && this._link._sync;
    this._change = setTimeout(() => {
      this._change = null;
      const link = this._link;
      if (!link) {
        if (this._isIdle) this._connect();
      } else if (link._sync) link._sync();
      else if (!this._channels.size) this._idle();
      else {
        if (this._next) this._next._close();
        this._open(this._at);
      }
    }, isWs ? 0 : SETTLE_MS);
  }

  // The ladder

  _connect() {
    clearTimeout(this._timer);
    if (this.state == "closed" || this._next) return;
    const name = this._ladder[this._at];
    if (name != "ws" && !this._channels.size) return this._idle();
    this._isIdle = false;
    this._setState("connecting", { transport: name });
    this._open(this._at);
  }
  _idle() {
    this._drop();
    this._isIdle = true;
    this._setState("waiting", { reason: "nothing to listen to" });
  }
  _open(at) {
    const name = this._ladder[at];
    this._next = new LINKS[name](this, name);
  }
  _opened(link) {
    const old = this._link;
    this._link = link;
    this._next = null;
    if (old) old._close();
    this._openedAt = Date.now();
    this._wasOpen = true;
    this._at = this._home = this._ladder.indexOf(link._name);
    this._worked.add(this._at);
    this._probeAt = Date.now() + (this._worked.has(0) ? 1 : 10) * MINUTE_MS;
    this._remember(link._name);
    if (this.state != "open" || old && old._name != link._name) {
      this._setState("open", { transport: link._name });
      this._emit("open", { transport: link._name });
    }
    this._flush();
  }
  _lost(link, why) {
    const wasOpen = link == this._link;
    if (wasOpen) this._link = null;
    else if (link == this._next) this._next = null;
    else return;
    if (this._link) return this._stay(link, why);
    for (const record of this._channels.values()) {
      for (const subscription of record._subscriptions) subscription.state = "pending";
    }
    if (this._next) return this._setState("connecting", { transport: this._next._name });
    if (wasOpen && Date.now() - this._openedAt >= STEADY_MS) {
      this._backoff.reset();
      this._wasRefused = false;
    }
    if (why.code == 4401) {
      if (!isFunction(this._token) || this._wasRefused) return this._stop(why);
      this._wasRefused = this._isRefused = true;
      return this._connect();
    }
    if (isFinal(why.code)) return this._stop(why);
    this._step(wasOpen, why);
  }
  /** Which transport is next, and when. */
  _step(wasOpen, why) {
    const isToldWhen = why.status || why.retry;
    const isGivenUp = !isToldWhen && (this._fails() || !wasOpen && !this._worked.has(this._at));
    if (isGivenUp) {
      this._at = (this._at + 1) % this._ladder.length;
      if (!wasOpen && this._at) return this._connect();
    } else if (isToldWhen && !wasOpen) this._at = this._home;
    this._wait(this._backoff.next(why.retry), why, why.retry);
  }
  /** Notes a failure; whether there have been too many of late. */
  _fails() {
    const now = Date.now();
    this._failures = this._failures.filter((at) => now - at < MINUTE_MS);
    if (this._failures.push(now) < FAILURES_MAX) return false;
    this._failures = [];
    return true;
  }
  /** A second connection failed, the first goes on. */
  _stay(link, why) {
    const at = this._ladder.indexOf(link._name);
    if (at < this._at) {
      if (at + 1 < this._at) this._open(at + 1);
    } else if (isFinal(why.code)) this._stop(why);
    else setTimeout(() => this._changed(), this._backoff.next(why.retry));
  }
  _wait(delay, { code = 0, message }, retry) {
    clearTimeout(this._timer);
    this.retryAt = Date.now() + delay;
    this._notBefore = retry ? this.retryAt : 0;
    const isOffline = globalThis.navigator && navigator.onLine === false;
    this._timer = setTimeout(() => this._connect(), delay);
    this._setState(isOffline ? "offline" : "waiting", { code, reason: message });
  }
  /** Something says that it may work now. */
  _hurry() {
    if (this.state != "waiting" && this.state != "offline" || this._isIdle) return;
    const delay = Math.max(this._notBefore - Date.now(), random(0, 1000));
    if (!this.retryAt || Date.now() + delay < this.retryAt) this._wait(delay, { message: "the network is back" }, this._notBefore);
  }
  _drop() {
    clearTimeout(this._timer);
    for (const link of [this._next, this._link]) if (link) link._close();
    this._link = this._next = null;
  }
  _stop(why) {
    if (this.state == "closed") return;
    this._drop();
    clearInterval(this._ticker);
    this._unwatch();
    const detail = { code: why.code || 0, reason: why.message };
    this._setState("closed", detail);
    for (const item of this._queue.splice(0)) item._reject(failure("the line is closed: " + why.message, "closed"));
    for (const record of this._channels.values()) {
      for (const subscription of record._subscriptions) subscription._end(detail);
    }
    this._channels.clear();
    this._emit("close", { ...detail, final: true });
  }
  _setState(state, { transport = null, code = 0, reason = "" }) {
    this.state = state;
    if (state != "waiting" && state != "offline") this.retryAt = null;
    this._emit("state", { state, transport, reason, code, retryAt: this.retryAt });
  }

  // What the page sees

  _watch() {
    const listened = [];
    const on = (target, type, handler) => {
      if (!target || !isFunction(target.addEventListener)) return;
      target.addEventListener(type, handler);
      listened.push(() => target.removeEventListener(type, handler));
    };
    const wake = () => (this._link ? this._check() : this._hurry());
    on(globalThis, "online", () => {
      this._probeAt = 0;
      wake();
    });
    on(globalThis, "offline", () => {
      if (this._isIdle) return;
      this._drop();
      this._wait(30000, { message: "the browser says that it is offline" });
    });
    on(globalThis, "pagehide", () => {
      if (this._isIdle) return;
      this._drop();
      this._setState("waiting", { reason: "the page is hidden for good, or kept aside" });
    });
    on(globalThis, "pageshow", (event) => event.persisted && this._hurry());
    on(globalThis.document, "visibilitychange", () => document.hidden || wake());
    on(globalThis.document, "resume", wake);
    this._unwatch = () => listened.forEach((off) => off());
    this._tickAt = Date.now();
    this._ticker = setInterval(() => this._tick(), TICK_MS);
  }
  /** Compares clocks: timers may have slept with the machine. */
  _tick() {
    const now = Date.now(), link = this._link, slept = now - this._tickAt;
    this._tickAt = now;
    if (!link) return;
    if (slept > 2 * link._interval) this._check();
    else if (now - link._stamp > link._interval + GRACE_MS) link._lost(failure("nothing heard for too long"));
    else if (this._at && now > this._probeAt && !this._next) {
      this._probeAt = now + 10 * MINUTE_MS;
      this._open(0);
    }
  }
  /** After a sleep: whether the connection still lives. */
  _check() {
    const link = this._link, stamp = link._stamp;
    if (Date.now() - stamp < link._interval) return;
    if (link._ping) link._ping();
    setTimeout(() => link._stamp == stamp && link._lost(failure("no sign of life after a sleep")), WORD_MS);
  }

  // What is remembered between pages

  _remembered() {
    try {
      return sessionStorage.getItem("holdline " + this._base);
    } catch {} // there is none, or it is forbidden
  }
  _remember(name) {
    try {
      sessionStorage.setItem("holdline " + this._base, name);
    } catch {}
  }
}

export default Holdline;
