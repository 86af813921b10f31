// The parts that need no server: the parser of event streams, the order of positions, the backoff.
import assert from "node:assert/strict";
import test from "node:test";
import { compare, delay, parser } from "../holdline.js";

const blocks = (pieces) => {
  const told = [];
  const push = parser((block) => told.push(block));
  pieces.forEach(push);
  return told;
};
/** As the client reads: bytes in pieces, decoded as a stream. */
const decoded = (pieces) => {
  const decoder = new TextDecoder();
  return blocks([...pieces.map((piece) => decoder.decode(piece, { stream: true })), decoder.decode()]);
};

const STREAMS = [
  ["a message", "id: 1\ndata: a\n\n", [{ id: "1", data: "a" }]],
  ["CR LF, as some proxies like it", "data: a\r\n\r\ndata: b\r\n\r\n", [{ data: "a" }, { data: "b" }]],
  ["an id alone", "id: k3J9xQ-42\n\n", [{ id: "k3J9xQ-42" }]],
  ["a comment with an id", ": heartbeat\nid: 7\n\n", [{ id: "7" }]],
  ["one space is taken off", "data:a\n\ndata: b\n\ndata:  c\n\n", [{ data: "a" }, { data: "b" }, { data: " c" }]],
  ["colons in a value", "data: a: b:c\n\n", [{ data: "a: b:c" }]],
  ["names are whole", " data: a\ndata : c\n\n", [{}]],
  ["retry", "retry: 3715\nid: a-0\n\n", [{ retry: "3715", id: "a-0" }]],
  ["an event's name", "event: gap\ndata: {}\n\n", [{ event: "gap", data: "{}" }]],
  ["a block that is cut off", "data: a\n\nid: 9\ndata: b\n", [{ data: "a" }]],
  ["letters of several bytes", "data: grüße, 世界 🎉\n\n", [{ data: "grüße, 世界 🎉" }]],
  ["other line separators are text", "data: a\u2028b\u0085c\vd\fe\n\n", [{ data: "a\u2028b\u0085c\vd\fe" }]],
];

for (const [name, text, expected] of STREAMS) {
  test("parser: " + name, () => {
    const bytes = new TextEncoder().encode(text);
    assert.deepEqual(decoded([bytes]), expected, "in one piece");
    for (let at = 0; at <= bytes.length; at++) {
      assert.deepEqual(decoded([bytes.slice(0, at), bytes.slice(at)]), expected, "cut at " + at);
      for (let then = at; then <= bytes.length; then++) {
        const pieces = [bytes.slice(0, at), bytes.slice(at, then), bytes.slice(then)];
        assert.deepEqual(decoded(pieces), expected, `cut at ${at} and ${then}`);
      }
    }
    assert.deepEqual(decoded([...bytes].map((byte) => Uint8Array.of(byte))), expected, "byte by byte");
  });
}

test("compare: positions of one log are in order, however long their numbers", () => {
  const order = ["e-0", "e-1", "e-9", "e-10", "e-99", "e-9007199254740992", "e-9007199254740993", "e-18446744073709551615"];
  order.forEach((a, i) => order.forEach((b, j) => assert.equal(Math.sign(compare(a, b)), Math.sign(i - j), a + " " + b)));
});

test("compare: positions of different logs have no order", () => {
  assert.ok(Number.isNaN(compare("e-1", "f-1")));
});

test("delay: full jitter between 100 ms and a bound that doubles up to 30 s", (t) => {
  const at = (random, attempt, least) => {
    const original = Math.random;
    Math.random = () => random;
    try {
      return delay(attempt, least);
    } finally {
      Math.random = original;
    }
  };
  assert.equal(at(0, -1), 100);
  assert.equal(at(0.999999, -1) > 1499, true);
  const bounds = [1000, 2000, 4000, 8000, 16000, 30000, 30000];
  bounds.forEach((bound, attempt) => {
    assert.equal(at(0, attempt), 100);
    assert.ok(Math.abs(at(1, attempt) - bound) < 1e-6, attempt);
    assert.ok(Math.abs(at(0.5, attempt) - bound / 2) < 1e-6, attempt);
  });
  assert.equal(at(1, 5000), 30000, "and never overflows");
  // What the server asks for is waited for at least, and up to half of it more.
  assert.equal(at(0, 0, 4000), 4000);
  assert.equal(at(1, 0, 4000), 6000);
  assert.equal(at(1, 6, 4000), 30000);
  assert.equal(at(1, 0, 30 * 86400000), 3600000, "but for an hour at most: a timer of 25 days fires at once");
});
