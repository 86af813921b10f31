// What the client's tests share: a server, a proxy that can be told to fail, an HTTP server with a script.
import { once } from "node:events";
import http from "node:http";
import * as shared from "../../tests/support/shared.mjs";

const binary = process.env.HOLDLINE_BINARY;
if (!binary) throw new Error("HOLDLINE_BINARY names no binary: start these tests with client/test/run");

/** What a test may take where others want the machine as well. */
export const PATIENCE = 180_000;

/** Starts a server; `stop(signal)` ends it and waits. */
export async function serve(t, ...flags) {
  const server = await shared.serve(binary, "--listen", "127.0.0.1:0", ...flags);
  t.after(() => server.stop());
  return server;
}

export const { publish } = shared;

/** A TCP proxy to a port. What it does to a connection is decided by `rule(firstLine)`. */
export async function proxy(t, port) {
  const way = await shared.wire(port);
  t.after(() => way.close());
  return way;
}

/** An HTTP server that answers by `handler(request, response)`. */
export async function answers(t, handler) {
  const asked = [];
  const server = http.createServer((request, response) => {
    asked.push({ path: request.url, headers: request.headers, at: Date.now() });
    handler(request, response, asked.length);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { base: "http://127.0.0.1:" + server.address().port, asked };
}

/** A WebSocket of a script: `script(socket)` runs when it is made. */
export function sockets(script) {
  const made = [];
  class Socket {
    constructor(url, protocols) {
      Object.assign(this, { url, protocols, sent: [], at: Date.now() });
      made.push(this);
      setTimeout(() => script(this, made.length));
    }
    send(text) {
      const command = JSON.parse(text);
      this.sent.push(command);
      this.onsend?.(command);
    }
    close(code) {
      this.closed = code;
    }
    tell(...objects) {
      for (const object of objects) this.onmessage?.({ data: JSON.stringify(object) });
    }
    hello(more) {
      this.tell({ op: "hello", version: 1, cursor: "e-1", heartbeat_ms: 25000, message_bytes_max: 65536, ...more });
    }
    end(code, reason = "") {
      this.onclose?.({ code, reason });
    }
  }
  return { WebSocket: Socket, made };
}

/** Waits until something holds, and gives it. */
export const until = (condition, what = condition, ms = shared.PATIENCE) => shared.until(what, condition, ms);

export const event = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));

/** Writes down what a line says. */
export function record(line) {
  const log = { states: [], messages: [], gaps: [], closes: [], errors: [] };
  line.addEventListener("state", ({ state, transport, reason, code, retryAt }) =>
    log.states.push({ state, transport, reason, code, retryAt, at: Date.now() }));
  line.addEventListener("message", (event) => log.messages.push(event));
  line.addEventListener("gap", (event) => log.gaps.push(event.detail));
  line.addEventListener("close", (event) => log.closes.push(event));
  line.addEventListener("error", (event) => log.errors.push(event.detail));
  return log;
}
