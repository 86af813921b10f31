/* holdline: a real-time server in a C program. Generated from capi/src by cbindgen: do not edit.
 *
 * Results: 0 or a count, or a negative errno; holdline_strerror says what to do about it. Nothing here
 * exits, installs a signal handler (SIGPIPE may stay at its default) or touches a global, but holdline_log.
 * Threads: a holdline_server belongs to the thread that turns it; a holdline_hub may be used from any thread;
 * a holdline_ctx only inside the callback that got it. Functions that take a ctx are for callbacks alone.
 * Pointers are NULL or valid for the call, also those inside of structs; what must not be NULL: -EINVAL.
 * Texts are UTF-8. Every struct starts with its size, so that programs and libraries of different versions
 * understand each other: what an older one lacks is zero, what the library does not know must be (-E2BIG).
 */


#ifndef HOLDLINE_H
#define HOLDLINE_H

#include <stddef.h>
#include <stdint.h>

/* Where a holdline_message begins: holdline_message m = HOLDLINE_MESSAGE_INIT; m.channel = ... */
#define HOLDLINE_MESSAGE_INIT \
  { sizeof(holdline_message), {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, -1 }

/* Changes when a program must be compiled anew, and with it the name of the shared library. */
#define HOLDLINE_ABI_VERSION 1

/* What a message on a WebSocket is. */
typedef enum holdline_kind {
  /* UTF-8: checked when received, and by holdline_send (-EILSEQ). */
  HOLDLINE_TEXT = 1,
  /* Any bytes. */
  HOLDLINE_BINARY = 2
} holdline_kind;

/* What somebody wants to do. */
typedef enum holdline_action {
  /* Open a stream, a poll or a WebSocket of the built-in routes. There is a request, no channel. */
  HOLDLINE_CONNECT,
  /* Listen to a channel. There is no request (NULL). */
  HOLDLINE_SUBSCRIBE,
  /* Publish to a channel, or drop its history. There is no request (NULL). */
  HOLDLINE_PUBLISH
} holdline_action;

/* What authorize returns, and holdline_answer is given for it. Another number that authorize returns counts as
 * FORBIDDEN; given to holdline_answer it is -EINVAL. */
typedef enum holdline_verdict {
  /* Yes. */
  HOLDLINE_ALLOW = 0,
  /* No: credentials are missing or wrong. */
  HOLDLINE_UNAUTHORIZED = 401,
  /* No. */
  HOLDLINE_FORBIDDEN = 403,
  /* holdline_answer says it, to the ticket that was taken in this callback. Who waits longer
   * than 10 s is refused. */
  HOLDLINE_LATER = 1,
  /* As without a callback: who connects may listen; with open, also publish. */
  HOLDLINE_DEFAULT = 2
} holdline_verdict;

/* What request returns. */
typedef enum holdline_route {
  /* The built-in routes answer. */
  HOLDLINE_PASS = 0,
  /* holdline_reply did. Without it: 500. */
  HOLDLINE_RESPONDED = 1,
  /* It becomes a WebSocket of the application's own; holdline_accept_websocket names the
   * subprotocol, if any. A request that is no valid handshake is refused by the server. */
  HOLDLINE_WEBSOCKET = 2,
  /* holdline_answer does, to the ticket that was taken in this callback. Who waits longer than
   * 10 s gets a 503. */
  HOLDLINE_ROUTE_LATER = 3
} holdline_route;

/* What a subscription of the program's own is told. */
typedef enum holdline_push_kind {
  /* Something was published: id, channel, event, type, payload. */
  HOLDLINE_PUSH_MESSAGE = 1,
  /* Something is missing before id: channel names the channels, separated by commas; payload says why: "epoch",
   * "trimmed", "slow". */
  HOLDLINE_PUSH_GAP = 2,
  /* All that was there when it began has come, up to id. Said once. */
  HOLDLINE_PUSH_LIVE = 3,
  /* There is no room for another channel or subscription: payload says what to do. Nothing follows but the end. */
  HOLDLINE_PUSH_REFUSED = 4,
  /* It has ended: the last call. */
  HOLDLINE_PUSH_ENDED = 5
} holdline_push_kind;

/* What a callback may act through, until it returns; later, and on another thread, -EINVAL. */
typedef struct holdline_ctx holdline_ctx;

/* A handle to a server, for any thread and several at a time. It is counted: each holdline_server_hub and
 * holdline_hub_clone is to be followed by one holdline_hub_free. It outlives the server. None of its
 * functions waits for a client. */
typedef struct holdline_hub holdline_hub;

/* A subscription of the program's own; holdline_listener_free ends it. */
typedef struct holdline_listener holdline_listener;

/* A server. It belongs to the thread that turns it; another one, or a callback, that turns it
 * meanwhile gets -EBUSY. */
typedef struct holdline_server holdline_server;

/* What a server is made of. Set size to sizeof(holdline_config), the rest to zero, and then what
 * you want otherwise: zero means the default. */
typedef struct holdline_config {
  /* sizeof(holdline_config). */
  size_t size;
  /* Addresses, each terminated by a NUL: "7070" (both loopback addresses), "127.0.0.1:7070",
   * ":7070" or "[::]:7070" (every interface), port 0 (a free one), "unix:/run/x.sock". An
   * address that others can reach needs open, or callbacks: a server with callbacks is taken to decide for
   * itself, also if authorize is NULL, and then everybody who can connect may listen. Default "7070". */
  const char *const *listen;
  /* How many addresses. */
  size_t listen_len;
  /* 1: anyone may do everything; no check of Origin, Host or address. Limits of size stay. */
  int open;
  /* 1: the defaults are those for small devices: 64 connections, 256 KiB. */
  int device;
  /* Bytes of heap that peers may make the server hold, history and connections. Default a
   * quarter of the machine's memory, at most 512 MiB. */
  uint64_t memory_bytes;
  /* Connections at a time. Default what descriptors and memory allow. */
  uint32_t connections_max;
  /* Messages kept per channel. Default 1000. */
  uint32_t history_messages;
  /* Seconds for which messages are kept. Default 300. */
  uint32_t history_age_s;
  /* Bytes of the payload of one message. Default 64 KiB. */
  uint32_t message_bytes_max;
  /* Seconds of silence before a heartbeat. Default 25 on WebSockets, 15 on event streams. */
  uint32_t heartbeat_s;
  /* Threads that serve connections, at most 64. Default 1, the one that turns the server; with more of
   * them callbacks are made on all, several at a time, with the same user pointer. */
  uint32_t loops;
  /* Bytes kept per channel. Default 1 MiB. */
  uint64_t history_bytes;
  /* Bytes of a message on an application's own WebSocket. Default 64 KiB. */
  uint32_t ws_message_bytes_max;
  /* Bytes of a frame on an application's own WebSocket. Default 64 KiB. */
  uint32_t ws_frame_bytes_max;
  /* Fragments of a message on an application's own WebSocket; UINT32_MAX: any number. Default 128. */
  uint32_t ws_fragments_max;
  /* Host names without a port, each terminated by a NUL, that are served besides the addresses listened on and
   * localhost: "lamp.local". Who asks for another name gets a 421, so that no web page reaches the server by a
   * name of its own. At most 1024. Default none. */
  const char *const *hosts;
  /* How many host names. */
  size_t hosts_len;
  /* Origins, each terminated by a NUL, whose pages may use the server besides its own: "https://example.org", as
   * browsers write it, without the scheme's own port. A name that begins with "*." stands for all below it. At
   * most 1024. Default none. */
  const char *const *origins;
  /* How many origins. */
  size_t origins_len;
} holdline_config;

/* Names a connection for ever: it carries a generation, so that one which is gone answers -ENOENT
 * and never names the next one. 0 names none. Numbers of one server mean nothing to another. */
typedef uint64_t holdline_conn;

/* Bytes that somebody else owns: those given to a callback are valid until it returns, those given
 * to a function are copied before it returns. Not terminated. {NULL, 0} is empty. */
typedef struct holdline_bytes {
  /* The first byte; may be NULL if len is 0. */
  const uint8_t *ptr;
  /* How many bytes. */
  size_t len;
} holdline_bytes;

/* A request, lent to a callback: only the pointer that the callback was given has headers and a
 * body, and only until it returns. A copy of the struct has none. */
typedef struct holdline_request {
  /* sizeof(holdline_request) of the library. */
  size_t size;
  /* "GET", "POST" … */
  struct holdline_bytes method;
  /* As it was sent, percent-encoding included. */
  struct holdline_bytes path;
  /* What stands behind the question mark; {NULL, 0} without one. */
  struct holdline_bytes query;
  /* The subprotocols that a WebSocket offers, separated by commas; {NULL, 0} without any. */
  struct holdline_bytes protocol;
} holdline_request;

/* What the program does itself; all optional. Each gets the user pointer first. They are called
 * on the thread that turns the server, inside holdline_server_turn, holdline_server_run and (closed
 * alone) holdline_server_free. With loops > 1 also on the other loops' threads, several at a time: what user
 * points to is yours to lock, and a ctx reaches the connections of its own loop alone (-ENOENT else).
 * They must not block, throw or longjmp. */
typedef struct holdline_callbacks {
  /* sizeof(holdline_callbacks). */
  size_t size;
  /* Decides who may: holdline_action, holdline_verdict. All of a request is decided before any of it is done, so
   * do nothing here but decide. */
  int (*authorize)(void *user,
                   struct holdline_ctx *ctx,
                   holdline_conn conn,
                   int action,
                   struct holdline_bytes channel,
                   const struct holdline_request *request);
  /* Sees each request, whole, before the built-in routes: holdline_route. */
  int (*request)(void *user,
                 struct holdline_ctx *ctx,
                 holdline_conn conn,
                 const struct holdline_request *request);
  /* A WebSocket of the application's own is established. */
  void (*open)(void *user, struct holdline_ctx *ctx, holdline_conn conn);
  /* A message on a WebSocket of the application's own: holdline_kind. */
  void (*message)(void *user,
                  struct holdline_ctx *ctx,
                  holdline_conn conn,
                  int kind,
                  const uint8_t *bytes,
                  size_t len);
  /* After -ENOBUFS: less than half of the allowed bytes wait now. */
  void (*writable)(void *user, struct holdline_ctx *ctx, holdline_conn conn);
  /* A WebSocket of the application's own is gone: once for each open. The number names nothing any
   * more. code: RFC 6455 §7.4; 1012: the server was shut down; 1006: it broke, or was cut when the server
   * ended or was freed. */
  void (*closed)(void *user, struct holdline_ctx *ctx, holdline_conn conn, int code);
  /* holdline_signal was called; with loops > 1 once on each of them. */
  void (*signal)(void *user, struct holdline_ctx *ctx, uint64_t value);
  /* What holdline_set_timer asked for. */
  void (*timer)(void *user, struct holdline_ctx *ctx, uint64_t key);
} holdline_callbacks;

/* What is published. Set size to sizeof(holdline_message), ttl_s to -1 (or begin with
 * HOLDLINE_MESSAGE_INIT), and channel. */
typedef struct holdline_message {
  /* sizeof(holdline_message). */
  size_t size;
  /* 1 to 255 of A-Z a-z 0-9 _ . ~ : - beginning with a letter or digit. */
  struct holdline_bytes channel;
  /* Any bytes. Clients see text where they are UTF-8, else base64. */
  struct holdline_bytes payload;
  /* The media type; empty: none. One that promises JSON is held to it: -EBADMSG. */
  struct holdline_bytes type;
  /* The event's name: 1 to 64 visible ASCII; empty: none. */
  struct holdline_bytes event;
  /* The same key on the same channel within five minutes is the same publication: 1 to 128
   * visible ASCII; empty: none. */
  struct holdline_bytes idempotency_key;
  /* Seconds for which it may be replayed; -1: as long as history keeps it; 0: only for those who
   * listen now. */
  int64_t ttl_s;
} holdline_message;

/* Names an answer that is owed (holdline_ticket_of). 0 names none. */
typedef uint64_t holdline_ticket;

/* What a subscription of the program's own is told, lent for the call. What is not there is {NULL, 0}. */
typedef struct holdline_push {
  /* sizeof(holdline_push) of the library. */
  size_t size;
  /* holdline_push_kind. */
  int kind;
  /* The position to come back with, as since. */
  struct holdline_bytes id;
  /* Where it was published. */
  struct holdline_bytes channel;
  /* The event's name. */
  struct holdline_bytes event;
  /* The media type. */
  struct holdline_bytes type;
  /* What was published. */
  struct holdline_bytes payload;
} holdline_push;

#ifdef __cplusplus
extern "C" {
#endif /* __cplusplus */

/* The ABI of the library that is running, to compare with HOLDLINE_ABI_VERSION of the header. */
uint32_t holdline_abi_version(void);

/* Makes a server and listens. config may be NULL: defaults, port 7070 on loopback. callbacks may
 * be NULL: clients listen, and only the program publishes; both are copied. *out is the server, or
 * NULL if it fails. -EINVAL -E2BIG -EADDRINUSE -EACCES and what else the system says; the log says
 * which address. */
int holdline_server_new(const struct holdline_config *config,
                        const struct holdline_callbacks *callbacks,
                        void *user,
                        struct holdline_server **out);

/* The port of the first TCP listener. -EADDRNOTAVAIL if there is none. */
int holdline_server_port(const struct holdline_server *server);

/* Writes where it listens, the address of that number (from 0), into text, terminated, cut if size is too small:
 * "http://127.0.0.1:7070", "unix:/run/x.sock". Returns the whole length. -ENOENT: there are fewer. -EINVAL. */
int holdline_server_address(const struct holdline_server *server,
                            size_t number,
                            char *text,
                            size_t size);

/* Turns until it is shut down; then 0. -ESHUTDOWN: it had ended before; else as holdline_server_turn. */
int holdline_server_run(struct holdline_server *server);

/* One pass: waits at most timeout_ms (0: not at all, -1: until something happens), takes in what
 * came, makes callbacks, and writes what is owed. A signal that the program handles ends the wait.
 * 0: it goes on. -ESHUTDOWN: it has ended, free it. -EBUSY: it is being turned, by this thread (this
 * is a callback) or another. Anything else: it has failed, free it. */
int holdline_server_turn(struct holdline_server *server, int timeout_ms);

/* A descriptor to watch in a loop of your own: when it is readable, or the timeout is over, call
 * holdline_server_turn(server, 0). It stays the same, and belongs to the server. */
int holdline_server_fd(const struct holdline_server *server);

/* How long a loop of your own may sleep, in ms, rounded up; -1: until the descriptor is readable;
 * 0: call holdline_server_turn(server, 0) now. Ask again before each sleep. -EINVAL for NULL. */
int holdline_server_timeout_ms(const struct holdline_server *server);

/* Frees it: closes every descriptor, and calls closed for each WebSocket of the application's own that is
 * left. Hubs stay valid, and say -ESHUTDOWN. While it is being turned (in a callback, or by another thread)
 * it cannot be freed: it is shut down at once instead, its turn returns -ESHUTDOWN, and it must be
 * freed then. NULL does nothing. */
void holdline_server_free(struct holdline_server *server);

/* A handle for other threads, to be freed by holdline_hub_free. NULL for NULL. */
struct holdline_hub *holdline_server_hub(struct holdline_server *server);

/* One more count of the same handle; returns it. NULL for NULL. */
struct holdline_hub *holdline_hub_clone(struct holdline_hub *hub);

/* Takes one count away. NULL does nothing. */
void holdline_hub_free(struct holdline_hub *hub);

/* Publishes. Returns how many listen now; id_out, unless NULL, gets the message's id, terminated, or an
 * empty text. On failure nothing has been published: -EINVAL -E2BIG, -EBADMSG (no JSON), -EMSGSIZE (more
 * than message_bytes_max), -ENOMEM (no room: try again later), -ESHUTDOWN. */
int holdline_publish(struct holdline_hub *hub, const struct holdline_message *message, char id_out[40]);

/* Publishes count messages, one after the other and nobody else's between them, with one wake of the server. They
 * lie as in an array: each has the size of the first. results, unless NULL, gets for each what
 * holdline_publish would return. Returns how many were published; those that were refused are left out. */
int holdline_publish_many(struct holdline_hub *hub,
                          const struct holdline_message *messages,
                          size_t count,
                          int *results);

/* Closes a connection, from any thread: a WebSocket (also one of the built-in routes) by a Close, anything else
 * without. code, reason: as holdline_close. One that is gone is ignored: 0. -EINVAL; -EAGAIN: too much
 * waits for the server to turn; -ESHUTDOWN. */
int holdline_hub_close(struct holdline_hub *hub,
                       holdline_conn conn,
                       int code,
                       const char *reason);

/* Writes what the server holds and has counted, as JSON, into text, terminated, cut if size is too small (1 KiB
 * is enough). Returns the whole length. Numbers of connections may be as old as age_ms. Never waits. -EINVAL. */
int holdline_stats(struct holdline_hub *hub,
                   char *text,
                   size_t size);

/* Answers a ticket, once. To authorize: status is a holdline_verdict, but for LATER, and the rest is not
 * looked at; another number is -EINVAL, and the ticket still waits. To request: status is that of HTTP, 200 to
 * 599, with a body of len bytes of the media type (NULL: none); or HOLDLINE_PASS; or HOLDLINE_WEBSOCKET, and
 * type names the subprotocol (NULL: none; one that was not offered is left out).
 * A ticket that has been answered, or whose asker is gone, is ignored: 0. -EINVAL; -EAGAIN: too much
 * waits for the server to turn; -ESHUTDOWN. */
int holdline_answer(struct holdline_hub *hub,
                    holdline_ticket ticket,
                    int status,
                    const char *type,
                    const uint8_t *body,
                    size_t len);

/* Has the signal callback called with value, on the thread that turns the server. -EAGAIN: too
 * much waits for it to turn; -ESHUTDOWN. */
int holdline_signal(struct holdline_hub *hub, uint64_t value);

/* Ends the server in order: clients are told to come back, and what is left after grace_ms is cut; 0
 * ends it at once. Go on turning until -ESHUTDOWN. Called again, the shorter grace counts. Not for a signal
 * handler: it takes a lock. -ESHUTDOWN if it has ended. */
int holdline_shutdown(struct holdline_hub *hub, int grace_ms);

/* Subscribes the program itself to count channels, 1 to 128, each named once. push is called with everything that is published there,
 * in the one order, on the thread that turns the server, inside of holdline_server_turn: it must not
 * block. since: NULL: from now on; else as for holdline_subscribe. The last call says HOLDLINE_PUSH_ENDED, once:
 * after holdline_listener_free, or with the server, when it is freed at the latest; then user is
 * not used any more. *out is to be freed in any case. -EINVAL; -ENOMEM: too many; -EAGAIN; -ESHUTDOWN. On failure
 * push is not called. */
int holdline_listen(struct holdline_hub *hub,
                    const struct holdline_bytes *channels,
                    size_t count,
                    const char *since,
                    void (*push)(void *user, const struct holdline_push *push),
                    void *user,
                    struct holdline_listener **out);

/* Ends a subscription of the program's own. What is on its way is still handed over, then comes
 * HOLDLINE_PUSH_ENDED. NULL does nothing. */
void holdline_listener_free(struct holdline_listener *listener);

/* Sends on a WebSocket of the application's own. Returns how many bytes wait for it now. -ENOBUFS: too much
 * waits, nothing was taken, and writable is called when there is room; -ENOENT: it is gone, or is no
 * WebSocket; -EILSEQ: text that is not UTF-8; -EINVAL. */
int holdline_send(struct holdline_ctx *ctx, holdline_conn conn, int kind, const uint8_t *bytes, size_t len);

/* Answers the request that the request callback is asked about; then return HOLDLINE_RESPONDED. status: 200
 * to 599; type: the media type, NULL: none. Once for each request (-EALREADY). -EINVAL. */
int holdline_reply(struct holdline_ctx *ctx,
                   holdline_conn conn,
                   int status,
                   const char *type,
                   const uint8_t *body,
                   size_t len);

/* Adds a header line to the answer that holdline_reply gives, or to the handshake of a WebSocket, before or after
 * that. What frames an answer is the server's: Content-Length, Connection and such are -EINVAL. */
int holdline_reply_header(struct holdline_ctx *ctx,
                          holdline_conn conn,
                          const char *name,
                          const char *value);

/* Takes the request that the request callback is asked about as a WebSocket; then return
 * HOLDLINE_WEBSOCKET. protocol: one of those that request->protocol offers, or NULL. -EINVAL -EALREADY. */
int holdline_accept_websocket(struct holdline_ctx *ctx, holdline_conn conn, const char *protocol);

/* Subscribes a WebSocket of the application's own to a channel: it is sent the payloads. since: NULL, "earliest",
 * "latest", an id, seconds since 1970, or how long ago ("10m"). 0, also if it was subscribed.
 * -EINVAL; -ENOENT; -ENOMEM: it has 128 channels, or a limit of channels or memory is reached. */
int holdline_subscribe(struct holdline_ctx *ctx,
                       holdline_conn conn,
                       struct holdline_bytes channel,
                       const char *since);

/* Ends a subscription: 1 if there was one, else 0. -EINVAL: channel is no name; -ENOENT: it is gone, or listens to
 * nothing. */
int holdline_unsubscribe(struct holdline_ctx *ctx,
                         holdline_conn conn,
                         struct holdline_bytes channel);

/* As holdline_publish. */
int holdline_publish_here(struct holdline_ctx *ctx, const struct holdline_message *message, char id_out[40]);

/* Closes a WebSocket: a Close is sent at the end of the turn, and from this call on sends give -ENOENT. closed is
 * called when the connection is gone: at once where the peer answers and hangs up, up to about 7.5 s later
 * where it stays silent. code: 1000, 3000 to 4999 and the others that RFC 6455 lets an endpoint send; 0: 1000.
 * reason: at most 123 bytes, may be NULL. -ENOENT -EINVAL. */
int holdline_close(struct holdline_ctx *ctx,
                   holdline_conn conn,
                   int code,
                   const char *reason);

/* Keeps a number for a connection, until it is gone. -ENOENT -EINVAL. */
int holdline_set_data(struct holdline_ctx *ctx, holdline_conn conn, uint64_t data);

/* The number that holdline_set_data kept; 0 before. -ENOENT -EINVAL. */
int holdline_data(struct holdline_ctx *ctx, holdline_conn conn, uint64_t *data);

/* Has the timer callback called with key, once, after_ms from the moment of this turn, to the millisecond; 0
 * counts as 1. -EINVAL. */
int holdline_set_timer(struct holdline_ctx *ctx, int after_ms, uint64_t key);

/* A ticket for the question at hand: in authorize and request alone, for the connection they are asked about;
 * else 0. The same one each time. Return HOLDLINE_LATER or HOLDLINE_ROUTE_LATER then. */
holdline_ticket holdline_ticket_of(struct holdline_ctx *ctx, holdline_conn conn);

/* Writes who is at the other end of a connection into text, terminated, cut if size is too small:
 * "192.0.2.1:50000", "[2001:db8::1]:50000" or "unix"; it may be a proxy. Returns the whole length. -ENOENT
 * -EINVAL. */
int holdline_peer(struct holdline_ctx *ctx, holdline_conn conn, char *text, size_t size);

/* The value of the first header field of that name, whatever its case; {NULL, 0} if there is none, or
 * the request is not the one that a callback of this thread was given. */
struct holdline_bytes holdline_request_header(const struct holdline_request *request, const char *name);

/* The body, whole; empty if there is none, {NULL, 0} if the request is not the one that a callback of
 * this thread was given. */
struct holdline_bytes holdline_request_body(const struct holdline_request *request);

/* 1 if it asks to become a WebSocket, else 0. -EINVAL if the request is not the one that a callback of this
 * thread was given. */
int holdline_request_is_websocket(const struct holdline_request *request);

/* What a result says and what to do about it: never NULL, never to be freed. */
const char *holdline_strerror(int result);

/* Has lines of the log, of all servers of the process, given to sink; NULL: to nobody, as it is
 * before. level: 1 errors, 2 warnings, 3 information, 4 debugging, 5 everything; 0 nothing. The sink is called
 * on any thread, by several at a time, in the middle of things: it must not block, and every
 * function that it calls here does nothing and returns -EBUSY (NULL, {NULL, 0}). When this returns,
 * the sink before is no longer running. text is valid for the call, without a newline. */
void holdline_log(void (*sink)(void *user, int level, const char *text),
                  void *user,
                  int level);

#ifdef __cplusplus
}  /* extern "C" */
#endif  /* __cplusplus */

#endif  /* HOLDLINE_H */
