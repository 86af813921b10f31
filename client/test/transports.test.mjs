// Each transport against a real server: what is told, the order, positions, gaps, and coming back.
import assert from "node:assert/strict";
import test from "node:test";
import { compare, Holdline } from "../holdline.js";
import { event, proxy, publish, record, serve, until, PATIENCE } from "./lib.mjs";

const options = { concurrency: true, timeout: PATIENCE };

for (const transport of ["ws", "sse", "poll"]) {
  const open = (t, base, more) => {
    const line = new Holdline(base, { transports: [transport], ...more });
    t.after(() => line.close());
    return line;
  };

  test(transport, options, async (t) => {
    const { base } = await serve(t);
    let channels = 0;
    const fresh = () => "c" + ++channels;
    const run = (name, body) => t.test(`${transport}: ${name}`, { timeout: PATIENCE }, body);

    await Promise.all([
      run("what is published comes as it was", async (t) => {
        const name = fresh(), line = open(t, base), sub = line.subscribe(name);
        const told = [];
        sub.onmessage = (message) => told.push(message);
        await event(sub, "live");
        assert.equal(line.state, "open");
        assert.equal(line.transport, transport);
        assert.equal(line.readyState, 1);
        const values = ["text", "", { a: [1, null] }, [], null, 0, false, new Uint8Array([0, 255, 10, 13])];
        for (const value of values) {
          const { id, subscribers } = await line.publish(name, value);
          assert.match(id, /^\w+-\d+$/);
          assert.equal(typeof subscribers, "number");
        }
        await line.publish(name, "<b>", { event: "tick", type: "text/html" });
        await line.publish(name, new Uint16Array([1, 0x88]).subarray(1), { type: "image/png" });
        await line.publish(name, new TextEncoder().encode("bytes that are letters").buffer);
        await line.publish(name, new Uint8Array());
        await until(() => told.length == values.length + 4, "all messages");
        values.forEach((value, at) => assert.deepEqual(told[at].data, value));
        assert.ok(told.every((message) => message instanceof MessageEvent && message.channel == name));
        assert.ok(told.every((message) => message.time > 1.7e12));
        assert.deepEqual(told.map((message) => message.contentType), ["text/plain", "text/plain", "application/json",
          "application/json", "application/json", "application/json", "application/json", "application/octet-stream",
          "text/html", "image/png", "application/octet-stream", "application/octet-stream"]);
        assert.equal(told[8].event, "tick");
        assert.equal(told[0].event, "");
        assert.deepEqual([...told[9].data], [0x88, 0]);
        assert.equal(new TextDecoder().decode(told[10].data), "bytes that are letters");
        assert.deepEqual(told[11].data, new Uint8Array());
        assert.ok(compare(line.cursor, told[11].lastEventId) >= 0, "others publish as well");
      }),

      run("all channels of a line are in one order", async (t) => {
        const names = [fresh(), fresh(), fresh()], line = open(t, base), log = record(line);
        const subs = names.map((name) => line.subscribe(name));
        await Promise.all(subs.map((sub) => event(sub, "live")));
        for (let n = 0; n < 60; n++) await publish(base, names[n % 3], String(n));
        await until(() => log.messages.length == 60, "60 messages");
        assert.deepEqual(log.messages.map(({ data }) => +data), [...Array(60).keys()]);
      }),

      run("earliest replays, and a later channel may begin where it wants", async (t) => {
        const [a, b, c] = [fresh(), fresh(), fresh()];
        for (let n = 0; n < 5; n++) {
          await publish(base, a, "a" + n);
          await publish(base, b, "b" + n);
          await publish(base, c, "c" + n);
        }
        const line = open(t, base), log = record(line);
        const first = line.subscribe(a, { since: "earliest" });
        await event(first, "live");
        await until(() => log.messages.length == 5, "the first channel");
        const second = line.subscribe(b, { since: "earliest" }), third = line.subscribe(c);
        await Promise.all([event(second, "live"), event(third, "live")]);
        await until(() => log.messages.length == 10, "the second channel");
        await publish(base, a, "a5");
        await publish(base, b, "b5");
        await publish(base, c, "c5");
        await until(() => log.messages.length == 13, "what is new");
        assert.deepEqual(log.messages.map(({ data }) => data), ["a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2", "b3",
          "b4", "a5", "b5", "c5"]);
        assert.equal(log.gaps.length, 0);
      }),

      run("several listeners to a channel: the first says where it begins, the others join from now on", async (t) => {
        const name = fresh();
        for (let n = 0; n < 3; n++) await publish(base, name, String(n));
        const line = open(t, base), log = record(line), told = [[], [], []];
        const subs = [line.subscribe(name, { since: "earliest" })];
        subs[0].onmessage = ({ data }) => told[0].push(+data);
        await event(subs[0], "live");
        await publish(base, name, "3");
        await until(() => told[0].length == 4, "the first listener's messages");
        subs.push(line.subscribe(name), line.subscribe(name, { since: "earliest" }));
        subs[1].onmessage = ({ data }) => told[1].push(+data);
        subs[2].onmessage = ({ data }) => told[2].push(+data);
        await Promise.all([event(subs[1], "live"), event(subs[2], "live")]);
        await publish(base, name, "4");
        await until(() => told.every((each) => each.at(-1) == 4), "the newest everywhere");
        assert.deepEqual(told, [[0, 1, 2, 3, 4], [4], [4]]);
        assert.deepEqual(log.messages.map(({ data }) => +data), [0, 1, 2, 3, 4]);
        assert.ok(subs.every((sub) => sub.state == "live"));
        subs[0].close();
        subs[2].close();
        assert.equal(subs[0].state, "closed");
        await publish(base, name, "5");
        await until(() => told[1].at(-1) == 5, "who is left");
        assert.deepEqual([told[0].at(-1), told[2]], [4, [4]]);
      }),

      run("for await gives messages, and ends with the subscription", async (t) => {
        const name = fresh(), line = open(t, base), sub = line.subscribe(name), told = [];
        const loop = (async () => {
          for await (const message of sub) {
            told.push(message.data);
            if (told.length == 3) break;
          }
          for await (const message of sub) told.push("second loop: " + message.data);
        })();
        await event(sub, "live");
        for (const text of ["a", "b", "c"]) await publish(base, name, text);
        await until(() => told.length == 3, "three messages");
        await publish(base, name, "d");
        await until(() => told.length == 4, "a message for the second loop");
        sub.close();
        await loop;
        assert.deepEqual(told, ["a", "b", "c", "second loop: d"]);
      }),

      run("a subscription can be closed, and its channel asked for again", async (t) => {
        const [a, b] = [fresh(), fresh()], line = open(t, base), log = record(line);
        const sub = line.subscribe(a), other = line.subscribe(b);
        await Promise.all([event(sub, "live"), event(other, "live")]);
        await publish(base, a, "1");
        await until(() => log.messages.length == 1, "the first");
        sub.close();
        const again = line.subscribe(a, { since: "earliest" }), told = [];
        again.onmessage = ({ data }) => told.push(data);
        await until(() => told.length == 1, "the replay");
        await publish(base, a, "2");
        await until(() => told.length == 2, "the second");
        assert.deepEqual(told, ["1", "2"]);
        again.close();
        other.close();
        await publish(base, a, "3");
        await publish(base, b, "3");
        const last = line.subscribe(b);
        await event(last, "live");
        await publish(base, b, "4");
        await until(() => log.messages.at(-1).data == "4", "the last");
        assert.ok(!log.messages.some(({ data }) => data == "3"));
      }),

      run("nothing is lost or doubled or out of order while it is cut again and again", async (t) => {
        const way = await proxy(t, +new URL(base).port), names = [fresh(), fresh()];
        const line = open(t, way.base), log = record(line);
        const subs = names.map((name) => line.subscribe(name));
        await Promise.all(subs.map((sub) => event(sub, "live")));
        const total = 120;
        for (let n = 0; n < total; n++) {
          await publish(base, names[n % 2], String(n));
          if (n % 50 == 49) way.cut();
          if (n % 4 == 0) await new Promise((resolve) => setTimeout(resolve, 5));
        }
        await until(() => log.messages.length >= total, "all messages", 60000);
        assert.deepEqual(log.messages.map(({ data }) => +data), [...Array(total).keys()]);
        assert.equal(log.gaps.length, 0);
        assert.ok(log.states.some(({ state, retryAt, at }) => state == "waiting" && retryAt > at));
      }),
    ]);
  });

  test(`${transport}: a restart is a gap, told to whom it concerns, and the line goes on`, options, async (t) => {
    const first = await serve(t), way = await proxy(t, first.port); // so that its address stays
    const line = open(t, way.base), log = record(line), sub = line.subscribe("a"), gaps = [];
    sub.ongap = ({ detail }) => gaps.push(detail);
    await event(sub, "live");
    await publish(first.base, "a", "1");
    await until(() => log.messages.length == 1, "the first");
    const before = line.cursor;
    await first.stop();
    const second = await serve(t);
    way.target = second.port;
    await publish(second.base, "a", "2");
    await until(() => gaps.length, "a gap", 60000);
    await until(() => log.messages.length == 2, "what was kept");
    assert.deepEqual(log.messages.map(({ data }) => data), ["1", "2"]);
    assert.equal(gaps.length, 1);
    assert.equal(gaps[0].reason, "epoch");
    assert.equal(gaps[0].since, before);
    assert.deepEqual(gaps[0].channels, ["a"]);
    assert.deepEqual(log.gaps, gaps);
  });
}

