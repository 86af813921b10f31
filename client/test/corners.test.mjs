// Where something could be lost, where a line could end or stand still for good, and where it could make a storm.
import assert from "node:assert/strict";
import test from "node:test";
import { compare, Holdline } from "../holdline.js";
import { answers, event, proxy, publish, record, serve, sockets, until, PATIENCE } from "./lib.mjs";

const group = (name, tests) => test(name, { concurrency: true }, (t) => Promise.all(Object.entries(tests).map(([name, body]) => t.test(name, { timeout: PATIENCE }, body))));
const WAYS = ["ws", "sse", "poll"];
const begin = (t, base, options) => {
  const line = new Holdline(base, options);
  t.after(() => line.close());
  return [line, record(line)];
};
const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const commands = (socket, name) => socket?.sent.filter(({ op }) => op == name) || [];
const first = async (made, n, count = 1) => (await until(() => commands(made[n], "subscribe").length >= count && commands(made[n], "subscribe"), "a subscribe"))[count - 1];
// With `since` the end of what is kept is told.
const stream = (response) => response.writeHead(200, { "Content-Type": "text/event-stream" })
  .write("retry: 2000\nid: e-1\n\n" + (/since=/.test(response.req.url) ? ": heartbeat\nid: e-1\n\n" : ""));
const emptyPoll = '{"cursor":"e-1","more":false,"gap":null,"messages":[]}';
const refuse = (response) => response.writeHead(401, { "Content-Type": "application/json" }).end('{"error":"unauthorized","message":"no"}');

