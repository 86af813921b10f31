// Which transport is taken, when the line comes back, and when it does not.
import assert from "node:assert/strict";
import test from "node:test";
import { Holdline } from "../holdline.js";
import { answers, event, proxy, publish, record, serve, sockets, until, PATIENCE } from "./lib.mjs";

const group = (name, tests) => test(name, { concurrency: true }, (t) => Promise.all(Object.entries(tests).map(([name, body]) => t.test(name, { timeout: PATIENCE }, body))));

const begin = (t, base, options) => {
  const line = new Holdline(base, options);
  t.after(() => line.close());
  return [line, record(line)];
};
const ways = (log) => log.states.filter(({ state }) => state == "connecting").map(({ transport }) => transport);

group("the ladder", {
  async "ladder: a WebSocket that opens and says nothing is left for the event stream"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    way.rule = (line) => (line.startsWith("GET /ws") ? "mute" : "pass");
    const [line, log] = begin(t, way.base), sub = line.subscribe("a");
    await event(sub, "live");
    assert.equal(line.transport, "sse");
    assert.deepEqual(ways(log), ["ws", "sse"]);
    assert.equal(log.states.filter(({ state }) => state == "waiting").length, 0);
    await line.publish("a", 1);
    await until(() => log.messages.length == 1, "a message");
  },

  async "ladder: an event stream that is held back is left for polls"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    way.rule = (line) => (line.startsWith("GET /ws") ? "reset" : line.startsWith("GET /events") ? "mute" : "pass");
    const [line, log] = begin(t, way.base), sub = line.subscribe("a");
    await event(sub, "live");
    assert.equal(line.transport, "poll");
    assert.deepEqual(ways(log), ["ws", "sse", "poll"]);
    await line.publish("a", 1);
    await until(() => log.messages.length == 1, "a message");
  },

  async "ladder: what has worked is not left for one failure, but for three"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    const [line, log] = begin(t, way.base), sub = line.subscribe("a");
    await event(sub, "live");
    assert.equal(line.transport, "ws");
    way.rule = (line) => (line.startsWith("GET /ws") ? "reset" : "pass");
    await publish(base, "a", "1");
    way.cut();
    await publish(base, "a", "2");
    await until(() => line.transport == "sse", "the event stream", 20000);
    assert.deepEqual(ways(log), ["ws", "ws", "ws", "sse"]);
    await publish(base, "a", "3");
    await until(() => log.messages.length == 3, "all messages");
    assert.deepEqual(log.messages.map(({ data }) => data), ["1", "2", "3"]);
  },

  async "ladder: a better transport is tried again, and taken without loss"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    way.rule = (line) => (line.startsWith("GET /ws") ? "reset" : "pass");
    const [line, log] = begin(t, way.base), sub = line.subscribe("a");
    await event(sub, "live");
    assert.equal(line.transport, "sse");
    let n = 0, isOver = false;
    const publishing = (async () => {
      while (!isOver) await publish(base, "a", String(n++));
    })();
    way.rule = () => "pass";
    // What the network's event does.
    line._probeAt = 0;
    await until(() => line.transport == "ws", "the WebSocket", 20000);
    isOver = true;
    await publishing;
    await until(() => log.messages.length == n, "all messages");
    assert.deepEqual(log.messages.map(({ data }) => +data), [...Array(n).keys()]);
    assert.equal(log.states.filter(({ state }) => state != "open" && state != "connecting").length, 0);
    await until(() => way.open.size == 1, "the end of the event stream");
  },

  async "ladder: a better transport that fails leaves the one that works alone"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    way.rule = (line) => (line.startsWith("GET /ws") ? "reset" : "pass");
    const [line, log] = begin(t, way.base), sub = line.subscribe("a");
    await event(sub, "live");
    const tried = () => way.seen.filter((line) => line.startsWith("GET /ws")).length;
    line._probeAt = 0;
    await until(() => tried() == 2, "a second try", 20000);
    await line.publish("a", 1);
    await until(() => log.messages.length == 1, "a message");
    assert.equal(line.transport, "sse");
    assert.equal(log.states.at(-1).state, "open");
    assert.equal(way.seen.filter((line) => line.startsWith("GET /events")).length, 1);
  },

  async "ladder: a network where nothing answers is tried in rounds, with growing waits"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    way.rule = () => "reset";
    const [line, log] = begin(t, way.base), sub = line.subscribe("a");
    await until(() => log.states.filter(({ state }) => state == "waiting").length == 3, "three rounds", 20000);
    assert.deepEqual(ways(log).slice(0, 6), ["ws", "sse", "poll", "ws", "sse", "poll"]);
    for (const { state, retryAt, at, reason } of log.states.filter(({ state }) => state == "waiting")) {
      assert.ok(retryAt >= at + 99 && retryAt <= at + 4001, retryAt - at);
      assert.ok(reason);
    }
    assert.equal(line.readyState, 0);
    way.rule = () => "pass";
    await event(sub, "live");
    assert.equal(line.transport, "ws");
  },

  async "ladder: an event stream that a proxy answers with 502 is left for polls"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    const answer = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    way.rule = (line) => (/^GET .(ws|events)/.test(line) ? { answer } : "pass");
    const [line] = begin(t, way.base), sub = line.subscribe("a");
    await event(sub, "live");
    assert.equal(line.transport, "poll");
  },

  async "ladder: a portal's page in place of a stream is no success"(t) {
    const { base, asked } = await answers(t, (request, response) =>
      response.writeHead(200, { "Content-Type": "text/html" }).end("<p>Log in first\n\n"));
    const [line, log] = begin(t, base), sub = line.subscribe("a");
    await until(() => log.states.some(({ state }) => state == "waiting"), "a wait");
    assert.equal(sub.state, "pending");
    assert.ok(!log.states.some(({ state }) => state == "open"));
    assert.ok(asked.length <= 4);
  },

  async "ladder: the transport that worked is remembered, where something can be remembered"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    way.rule = (line) => (line.startsWith("GET /ws") ? "reset" : "pass");
    globalThis.sessionStorage = {};
    t.after(() => delete globalThis.sessionStorage);
    const [first] = begin(t, way.base);
    await event(first.subscribe("a"), "live");
    first.close();
    const [second, log] = begin(t, way.base);
    await event(second.subscribe("a"), "live");
    assert.deepEqual(ways(log), ["sse"]);
    globalThis.sessionStorage = new Proxy({}, { get() { throw new Error("forbidden"); }, set() { throw new Error("forbidden"); } });
    const [third, thirdLog] = begin(t, way.base);
    await event(third.subscribe("a"), "live");
    assert.deepEqual(ways(thirdLog), ["ws", "sse"]);
  },

  async "ladder: one transport by name is the only one"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    way.rule = () => "reset";
    const [, log] = begin(t, way.base, { transports: ["sse"] });
    const [line2, log2] = begin(t, way.base, { transports: ["poll"] });
    line2.subscribe("a");
    await until(() => ways(log2).length >= 3, "three tries", 20000);
    assert.ok(way.seen.every((line) => line.startsWith("GET /poll")));
    assert.deepEqual(ways(log), [], "and nothing is asked for where there are no channels");
    assert.equal(log.states.at(-1).reason, "idle");
  },

  async "options that make no sense are refused at once"() {
    assert.throws(() => new Holdline("http://localhost/", { transports: ["carrier pigeon"] }), /no such transport: carrier pigeon/);
    assert.throws(() => new Holdline("http://localhost/", { transports: [] }), TypeError);
    assert.throws(() => new Holdline("nowhere"), TypeError);
  },

  async "addresses: below a path, with and without its last slash"(t) {
    for (const [url, expected] of [
      ["http://localhost:1/realtime", "ws://localhost:1/realtime/ws"],
      ["http://localhost:1/realtime/", "ws://localhost:1/realtime/ws"],
      ["https://localhost:1?x=1#y", "wss://localhost:1/ws"],
    ]) {
      const { WebSocket, made } = sockets(() => {});
      begin(t, url, { WebSocket, transports: ["ws"] });
      await until(() => made.length, "a WebSocket");
      assert.equal(made[0].url, expected);
    }
  },
});

