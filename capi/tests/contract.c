/* What the header promises, function by function, over real sockets. One line for each test; status 1 at the first
 * that fails. */
#include "harness.h"

static int equals(holdline_bytes bytes, const char *wanted) {
  return bytes.len == strlen(wanted) && memcmp(bytes.ptr, wanted, bytes.len) == 0;
}

static void upgrade(client *c, const char *path, const char *fields) {
  char request[1024];
  int len = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
                     path, fields);
  tell(c, request, (size_t)len);
}

/* A masked frame, with a mask of zeros. */
static void frame(client *c, int opcode, const void *bytes, size_t len) {
  unsigned char out[256] = {0};
  CHECK(len < 126);
  out[0] = (unsigned char)(0x80 | opcode);
  out[1] = (unsigned char)(0x80 | len);
  memcpy(out + 6, bytes, len);
  tell(c, out, 6 + len);
}

/* What the callbacks saw and what they are to do. */
typedef struct {
  holdline_server *server;
  holdline_hub *hub;
  holdline_ctx *kept;
  const holdline_request *kept_request;
  holdline_conn conn;
  holdline_ticket ticket, second;
  int opened, closed, close_code, messages, writable, requests, timers, signals;
  uint64_t value;
  int verdict, route, result;
  char id[40];
} seen;

static void on_open(void *user, holdline_ctx *ctx, holdline_conn conn) {
  seen *s = user;
  uint64_t data = 7;
  CHECK(conn != 0);
  s->conn = conn;
  s->kept = ctx;
  s->opened++;
  IS(0, holdline_data(ctx, conn, &data));
  IS(0, data);
  IS(0, holdline_set_data(ctx, conn, 41 + (uint64_t)s->opened));
  IS(0, holdline_ticket_of(ctx, conn));
}

static void on_message(void *user, holdline_ctx *ctx, holdline_conn conn, int kind, const uint8_t *bytes, size_t len) {
  seen *s = user;
  uint64_t data = 0;
  s->messages++;
  IS(0, holdline_data(ctx, conn, &data));
  CHECK(data >= 42);
  s->result = holdline_send(ctx, conn, kind, bytes, len);
  CHECK(s->result > 0);
}

static void on_closed(void *user, holdline_ctx *ctx, holdline_conn conn, int code) {
  seen *s = user;
  uint64_t data;
  s->closed++;
  s->close_code = code;
  IS(-ENOENT, holdline_send(ctx, conn, HOLDLINE_TEXT, (const uint8_t *)"x", 1));
  IS(-ENOENT, holdline_close(ctx, conn, 1000, NULL));
  IS(-ENOENT, holdline_data(ctx, conn, &data));
  IS(-ENOENT, holdline_set_data(ctx, conn, 1));
  IS(-ENOENT, holdline_subscribe(ctx, conn, text("a"), NULL));
  IS(-ENOENT, holdline_unsubscribe(ctx, conn, text("a")));
}

static int on_request(void *user, holdline_ctx *ctx, holdline_conn conn, const holdline_request *request) {
  seen *s = user;
  char peer[64];
  s->requests++;
  s->kept_request = request;
  CHECK(request->size >= sizeof *request);
  if (equals(request->path, "/own")) {
    holdline_request copy = *request;
    CHECK(equals(request->method, "POST") && equals(request->query, "a=1"));
    CHECK(equals(holdline_request_header(request, "x-test"), "value"));
    CHECK(equals(holdline_request_body(request), "the body"));
    CHECK(holdline_request_header(request, "absent").ptr == NULL);
    CHECK(holdline_request_header(&copy, "x-test").ptr == NULL);
    CHECK(holdline_peer(ctx, conn, peer, sizeof peer) > 0 && strncmp(peer, "127.0.0.1:", 10) == 0);
    IS(0, holdline_request_is_websocket(request));
    IS(-EINVAL, holdline_request_is_websocket(&copy));
    IS(-ENOENT, holdline_subscribe(ctx, conn, text("a"), NULL)); /* it listens to nothing */
    IS(-ENOENT, holdline_unsubscribe(ctx, conn, text("a")));
    IS(-EINVAL, holdline_reply(ctx, conn, 99, "text/plain", NULL, 0));
    IS(-EINVAL, holdline_reply(ctx, conn, 204, NULL, (const uint8_t *)"x", 1));
    IS(0, holdline_reply_header(ctx, conn, "X-Before", "1"));
    IS(-EINVAL, holdline_reply_header(ctx, conn, "Content-Length", "1"));
    IS(-EINVAL, holdline_reply_header(ctx, conn, "X-Split", "a\r\nb: c"));
    IS(-EINVAL, holdline_reply(ctx, conn, 200, "a\r\nb", NULL, 0));
    IS(-EINVAL, holdline_reply(ctx, conn + 1, 200, NULL, NULL, 0));
    IS(0, holdline_reply(ctx, conn, 201, "text/plain", (const uint8_t *)"made\n", 5));
    IS(-EALREADY, holdline_reply(ctx, conn, 201, "text/plain", (const uint8_t *)"made\n", 5));
    IS(0, holdline_reply_header(ctx, conn, "X-After", "2"));
    return HOLDLINE_RESPONDED;
  }
  if (equals(request->path, "/socket")) {
    IS(1, holdline_request_is_websocket(request));
    IS(0, holdline_reply_header(ctx, conn, "Set-Cookie", "seen=1"));
    const char *protocol = request->protocol.len > 0 ? "chat.v2" : NULL;
    IS(-EINVAL, holdline_accept_websocket(ctx, conn, "not.offered"));
    IS(0, holdline_accept_websocket(ctx, conn, protocol));
    return HOLDLINE_WEBSOCKET;
  }
  if (equals(request->path, "/later")) {
    s->ticket = holdline_ticket_of(ctx, conn);
    CHECK(s->ticket != 0);
    IS(0, holdline_ticket_of(ctx, conn + 1));
    CHECK(holdline_ticket_of(ctx, conn) == s->ticket);
    return HOLDLINE_ROUTE_LATER;
  }
  return s->route;
}

