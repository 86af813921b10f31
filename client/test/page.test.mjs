// What a page tells its line: offline and online, hidden and shown, put aside, asleep. The page is played here; real
// browsers play it in tests/browser.
import assert from "node:assert/strict";
import test from "node:test";

const page = new EventTarget();
globalThis.addEventListener = page.addEventListener.bind(page);
globalThis.removeEventListener = page.removeEventListener.bind(page);
globalThis.document = Object.assign(new EventTarget(), { hidden: false, baseURI: "http://localhost:1/app/page.html" });
const given = {};
Object.defineProperty(globalThis, "navigator", { value: given, configurable: true });
const tell = (target, type, fields) => target.dispatchEvent(Object.assign(new Event(type), fields));

const { Holdline } = await import("../holdline.js");
const { event, proxy, publish, record, serve, until, PATIENCE } = await import("./lib.mjs");

async function open(t, options) {
  const { base } = await serve(t), way = await proxy(t, +new URL(base).port);
  const line = new Holdline(way.base, options), log = record(line), sub = line.subscribe("a");
  t.after(() => line.close());
  await event(sub, "live");
  return { base, way, line, log, sub };
}

test("page: an address may be relative to it", (t) => {
  const line = new Holdline(), other = new Holdline("../x");
  t.after(() => [line, other].forEach((each) => each.close()));
  assert.equal(line._base, "http://localhost:1/app/");
  assert.equal(other._base, "http://localhost:1/x/");
  // But what was meant as a host is not taken for a path, nor for a scheme.
  for (const url of ["127.0.0.1:7070", "localhost:7070/x", "[::1]:7070"]) {
    assert.throws(() => new Holdline(url), { name: "TypeError", message: "begin with http:// or https://, not " + url });
  }
});

for (const transport of ["ws", "sse", "poll"]) {
  test(`page: offline lets go at once, online comes back at once, over ${transport}`, { timeout: PATIENCE }, async (t) => {
    const { base, way, line, log, sub } = await open(t, { transports: [transport] });
    given.onLine = false;
    tell(page, "offline");
    assert.deepEqual([line.state, line.transport, sub.state, line.readyState], ["offline", null, "pending", 0]);
    assert.ok(line.retryAt > Date.now() + 20000, "and says when it tries all the same");
    await until(() => way.open.size == 0, "the end of the connection");
    await publish(base, "a", "meanwhile");
    given.onLine = true;
    const since = Date.now();
    tell(page, "online");
    await until(() => log.messages.length == 1, "what was published");
    assert.equal(log.messages[0].data, "meanwhile");
    assert.ok(log.states.find(({ state, at }) => state == "connecting" && at >= since).at - since < 10_000);
  });

  test(`page: it is put aside and comes out again, over ${transport}`, { timeout: PATIENCE }, async (t) => {
    const { base, way, line, log } = await open(t, { transports: [transport] });
    tell(page, "pagehide");
    assert.deepEqual([line.state, line.retryAt, line.transport], ["waiting", null, null]);
    await until(() => way.open.size == 0, "the end of the connection");
    await publish(base, "a", "meanwhile");
    tell(page, "pageshow", { persisted: false });
    tell(page, "pageshow", { persisted: true });
    await until(() => log.messages.length == 1, "what was published");
  });

  test(`page: what is dead after a sleep is noticed, what lives stays, over ${transport}`, { timeout: PATIENCE }, async (t) => {
    const { base, way, line, log } = await open(t, { transports: [transport] });
    const link = line._link;
    tell(document, "visibilitychange"); // just heard: nothing to ask
    if (transport == "ws") {
      link._stamp -= 60000;
      tell(document, "visibilitychange");
      await until(() => Date.now() - link._stamp < 5000, "an answer");
      assert.equal(line._link, link);
    }
    await until(() => way.open.size, "a connection");
    for (const pair of way.open) pair.isMute = true;
    link._stamp -= 60000;
    document.hidden = true;
    tell(document, "visibilitychange");
    document.hidden = false;
    const since = Date.now();
    tell(document, "resume");
    await until(() => line._link && line._link != link, "another connection", 20000);
    const lost = log.states.find(({ state, at }) => state == "waiting" && at >= since);
    assert.equal(lost.reason, "timeout");
    assert.ok(lost.at - since < 25_000, lost.at - since);
    await publish(base, "a", "meanwhile");
    await until(() => log.messages.length == 1, "a message");
  });
}

test("page: clocks are compared: a machine that slept, and silence for too long", { timeout: PATIENCE }, async (t) => {
  const { way, line } = await open(t, { transports: ["ws"] });
  let link = line._link;
  for (const pair of way.open) pair.isMute = true;
  link._stamp -= 10 * 60000; // both clocks stood still
  line._tickAt -= 10 * 60000;
  await until(() => line._link && line._link != link, "another connection after the sleep", 30000);
  link = line._link;
  for (const pair of way.open) pair.isMute = true;
  link._stamp -= 36000;
  await until(() => line._link && line._link != link, "another connection after the silence", 30000);
});

test("page: a line that is closed listens to nothing any more", async (t) => {
  const { line, log } = await open(t);
  line.close();
  const told = log.states.length;
  tell(page, "offline");
  tell(page, "online");
  tell(page, "pagehide");
  tell(page, "pageshow", { persisted: true });
  assert.deepEqual([line.state, log.states.length], ["closed", told]);
});

test("page: flapping makes no storm", { timeout: PATIENCE }, async (t) => {
  const { way, line } = await open(t, { transports: ["sse"] });
  way.rule = () => "reset";
  way.cut();
  const before = way.seen.length, since = Date.now();
  while (Date.now() - since < 3000) {
    tell(page, "online");
    tell(document, "visibilitychange");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.ok(way.seen.length - before <= 12, `${way.seen.length - before} attempts in 3 s`);
  assert.notEqual(line.state, "closed");
});