group("nothing is lost", {
  async "ws: a replay that is cut goes on from where it was, for all that were replayed together"(t) {
    const { WebSocket, made } = sockets((socket) => socket.hello());
    const [line] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"], since: "earliest" });
    line.subscribe("a");
    line.subscribe("b");
    const { ref } = await first(made, 0);
    made[0].tell({ op: "ok", ref, channel: "a", recovered: true }, { op: "ok", ref, channel: "b", recovered: true },
      { op: "message", channel: "a", id: "e-1", text: "1" }, { op: "message", channel: "b", id: "e-2", text: "2" });
    made[0].end(1006);
    const again = await first(made, 1);
    assert.deepEqual([again.channels, again.since], [["a", "b"], "e-2"]);
  },

  async "ws: of a group that is refused, only who is still there is asked for again"(t) {
    const { WebSocket, made } = sockets((socket) => socket.hello());
    const [line] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] });
    const old = line.subscribe("a"), told = [];
    line.subscribe("b");
    const { ref } = await first(made, 0);
    old.close();
    const sub = line.subscribe("a");
    sub.onmessage = ({ data }) => told.push(data);
    const second = await first(made, 0, 2);
    made[0].tell({ op: "error", ref, code: "bad_channel", message: "no" });
    const third = await first(made, 0, 3);
    made[0].tell({ op: "ok", ref: second.ref, channel: "a" }, { op: "live", channel: "a", cursor: "e-1" }, { op: "message", channel: "a", id: "e-2", text: "2" });
    assert.deepEqual([second.channels, third.channels, told, sub.state], [["a"], ["b"], ["2"], "live"]);
    assert.equal(commands(made[0], "subscribe").length, 3);
  },

  async "ws: of a group that is put off, only who is still there is asked for again"(t) {
    const { WebSocket, made } = sockets((socket) => socket.hello());
    const [line] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] });
    const old = line.subscribe("a");
    const { ref } = await first(made, 0);
    made[0].tell({ op: "error", ref, code: "rate_limited", message: "slowly", retry_ms: 150 });
    old.close();
    line.subscribe("a");
    await first(made, 0, 2);
    await rest(400);
    assert.equal(commands(made[0], "subscribe").length, 2);
  },

  async "ws: a channel that could not be given up is given up with the connection"(t) {
    const { WebSocket, made } = sockets((socket, n) => {
      socket.onsend = ({ op, ref, channels }) => {
        if (op == "subscribe") socket.tell({ op: "ok", ref, channel: channels[0] }, { op: "live", channel: channels[0], cursor: "e-1" });
        else socket.tell({ op: "error", ref, code: "rate_limited", message: "slowly", retry_ms: 300 });
      };
      socket.hello();
    });
    const [line, log] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] }), sub = line.subscribe("a");
    await event(sub, "live");
    sub.close();
    await until(() => log.states.some(({ state }) => state == "waiting"), "the end of the connection");
    line.subscribe("a", { since: "earliest" });
    const again = await first(made, 1);
    assert.equal(again.since, "earliest");
    assert.ok(made[1].at - made[0].at >= 300, "when it was told");
    assert.equal(log.errors.length, 0);
  },

  async "the position is that of the last message that was told, also when a listener closes the line"(t) {
    const { base } = await serve(t);
    for (let n = 0; n < 5; n++) await publish(base, "a", String(n));
    for (const transport of WAYS) {
      const [line] = begin(t, base, { transports: [transport], since: "earliest" });
      let id;
      line.subscribe("a").onmessage = ({ lastEventId }) => {
        id = lastEventId;
        line.close();
      };
      await until(() => line.state == "closed", "the end");
      await rest(50);
      // On sse and poll a replay has none before its end.
      assert.ok(line.cursor == id || transport != "ws" && line.cursor == null, `${transport}: ${line.cursor}`);
    }
    const { base: polls } = await answers(t, (request, response, n) => response.end(n == 1 ? emptyPoll : JSON.stringify({
      cursor: "e-4", more: false, gap: null, messages: [2, 3, 4].map((n) => ({ channel: "a", id: "e-" + n, text: "" + n })),
    })));
    const [line] = begin(t, polls, { transports: ["poll"] });
    line.subscribe("a").onmessage = () => line.close();
    await until(() => line.state == "closed", "the end");
    await rest(50);
    assert.equal(line.cursor, "e-2");
  },

  async "ws: there is no position before something was told"(t) {
    const { WebSocket, made } = sockets((socket) => socket.hello({ cursor: "e-9" }));
    const [line] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] });
    line.subscribe("a", { since: "earliest" });
    const { ref } = await first(made, 0);
    assert.equal(line.cursor, null);
    made[0].tell({ op: "ok", ref, channel: "a", recovered: true }, { op: "message", channel: "a", id: "e-1", text: "1" });
    assert.equal(line.cursor, "e-1");
  },

  async "live comes after the replay, however long it is"(t) {
    const { base } = await serve(t);
    for (let n = 0; n < 150; n++) await publish(base, "a", String(n));
    for (const transport of WAYS) {
      const [line, log] = begin(t, base, { transports: [transport] });
      await event(line.subscribe("a", { since: "earliest" }), "live");
      assert.equal(log.messages.length, 150, transport);
    }
  },

  async "live comes after what was missed, however long it is, when the line comes back"(t) {
    const { base } = await serve(t);
    for (const transport of WAYS) {
      const way = await proxy(t, +new URL(base).port), [line] = begin(t, way.base, { transports: [transport] });
      const sub = line.subscribe(transport), told = [];
      await event(sub, "live");
      sub.onmessage = ({ data }) => told.push(data);
      sub.onlive = () => told.push("live");
      way.rule = () => "reset";
      way.cut();
      await until(() => sub.state == "pending", "the cut");
      for (let n = 0; n < 150; n++) await publish(base, transport, String(n));
      way.rule = () => "pass";
      await until(() => told.includes("live"), "live again");
      assert.deepEqual(told, [...Array(150).keys()].map(String).concat("live"), transport);
      // And where nothing was missed.
      await until(() => {
        if (sub.state == "live" && told.length == 151) way.cut();
        return told.length == 152;
      }, "live once more");
      assert.equal(told[151], "live");
    }
  },

  async "sse: where polls are blocked, a channel begins where it wants all the same"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    way.rule = (line) => (line.startsWith("GET /poll") ? "reset" : "pass");
    for (let n = 0; n < 150; n++) for (const name of ["a", "b", "c"]) await publish(base, name, name + n);
    const [line, log] = begin(t, way.base, { transports: ["sse"] });
    const all = (name) => [...Array(150).keys()].map((n) => name + n);
    const told = (name) => log.messages.filter(({ channel }) => channel == name).map(({ data }) => data);
    await event(line.subscribe("a", { since: "earliest" }), "live");
    const bad = event(line.subscribe("b", { since: "garbage" }), "close");
    await Promise.all([line.subscribe("b2", { since: "earliest" }), line.subscribe("c", { since: "10m" })].map((sub) => event(sub, "live")));
    assert.equal((await bad).code, "bad_since");
    const last = event(line.subscribe("b", { since: "earliest" }), "live");
    for (const name of ["a", "b", "c"]) await publish(base, name, "new " + name);
    await last;
    await until(() => told("c").length == 151 && told("a").length == 151 && told("b").length == 151, "what is new");
    for (const name of ["a", "b", "c"]) assert.deepEqual(told(name), all(name).concat("new " + name));
    assert.ok(!log.states.some(({ state }) => state == "waiting"));
    assert.ok(!way.seen.some((line) => line.startsWith("GET /poll")), "no poll was tried");
    // All that begins in one place is one request.
    const before = way.seen.length, [second] = begin(t, way.base, { transports: ["sse"], since: "10m" });
    await Promise.all(["a", "b", "c"].map((name) => event(second.subscribe(name), "live")));
    assert.equal(way.seen.length, before + 1);
  },

  async "gap: what one subscription leaves out, another one is told, also on one stream"(t) {
    for (const transport of WAYS) {
      const first = await serve(t), way = await proxy(t, first.port);
      const [line, log] = begin(t, way.base, { transports: [transport] });
      const subs = [line.subscribe("a", { gap: "live" }), line.subscribe("b"), line.subscribe("c", { gap: "live" })];
      await Promise.all(subs.map((sub) => event(sub, "live")));
      way.rule = () => "reset";
      await first.stop();
      await until(() => subs[0].state == "pending", "the cut");
      const { base, port } = await serve(t);
      for (const name of ["a", "b", "a", "b", "c"]) await publish(base, name, "kept");
      way.target = port;
      way.rule = () => "pass";
      await Promise.all(subs.map((sub) => event(sub, "live")));
      for (const name of ["a", "b", "c"]) await publish(base, name, "new");
      await until(() => log.messages.filter(({ data }) => data == "new").length == 3, "what is new");
      const told = (name) => log.messages.filter(({ channel }) => channel == name).map(({ data }) => data);
      assert.deepEqual([told("a"), told("b"), told("c")], [["new"], ["kept", "kept", "new"], ["new"]], transport);
      const names = log.gaps.flatMap(({ channels }) => channels).sort();
      assert.deepEqual(names, ["a", "b", "c"], "each is told once over " + transport);
    }
  },

  async "the position covers what has not caught up, at each moment of it"(t) {
    const { base } = await serve(t);
    for (let n = 0; n < 230; n++) await publish(base, n % 2 ? "a" : "b", String(n));
    const ids = async (since) => (await (await fetch(`${base}/poll?channel=b&since=${since}&wait=0`)).json()).messages.map(({ id }) => id);
    const kept = await ids("earliest");
    kept.push(...await ids(kept.at(-1)));
    for (const transport of WAYS) {
      const [line] = begin(t, base, { transports: [transport] }), seen = [];
      await event(line.subscribe("a"), "live");
      await publish(base, "a", "live");
      await until(() => line.cursor, "a position");
      const sub = line.subscribe("b", { since: "earliest" });
      assert.equal(line.cursor, "earliest", "before it began");
      sub.onmessage = ({ lastEventId }) => seen.push([lastEventId, line.cursor]);
      await event(sub, "live");
      assert.equal(seen.length, kept.length);
      for (const [id, cursor] of seen) assert.ok(compare(cursor, id) <= 0, `${transport}: ${cursor} after ${id}`);
      assert.equal(seen[50][1], seen[50][0], "and is no older than it must be");
      assert.ok(compare(line.cursor, kept.at(-1)) > 0);
      // Closed in the middle, it stays where it was.
      const [other] = begin(t, base, { transports: [transport] });
      await event(other.subscribe("a"), "live");
      await publish(base, "a", "live");
      await until(() => other.cursor, "a position");
      let id;
      other.subscribe("b", { since: kept[9] }).onmessage = ({ lastEventId }) => {
        id = lastEventId;
        if (id == kept[20]) other.close();
      };
      assert.equal(other.cursor, kept[9]);
      await until(() => other.state == "closed", "the end");
      await rest(50);
      assert.deepEqual([id, other.cursor], [kept[20], kept[20]], transport);
    }
  },

  async "a listener that subscribes to what it is told of hears from there on"(t) {
    const { base } = await serve(t);
    for (const transport of WAYS) {
      const [line] = begin(t, base, { transports: [transport] }), told = [];
      const listen = ({ data }) => {
        told.push(data);
        if (told.length < 20) line.subscribe(transport).onmessage = listen;
      };
      const sub = line.subscribe(transport);
      sub.onmessage = listen;
      await event(sub, "live");
      await publish(base, transport, "1");
      await until(() => told.length, "the first");
      await publish(base, transport, "2");
      await until(() => told.includes("2"), "the second");
      await rest(50);
      assert.deepEqual(told, ["1", "2", "2"], transport);
    }
  },
});

