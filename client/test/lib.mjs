// What the tests share: a server, a proxy that can be told to fail, an HTTP server with a script.
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { createInterface } from "node:readline";

const binary = process.env.HOLDLINE_BINARY;
if (!binary) throw new Error("HOLDLINE_BINARY names no binary: start these tests with client/test/run");

/** Undone at the end of a test, the last first. */
export function cleanup(t, undo) {
  t.after(undo);
}

/** Starts a server; `stop(signal)` ends it and waits. */
export async function serve(t, ...flags) {
  const listens = flags.includes("--listen") ? [] : ["--listen", "127.0.0.1:0"];
  const child = spawn(binary, [...listens, ...flags], { stdio: ["ignore", "pipe", "ignore"] });
  const exit = once(child, "exit");
  const stop = async (signal = "SIGKILL") => {
    child.kill(signal);
    await exit;
  };
  t.after(() => stop());
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  const base = /http:\/\/\S+/.exec(line)[0];
  return { base, port: +new URL(base).port, stop };
}

export async function publish(base, channel, text, headers = {}) {
  const response = await fetch(`${base}/channels/${channel}`, { method: "POST", body: text, headers });
  if (!response.ok) throw new Error("publishing: " + response.status);
  return response.json();
}

/** A TCP proxy to a port. What it does to a connection is decided by `rule(firstLine)`. */
export async function proxy(t, port) {
  const self = { port: 0, base: "", target: port, rule: () => "pass", open: new Set(), seen: [] };
  const server = net.createServer((client) => {
    client.on("error", () => {});
    client.once("data", (first) => {
      const line = first.toString("latin1").split("\r\n")[0];
      const rule = self.rule(line);
      self.seen.push(line);
      if (rule == "reset") return client.resetAndDestroy();
      if (rule == "mute") return;
      if (typeof rule == "object") return client.end(rule.answer);
      const server = net.connect(self.target, "127.0.0.1");
      const pair = { line, client, server, isMute: false };
      self.open.add(pair);
      const end = () => {
        self.open.delete(pair);
        client.destroy();
        server.destroy();
      };
      server.on("error", end).on("close", end);
      client.on("close", end);
      server.on("data", (bytes) => pair.isMute || client.write(bytes));
      client.on("data", (bytes) => pair.isMute || server.write(bytes));
      server.write(first);
    });
    self.clients.add(client);
    client.on("close", () => self.clients.delete(client));
  });
  self.clients = new Set();
  self.cut = () => {
    for (const { client } of self.open) client.resetAndDestroy();
  };
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  self.port = server.address().port;
  self.base = "http://127.0.0.1:" + self.port;
  t.after(() => {
    for (const client of self.clients) client.destroy();
    server.close();
  });
  return self;
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

/** Waits until something holds; fails with what was last seen if it does not in time. */
export async function until(condition, what = condition, ms = 15000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error("did not happen in time: " + what);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

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