group("the end", {
  async "codes: those that are final end the line, with the reason"(t) {
    for (const code of [1002, 1003, 1007, 1008, 1009, 1010, 4400, 4401, 4403, 4404, 4405, 4413, 4415, 4426]) {
      const { WebSocket, made } = sockets((socket) => socket.end(code, "because"));
      const [line, log] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] }), sub = line.subscribe("a");
      const closed = event(sub, "close");
      await until(() => log.closes.length, "the end for " + code);
      assert.equal(made.length, 1);
      const { code: told, reason, final } = log.closes[0];
      assert.deepEqual([told, reason, final], [code, "because", true]);
      assert.equal((await closed).code, code);
      assert.deepEqual([line.state, line.readyState, sub.state, line.retryAt], ["closed", 2, "closed", null]);
      assert.throws(() => line.subscribe("b"), { code: "closed" });
      await assert.rejects(line.publish("a", 1), { code: "closed" });
    }
  },

  async "codes: all others bring it back"(t) {
    const codes = [1000, 1001, 1005, 1006, 1011, 1012, 1013, 1014, 3000, 4000, 4408, 4409, 4425, 4429, 4500, 4503];
    await Promise.all(codes.map(async (code) => {
      const { WebSocket, made } = sockets((socket, n) => (n == 1 ? socket.end(code) : socket.hello()));
      const [line, log] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] });
      await until(() => line.state == "open", "a second try after " + code);
      assert.equal(made.length, 2);
      assert.equal(log.closes.length, 0);
    }));
  },

  async "statuses: those that are final end the line, with what the server said"(t) {
    for (const status of [204, 400, 403, 404, 405, 410, 413, 415, 421, 426, 431, 501, 505]) {
      for (const transport of ["sse", "poll"]) {
        const { base, asked } = await answers(t, (request, response) =>
          response.writeHead(status, { "Content-Type": "application/json" }).end(status == 204 ? "" : '{"error":"word","message":"do this"}'));
        const [line, log] = begin(t, base, { transports: [transport] });
        line.subscribe("a");
        await until(() => log.closes.length, "the end for " + status);
        // The Fetch standard asks once more after 421, on a new connection.
        assert.ok(asked.length == 1 || status == 421, `${status}: asked ${asked.length} times`);
        assert.equal(log.closes[0].code, 4000 + status);
        if (status != 204) assert.equal(log.closes[0].reason, "do this");
      }
    }
  },

  async "statuses: all others bring it back, and Retry-After is waited for"(t) {
    await Promise.all([408, 425, 429, 500, 502, 503, 504].map(async (status) => {
      for (const transport of ["sse", "poll"]) {
        const headers = status == 503 || status == 429 ? { "Retry-After": "1" } : {};
        const { base, asked } = await answers(t, (request, response) => response.writeHead(status, headers).end());
        const [line, log] = begin(t, base, { transports: [transport] });
        line.subscribe("a");
        await until(() => asked.length == 2, "a second try after " + status);
        assert.equal(log.closes.length, 0);
        const waited = asked[1].at - asked[0].at;
        if (headers["Retry-After"]) assert.ok(waited >= 1000, `${status}: waited only ${waited} ms`);
        assert.match(asked[0].path, /[?&]v=1/);
        assert.equal(asked[0].headers["last-event-id"], undefined);
      }
    }));
  },

  async "a temporary refusal is a readable state that says when it goes on"(t) {
    const { base } = await answers(t, (request, response) =>
      response.writeHead(503, { "Retry-After": "7" }).end('{"error":"draining","message":"this server is shutting down"}'));
    const [line, log] = begin(t, base, { transports: ["sse"] });
    line.subscribe("a");
    const { retryAt, at, reason, code } = await until(() => log.states.find(({ state }) => state == "waiting"), "the wait");
    assert.deepEqual([reason, code, line.retryAt], ["this server is shutting down", 4503, retryAt]);
    assert.ok(retryAt - at >= 6990 && retryAt - at <= 10510, retryAt - at);
  },

  async "close: ends the line for good, and says so once"(t) {
    const { base } = await serve(t), [line, log] = begin(t, base), sub = line.subscribe("a"), closes = [];
    sub.onclose = (event) => closes.push(event.code);
    await event(sub, "live");
    line.close();
    line.close();
    assert.deepEqual([line.state, line.transport, sub.state], ["closed", null, "closed"]);
    assert.deepEqual([log.closes.length, closes], [1, [1000]]);
    assert.equal(log.closes[0].code, 1000);
    sub.close();
    assert.deepEqual(closes, [1000]);
    const [never] = begin(t, base);
    never.close(); // before it began
    assert.equal(never.state, "closed");
  },
});