group("no end, and no standstill", {
  async "close, called while it connects, is for good"(t) {
    const { base, asked } = await answers(t, (request, response) => stream(response));
    const { WebSocket, made } = sockets((socket) => socket.hello());
    for (const transport of WAYS) {
      const [line, log] = begin(t, base, { transports: [transport], WebSocket });
      line.onstate = ({ state }) => state == "connecting" && line.close();
      line.subscribe("a");
      await until(() => log.closes.length, "the end");
      await rest(300);
      assert.deepEqual([line.state, line.transport], ["closed", null]);
    }
    assert.deepEqual([asked.length, made.length], [0, 0]);
  },

  async "close, called while it opens: nothing is told after the end"(t) {
    const { WebSocket } = sockets((socket) => socket.hello());
    const [line, log] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] });
    let opens = 0;
    line.onopen = () => opens++;
    line.onstate = ({ state }) => state == "open" && line.close();
    await until(() => log.closes.length, "the end");
    await rest(50);
    assert.deepEqual([opens, line.state], [0, "closed"]);
  },

  async "publish: what the server ends a WebSocket for is refused, and the line comes back"(t) {
    const { base } = await serve(t);
    let deep = 1;
    for (let n = 0; n < 40; n++) deep = [deep];
    for (const queue of [0, 10]) {
      const [line, log] = begin(t, base, { transports: ["ws"], queue }), sub = line.subscribe("a");
      await event(sub, "live");
      await assert.rejects(line.publish("a", deep), ({ code }) => code == 4400 || code == "bad_json");
      if (!queue) await until(() => line.state != "open", "the end of the connection");
      await until(() => line.state == "open" && sub.state == "live", "another connection");
      await line.publish("a", "well");
      await until(() => log.messages.length == 1, "a message");
      assert.equal(log.closes.length, 0);
    }
  },

  async "token: a function that fails, with nothing to say, is asked again"(t) {
    const { base } = await serve(t);
    for (const transport of WAYS) {
      let calls = 0;
      const token = () => (++calls < 3 ? Promise.reject() : "t");
      const [line] = begin(t, base, { token, transports: [transport], queue: 1 });
      await event(line.subscribe("a"), "live");
      calls = 1;
      await line.publish("a", 1);
    }
  },

  async "token: a function that fails is no fault of the transport"(t) {
    const { base } = await serve(t);
    const calls = [];
    const token = () => {
      calls.push(Date.now());
      if (calls.length < 5) throw new Error("no token to be had");
      return "t";
    };
    const [line, log] = begin(t, base, { token });
    await event(line.subscribe("a"), "live");
    assert.equal(line.transport, "ws");
    const waits = log.states.filter(({ state }) => state == "waiting");
    assert.deepEqual(waits.map(({ reason, code }) => [reason, code]), Array(4).fill(["no token to be had", "token"]));
    calls.slice(1).forEach((at, n) => assert.ok(at - calls[n] >= 90, "not at once"));
  },

  async "queue: is sent over sse and poll too when there is nothing to listen to"(t) {
    const { base } = await serve(t);
    for (const transport of ["sse", "poll"]) {
      const [line] = begin(t, base, { transports: [transport], queue: 5 });
      const answers = [line.publish("a", 1), line.publish("a", 2)];
      await Promise.all(answers);
      await until(() => line.state == "waiting", "rest");
      await line.publish("a", 3);
    }
  },

  async "token: one that was renewed may expire again"(t) {
    let good = "t1", cached = "t0";
    const { base } = await answers(t, (request, response) =>
      request.headers.authorization == "Bearer " + good ? stream(response) : refuse(response));
    const [line] = begin(t, base, { transports: ["sse"], token: (isRefused) => (cached = isRefused ? good : cached) });
    const sub = line.subscribe("a");
    await event(sub, "live");
    sub.close();
    await until(() => line.state == "waiting", "rest");
    good = "t2";
    line._refusedAt -= 60000;
    await event(line.subscribe("a"), "live");
  },

  async "token: a second connection that is refused asks for another as well"(t) {
    let good = "t1", cached = "t1";
    const { base } = await answers(t, (request, response) => {
      if (request.headers.authorization != "Bearer " + good) return refuse(response);
      if (request.url.startsWith("/poll")) return response.end(emptyPoll);
      stream(response);
    });
    const [line, log] = begin(t, base, { transports: ["sse"], token: (isRefused) => (cached = isRefused ? good : cached) });
    await event(line.subscribe("a"), "live");
    good = "t2";
    await event(line.subscribe("b"), "live");
    assert.ok(!log.states.some(({ state }) => state == "waiting"));
    good = "t3";
    line._token = "old";
    line.subscribe("c");
    await until(() => log.closes.length, "one that cannot be renewed ends the line");
  },

  async "a subscription that is refused ends alone, over each transport"(t) {
    const { base } = await serve(t);
    for (const transport of WAYS) {
      const [line, log] = begin(t, base, { transports: [transport] });
      const room = line.subscribe("my room");
      assert.equal((await event(room, "close")).code, "bad_channel");
      assert.deepEqual(log.errors.map(({ channel, code }) => [channel, code]), [["my room", "bad_channel"]]);
      const good = line.subscribe("a");
      await event(good, "live");
      const bad = line.subscribe("b", { since: "garbage" });
      assert.equal((await event(bad, "close")).code, "bad_since");
      await publish(base, "a", "1");
      await until(() => log.messages.length == 1, "a message");
      assert.deepEqual([good.state, line.state, log.closes.length], ["live", "open", 0]);
      line.close();
    }
  },

  async "poll: a right that is taken away in the middle ends that subscription, not the line"(t) {
    let isTaken = false;
    const held = [];
    const { base } = await answers(t, (request, response) => {
      const { searchParams } = new URL(request.url, "http://localhost");
      const answer = () => isTaken && searchParams.getAll("channel").includes("b")
        ? response.writeHead(403).end('{"error":"forbidden","message":"not for you"}') : response.end(emptyPoll);
      if (searchParams.get("wait") == 0) answer();
      else held.push(answer);
    });
    const [line, log] = begin(t, base, { transports: ["poll"] }), a = line.subscribe("a"), b = line.subscribe("b");
    await event(b, "live");
    await until(() => held.length, "a poll");
    isTaken = true;
    held.shift()();
    assert.equal((await event(b, "close")).code, "forbidden");
    await event(a, "live");
    assert.deepEqual([a.state, line.state, log.closes.length], ["live", "open", 0]);
  },

  async "more channels than the server takes on a connection are refused at once"(t) {
    const [line] = begin(t, "http://localhost:1/");
    for (let n = 0; n < 128; n++) line.subscribe("c" + n);
    assert.throws(() => line.subscribe("c128"), { code: "too_many" });
    line.subscribe("c127");
  },

  async "an address that is too long is for another transport, and ends nothing"(t) {
    const tooLong = (request, response) => response.writeHead(414).end('{"error":"uri_too_long","message":"use /ws"}');
    const { base, asked } = await answers(t, (request, response) => {
      if (request.url.startsWith("/events") || request.url.includes("channel=b")) return tooLong(request, response);
      response.end(emptyPoll.replace("]}", '],"retry_ms":0}'));
    });
    const [line, log] = begin(t, base, { transports: ["sse", "poll"] });
    await event(line.subscribe("a"), "live");
    assert.equal(line.transport, "poll");
    const { base: streams } = await answers(t, (request, response) =>
      request.url.includes("channel=b") ? tooLong(request, response) : stream(response));
    const [second, secondLog] = begin(t, streams, { transports: ["sse"] }), sub = second.subscribe("a");
    await event(sub, "live");
    second.subscribe("b");
    await rest(500);
    assert.deepEqual([sub.state, second.state, secondLog.closes.length, log.closes.length], ["live", "open", 0, 0]);
    assert.ok(asked.length);
  },

  async "addresses: ws means http, and what is neither is refused at once"(t) {
    const { base } = await serve(t);
    const [line] = begin(t, base.replace("http", "ws"), { transports: ["sse"] });
    await event(line.subscribe("a"), "live");
    await line.publish("a", 1);
    assert.equal(begin(t, "wss://localhost:1/x")[0]._base, "https://localhost:1/x/");
    const bad = ["ftp://localhost/", "localhost:7070", "127.0.0.1:7070", "[::1]:7070/x", ":7070", "user:1@localhost", "nowhere", "file:///x"];
    for (const url of bad) assert.throws(() => new Holdline(url), { name: "TypeError", message: "begin with http:// or https://, not " + url });
  },

  async "why a line waits is told in words that are the same everywhere"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    const reasons = async (transport, rule, isOpen) => {
      way.rule = () => (isOpen ? "pass" : rule);
      const [line, log] = begin(t, way.base, { transports: [transport] }), sub = line.subscribe("a");
      if (isOpen) {
        await event(sub, "live");
        way.rule = () => rule;
        await until(() => way.cut() || line.state == "waiting", "the cut");
      }
      const { reason } = await until(() => log.states.find(({ state }) => state == "waiting"), "a wait", 20000);
      line.close();
      return reason;
    };
    const answer = (status, body = "") => ({ answer: `HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}` });
    const far = "unreachable, or origin not allowed";
    for (const transport of WAYS) {
      assert.equal(await reasons(transport, "reset"), far, transport);
      assert.equal(await reasons(transport, "mute"), "timeout", transport);
      assert.equal(await reasons(transport, answer("502 Bad Gateway")), transport == "ws" ? far : "status 502", transport);
      const cut = await reasons(transport, "reset", true);
      assert.ok(cut == "cut" || transport == "poll" && cut == far, `${transport}: ${cut}`);
    }
    for (const body of ["<html>", "null", "{}", '{"messages":1}']) assert.equal(await reasons("poll", answer("200 OK", body)), "not understood");
    assert.equal(await reasons("sse", answer("200 OK", "<p>Log in first\n\n")), "cut");
  },

  async "a loop that does not take what comes is ended, and told so"(t) {
    const { WebSocket, made } = sockets((socket) => socket.hello());
    for (const [buffer, max] of [[3, 3], [undefined, 10000]]) {
      const [line, log] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"], buffer }), told = [];
      const sub = line.subscribe("a"), loop = sub[Symbol.asyncIterator](), at = made.length;
      const { ref } = await first(made, at);
      let n = 0;
      const tell = (count) => {
        while (count--) made[at].tell({ op: "message", channel: "a", id: "e-" + ++n, text: String(n) });
      };
      made[at].tell({ op: "ok", ref, channel: "a" }, { op: "live", channel: "a", cursor: "e-0" });
      const one = loop.next();
      tell(max);
      told.push((await one).value.data);
      for (let left = max - 1; left--; ) told.push((await loop.next()).value.data);
      assert.deepEqual(told, [...Array(max).keys()].map((n) => String(n + 1)), "as many as there is room for");
      tell(max + 1);
      await assert.rejects(loop.next(), { code: "overflow", message: `more than ${max} messages were not read` });
      assert.deepEqual(await loop.next(), { value: undefined, done: true });
      assert.deepEqual([log.messages.length, sub.state], [n, "live"], "others are told all");
      line.close();
    }
  },

  async "a line of one transport has nothing to remember"(t) {
    const { base } = await serve(t), [line] = begin(t, base, { transports: ["poll"] });
    globalThis.sessionStorage = {};
    t.after(() => delete globalThis.sessionStorage);
    await event(line.subscribe("a"), "live");
    assert.deepEqual(Object.keys(globalThis.sessionStorage), []);
  },
});

