// The peer `ws` on node: `/echo` sends back, what comes on `/pub` goes to everyone on `/ws`.
//
// As its documentation advises: `perMessageDeflate` off (its default), `bufferutil` beside it, a broadcast is a loop
// over those who are open. Node's HTTP server turns Nagle's algorithm off by itself. Its list of clients is not used,
// so it is not kept.
"use strict";

const { WebSocket, WebSocketServer } = require("ws");

const listeners = new Set();

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2] ?? 7070),
  backlog: 4096,
  clientTracking: false,
  perMessageDeflate: false,
});

server.on("connection", (socket, request) => {
  socket.on("error", () => {}); // whoever resets a connection closes it, too
  switch (request.url) {
    case "/echo":
      socket.on("message", (data, binary) => socket.send(data, { binary }));
      break;
    case "/ws":
      listeners.add(socket);
      socket.on("close", () => listeners.delete(socket));
      break;
    case "/pub":
      socket.on("message", publish);
      break;
    default:
      socket.close();
  }
});

function publish(data, binary) {
  for (const listener of listeners) {
    if (listener.readyState === WebSocket.OPEN) {
      listener.send(data, { binary });
    }
  }
}
