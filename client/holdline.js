/**
 * holdline: the browser's end of a line to a holdline server. It listens to any number of channels
 * over WebSocket, Server-Sent Events or long-polling, whichever the network lets through, comes back
 * by itself, goes on where it was, and says so if something is missing.
 *
 * `Holdline`, below, owns what outlives a connection: the channels, the one position (`cursor`) that
 * resumes all of them, and the ladder of transports. A `Link` is one connection. `WsLink`, `SseLink`
 * and `PollLink` tell what comes over them in the same few words. A `Channel` is what the line knows
 * about a channel, a `Subscription` one listener to it.
 *
 * Names with a leading underscore are no interface: they are shortened when this is built.
 */

/** How long a transport may be silent before its first word; twice as long in each further round of all. */
const WORD_MS = 5000;
/** Who lasted this long was no failure: what comes after begins anew. */
const STEADY_MS = 10000;
/** Silence beyond the server's own interval, after which a connection counts as dead. */
const GRACE_MS = 10000;
/** After so many failures, none of them after a steady connection, a transport that has worked is left for the next. */
const FAILURES_MAX = 3;
const MINUTE_MS = 60000;
/** How long the answer to a POST may take, or a token. */
const POST_MS = 30000;
/** What the server said is waited for, but not longer; timers overflow beyond 24 days. */
const WAIT_MS_MAX = 3600000;
/** Channels that are asked for within this time are asked for together: some transports must reopen for them. */
const SETTLE_MS = 20;
const TICK_MS = 5000;
const QUEUE_MAX = 100;
/** So many messages wait for a loop that does not take them. */
const BUFFER_MAX = 10000;
/** What the server takes on a connection. */
const CHANNELS_MAX = 128;
const BYTES = "application/octet-stream";
/** A page of a foreign origin is not told what the server answered. */
const UNREACHABLE = "unreachable, or origin not allowed";

const random = (high) => Math.random() * high;

const now = () => Date.now();

/** The order of two positions, as a number; of different logs there is none (NaN). */
export function compare(a, b) {
  const [epoch, seq] = a.split("-"), [other, than] = b.split("-");
  // A double would not hold them all.
  return epoch != other ? NaN : Number(BigInt(seq) - BigInt(than));
}

/**
 * Full jitter: a random time up to a bound that doubles with each attempt, and never less than the server
 * asked for. Attempt -1 is the first after a connection that was steady: it may come soon.
 */
export function delay(attempt, least = 0) {
  const own = attempt < 0 ? 100 + random(1400) : random(Math.min(30000, 1000 * 2 ** attempt));
  return Math.min(WAIT_MS_MAX, Math.max(100, own, least * (1 + random(0.5))));
}

/**
 * A parser of event streams as this server writes them: lines end in LF (or CR LF), and a block has one line of data,
 * or none: its id counts all the same. Takes text in any pieces, tells each block's fields. One that is cut off is
 * never told.
 */
export function parser(onBlock) {
  let rest = "", block = {};
  return (text) => {
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      const [, name, value] = /^(\w+): ?(.*)/s.exec(line) || [];
      if (name) block[name] = value;
      if (!line) {
        onBlock(block);
        block = {};
      }
    }
  };
}

/** What went wrong. `code`: that of a WebSocket's end, or 4000 and the HTTP status, or a word. */
const failure = (reason, code = 0, retry, word) => Object.assign(new Error(reason), { code, retry, word });

/** What is thrown here: one word tells all. */
const refused = (code) => failure(code, code);
const lost = () => refused("lost");
const garbled = () => failure("not understood");
const timeout = () => failure("timeout");
const farewell = (retry) => failure("restart", 1012, retry);

/** An HTTP answer that is an error; `word` is the server's name for it. */
async function refusal(response) {
  const { status } = response, { error: word, message } = await response.json().catch(() => ({}));
  const retry = response.headers.get("retry-after") * 1000 || 0;
  return failure(message || "status " + status, 4000 + status, retry, word);
}

/** What a publisher is told. */
const named = (error) => (error.code = error.word || error.code) ? error : lost();

/** Whether it is no use to come back. After 4401 it is, once, with another token. */
const isFinal = (code) => /^(10(0[23789]|10)|4(204|501|505|4(?!08|09|14|25|29)\d\d))$/.test(code);
/** Whether it is for a channel, perhaps not for all of them. */
const isPartly = ({ word }) => /_channel|_since|forbidden/.test(word);