for (const transport of ["ws", "sse", "poll"]) {
  test(`${transport}: what is closed in the middle stays closed`, options, async (t) => {
    const { base } = await serve(t);
    for (let n = 0; n < 5; n++) await publish(base, "a", String(n));
    // By a listener, while more is on its way.
    const line = new Holdline(base, { transports: [transport], since: "earliest" }), log = record(line), told = [];
    const sub = line.subscribe("a");
    sub.onmessage = ({ data }) => told.push(data) == 2 && line.close();
    await until(() => log.closes.length, "the end");
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.deepEqual([told, line.state, line.transport], [["0", "1"], "closed", null]);
    assert.equal(log.states.at(-1).state, "closed");

    const other = new Holdline(base, { transports: [transport], since: "earliest" }), otherLog = record(other);
    t.after(() => other.close());
    const one = other.subscribe("a");
    one.onmessage = ({ data }) => told.push(data) && one.close();
    await until(() => one.state == "closed", "the subscription's end");
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.deepEqual(told, ["0", "1", "0"]);
    assert.deepEqual(otherLog.messages.map(({ data }) => data), ["0"], "the line was told of it as well");

    // Before it began: there is nothing to listen to, and that is no error.
    const third = new Holdline(base, { transports: [transport] }), thirdLog = record(third);
    t.after(() => third.close());
    third.subscribe("b").close();
    setTimeout(() => third.subscribe("c").close(), 5);
    await until(() => third.state == (transport == "ws" ? "open" : "waiting"), "its rest");
    assert.equal(thirdLog.closes.length, 0);
    await event(third.subscribe("d"), "live");
  });

  test(`${transport}: commands that are answered are forgotten`, options, async (t) => {
    const { base } = await serve(t), line = new Holdline(base, { transports: [transport] });
    t.after(() => line.close());
    await event(line.subscribe("keep"), "live");
    for (let n = 0; n < 5; n++) {
      const sub = line.subscribe("a" + n);
      await event(sub, "live");
      await line.publish("a" + n, n);
      sub.close();
    }
    if (transport == "ws") await until(() => line._link._asked.size == 0 && line._link._sent.size == 1, "nothing is remembered");
    await until(() => line._link._channels.size == 1, "one channel is left");
  });
}
