// Publishing: over which way, what is told when it fails, and the queue.
import assert from "node:assert/strict";
import test from "node:test";
import { Holdline } from "../holdline.js";
import { answers, event, proxy, record, serve, until, PATIENCE } from "./lib.mjs";

const group = (name, tests) => test(name, { concurrency: true }, (t) => Promise.all(Object.entries(tests).map(([name, body]) => t.test(name, { timeout: PATIENCE }, body))));
const begin = (t, base, options) => {
  const line = new Holdline(base, options);
  t.after(() => line.close());
  return line;
};
const kept = async (base, channel) => {
  const response = await fetch(`${base}/poll?channel=${channel}&since=earliest&wait=0`);
  return (await response.json()).messages.map((message) => message.text ?? message.data);
};

group("publishing", {
  async "publish: before it is connected, and with nothing to listen to, by POST"(t) {
    const { base } = await serve(t), line = begin(t, base, { transports: ["poll"] });
    assert.match((await line.publish("a", "x")).id, /-1$/);
    assert.deepEqual(await kept(base, "a"), ["x"]);
  },

  async "publish: what does not fit into a frame goes by POST, what does not fit at all is refused with the server's words"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port), line = begin(t, way.base), sub = line.subscribe("a");
    await event(sub, "live");
    const posts = () => way.seen.filter((line) => line.startsWith("POST")).length;
    await Promise.all([line.publish("a", "short"), event(sub, "message")]);
    assert.equal(posts(), 0);
    const long = "ü".repeat(32000);
    const told = event(sub, "message");
    await line.publish("a", long);
    assert.equal(posts(), 1);
    assert.equal((await told).data, long);
    await assert.rejects(line.publish("a", "x".repeat(65537)), { code: "too_large" });
    await assert.rejects(line.publish("no/channel", "x"), { code: "bad_channel" });
    await assert.rejects(line.publish("a", "x", { event: "two words" }), { code: "bad_request" });
    await assert.rejects(line.publish("a"), { code: "bad_request" });
    await assert.rejects(line.publish("a", 1n), TypeError);
    const circle = {};
    circle.circle = circle;
    await assert.rejects(line.publish("a", circle), TypeError);
    assert.equal(line.state, "open");
  },

  async "publish: the same errors by POST"(t) {
    const { base } = await serve(t), line = begin(t, base, { transports: ["sse"] });
    await assert.rejects(line.publish("a", "x".repeat(65537)), { code: "too_large" });
    await assert.rejects(line.publish("no/channel", "x"), { code: "bad_channel" });
    await assert.rejects(line.publish("a"), { code: "bad_request" });
  },

  async "publish: an answer that does not come is told as lost, by both ways"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    const line = begin(t, way.base), sub = line.subscribe("a");
    await event(sub, "live");
    for (const pair of way.open) pair.isMute = true;
    const answer = line.publish("a", "x");
    setTimeout(way.cut, 50);
    await assert.rejects(answer, { code: "lost" });
    way.rule = (line) => (line.startsWith("POST") ? "reset" : "pass");
    const polling = begin(t, way.base, { transports: ["poll"] });
    await assert.rejects(polling.publish("a", "x"), { code: "lost" });
    way.rule = (line) => line.startsWith("POST") ? { answer: 'HTTP/1.1 202 Accepted\r\nContent-Length: 99\r\n\r\n{"id":' } : "pass";
    await assert.rejects(polling.publish("a", "x"), { code: "lost" });
    way.rule = () => ({ answer: "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\nConnection: close\r\n\r\n<p>Hm" });
    await assert.rejects(polling.publish("a", "x"), { code: 4502 });
  },

  async "publish: with a token that is refused, once more with another"(t) {
    const given = [];
    const { base, asked } = await answers(t, (request, response) => {
      if (request.method != "POST") return response.writeHead(503).end();
      if (request.headers.authorization != "Bearer good") return response.writeHead(401).end('{"error":"unauthorized","message":"no"}');
      response.writeHead(202, { "Content-Type": "application/json" }).end('{"id":"e-1","channel":"a","subscribers":0}');
    });
    const line = begin(t, base, { transports: ["poll"], token: (isRefused) => (given.push(isRefused), isRefused ? "good" : "old") });
    assert.equal((await line.publish("a", "x")).id, "e-1");
    assert.deepEqual([given, asked.length], [[false, true], 2]);
    const stubborn = begin(t, base, { transports: ["poll"], token: "old" });
    await assert.rejects(stubborn.publish("a", "x"), { code: "unauthorized", message: "no" });
  },

  async "queue: what cannot be sent is kept, in order, and has a limit"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    way.rule = () => "reset";
    const line = begin(t, way.base, { queue: 3 }), sub = line.subscribe("a");
    const answers = [0, 1, 2].map((n) => line.publish("a", n));
    await assert.rejects(line.publish("a", 3), { code: "queue_full" });
    assert.notEqual(line.state, "open");
    way.rule = () => "pass";
    await Promise.all(answers);
    assert.deepEqual(await kept(base, "a"), [0, 1, 2]);
    assert.equal(line.state, "open");
    await line.publish("a", 4);
    void sub;
  },

  async "queue: without one, nothing is kept"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    way.rule = () => "reset";
    await assert.rejects(begin(t, way.base).publish("a", 1), { code: "lost" });
  },

  async "queue: what ends with the line is told"(t) {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    way.rule = () => "reset";
    const line = begin(t, way.base, { queue: 10 }), answer = line.publish("a", 1);
    line.close();
    await assert.rejects(answer, { code: "closed" });
  },

  async "queue: a refusal is no reason to try again, and those behind it go on"(t) {
    const { base } = await serve(t), line = begin(t, base, { queue: 10 });
    line.subscribe("a");
    const answers = await Promise.allSettled(["a", "no/channel", "a"].map((channel) => line.publish(channel, channel)));
    assert.deepEqual(answers.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
    assert.deepEqual(await kept(base, "a"), ["a", "a"]);
  },
});

for (const transport of ["ws", "sse", "poll"]) {
  test(`queue: over ${transport}, cut again and again, each is published once and in order`, { concurrency: true, timeout: PATIENCE }, async (t) => {
    const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
    const line = begin(t, way.base, { queue: 100, transports: [transport] }), log = record(line), sub = line.subscribe("a");
    await event(sub, "live");
    let n = 0;
    way.rule = (line) => (line.startsWith("POST") && ++n % 5 == 4 ? "reset" : "pass");
    const answers = [];
    for (let n = 0; n < 40; n++) {
      answers.push(line.publish("a", n));
      if (n == 10 || n == 25) {
        for (const pair of way.open) pair.isMute = true; // the answers are lost, what was sent perhaps not
        setTimeout(way.cut, 20);
        await new Promise((resolve) => setTimeout(resolve, 60));
      }
    }
    await Promise.all(answers);
    await until(() => log.messages.length >= 40, "all messages", 30000);
    const all = [...Array(40).keys()];
    assert.deepEqual(await kept(base, "a"), all);
    assert.deepEqual(log.messages.map(({ data }) => data), all);
  });
}