const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));

/** The payload's field of a publication. */
function payload(data) {
  if (typeof data == "string") return { text: data };
  if (data instanceof ArrayBuffer) data = new Uint8Array(data);
  if (!ArrayBuffer.isView(data)) return { data };
  return { b64: base64(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)), type: BYTES };
}

/** The payload of a message and its media type. Bytes that happen to be text are sent as text. */
function content({ data, text, b64, type }) {
  if (b64 != null) return [Uint8Array.from(atob(b64), (char) => char.charCodeAt(0)), type || BYTES];
  if (text == null) return [data, type || "application/json"];
  return [type == BYTES ? new TextEncoder().encode(text) : text, type || "text/plain"];
}

/** An EventTarget with `on…` properties, whose events carry their fields, and all of them as `detail`. */
class Target extends EventTarget {
  _emit(type, detail, event = new Event(type)) {
    const handler = this["on" + type];
    // As a listener, so that what it throws is reported and stops nothing.
    if (handler) this.addEventListener(type, handler, { once: true });
    this.dispatchEvent(Object.assign(event, detail, { detail }));
  }
  _emitMessage(message) {
    const { channel, id: lastEventId, event = "", time } = message, [data, contentType] = content(message);
    this._emit("message", { channel, event, time, contentType }, new MessageEvent("message", { data, lastEventId }));
  }
}

class Subscription extends Target {
  constructor(line, channel) {
    super();
    this._line = line;
    this.channel = channel;
    this.state = "pending";
  }
  close() {
    this._end({ code: 1000, reason: "closed" });
    this._line._leave(this);
  }
  _live() {
    if (this.state != "pending") return;
    this.state = "live";
    this._emit("live", { channel: this.channel });
  }
  _end(detail) {
    if (this.state == "closed") return;
    this.state = "closed";
    this._emit("close", { ...detail, final: true });
  }
  async *[Symbol.asyncIterator]() {
    const events = [], max = this._line._bufferMax, stop = new AbortController(); // its signal ends both listeners
    let wake;
    this.addEventListener("message", (event) => {
      if (events.push(event) > max) stop.abort();
      wake?.();
    }, stop);
    this.addEventListener("close", () => wake?.(), stop);
    try {
      for (;;) {
        if (events.length > max) throw failure(`more than ${max} messages were not read`, "overflow");
        if (events[0]) yield events.shift();
        else if (this.state == "closed") return;
        else await new Promise((resolve) => (wake = resolve));
      }
    } finally {
      stop.abort();
    }
  }
}

/** One for each name, as long as anyone listens. `_last` is the newest message that was told: what is not newer is a copy. */
class Channel {
  constructor(name, since, gap) {
    this._name = name;
    this._gap = gap;
    this._subscriptions = new Set();
    /** Until a connection has taken it over it begins at `_since`, then with all others at the cursor. */
    this._isPending = true;
    this._since = since;
  }
  /** Who listens now: while they are told, others may come. */
  _each(tell) {
    [...this._subscriptions].forEach((target) => target.state == "closed" || tell(target));
  }
  _end(detail) {
    this._each((target) => target._end(detail));
    this._subscriptions.clear();
  }
}

const byName = (records) => new Map(records.map((record) => [record._name, record]));

/** Records by where and how they begin. */
function grouped(records) {
  const groups = new Map();
  for (const record of records) {
    const key = [record._since, record._gap, record._alone].join();
    groups.set(key, [...(groups.get(key) || []), record]);
  }
  return [...groups.values()];
}