static int on_authorize(void *user, holdline_ctx *ctx, holdline_conn conn, int action, holdline_bytes channel,
                        const holdline_request *request) {
  seen *s = user;
  if (action == HOLDLINE_CONNECT) {
    CHECK(request != NULL && channel.ptr == NULL && channel.len == 0);
    CHECK(request->path.len > 1);
    return HOLDLINE_ALLOW;
  }
  CHECK(channel.len > 0);
  if (s->verdict == HOLDLINE_LATER) {
    s->ticket = holdline_ticket_of(ctx, conn);
    CHECK(s->ticket != 0);
  }
  return s->verdict;
}

static void on_signal(void *user, holdline_ctx *ctx, uint64_t value) {
  seen *s = user;
  holdline_message message = message_of("signals", "from a callback");
  s->signals++;
  s->value = value;
  s->result = holdline_publish_here(ctx, &message, s->id);
  IS(0, holdline_set_timer(ctx, 5, value + 1));
  IS(-EINVAL, holdline_set_timer(ctx, -1, value + 1));
}

static void on_timer(void *user, holdline_ctx *ctx, uint64_t key) {
  seen *s = user;
  CHECK(ctx != NULL);
  s->timers++;
  s->value = key;
}

static void on_writable(void *user, holdline_ctx *ctx, holdline_conn conn) {
  seen *s = user;
  CHECK(ctx != NULL && conn == s->conn);
  s->writable++;
}

static holdline_callbacks all(void) {
  holdline_callbacks table = {0};
  table.size = sizeof table;
  table.authorize = on_authorize;
  table.request = on_request;
  table.open = on_open;
  table.message = on_message;
  table.writable = on_writable;
  table.closed = on_closed;
  table.signal = on_signal;
  table.timer = on_timer;
  return table;
}

static holdline_server *with_all(seen *s, holdline_config *config) {
  holdline_callbacks table = all();
  memset(s, 0, sizeof *s);
  s->server = serve(config, &table, s);
  s->hub = holdline_server_hub(s->server);
  CHECK(s->hub != NULL);
  return s->server;
}

static void done(seen *s) {
  holdline_server_free(s->server);
  holdline_hub_free(s->hub);
}

/* ---------------------------------------------------------------- without callbacks */

static void versions_agree(void) { IS(HOLDLINE_ABI_VERSION, holdline_abi_version()); }

static void every_result_has_words(void) {
  int result;
  for (result = -140; result < 3; result++) {
    CHECK(strlen(holdline_strerror(result)) > 10);
  }
}

static void a_published_message_reaches_a_stream(void) {
  holdline_server *server = serve(NULL, NULL, NULL);
  holdline_hub *hub = holdline_server_hub(server);
  holdline_message message = message_of("news", "hello from C");
  client *c = dial(server);
  char id[40] = "", other[40] = "";
  ask(c, "GET /channels/news", "Accept: text/event-stream\r\n", "");
  UNTIL(server, has(c, "retry: "));
  message.event = text("greeting");
  IS(1, holdline_publish(hub, &message, id));
  UNTIL(server, has(c, "event: greeting\n") && has(c, "data: hello from C\n"));
  CHECK(strchr(id, '-') != NULL && has(c, id));
  message.idempotency_key = text("once");
  IS(1, holdline_publish(hub, &message, id));
  IS(1, holdline_publish(hub, &message, other));
  CHECK(strcmp(id, other) == 0);
  IS(1, holdline_publish(hub, &message, NULL));
  hang_up(c);
  holdline_hub_free(hub);
  holdline_server_free(server);
}

static void many_are_published_at_once(void) {
  holdline_server *server = serve(NULL, NULL, NULL);
  holdline_hub *hub = holdline_server_hub(server);
  struct { /* as of a newer header: larger than ours */
    holdline_message known;
    size_t more[3];
  } many[4];
  holdline_message plain[2];
  int results[4], n;
  client *c = dial(server);
  memset(many, 0, sizeof many);
  for (n = 0; n < 4; n++) {
    many[n].known = message_of(n == 2 ? "not a channel" : "many", "x");
    many[n].known.size = sizeof many[n];
    many[n].known.event = text(n == 0 ? "first" : n == 1 ? "second" : "fourth");
  }
  IS(3, holdline_publish_many(hub, &many[0].known, 4, results));
  IS(0, results[0]);
  IS(-EINVAL, results[2]);
  IS(0, results[3]);
  IS(3, holdline_publish_many(hub, &many[0].known, 4, NULL));
  IS(0, holdline_publish_many(hub, &many[0].known, 0, NULL));
  IS(-EINVAL, holdline_publish_many(hub, &many[0].known, SIZE_MAX, NULL));
  plain[0] = plain[1] = message_of("many", "plain");
  IS(2, holdline_publish_many(hub, plain, 2, results));
  ask(c, "GET /poll?channel=many&since=earliest", "", "");
  UNTIL(server, has(c, "plain"));
  CHECK(has(c, "first") && has(c, "second") && has(c, "fourth"));
  hang_up(c);
  holdline_hub_free(hub);
  holdline_server_free(server);
  IS(-EINVAL, holdline_publish_many(NULL, plain, 2, results));
}

typedef struct {
  int kinds[6];
  char last_id[40], payload[64];
  holdline_hub *hub;
} heard;