group("tokens", {
  async "token: a string is given to each transport; a refused one ends the line"(t) {
    const { WebSocket, made } = sockets((socket) => socket.end(4401, "who are you"));
    const [, log] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"], token: "köy?~" });
    await until(() => log.closes.length, "the end");
    assert.deepEqual([made.length, log.closes[0].code], [1, 4401]);
    assert.equal(made[0].protocols[0], "holdline.v1.json");
    const bearer = made[0].protocols[1];
    assert.match(bearer, /^holdline\.bearer\.[A-Za-z0-9_-]+$/);
    assert.equal(Buffer.from(bearer.slice(16), "base64url").toString(), "köy?~");
    const { base, asked } = await answers(t, (request, response) => response.writeHead(401).end());
    const [line, second] = begin(t, base, { transports: ["sse"], token: "abc" });
    line.subscribe("a");
    await until(() => second.closes.length, "the end");
    assert.deepEqual([asked.length, second.closes[0].code], [1, 4401]);
    assert.equal(asked[0].headers.authorization, "Bearer abc");
  },

  async "token: a function is asked before each connection, and once more when its token is refused"(t) {
    for (const transport of ["sse", "poll"]) {
      const { base: real } = await serve(t), { port } = new URL(real), given = [];
      const { base, asked } = await answers(t, async (request, response) => {
        if (request.headers.authorization != "Bearer token-2") return response.writeHead(401).end();
        try {
          const answer = await fetch(`http://127.0.0.1:${port}${request.url}`);
          response.writeHead(answer.status, Object.fromEntries(answer.headers));
          for await (const piece of answer.body) response.write(piece);
        } catch {} // the server has ended
        response.end();
      });
      const token = async (isRefused) => {
        given.push(isRefused);
        return "token-" + given.length;
      };
      const [line, log] = begin(t, base, { transports: [transport], token });
      await event(line.subscribe("a"), "live");
      assert.deepEqual(given, [false, true]);
      assert.ok(!log.states.some(({ state }) => state == "waiting"), "at once");
      assert.ok(asked.length >= 2);
    }
  },

  async "token: one that is refused twice ends the line"(t) {
    let given = 0;
    const { WebSocket, made } = sockets((socket) => socket.end(4401, "no"));
    const [, log] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"], token: () => "t" + given++ });
    await until(() => log.closes.length, "the end");
    assert.deepEqual([made.length, given], [2, 2]);
    // Nor does a connection that is accepted and refused, again and again.
    const flapping = sockets((socket) => {
      socket.hello();
      socket.end(4401, "no");
    });
    const [, second] = begin(t, "http://localhost:1/", { WebSocket: flapping.WebSocket, transports: ["ws"], token: () => "t" });
    await until(() => second.closes.length, "the end");
    assert.equal(flapping.made.length, 2);
  },

  async "token: a function that fails is tried again"(t) {
    const { base } = await serve(t);
    let calls = 0;
    const token = async () => {
      if (++calls < 3) throw new Error("no token to be had");
      return "t";
    };
    const [line, log] = begin(t, base, { token, transports: ["sse"] });
    await event(line.subscribe("a"), "live");
    assert.equal(calls, 3);
    assert.equal(log.states.find(({ state }) => state == "waiting").reason, "no token to be had");
  },
});