/** One connection, from the attempt to its end. It ends once: by `_close` here, or as `_lost` there. */
class Link {
  constructor(line, name) {
    this._line = line;
    this._name = name;
    /** What it carries, by name. */
    this._channels = new Map();
    this._abort = new AbortController();
    this._interval = (line._heartbeat || 15) * 1000;
    this._expect(POST_MS, failure("no token", "token"));
    line._credential()
      .then((token) => {
        if (this._isDone) return;
        this._token = token;
        this._expect(Math.min(30000, WORD_MS * 2 ** line._rounds), timeout());
        return this._start();
      })
      .catch((error) => this._lost(error));
  }
  _heard() {
    this._stamp = now();
  }
  /** Gives up when nothing is heard before the first word. Bytes are something: a slow line is none that is cut. */
  _expect(patience, why) {
    clearInterval(this._timer);
    this._heard();
    this._timer = setInterval(() => now() - this._stamp < patience || this._lost(why), 200);
  }
  /** The first word: this transport works. */
  _word() {
    if (this._isDone || this._line._link == this) return;
    clearInterval(this._timer);
    this._line._opened(this);
  }
  /** What means the same on each transport. */
  _tell(op, message) {
    const line = this._line;
    if (op == "message") line._message(this._channels, message);
    if (op == "gap") line._gap(this._channels, message);
    if (op == "bye") this._farewell = farewell(message.retry_ms);
  }
  /** A position from which all that it carries goes on. */
  _reach(cursor) {
    if (!this._isPast) this._line._cursor = cursor;
    for (const record of this._channels.values()) {
      if (this._isPast) record._since = cursor;
      else record._isPending = false;
    }
  }
  _close() {
    this._isDone = true;
    clearInterval(this._timer);
    this._abort.abort();
  }
  _lost(why) {
    if (this._isDone) return;
    // What is no failure of ours comes from words that could not be read.
    if (!("word" in why)) why = garbled();
    this._close(why);
    this._line._lost(this, why);
  }
}

/**
 * What streams and polls share: HTTP, and one position for all channels. `_carry` tells what comes after a position; while
 * `_isPast`, for some channels, only what is kept, and then returns the position that they reached.
 */