static void on_push(void *user, const holdline_push *push) {
  heard *h = user;
  CHECK(push->size == sizeof *push && push->kind >= 1 && push->kind <= 5);
  CHECK(h->kinds[HOLDLINE_PUSH_ENDED] == 0); /* nothing follows the end */
  h->kinds[push->kind]++;
  if (push->id.len > 0) {
    CHECK(push->id.len < sizeof h->last_id);
    memcpy(h->last_id, push->id.ptr, push->id.len);
    h->last_id[push->id.len] = 0;
  }
  if (push->kind == HOLDLINE_PUSH_MESSAGE) {
    holdline_message echo = message_of("echoes", "from a listener");
    CHECK(equals(push->channel, "here") && equals(push->event, "e") && equals(push->type, "text/x"));
    memcpy(h->payload, push->payload.ptr, push->payload.len);
    CHECK(holdline_publish(h->hub, &echo, NULL) >= 0);
  }
}

static void the_program_listens_itself(void) {
  holdline_server *server = serve(NULL, NULL, NULL);
  holdline_hub *hub = holdline_server_hub(server);
  holdline_bytes channels[2], bad[1];
  holdline_message m = message_of("here", "kept");
  holdline_listener *listener = NULL, *other = NULL;
  heard h = {0}, second = {0};
  char id[40];
  channels[0] = text("here");
  channels[1] = text("there");
  bad[0] = text("not a channel");
  h.hub = second.hub = hub;
  m.event = text("e");
  m.type = text("text/x");
  IS(0, holdline_publish(hub, &m, NULL));
  IS(0, holdline_listen(hub, channels, 2, "earliest", on_push, &h, &listener));
  UNTIL(server, h.kinds[HOLDLINE_PUSH_LIVE] == 1);
  IS(1, h.kinds[HOLDLINE_PUSH_MESSAGE]);
  CHECK(strcmp(h.payload, "kept") == 0);
  m.payload = text("live");
  IS(1, holdline_publish(hub, &m, id));
  UNTIL(server, h.kinds[HOLDLINE_PUSH_MESSAGE] == 2);
  CHECK(strcmp(h.payload, "live") == 0 && strcmp(h.last_id, id) == 0);
  holdline_listener_free(listener);
  UNTIL(server, h.kinds[HOLDLINE_PUSH_ENDED] == 1);
  IS(0, holdline_publish(hub, &m, NULL));
  IS(0, holdline_listen(hub, channels, 1, id, on_push, &second, &other)); /* comes back with the id */
  UNTIL(server, second.kinds[HOLDLINE_PUSH_MESSAGE] == 1);
  IS(-EINVAL, holdline_listen(hub, bad, 1, NULL, on_push, &h, &listener));
  CHECK(listener == NULL);
  IS(-EINVAL, holdline_listen(hub, channels, 0, NULL, on_push, &h, &listener));
  IS(-EINVAL, holdline_listen(hub, NULL, 1, NULL, on_push, &h, &listener));
  IS(-EINVAL, holdline_listen(hub, channels, 1, "nonsense", on_push, &h, &listener));
  IS(-EINVAL, holdline_listen(hub, channels, 1, NULL, NULL, &h, &listener));
  IS(-EINVAL, holdline_listen(hub, channels, 1, NULL, on_push, &h, NULL));
  IS(-EINVAL, holdline_listen(NULL, channels, 1, NULL, on_push, &h, &listener));
  IS(0, second.kinds[HOLDLINE_PUSH_ENDED]);
  holdline_server_free(server);
  IS(1, second.kinds[HOLDLINE_PUSH_ENDED]);
  IS(-ESHUTDOWN, holdline_listen(hub, channels, 1, NULL, on_push, &h, &listener));
  IS(1, h.kinds[HOLDLINE_PUSH_ENDED]); /* what fails is not called */
  holdline_listener_free(other);
  holdline_listener_free(NULL);
  holdline_hub_free(hub);
}

static void a_listener_that_never_began_is_told_its_end(void) {
  holdline_server *server = serve(NULL, NULL, NULL);
  holdline_hub *hub = holdline_server_hub(server);
  holdline_bytes channel = text("here");
  holdline_listener *listener;
  heard h = {0};
  h.hub = hub;
  IS(0, holdline_listen(hub, &channel, 1, NULL, on_push, &h, &listener));
  holdline_server_free(server); /* it was never turned */
  IS(1, h.kinds[HOLDLINE_PUSH_ENDED]);
  holdline_listener_free(listener);
  holdline_hub_free(hub);
}

static void a_ttl_of_zero_is_not_kept(void) {
  holdline_server *server = serve(NULL, NULL, NULL);
  holdline_hub *hub = holdline_server_hub(server);
  holdline_message message = message_of("a", "now only");
  client *c = dial(server);
  message.ttl_s = 0;
  IS(0, holdline_publish(hub, &message, NULL));
  message = message_of("a", "kept");
  IS(0, holdline_publish(hub, &message, NULL));
  ask(c, "GET /poll?channel=a&since=earliest", "", "");
  UNTIL(server, has(c, "kept"));
  CHECK(!has(c, "now only"));
  hang_up(c);
  holdline_hub_free(hub);
  holdline_server_free(server);
}

static void a_bad_message_is_refused_by_its_fault(void) {
  holdline_config config = {0};
  holdline_server *server;
  holdline_hub *hub;
  holdline_message m = message_of("a", "{\"open\":");
  char id[40] = "x", large[129] = {0};
  config.message_bytes_max = 100;
  server = serve(&config, NULL, NULL);
  hub = holdline_server_hub(server);
  m.type = text("application/json");
  IS(-EBADMSG, holdline_publish(hub, &m, id));
  IS(0, id[0]);
  m.type = text("text/\n");
  IS(-EINVAL, holdline_publish(hub, &m, NULL));
  m = message_of("no channel", "");
  IS(-EINVAL, holdline_publish(hub, &m, NULL));
  m = message_of("a", "");
  m.event = text("open");
  IS(-EINVAL, holdline_publish(hub, &m, NULL));
  m = message_of("a", "");
  m.ttl_s = -2;
  IS(-EINVAL, holdline_publish(hub, &m, NULL));
  m = message_of("a", memset(large, 'x', 128));
  IS(-EMSGSIZE, holdline_publish(hub, &m, NULL));
  m.payload.len = SIZE_MAX / 2;
  IS(-EMSGSIZE, holdline_publish(hub, &m, NULL));
  m.payload.len = SIZE_MAX;
  IS(-EINVAL, holdline_publish(hub, &m, NULL));
  m = message_of("a", "");
  m.channel = text("\xff");
  IS(-EINVAL, holdline_publish(hub, &m, NULL));
  m = message_of("a", "");
  m.size = 0;
  IS(-EINVAL, holdline_publish(hub, &m, NULL));
  holdline_hub_free(hub);
  holdline_server_free(server);
}

