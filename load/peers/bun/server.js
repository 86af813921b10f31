// The peer Bun, its own server (uWebSockets is inside): `/echo` sends back, what comes on `/pub` goes to everyone on
// `/ws`.
//
// As its documentation advises: the handlers are declared once for all connections, the fan-out is its native
// publish and subscribe. No deflate, no timeouts, no pings: the others send none either.

const port = Number(process.argv[2] ?? 7070);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port,
  idleTimeout: 0,
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (server.upgrade(request, { data: pathname })) {
      return undefined;
    }
    return new Response("a WebSocket, please", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    sendPings: false,
    maxPayloadLength: 1024 * 1024,
    backpressureLimit: 16 * 1024 * 1024,
    open(socket) {
      if (socket.data === "/ws") {
        socket.subscribe("bench");
      }
    },
    message(socket, message) {
      if (socket.data === "/echo") {
        socket.send(message);
      } else if (socket.data === "/pub") {
        server.publish("bench", message);
      }
    },
  },
});
