// The peer socket.io on node, by its own protocol on a raw WebSocket (`transport=websocket`, no polling first).
//
// A POST to `/pub` is emitted to everyone as the event "m"; a client's event "echo" comes back as "m".
// As its documentation advises for many connections: WebSocket only, `perMessageDeflate` off (its default), the
// `bufferutil` of `ws` beside it, the request of the handshake let go. Heartbeats are further apart than a run is
// long: the others send none either.
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    io.emit("m", Buffer.concat(pieces).toString());
    response.end();
  });
});
http.keepAliveTimeout = 0;

const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  pingInterval: 3600000,
  pingTimeout: 3600000,
});
io.engine.on("connection", (raw) => {
  raw.request = null;
});
io.on("connection", (socket) => {
  socket.on("echo", (text) => socket.emit("m", text));
});

http.listen(Number(process.argv[2] ?? 7070), "127.0.0.1", 4096);