static void a_bare_server_lets_only_the_program_publish(void) {
  holdline_config config = {0};
  holdline_server *server = serve(NULL, NULL, NULL);
  client *c = dial(server);
  ask(c, "POST /channels/a", "", "x");
  UNTIL(server, has(c, "HTTP/1.1 403 "));
  hang_up(c);
  holdline_server_free(server);
  config.open = 1;
  server = serve(&config, NULL, NULL);
  c = dial(server);
  ask(c, "POST /channels/a", "", "x");
  UNTIL(server, has(c, "HTTP/1.1 202 "));
  hang_up(c);
  holdline_server_free(server);
}

static void limits_of_the_config_count(void) {
  holdline_config config = {0};
  holdline_server *server;
  client *c;
  config.device = 1;
  config.history_messages = 1;
  config.open = 1;
  config.memory_bytes = 1 << 20;
  server = serve(&config, NULL, NULL);
  c = dial(server);
  ask(c, "POST /channels/a", "", "first");
  ask(c, "POST /channels/a", "", "second");
  ask(c, "GET /poll?channel=a&since=earliest", "", "");
  UNTIL(server, has(c, "second"));
  CHECK(!has(c, "\"first\""));
  hang_up(c);
  holdline_server_free(server);
}

static void ask_as(client *c, const char *host, const char *origin) {
  char request[512];
  int len = snprintf(request, sizeof request, "GET /poll?channel=a&wait=0 HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\n\r\n",
                     host, origin);
  tell(c, request, (size_t)len);
}

static void hosts_and_origins_are_served_if_named(void) {
  static const char *const hosts[] = {"Lamp.local"}, *const origins[] = {"https://app.example"}, *const bad[] = {NULL};
  holdline_config config = {0};
  int named;
  for (named = 0; named < 2; named++) {
    holdline_server *server;
    client *by_name, *of_page;
    config.hosts = hosts;
    config.origins = origins;
    config.hosts_len = config.origins_len = (size_t)named;
    server = serve(&config, NULL, NULL);
    by_name = dial(server);
    ask_as(by_name, "lamp.local:80", "http://lamp.local:80");
    UNTIL(server, has(by_name, named ? "HTTP/1.1 200 " : "HTTP/1.1 421 "));
    hang_up(by_name);
    of_page = dial(server);
    ask_as(of_page, "127.0.0.1", "https://app.example");
    UNTIL(server, has(of_page, named ? "HTTP/1.1 200 " : "HTTP/1.1 403 "));
    hang_up(of_page);
    holdline_server_free(server);
  }
  config.hosts = bad;
  config.origins_len = 0;
  {
    static const char *const no_hosts[] = {"lamp.local:80"}, *const no_origins[] = {"app.example"};
    holdline_server *server;
    IS(-EINVAL, holdline_server_new(&config, NULL, NULL, &server));
    config.hosts = NULL;
    IS(-EINVAL, holdline_server_new(&config, NULL, NULL, &server));
    config.hosts = no_hosts;
    IS(-EINVAL, holdline_server_new(&config, NULL, NULL, &server));
    config.hosts_len = 0;
    config.origins = no_origins;
    config.origins_len = 1;
    IS(-EINVAL, holdline_server_new(&config, NULL, NULL, &server));
    config.size = offsetof(holdline_config, hosts); /* an older program knows of none */
    IS(0, holdline_server_new(&config, NULL, NULL, &server));
    holdline_server_free(server);
  }
}

static int descriptors_end(void) {
  int fd = open("/dev/null", O_RDONLY);
  CHECK(fd >= 0 && close(fd) == 0);
  return fd;
}

static void what_the_system_says_is_passed_on(void) {
  char path[80], file[64];
  const char *here[] = {"127.0.0.1:0"}, *there[1];
  holdline_config config = {0};
  holdline_server *server;
  struct rlimit before, none;
  int fd;
  config.size = sizeof config;
  config.listen_len = 1;
  CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
  none = before;
  none.rlim_cur = (rlim_t)descriptors_end();
  CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
  config.listen = here;
  IS(-EMFILE, holdline_server_new(&config, NULL, NULL, &server));
  CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
  config.listen = there;
  there[0] = "unix:/tmp";
  IS(-EEXIST, holdline_server_new(&config, NULL, NULL, &server));
  snprintf(file, sizeof file, "/tmp/holdline-contract-file-%ld", (long)getpid());
  snprintf(path, sizeof path, "unix:%s", file);
  there[0] = path;
  CHECK((fd = open(file, O_CREAT | O_EXCL | O_WRONLY, 0600)) >= 0 && close(fd) == 0);
  IS(-EEXIST, holdline_server_new(&config, NULL, NULL, &server));
  CHECK(unlink(file) == 0);
  there[0] = "unix:/tmp/holdline-nowhere/x";
  IS(-ENOENT, holdline_server_new(&config, NULL, NULL, &server));
}