class HttpLink extends Link {
  async _start() {
    const line = this._line;
    try {
      await this._run();
    } catch (error) {
      if (!isPartly(error) || line._link == this) throw error;
      // Those that are refused are found, and left out.
      for (const record of [...line._channels.values()]) {
        this._channels = byName([record]);
        try {
          (await this._get(record._isPending && record._since, 0)).body.cancel();
        } catch (error) {
          if (!isPartly(error)) throw error;
          line._refuse(record, error);
        }
      }
      await this._run();
    }
  }
  /** Channels that begin in different places, or ways, are brought up to now; all go on from the oldest position. */
  async _run() {
    const line = this._line, channels = new Map(line._channels), records = [...channels.values()];
    if (!records[0]) return line._idle(); // closed meanwhile, or refused
    for (const record of records) if (!record._isPending) record._since = line._cursor;
    const groups = grouped(records);
    let since;
    this._isPast = true;
    for (const group of groups) {
      let [{ _since: reached }] = group;
      this._channels = byName(group);
      if (groups[1]) reached = await this._carry(reached);
      if (!since || compare(since, reached) > 0) since = reached;
    }
    this._isPast = false;
    this._channels = channels;
    await this._carry(since);
  }
  async _ask(path, since) {
    const records = [...this._channels.values()];
    for (const record of records) path += "&channel=" + encodeURIComponent(record._name);
    if (since) path += "&since=" + encodeURIComponent(since);
    if (records.every((record) => record._gap == "live")) path += "&gap=live";
    const response = await this._line._fetch(path, this._token, { signal: this._abort.signal });
    this._heard();
    if (response.status != 200) throw await refusal(response);
    return response;
  }
  async *_read({ body }) {
    const reader = body.getReader(), decoder = new TextDecoder();
    try {
      for (;;) {
        const { done, value } = await reader.read().catch(() => { throw failure("cut"); });
        this._heard();
        if (done) return;
        yield decoder.decode(value, { stream: true });
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }
  /** All that is kept has been told. */
  _live(cursor) {
    for (const record of this._channels.values()) this._line._live(record, cursor, this._isPast);
    return this._isPast && cursor;
  }
}

class SseLink extends HttpLink {
  _get(since) {
    return this._ask("events?v=1&heartbeat=" + (this._line._heartbeat || 15), since);
  }
  async _carry(since) {
    let retry, reached;
    const push = parser(({ event, data, id, retry: ms }) => {
      if (this._isDone || reached) return;
      retry = +ms || retry;
      // Each stream begins with it, and no portal's page has it.
      if (ms && !this._isPast) this._word();
      // The block before a gap has none: until the gap has come too, this would come back to where it was.
      if (id) this._reach(id);
      if (data) this._tell(event, JSON.parse(data));
      // A position alone follows what is kept. So is the first block's, unless there is something to catch up with.
      else if (id && !(ms && since)) reached = this._live(id);
    });
    for await (const text of this._read(await this._get(since))) {
      push(text);
      if (reached) return reached;
    }
    throw this._farewell || failure("cut", 0, retry);
  }
}

class PollLink extends HttpLink {
  _get(since, wait) {
    return this._ask("poll?v=1&wait=" + wait, since);
  }
  async _carry(since) {
    const held = Math.min(this._line._heartbeat || 25, 55);
    this._interval = held * 1000;
    // The first answer comes at once: it shows that this works.
    for (let wait = 0, at = 0; ; ) {
      let text = "";
      for await (const piece of this._read(await this._get(since, wait))) text += piece;
      const { cursor, more, gap, messages, retry_ms } = JSON.parse(text);
      if (!this._isPast) this._word();
      for (const each of gap || []) this._tell("gap", each);
      for (const each of messages) {
        if (this._isDone) throw 0; // a listener may close the line
        this._reach(each.id);
        this._tell("message", each);
      }
      if (this._isDone) throw 0;
      this._reach(since = cursor);
      if (!more && this._live(cursor)) return cursor;
      if (retry_ms) throw farewell(retry_ms);
      if (now() - at < 1000 && !messages[0]) throw failure("not held");
      at = more ? 0 : now();
      wait = more ? 0 : held;
    }
  }
}

class WsLink extends Link {
  async _start() {
    const line = this._line, protocols = ["holdline.v1.json"], { _token: token } = this;
    // Where a browser can put a token: a handshake has no other header that a page may set.
    if (token) {
      const text = base64(new TextEncoder().encode(token));
      protocols.push("holdline.bearer." + text.replace(/[=+/]/g, (char) => ({ "+": "-", "/": "_" })[char] || ""));
    }
    const url = line._base.replace("http", "ws") + "ws" + (line._heartbeat ? "?heartbeat=" + line._heartbeat : "");
    const socket = this._socket = new line._WebSocket(url, protocols);
    /** Commands that wait for an answer, by `ref`: lists of channels, or publications. */
    this._asked = new Map();
    /** The channels that were asked for. */
    this._sent = new Map();
    this._ref = 0;
    // A close follows, in browsers in the same turn; in Node 20 none does if there was no connection.
    const end = ({ code, reason }) => this._lost(this._farewell || failure(reason || (this._bytesMax ? "cut" : UNREACHABLE), code));
    socket.onerror = () => setTimeout(end, 0, {});
    socket.onclose = end;
    socket.onmessage = ({ data }) => {
      if (this._isDone) return;
      this._heard();
      try {
        this._take(JSON.parse(data));
      } catch (error) {
        this._lost(error);
      }
    };
  }
  _take(message) {
    const line = this._line, { op, ref, id, channel, cursor, subscribers } = message, asked = this._asked.get(ref);
    if (op == "hello") {
      this._interval = message.heartbeat_ms;
      this._bytesMax = message.message_bytes_max;
      // Its position is that of the others: nothing has been told here.
      this._sync();
      return this._word();
    }
    // It holds for all channels whose ok has come. Those that are replayed later than others have a cursor beside the id.
    if (cursor || op == "message") this._reach(cursor || id);
    this._tell(op, message);
    if (op == "error") this._refused(message, asked);
    if (op == "unsubscribed") line._refuse(this._channels.get(channel), failure("ended", message.code));
    if (op == "ok" && asked) {
      if (asked._resolve) asked._resolve({ id, subscribers });
      else this._channels.set(channel, asked.get(channel));
      if (!asked.delete?.(channel) || !asked.size) this._asked.delete(ref);
    }
    if (op == "live") line._live(this._channels.get(channel), cursor);
  }
  _refused({ ref, code, message, retry_ms: retry }, asked) {
    const line = this._line, error = failure(message, code, retry, code);
    this._asked.delete(ref);
    if (!asked) {
      // What could not be given up would be sent on: a new connection begins without it.
      if (ref) this._lost(failure(message, 0, retry));
      else line._emit("error", { code, reason: message });
    } else if (asked._reject) asked._reject(error);
    else if (code == "unauthorized") this._lost(failure(message, 4401));
    else if (retry || asked.size > 1) {
      setTimeout(() => {
        for (const [name, record] of asked) {
          if (this._sent.get(name) == record) this._sent.delete(name);
          record._alone = retry ? null : name; // one is refused, not all
        }
        this._sync();
      }, retry && delay(0, retry));
    } else asked.forEach((record) => line._refuse(record, error));
  }
  /** Asks for what is wanted and not asked for, and gives up what is no longer wanted. */
  _sync() {
    if (this._isDone) return;
    const line = this._line, gone = [], wanted = line._channels;
    for (const [name, record] of this._sent) {
      if (wanted.get(name) == record) continue;
      gone.push(name);
      this._sent.delete(name);
      this._channels.delete(name);
    }
    if (gone.length) this._command("unsubscribe", JSON.stringify({ channels: gone }));
    const records = [];
    for (const [name, record] of wanted) {
      if (this._sent.has(name)) continue;
      if (!record._isPending) record._since = line._cursor;
      record._isPending = true;
      records.push(record);
    }
    // In one command, so that they are replayed in one order.
    for (const group of grouped(records)) {
      const [{ _since: since, _gap: gap }] = group, channels = group.map((record) => record._name);
      for (const record of group) {
        record._alone = null;
        this._sent.set(record._name, record);
      }
      this._command("subscribe", JSON.stringify({ channels, since: since || undefined, gap }), byName(group));
    }
  }
  _publish(text) {
    return new Promise((_resolve, _reject) => this._command("publish", text, { _resolve, _reject }));
  }
  _command(op, fields, asked) {
    this._ref++;
    if (asked) this._asked.set(this._ref, asked);
    this._socket.send(`{"op":"${op}","ref":${this._ref},${fields.slice(1)}`);
  }
  _ping() {
    this._socket.send('{"op":"ping"}');
  }
  _close(why) {
    super._close();
    this._socket?.close(1000);
    // What the server cannot read it neither publishes nor answers: it ends the connection.
    this._asked?.forEach(({ _reject }) => _reject?.(why?.code == 4400 ? why : lost()));
  }
}

const LINKS = { ws: WsLink, sse: SseLink, poll: PollLink };

export class Holdline extends Target {
  constructor(url = ".", options = {}) {
    super();
    const { origin, pathname } = new URL(url, globalThis.document?.baseURI || globalThis.location || "file:");
    this._base = (origin + pathname).replace(/^ws/, "http").replace(/\/*$/, "/");
    // A host and a port alone would be a path, or a scheme.
    if (/^[^/]*:\d/.test(url) || !/^http/.test(this._base)) throw new TypeError("begin with http:// or https://, not " + url);
    this._WebSocket = options.WebSocket || globalThis.WebSocket;
    this._fetcher = options.fetch || fetch;
    this._token = options.token;
    this._since = options.since;
    this._gapDefault = options.gap;
    this._heartbeat = options.heartbeat;
    this._queueMax = Math.min(options.queue || 0, QUEUE_MAX);
    this._bufferMax = options.buffer || BUFFER_MAX;
    const names = options.transports || Object.keys(LINKS);
    this._ladder = names.filter((name) => name != "ws" || this._WebSocket);
    if (!this._ladder[0] || !names.every((name) => LINKS[name])) throw new TypeError("no such transport: " + names);
    this._cursor = /-/.test(this._since) ? this._since : null;
    this.state = "connecting";
    this.retryAt = null;
    this._channels = new Map();
    this._queue = [];
    this._attempt = this._rounds = 0;
    this._failures = {};
    this._why = {};
    this._worked = {};
    this._at = this._home = Math.max(0, this._ladder.indexOf(this._memory()));
    this._watch();
    this._timer = setTimeout(() => this._connect());
  }

  get transport() {
    return this._link?._name || null;
  }
  get readyState() {
    return ["open", "closed"].indexOf(this.state) + 1;
  }
  get cursor() {
    let cursor = this._cursor;
    // What has not caught up goes on from an earlier place, or from one that cannot be compared.
    for (const { _isPending, _since } of this._channels.values()) {
      const isOther = cursor && _isPending && _since && _since != cursor && cursor != "earliest";
      if (isOther && !(compare(_since, cursor) >= 0)) cursor = _since;
    }
    return cursor;
  }

  subscribe(name, { since = this._since, gap = this._gapDefault } = {}) {
    if (this.state == "closed") throw refused("closed");
    if (since == "latest") since = undefined;
    const subscription = new Subscription(this, name);
    let record = this._channels.get(name);
    if (!record) {
      if (this._channels.size == CHANNELS_MAX) throw refused("too_many");
      this._channels.set(name, record = new Channel(name, since, gap));
      this._changed();
    }
    record._subscriptions.add(subscription);
    if (record._isLive) queueMicrotask(() => subscription._live());
    return subscription;
  }

  async publish(channel, data, { idempotencyKey: key, ...options } = {}) {
    if (this._queueMax && !key) key = random(1) + "-" + random(1);
    // Now: the caller may change it later.
    const text = JSON.stringify({ ...payload(data), ...options, channel, idempotency_key: key });
    if (this.state == "closed") throw refused("closed");
    if (!this._queueMax) return this._publish(text).catch((error) => { throw named(error); });
    if (this._queue.length == this._queueMax) throw refused("queue_full");
    return new Promise((_resolve, _reject) => {
      this._queue.push({ _text: text, _resolve, _reject });
      this._flush();
    });
  }

  close() {
    this._stop(failure("closed", 1000));
  }

  // ---- publishing

  /** On the WebSocket if there is one and it fits, else by POST. */
  _publish(text) {
    const link = this._link;
    // A frame has a limit for all of it, a POST only for its payload. A character has up to 3 bytes.
    if (text.length * 3 < link?._bytesMax) return link._publish(text);
    const stop = new AbortController(), since = now();
    return new Promise((resolve, reject) => {
      const timer = setInterval(() => {
        if (this.state != "closed" && now() - since < POST_MS) return;
        reject(lost());
        stop.abort();
      }, 200);
      this._post(text, stop.signal).then(resolve, reject).finally(() => clearInterval(timer));
    });
  }
  async _post(text, signal, isSecond) {
    const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: text, signal };
    const response = await this._fetch("publish", await this._credential(), init);
    if (response.status == 401 && this._token?.call && !isSecond) {
      this._isRefused = true;
      return this._post(text, signal, true);
    }
    if (!response.ok) throw await refusal(response);
    const { id, subscribers } = await response.json();
    return { id, subscribers };
  }
  /** One after the other, so that they keep their order. What the server did not settle is sent again. */
  async _flush() {
    if (this._isFlushing) return;
    this._isFlushing = true;
    let attempt = 0;
    while ((this.state == "open" || this._isIdle) && this._queue.length) {
      const [item] = this._queue;
      try {
        item._resolve(await this._publish(item._text));
      } catch (error) {
        if (error.word ? error.retry : !isFinal(error.code)) {
          await new Promise((resolve) => setTimeout(resolve, delay(attempt++, error.retry)));
          continue;
        }
        item._reject(named(error));
      }
      attempt = 0;
      this._queue.shift();
    }
    this._isFlushing = false;
  }

  // ---- what connections need

  async _credential() {
    const isRefused = !!this._isRefused;
    this._isRefused = false;
    if (!this._token?.call) return this._token;
    try {
      return await this._token(isRefused);
    } catch (error) {
      throw failure(error?.message || "no token", "token");
    }
  }
  async _fetch(path, token, init) {
    const fetcher = this._fetcher;
    if (token) init.headers = { ...init.headers, Authorization: "Bearer " + token };
    try {
      return await fetcher(this._base + path, { cache: "no-store", ...init });
    } catch {
      throw failure(UNREACHABLE);
    }
  }

  // ---- what connections tell

  _message(channels, message) {
    const { channel, id } = message, record = channels.get(channel);
    // Closed meanwhile, or a copy.
    if (!record?._subscriptions.size || record._last && compare(id, record._last) <= 0) return;
    record._last = id;
    record._each((target) => target._emitMessage(message));
    this._emitMessage(message);
  }
  _gap(channels, { op, ...detail }) {
    for (const name of detail.channels) channels.get(name)?._each((target) => target._emit("gap", detail));
    this._emit("gap", detail);
  }
  /** All up to a position has been told, or is not for who listens from now on; `isPast`: what follows is yet to come. */
  _live(record, cursor, isPast) {
    if (!record?._subscriptions.size) return;
    if (!(record._last && compare(record._last, cursor) > 0)) record._last = cursor;
    if (isPast || record._isLive) return;
    record._isLive = true;
    record._each((target) => target._live());
    this._emit("live", { channel: record._name });
  }
  /** A channel may not be listened to; the others go on. */
  _refuse(record, { message: reason, code, word }) {
    if (!record || this._channels.get(record._name) != record) return;
    this._channels.delete(record._name);
    const detail = { channel: record._name, code: word || code, reason };
    record._end(detail);
    this._emit("error", detail);
    this._changed();
  }
  _leave(subscription) {
    const record = this._channels.get(subscription.channel);
    if (!record?._subscriptions.delete(subscription) || record._subscriptions.size) return;
    this._channels.delete(subscription.channel);
    this._changed();
  }
  /** The channels are others: told on a WebSocket; else a new connection is opened before the old one ends. */
  _changed() {
    clearTimeout(this._change);
    this._change = setTimeout(() => {
      const link = this._link;
      if (!link) {
        if (this._isIdle) this._connect();
      } else if (link._sync) link._sync();
      else if (!this._channels.size) this._idle();
      else if (!this._next && !this._isCarried(link)) this._open(this._at);
    }, SETTLE_MS);
  }
  _isCarried({ _channels: carried }) {
    return carried.size == this._channels.size && [...this._channels].every(([name, record]) => carried.get(name) == record);
  }

  // ---- the ladder

  _connect() {
    clearTimeout(this._timer);
    if (this._next) return;
    const transport = this._ladder[this._at];
    if (transport != "ws" && !this._channels.size) return this._idle();
    this._isIdle = false;
    this._turn("connecting", { transport });
    if (this.state == "connecting") this._open(this._at); // a listener may close the line
  }
  _open(at) {
    const name = this._ladder[at];
    this._next = new LINKS[name](this, name);
  }
  _opened(link) {
    const old = this._link, transport = link._name;
    this._link = link;
    this._next = null;
    old?._close();
    this._at = this._home = this._ladder.indexOf(transport);
    this._worked[this._at] = true;
    this._memory(transport);
    if (old?._name != transport) {
      this._openedAt = now();
      this._probeAt = now() + MINUTE_MS; // perhaps the server was only being restarted; then every ten
      this._turn("open", { transport });
      if (this.state == "open") this._emit("open", { transport });
    }
    this._changed(); // since it began
    this._flush();
  }
  _lost(link, why) {
    const wasOpen = link == this._link, at = this._ladder.indexOf(link._name);
    if (wasOpen) {
      this._settle();
      this._link = null;
    } else if (link == this._next) this._next = null;
    else return;
    if (!this._link && this._next) this._turn("connecting", { transport: this._next._name });
    else if (why.code == 4401 && this._token?.call && !(now() - this._refusedAt < STEADY_MS)) {
      this._refusedAt = now();
      this._isRefused = true;
      if (this._link) this._open(at);
      else this._connect();
    } else if (this._link) this._stay(at, why);
    // It may be for one channel, or for one publication: the next connection will show.
    else if (isFinal(why.code) && !(wasOpen && (why.code == 4400 || isPartly(why)))) this._stop(why);
    else this._step(wasOpen, why);
  }
  /** Which transport is next, and when. */
  _step(wasOpen, why) {
    const at = this._at;
    // A restart, or a token that is not to be had, is no fault of the transport.
    const isFault = why.code != 1012 && why.code != "token";
    this._failures[at] = (this._failures[at] || 0) + isFault;
    if (this._failures[at] >= FAILURES_MAX || isFault && !wasOpen && !why.retry && !this._worked[at]) {
      this._failures[at] = 0;
      this._at = (at + 1) % this._ladder.length;
      if (!this._at) this._rounds++;
      else if (!wasOpen && !(why.code > 4000)) return this._connect();
    } else if (!wasOpen) this._at = this._home;
    this._wait(delay(this._attempt++, why.retry), why);
  }
  /** A second connection failed, the first goes on. */
  _stay(at, why) {
    if (at < this._at) {
      if (at + 1 < this._at) this._open(at + 1); // a better one was tried: perhaps the next
      else this._changed();
    } else if (why.code == 4401) this._stop(why);
    else setTimeout(() => this._changed(), delay(this._attempt++, why.retry));
  }
  _wait(ms, why) {
    clearTimeout(this._timer);
    this._why = why;
    this._timer = setTimeout(() => this._connect(), ms);
    this._turn(globalThis.navigator?.onLine === false ? "offline" : "waiting", why, Math.ceil(now() + ms));
  }
  /** Something says that it may work now. Only what the server asked for is waited for all the same. */
  _hurry() {
    if (this._link || this._next || this._isIdle || this._why.retry) return;
    // Once: whoever draws again and again draws a small number.
    if ((this.retryAt || Infinity) - now() > 1000) this._wait(random(1000), this._why);
  }
  /** After a steady connection all begins anew. */
  _settle() {
    if (!this._link || now() - this._openedAt < STEADY_MS) return;
    this._attempt = -1;
    this._failures = {};
    this._rounds = 0;
  }
  _drop() {
    clearTimeout(this._timer);
    this._settle();
    this._next?._close();
    this._link?._close();
    this._link = this._next = null;
  }
  /** Does nothing before it is woken. */
  _rest(message) {
    this._drop();
    this._turn("waiting", this._why = { message });
  }
  _idle() {
    this._isIdle = true;
    this._rest("idle");
    this._flush();
  }
  _stop(why) {
    if (this.state == "closed") return;
    this._drop();
    clearInterval(this._ticker);
    this._watching.abort();
    this._cursor = this.cursor;
    this._turn("closed", why);
    const detail = { code: why.code, reason: why.message };
    for (const { _reject } of this._queue.splice(0)) _reject(refused("closed"));
    this._channels.forEach((record) => record._end(detail));
    this._channels.clear();
    this._emit("close", { ...detail, final: true });
  }
  _turn(state, { transport = null, code = 0, message: reason = "" }, retryAt = null) {
    if (this.state == "closed") return;
    this.state = state;
    this.retryAt = retryAt;
    if (state != "open") {
      this._channels.forEach((record) => {
        record._isLive = false;
        record._each((target) => target.state = "pending");
      });
    }
    this._emit("state", { state, transport, reason, code, retryAt });
  }

  // ---- what the page sees

  _watch() {
    const { document } = globalThis;
    this._watching = new AbortController(); // its signal ends all listeners
    const on = (target, type, listener) => target?.addEventListener?.(type, listener, this._watching);
    const wake = () => {
      if (document?.hidden) return;
      this._hurry();
      this._check();
    };
    on(globalThis, "online", () => {
      this._probeAt = 0;
      wake();
    });
    on(document, "visibilitychange", wake);
    on(document, "resume", wake);
    on(globalThis, "pageshow", wake);
    on(globalThis, "pagehide", () => this._rest("hidden"));
    on(globalThis, "offline", () => {
      this._drop();
      this._wait(30000, failure("offline"));
    });
    this._tickAt = now();
    this._ticker = setInterval(() => this._tick(), TICK_MS);
  }
  /** Compares clocks: timers sleep with the machine, and in hidden pages. */
  _tick() {
    const time = now(), link = this._link, passed = time - this._tickAt;
    this._tickAt = time;
    if (!link) return;
    if (passed > 2 * link._interval) this._check();
    else if (time - link._stamp > link._interval + GRACE_MS) link._lost(timeout());
    else if (this._at && time > this._probeAt && !this._next) {
      this._probeAt = time + 10 * MINUTE_MS;
      this._open(0);
    }
  }
  /** Whether a connection that has been silent still lives: it has a moment to say something. */
  _check() {
    const link = this._link, stamp = link?._stamp;
    if (!link || now() - stamp < link._interval) return;
    link._ping?.();
    setTimeout(() => link._stamp == stamp && link._lost(timeout()), WORD_MS);
  }
  /** The transport that worked on this tab's last page; sets it if there is one to set. */
  _memory(transport) {
    const key = "holdline " + this._base;
    try {
      if (transport && this._ladder[1]) sessionStorage[key] = transport;
      return sessionStorage[key];
    } catch {} // there is none here, or it is forbidden
  }
}

export default Holdline;