group("no storm", {
  async "poll: a server, or what stands before it, that answers at once and with nothing is waited for"(t) {
    const { base, asked } = await answers(t, (request, response) => response.end(emptyPoll));
    const [line, log] = begin(t, base, { transports: ["poll"] });
    line.subscribe("a");
    await rest(1500);
    assert.ok(asked.length >= 2 && asked.length < 20, `${asked.length} requests`);
    assert.ok(log.states.some(({ state, reason }) => state == "waiting" && /held/.test(reason)));
  },

  async "Retry-After and retry that no timer can hold are no reason to come at once"(t) {
    for (const answer of [
      (response) => response.writeHead(503, { "Retry-After": "2592000" }).end(),
      (response) => response.writeHead(200, { "Content-Type": "text/event-stream" }).end("retry: 9999999999\nid: e-1\n\n"),
    ]) {
      const { base, asked } = await answers(t, (request, response) => answer(response));
      const [line] = begin(t, base, { transports: ["sse"] });
      line.subscribe("a");
      await until(() => line.state == "waiting", "a wait");
      await rest(300);
      assert.equal(asked.length, 1);
    }
  },

  async "sse: the interval that silence is measured by is asked for"(t) {
    const { base, asked } = await answers(t, (request, response) => stream(response));
    const [line] = begin(t, base, { transports: ["sse"] });
    await event(line.subscribe("a"), "live");
    assert.equal(new URL(asked[0].path, base).searchParams.get("heartbeat"), "15");
  },
});