static void what_cannot_be_bound_says_why(void) {
  const char *taken[1], *nobody[] = {"192.0.2.1:1"}, *open[] = {":0"}, *none[] = {"nonsense"}, *null[] = {NULL};
  char address[32];
  holdline_config config = {0};
  holdline_server *first = serve(NULL, NULL, NULL), *second = first;
  snprintf(address, sizeof address, "127.0.0.1:%d", holdline_server_port(first));
  taken[0] = address;
  config.size = sizeof config;
  config.listen_len = 1;
  config.listen = taken;
  IS(-EADDRINUSE, holdline_server_new(&config, NULL, NULL, &second));
  CHECK(second == NULL);
  config.listen = open;
  IS(-EINVAL, holdline_server_new(&config, NULL, NULL, &second));
  config.listen = none;
  IS(-EINVAL, holdline_server_new(&config, NULL, NULL, &second));
  config.listen = null;
  IS(-EINVAL, holdline_server_new(&config, NULL, NULL, &second));
  config.listen = nobody;
  config.open = 1;
  IS(-EADDRNOTAVAIL, holdline_server_new(&config, NULL, NULL, &second));
  holdline_server_free(first);
}

static void a_unix_socket_has_no_port(void) {
  char path[64], where[64];
  const char *listen[1];
  holdline_config config = {0};
  holdline_server *server;
  snprintf(path, sizeof path, "unix:/tmp/holdline-contract-%ld", (long)getpid());
  listen[0] = path;
  config.size = sizeof config;
  config.listen = listen;
  config.listen_len = 1;
  IS(0, holdline_server_new(&config, NULL, NULL, &server));
  IS(-EADDRNOTAVAIL, holdline_server_port(server));
  IS(strlen(path), holdline_server_address(server, 0, where, sizeof where));
  CHECK(strcmp(where, path) == 0);
  IS(strlen(path), holdline_server_address(server, 0, where, 5));
  CHECK(strcmp(where, "unix") == 0);
  IS(-ENOENT, holdline_server_address(server, 1, where, sizeof where));
  holdline_server_free(server);
}

static void structs_of_other_versions_are_understood(void) {
  struct {
    holdline_config known;
    size_t more[2];
  } newer = {{0}, {0}};
  static const char *const here[] = {"127.0.0.1:0"};
  holdline_server *server;
  newer.known.listen = here;
  newer.known.listen_len = 1;
  newer.known.size = sizeof newer;
  IS(0, holdline_server_new(&newer.known, NULL, NULL, &server));
  holdline_server_free(server);
  newer.more[1] = 1;
  IS(-E2BIG, holdline_server_new(&newer.known, NULL, NULL, &server));
  newer.known.size = offsetof(holdline_config, open); /* an older one; what lies beyond is not looked at */
  newer.known.loops = 999;
  IS(0, holdline_server_new(&newer.known, NULL, NULL, &server));
  holdline_server_free(server);
  newer.known.size = 3;
  IS(-EINVAL, holdline_server_new(&newer.known, NULL, NULL, &server));
}

static void it_nests_in_a_loop_by_its_descriptor(void) {
  holdline_server *server = serve(NULL, NULL, NULL);
  holdline_hub *hub = holdline_server_hub(server);
  holdline_message message = message_of("a", "over poll");
  client *c = dial(server);
  long long end = now_ms() + 30000;
  int fd = holdline_server_fd(server), published = 0;
  CHECK(fd >= 0);
  ask(c, "GET /channels/a", "Accept: text/event-stream\r\n", "");
  while (!has(c, "data: over poll")) {
    struct pollfd watched = {fd, POLLIN, 0};
    int timeout = holdline_server_timeout_ms(server);
    CHECK(timeout >= -1 && now_ms() < end);
    CHECK(poll(&watched, 1, timeout >= 0 && timeout < 50 ? timeout : 50) >= 0);
    IS(0, holdline_server_turn(server, 0));
    if (!published && has(c, "retry: ")) {
      IS(1, holdline_publish(hub, &message, NULL));
      published = 1;
    }
  }
  IS(fd, holdline_server_fd(server));
  hang_up(c);
  holdline_hub_free(hub);
  holdline_server_free(server);
}

static void *run(void *server) { return (void *)(intptr_t)holdline_server_run(server); }

static void it_runs_until_another_thread_ends_it(void) {
  holdline_server *server = serve(NULL, NULL, NULL);
  holdline_hub *hub = holdline_server_hub(server), *twin = holdline_hub_clone(hub);
  holdline_message message = message_of("a", "b");
  pthread_t thread;
  void *result;
  client *c = dial(server);
  CHECK(twin != NULL);
  CHECK(pthread_create(&thread, NULL, run, server) == 0);
  ask(c, "GET /health", "", "");
  while (!has(c, "HTTP/1.1 200")) {
  }
  IS(-EBUSY, holdline_server_turn(server, 0)); /* another thread does */
  IS(-EINVAL, holdline_shutdown(hub, -1));
  IS(0, holdline_shutdown(hub, 100));
  CHECK(pthread_join(thread, &result) == 0);
  IS(0, (intptr_t)result);
  IS(-ESHUTDOWN, holdline_server_turn(server, 0));
  IS(-ESHUTDOWN, holdline_server_run(server));
  IS(0, holdline_server_timeout_ms(server));
  IS(-ESHUTDOWN, holdline_publish(hub, &message, NULL));
  holdline_server_free(server);
  holdline_hub_free(hub); /* the other count is left */
  IS(-ESHUTDOWN, holdline_publish(twin, &message, NULL));
  IS(-ESHUTDOWN, holdline_signal(twin, 1));
  IS(-ESHUTDOWN, holdline_shutdown(twin, 0));
  IS(-ESHUTDOWN, holdline_answer(twin, 1, 200, NULL, NULL, 0));
  holdline_hub_free(twin);
  hang_up(c);
}

/* ---------------------------------------------------------------- callbacks */