group("what an event stream says", {
  async "sse: a cut between the first block and the gap that follows loses neither the gap nor the place"(t) {
    const { base, asked } = await answers(t, (request, response, n) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      if (n == 1) return response.end("id: e-3\n\n");
      response.write("retry: 1000\n\n");
      if (n == 2) return setTimeout(() => response.end(), 50); // in order: then its retry counts
      response.write('event: gap\nid: e-7\ndata: {"channels":["a"],"reason":"trimmed","since":"","resumed":"e-7","spread_ms":1}\n\n');
      if (n == 3) setTimeout(() => response.destroy(), 50);
    });
    const [line, log] = begin(t, base, { transports: ["sse"] });
    line.subscribe("a");
    await until(() => asked.length == 4, "four streams");
    const since = asked.map(({ path }) => new URL(path, base).searchParams.get("since"));
    assert.deepEqual(since, [null, "e-3", "e-3", "e-7"]);
    await until(() => log.gaps.length == 2, "the gap");
    const waited = asked[2].at - asked[1].at;
    assert.ok(waited >= 1000, `retry is waited for, not only ${waited} ms`);
  },
});

group("what a WebSocket says", {
  async "ws: a farewell is waited for"(t) {
    const { WebSocket, made } = sockets((socket) => {
      socket.hello();
      socket.tell({ op: "bye", code: 1012, retry_ms: 1000 });
      socket.end(1012);
    });
    const [, log] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] });
    await until(() => made.length == 2, "a second try");
    const waited = made[1].at - made[0].at;
    assert.ok(waited >= 990, waited);
    const { code, retryAt, at } = log.states.find(({ state }) => state == "waiting");
    assert.equal(code, 1012);
    assert.ok(retryAt - at <= 1510, retryAt - at);
  },

  async "ws: a channel that is refused ends, the others go on"(t) {
    const { WebSocket, made } = sockets((socket) => {
      socket.onsend = ({ op, ref, channels }) => {
        if (op != "subscribe") return;
        if (channels.includes("secret")) return socket.tell({ op: "error", ref, code: "forbidden", message: "not for you" });
        for (const channel of channels) socket.tell({ op: "ok", ref, channel });
        for (const channel of channels) socket.tell({ op: "live", channel, cursor: "e-5" });
      };
      socket.hello();
    });
    const [line, log] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] });
    const [a, secret, b] = ["a", "secret", "b"].map((name) => line.subscribe(name));
    const { code, reason } = await event(secret, "close");
    await until(() => a.state == "live" && b.state == "live", "the others");
    assert.deepEqual([code, reason, secret.state, line.state], ["forbidden", "not for you", "closed", "open"]);
    assert.deepEqual(log.errors, [{ channel: "secret", code: "forbidden", reason: "not for you" }]);
    assert.equal(made[0].sent.filter(({ op }) => op == "subscribe").length, 4, "together, then each alone");
  },

  async "ws: a channel over a rate is asked for again, when it was told"(t) {
    let refused = 0;
    const { WebSocket, made } = sockets((socket) => {
      socket.onsend = ({ op, ref, channels: [channel] }) => {
        if (op != "subscribe") return;
        if (!refused++) return socket.tell({ op: "error", ref, code: "rate_limited", message: "slowly", retry_ms: 300 });
        socket.tell({ op: "ok", ref, channel }, { op: "live", channel, cursor: "e-5" });
      };
      socket.hello();
    });
    const [line] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] }), since = Date.now();
    await event(line.subscribe("a"), "live");
    assert.ok(Date.now() - since >= 300);
    assert.equal(made.length, 1);
  },

  async "ws: what is resumed with, from the command to the first position after its ok"(t) {
    // PROTOCOL.md, "What a client remembers": both exceptions.
    const { WebSocket, made } = sockets((socket, n) => {
      socket.hello({ cursor: "e-" + 100 * n });
    });
    const [line] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] });
    const told = [];
    line.onmessage = ({ data }) => told.push(data);
    line.subscribe("a");
    const asked = (n) => until(() => made[n - 1]?.sent.filter(({ op }) => op == "subscribe").length && made[n - 1].sent.filter(({ op }) => op == "subscribe"), "asked " + n);
    const [first] = await asked(1);
    assert.deepEqual([first.channels, first.since], [["a"], undefined]);
    made[0].tell({ op: "ok", ref: first.ref, channel: "a" }, { op: "live", channel: "a", cursor: "e-100" });
    made[0].tell({ op: "message", channel: "a", id: "e-101", text: "a1" });
    assert.equal(line.cursor, "e-101");
    line.subscribe("b", { since: "e-50" });
    await until(() => made[0].sent.length == 2, "b");
    made[0].end(1006); // before any answer
    const second = await asked(2);
    assert.deepEqual(second.map(({ channels, since }) => [channels, since]), [[["a"], "e-101"], [["b"], "e-50"]], "hello's position is no one's");
    for (const { ref, channels: [channel] } of second) made[1].tell({ op: "ok", ref, channel, recovered: true });
    made[1].tell({ op: "message", channel: "b", id: "e-60", text: "b1", cursor: "e-60" });
    assert.equal(line.cursor, "e-60");
    made[1].end(1006); // while b catches up
    const third = await asked(3);
    assert.deepEqual(third.map(({ channels, since }) => [channels, since]), [[["a", "b"], "e-60"]]);
    made[2].tell({ op: "ok", ref: third[0].ref, channel: "a", recovered: true }, { op: "ok", ref: third[0].ref, channel: "b", recovered: true });
    made[2].tell({ op: "message", channel: "b", id: "e-70", text: "b2" }, { op: "message", channel: "a", id: "e-101", text: "a1" },
      { op: "message", channel: "a", id: "e-102", text: "a2" });
    assert.deepEqual(told, ["a1", "b1", "b2", "a2"], "copies are not told");
  },

  async "ws: words that are not known are ignored, and what is no JSON ends the connection"(t) {
    const { WebSocket, made } = sockets((socket, n) => {
      if (n == 1) return socket.onmessage({ data: "<html>" });
      socket.tell({ op: "news", of: "the future" });
      socket.hello();
    });
    const [line, log] = begin(t, "http://localhost:1/", { WebSocket, transports: ["ws"] });
    await until(() => line.state == "open", "the second");
    assert.equal(made.length, 2);
    assert.equal(log.states.find(({ state }) => state == "waiting").reason, "not understood");
  },
});