// By a clock that is moved, so that nobody has to wait: one after the other, when all others are done.
const later = (t, ms) => {
  const { now } = Date;
  Date.now = () => now() + ms;
  return () => (Date.now = now);
};

test("a POST that is never answered is given up, and sent again if there is a queue", { timeout: PATIENCE }, async (t) => {
  let posts = 0;
  const { base } = await answers(t, (request, response) => {
    if (request.method != "POST") return stream(response);
    if (++posts > 1) response.writeHead(201).end('{"id":"e-2","channel":"a","subscribers":1}');
  });
  const [line] = begin(t, base, { transports: ["sse"], queue: 5 });
  await event(line.subscribe("a"), "live");
  const both = Promise.all([line.publish("a", 1), line.publish("a", 2)]);
  await until(() => posts == 1, "the first");
  const undo = later(t, 31000);
  await until(() => posts > 1, "the second");
  undo();
  await both;
  assert.equal(posts, 3);
});

test("close tells who waits for an answer", { timeout: PATIENCE }, async (t) => {
  let posts = 0;
  const { base } = await answers(t, (request, response) => request.method == "POST" ? posts++ : stream(response));
  const [line] = begin(t, base, { transports: ["sse"] });
  const answer = line.publish("a", 1);
  await until(() => posts, "the POST");
  line.close();
  await assert.rejects(answer, { code: "lost" });
});

test("token: a function that never answers is given up and asked again", { timeout: PATIENCE }, async (t) => {
  const { base } = await serve(t);
  let calls = 0;
  const [line, log] = begin(t, base, { token: () => (++calls == 1 ? new Promise(() => {}) : "t") });
  const sub = line.subscribe("a");
  await until(() => calls == 1, "the first call");
  const undo = later(t, 31000);
  await until(() => line.state == "waiting" || calls > 1, "it is given up");
  undo();
  await event(sub, "live");
  const { code, reason } = log.states.find(({ state }) => state == "waiting");
  assert.deepEqual([calls, line.transport, code, reason], [2, "ws", "token", "no token"]);
});