static void own_requests_are_answered_beside_the_built_in_routes(void) {
  seen s;
  holdline_server *server = with_all(&s, NULL);
  client *c = dial(server);
  ask(c, "POST /own?a=1", "X-Test: value\r\n", "the body");
  UNTIL(server, has(c, "HTTP/1.1 201 ") && has(c, "made\n"));
  CHECK(has(c, "Content-Type: text/plain\r\n"));
  CHECK(has(c, "X-Before: 1\r\n") && has(c, "X-After: 2\r\n") && !has(c, "X-Split"));
  ask(c, "GET /health", "", "");
  UNTIL(server, has(c, "\"status\":\"ok\""));
  IS(2, s.requests);
  s.route = HOLDLINE_RESPONDED; /* without a reply */
  ask(c, "GET /else", "", "");
  UNTIL(server, has(c, "HTTP/1.1 500 "));
  s.route = 77;
  ask(c, "GET /else", "", "");
  UNTIL(server, s.requests == 4);
  hang_up(c);
  done(&s);
}

static void an_own_websocket_echoes(void) {
  seen s;
  holdline_server *server = with_all(&s, NULL);
  client *c = dial(server);
  upgrade(c, "/socket", "Sec-WebSocket-Protocol: chat.v1\r\nSec-WebSocket-Protocol: chat.v2\r\n");
  UNTIL(server, has(c, "HTTP/1.1 101 ") && has(c, "\r\n\r\n"));
  CHECK(has(c, "Set-Cookie: seen=1\r\n"));
  CHECK(has(c, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") && has(c, "chat.v2\r\n"));
  frame(c, 1, "hello", 5);
  UNTIL(server, has(c, "\x81\x05hello"));
  frame(c, 2, "\xff\xfe", 2);
  UNTIL(server, has(c, "\x82\x02\xff\xfe"));
  IS(2, s.messages);
  frame(c, 8, "\x0b\xb8", 2);
  UNTIL(server, s.closed == 1);
  IS(3000, s.close_code);
  IS(1, s.opened);
  hang_up(c);
  done(&s);
}

static void a_hub_closes_a_connection_and_tells_what_there_is(void) {
  seen s;
  holdline_server *server = with_all(&s, NULL);
  client *c = dial(server);
  char stats[1024], few[10];
  int len;
  upgrade(c, "/socket", "");
  UNTIL(server, s.opened == 1);
  CHECK(holdline_stats(s.hub, stats, sizeof stats) > 0); /* asks for new ones */
  UNTIL(server, holdline_stats(s.hub, stats, sizeof stats) > 0 && strstr(stats, "\"ws\":1,") != NULL);
  len = holdline_stats(s.hub, stats, sizeof stats);
  CHECK(len == (int)strlen(stats) && stats[0] == '{' && stats[len - 1] == '}');
  CHECK(holdline_stats(s.hub, few, sizeof few) > 100 && strlen(few) == 9);
  IS(-EINVAL, holdline_stats(s.hub, NULL, 10));
  IS(-EINVAL, holdline_stats(NULL, stats, sizeof stats));
  IS(-EINVAL, holdline_hub_close(s.hub, s.conn, 1005, NULL));
  IS(-EINVAL, holdline_hub_close(NULL, s.conn, 1000, NULL));
  IS(0, holdline_hub_close(s.hub, UINT64_MAX, 1000, NULL)); /* nobody */
  IS(0, holdline_hub_close(s.hub, s.conn, 4001, "go"));
  UNTIL(server, has(c, "\x88\x04\x0f\xa1" "go"));
  frame(c, 8, "\x0f\xa1", 2);
  UNTIL(server, s.closed == 1);
  hang_up(c);
  done(&s);
}

static void who_is_left_is_closed_by_free(void) {
  seen s;
  holdline_server *server = with_all(&s, NULL);
  client *c = dial(server);
  upgrade(c, "/socket", "");
  UNTIL(server, s.opened == 1);
  done(&s);
  IS(1, s.closed);
  IS(1006, s.close_code);
  hang_up(c);
}

static void an_answer_comes_later(void) {
  seen s;
  holdline_server *server = with_all(&s, NULL);
  client *c = dial(server);
  ask(c, "GET /later", "", "");
  UNTIL(server, s.ticket != 0);
  IS(-EINVAL, holdline_answer(s.hub, 0, 200, NULL, NULL, 0));
  IS(-EINVAL, holdline_answer(s.hub, s.ticket, 99, NULL, NULL, 0));
  IS(0, holdline_answer(s.hub, s.ticket, 203, "text/plain", (const uint8_t *)"late\n", 5));
  UNTIL(server, has(c, "HTTP/1.1 203 ") && has(c, "late\n"));
  IS(0, holdline_answer(s.hub, s.ticket, 200, NULL, NULL, 0)); /* answered: ignored */
  s.ticket = 0;
  upgrade(c, "/later", "Sec-WebSocket-Protocol: x\r\n");
  UNTIL(server, s.ticket != 0);
  IS(0, holdline_answer(s.hub, s.ticket, HOLDLINE_WEBSOCKET, "not.offered", NULL, 0));
  UNTIL(server, has(c, "HTTP/1.1 101 ") && s.opened == 1);
  CHECK(!has(c, "not.offered"));
  hang_up(c);
  UNTIL(server, s.closed == 1);
  c = dial(server);
  s.ticket = 0;
  ask(c, "GET /later", "", "");
  UNTIL(server, s.ticket != 0);
  IS(0, holdline_answer(s.hub, s.ticket, HOLDLINE_PASS, NULL, NULL, 0));
  UNTIL(server, has(c, "HTTP/1.1 404 "));
  hang_up(c);
  done(&s);
}

static void a_verdict_decides_now_or_later(void) {
  static const struct {
    int verdict;
    const char *status;
  } table[] = {{HOLDLINE_ALLOW, "HTTP/1.1 202 "},       {HOLDLINE_UNAUTHORIZED, "HTTP/1.1 401 "},
               {HOLDLINE_FORBIDDEN, "HTTP/1.1 403 "},   {HOLDLINE_DEFAULT, "HTTP/1.1 403 "},
               {12345, "HTTP/1.1 403 "}};
  size_t n;
  int later;
  for (later = 0; later < 2; later++) {
    for (n = 0; n < sizeof table / sizeof *table; n++) {
      seen s;
      holdline_server *server = with_all(&s, NULL);
      client *c = dial(server);
      s.verdict = later ? HOLDLINE_LATER : table[n].verdict;
      ask(c, "POST /channels/a", "", "x");
      if (later) {
        UNTIL(server, s.ticket != 0);
        if (table[n].verdict == 12345) {
          IS(-EINVAL, holdline_answer(s.hub, s.ticket, 12345, NULL, NULL, 0));
          IS(0, holdline_answer(s.hub, s.ticket, HOLDLINE_FORBIDDEN, NULL, NULL, 0));
        } else {
          IS(0, holdline_answer(s.hub, s.ticket, table[n].verdict, NULL, NULL, 0));
        }
      }
      UNTIL(server, has(c, table[n].status));
      hang_up(c);
      done(&s);
    }
  }
}

static void *signal_later(void *hub) {
  IS(0, holdline_signal(hub, 1000));
  return NULL;
}

static void a_signal_of_another_thread_wakes_the_server(void) {
  seen s;
  holdline_server *server = with_all(&s, NULL);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, signal_later, s.hub) == 0);
  while (s.signals == 0) {
    IS(0, holdline_server_turn(server, -1));
  }
  IS(1000, s.value);
  IS(0, s.result);
  CHECK(strchr(s.id, '-') != NULL);
  UNTIL(server, s.timers == 1);
  IS(1001, s.value);
  CHECK(pthread_join(thread, NULL) == 0);
  done(&s);
}

/* ---------------------------------------------------------------- subscriptions and full outboxes */

static void subscribe_on_open(void *user, holdline_ctx *ctx, holdline_conn conn) {
  seen *s = user;
  on_open(user, ctx, conn);
  IS(0, holdline_subscribe(ctx, conn, text("a"), "earliest"));
  IS(0, holdline_subscribe(ctx, conn, text("a"), NULL));
  IS(-EINVAL, holdline_subscribe(ctx, conn, text("a b"), NULL));
  IS(-EINVAL, holdline_subscribe(ctx, conn, text("b"), "nonsense"));
  IS(0, holdline_subscribe(ctx, conn, text("b"), NULL));
  IS(1, holdline_unsubscribe(ctx, conn, text("b")));
  IS(0, holdline_unsubscribe(ctx, conn, text("b")));
  IS(-EINVAL, holdline_unsubscribe(ctx, conn, text("b c")));
  IS(-EINVAL, holdline_unsubscribe(ctx, conn, text("")));
  s->opened = 1;
}

static void an_own_websocket_subscribes(void) {
  seen s;
  holdline_callbacks table = all();
  holdline_message m = message_of("a", "kept before");
  client *c;
  memset(&s, 0, sizeof s);
  table.open = subscribe_on_open;
  s.server = serve(NULL, &table, &s);
  s.hub = holdline_server_hub(s.server);
  IS(0, holdline_publish(s.hub, &m, NULL));
  c = dial(s.server);
  upgrade(c, "/socket", "");
  UNTIL(s.server, has(c, "kept before"));
  m = message_of("a", "live");
  IS(1, holdline_publish(s.hub, &m, NULL));
  UNTIL(s.server, has(c, "\x81\x04live"));
  hang_up(c);
  done(&s);
}

static void subscribe_too_much(void *user, holdline_ctx *ctx, holdline_conn conn) {
  seen *s = user;
  char name[16];
  int number;
  for (number = 0; number < 128; number++) {
    snprintf(name, sizeof name, "c%d", number);
    IS(0, holdline_subscribe(ctx, conn, text(name), NULL));
  }
  IS(-ENOMEM, holdline_subscribe(ctx, conn, text("more"), NULL));
  IS(1, holdline_unsubscribe(ctx, conn, text("c0")));
  IS(0, holdline_subscribe(ctx, conn, text("more"), NULL));
  s->opened++;
}

static void one_channel_too_many_is_a_limit(void) {
  seen s;
  holdline_callbacks table = all();
  client *c;
  memset(&s, 0, sizeof s);
  table.open = subscribe_too_much;
  s.server = serve(NULL, &table, &s);
  s.hub = holdline_server_hub(s.server);
  c = dial(s.server);
  upgrade(c, "/socket", "");
  UNTIL(s.server, s.opened == 1);
  hang_up(c);
  done(&s);
}

static uint8_t much[32 << 10];

static void fill(void *user, holdline_ctx *ctx, uint64_t value) {
  seen *s = user;
  int round, result = 0;
  (void)value;
  for (round = 0; round < 4096 && result >= 0; round++) {
    result = holdline_send(ctx, s->conn, HOLDLINE_BINARY, much, sizeof much);
  }
  s->result = result;
  s->signals++;
}

static void a_full_outbox_refuses_and_tells_when_there_is_room(void) {
  seen s;
  holdline_callbacks table = all();
  client *c;
  long long end = now_ms() + 30000;
  memset(&s, 0, sizeof s);
  table.signal = fill;
  s.server = serve(NULL, &table, &s);
  s.hub = holdline_server_hub(s.server);
  c = dial(s.server);
  upgrade(c, "/socket", "");
  UNTIL(s.server, s.opened == 1);
  IS(0, holdline_signal(s.hub, 0));
  UNTIL(s.server, s.signals == 1);
  IS(-ENOBUFS, s.result); /* more than it keeps, in one callback */
  while (s.writable == 0) {
    char taken[4096];
    CHECK(now_ms() < end);
    (void)!recv(c->fd, taken, sizeof taken, 0);
    IS(0, holdline_server_turn(s.server, 1));
  }
  hang_up(c);
  done(&s);
}

static void close_on_message(void *user, holdline_ctx *ctx, holdline_conn conn, int kind, const uint8_t *bytes,
                             size_t len) {
  char reason[125] = {0};
  (void)user, (void)kind, (void)bytes, (void)len;
  memset(reason, 'x', 124);
  IS(-EINVAL, holdline_close(ctx, conn, 1000, reason));
  IS(-EINVAL, holdline_close(ctx, conn, 1005, NULL));
  IS(-EILSEQ, holdline_send(ctx, conn, HOLDLINE_TEXT, (const uint8_t *)"\xff", 1));
  IS(-EINVAL, holdline_send(ctx, conn, 3, (const uint8_t *)"x", 1));
  IS(-EINVAL, holdline_send(ctx, conn, HOLDLINE_TEXT, NULL, 1));
  CHECK(holdline_send(ctx, conn, HOLDLINE_TEXT, NULL, 0) > 0);
  IS(0, holdline_close(ctx, conn, 4000, "enough"));
  IS(-ENOENT, holdline_send(ctx, conn, HOLDLINE_TEXT, (const uint8_t *)"x", 1));
}

static void the_program_closes(void) {
  seen s;
  holdline_callbacks table = all();
  client *c;
  memset(&s, 0, sizeof s);
  table.message = close_on_message;
  s.server = serve(NULL, &table, &s);
  s.hub = holdline_server_hub(s.server);
  c = dial(s.server);
  upgrade(c, "/socket", "");
  UNTIL(s.server, s.opened == 1);
  frame(c, 1, "x", 1);
  UNTIL(s.server, has(c, "\x88\x08\x0f\xa0" "enough"));
  frame(c, 8, "\x0f\xa0", 2);
  UNTIL(s.server, s.closed == 1);
  IS(4000, s.close_code);
  hang_up(c);
  done(&s);
}

/* ---------------------------------------------------------------- the log */

static int lines, level_seen, busy;

static void sink(void *user, int level, const char *line) {
  holdline_hub *hub = *(holdline_hub **)user;
  lines++;
  level_seen = level;
  CHECK(strlen(line) > 0 && line[strlen(line) - 1] != '\n');
  if (hub != NULL) {
    busy = holdline_shutdown(hub, 0); /* a sink may be called in the middle of anything */
    CHECK(holdline_hub_clone(hub) == NULL);
  }
}

static void the_log_goes_to_a_sink(void) {
  holdline_server *server = serve(NULL, NULL, NULL), *none;
  holdline_hub *hub = holdline_server_hub(server);
  holdline_config config = {0};
  const char *bad[] = {"nonsense"};
  config.size = sizeof config;
  config.listen = bad;
  config.listen_len = 1;
  holdline_log(sink, &hub, 3);
  IS(-EINVAL, holdline_server_new(&config, NULL, NULL, &none));
  IS(1, lines);
  IS(1, level_seen);
  IS(-EBUSY, busy);
  IS(0, holdline_server_turn(server, 0)); /* it was not shut down */
  holdline_log(sink, &hub, 0);
  IS(-EINVAL, holdline_server_new(&config, NULL, NULL, &none));
  holdline_log(NULL, NULL, 5);
  IS(-EINVAL, holdline_server_new(&config, NULL, NULL, &none));
  IS(1, lines);
  holdline_hub_free(hub);
  holdline_server_free(server);
}

/* ---------------------------------------------------------------- SIGPIPE */

static void a_client_that_resets_kills_nobody(void) {
  seen s;
  holdline_server *server = with_all(&s, NULL);
  int round;
  for (round = 0; round < 20; round++) {
    struct linger at_once = {1, 0};
    holdline_message m = message_of("a", "to somebody who is gone");
    client *c = dial(server);
    ask(c, "GET /channels/a", "Accept: text/event-stream\r\n", "");
    UNTIL(server, has(c, "retry: "));
    CHECK(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    hang_up(c); /* a reset: the next write would raise SIGPIPE */
    CHECK(holdline_publish(s.hub, &m, NULL) >= 0);
    IS(0, holdline_server_turn(server, 0));
  }
  done(&s);
}

int main(void) {
  signal(SIGPIPE, SIG_DFL); /* as the library must bear it */
  setvbuf(stdout, NULL, _IOLBF, 0);
  TEST(versions_agree);
  TEST(every_result_has_words);
  TEST(a_published_message_reaches_a_stream);
  TEST(many_are_published_at_once);
  TEST(the_program_listens_itself);
  TEST(a_listener_that_never_began_is_told_its_end);
  TEST(a_ttl_of_zero_is_not_kept);
  TEST(a_bad_message_is_refused_by_its_fault);
  TEST(a_bare_server_lets_only_the_program_publish);
  TEST(limits_of_the_config_count);
  TEST(hosts_and_origins_are_served_if_named);
  TEST(what_the_system_says_is_passed_on);
  TEST(what_cannot_be_bound_says_why);
  TEST(a_unix_socket_has_no_port);
  TEST(structs_of_other_versions_are_understood);
  TEST(it_nests_in_a_loop_by_its_descriptor);
  TEST(it_runs_until_another_thread_ends_it);
  TEST(own_requests_are_answered_beside_the_built_in_routes);
  TEST(an_own_websocket_echoes);
  TEST(a_hub_closes_a_connection_and_tells_what_there_is);
  TEST(who_is_left_is_closed_by_free);
  TEST(an_answer_comes_later);
  TEST(a_verdict_decides_now_or_later);
  TEST(a_signal_of_another_thread_wakes_the_server);
  TEST(an_own_websocket_subscribes);
  TEST(one_channel_too_many_is_a_limit);
  TEST(a_full_outbox_refuses_and_tells_when_there_is_room);
  TEST(the_program_closes);
  TEST(the_log_goes_to_a_sink);
  TEST(a_client_that_resets_kills_nobody);
  return 0;
}
