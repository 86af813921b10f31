/* Every function as it is not to be used: NULL, after the end, outside its callback, on another thread, with
 * numbers that name nothing. Each gets an answer; nothing crashes. */
#include "harness.h"

#include <dirent.h>
#include <stdatomic.h>

static const char UPGRADE[] =
    "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

typedef struct {
  holdline_server *server, *other;
  holdline_hub *hub;
  holdline_ctx *kept;
  const holdline_request *kept_request;
  holdline_conn conn;
  int done, freed;
} seen;

static const uint8_t X[] = "x";

/* All that take a ctx, with one that is not valid here. */
static void every_function_refuses(holdline_ctx *ctx, holdline_conn conn) {
  holdline_message m = message_of("a", "x");
  char id[40] = "x", peer[8];
  uint64_t data = 0;
  IS(-EINVAL, holdline_send(ctx, conn, HOLDLINE_TEXT, X, 1));
  IS(-EINVAL, holdline_reply(ctx, conn, 200, "text/plain", X, 1));
  IS(-EINVAL, holdline_reply_header(ctx, conn, "a", "b"));
  IS(-EINVAL, holdline_accept_websocket(ctx, conn, NULL));
  IS(-EINVAL, holdline_subscribe(ctx, conn, text("a"), NULL));
  IS(-EINVAL, holdline_unsubscribe(ctx, conn, text("a")));
  IS(-EINVAL, holdline_publish_here(ctx, &m, id));
  IS(0, id[0]);
  IS(-EINVAL, holdline_close(ctx, conn, 1000, NULL));
  IS(-EINVAL, holdline_set_data(ctx, conn, 1));
  IS(-EINVAL, holdline_data(ctx, conn, &data));
  IS(-EINVAL, holdline_set_timer(ctx, 1, 1));
  IS(-EINVAL, holdline_peer(ctx, conn, peer, sizeof peer));
  IS(0, holdline_ticket_of(ctx, conn));
}

static void null_is_an_argument_like_any_other(void) {
  holdline_server *server = serve(NULL, NULL, NULL);
  holdline_hub *hub = holdline_server_hub(server);
  holdline_message m = message_of("a", "x");
  holdline_bytes none = {NULL, 3};
  IS(-EINVAL, holdline_server_new(NULL, NULL, NULL, NULL));
  IS(-EINVAL, holdline_server_port(NULL));
  IS(-EINVAL, holdline_server_address(NULL, 0, (char *)&m, 1));
  IS(-EINVAL, holdline_server_address(server, 0, NULL, 1));
  IS(-EINVAL, holdline_server_address(server, 0, (char *)&m, 0));
  IS(-EINVAL, holdline_server_run(NULL));
  IS(-EINVAL, holdline_server_turn(NULL, 0));
  IS(-EINVAL, holdline_server_fd(NULL));
  IS(-EINVAL, holdline_server_timeout_ms(NULL));
  holdline_server_free(NULL);
  CHECK(holdline_server_hub(NULL) == NULL);
  CHECK(holdline_hub_clone(NULL) == NULL);
  holdline_hub_free(NULL);
  IS(-EINVAL, holdline_publish(NULL, &m, NULL));
  IS(-EINVAL, holdline_publish(hub, NULL, NULL));
  IS(-EINVAL, holdline_answer(NULL, 1, 200, NULL, NULL, 0));
  IS(-EINVAL, holdline_answer(hub, 1, 200, NULL, NULL, 1));
  IS(-EINVAL, holdline_signal(NULL, 0));
  IS(-EINVAL, holdline_shutdown(NULL, 0));
  m.payload = none;
  IS(-EINVAL, holdline_publish(hub, &m, NULL));
  m = message_of("a", "x");
  m.channel = none;
  IS(-EINVAL, holdline_publish(hub, &m, NULL));
  CHECK(holdline_request_header(NULL, "host").ptr == NULL);
  CHECK(holdline_request_body(NULL).ptr == NULL);
  IS(-EINVAL, holdline_request_is_websocket(NULL));
  IS(-EINVAL, holdline_publish_many(hub, NULL, 1, NULL));
  IS(-EINVAL, holdline_hub_close(NULL, 1, 1000, NULL));
  IS(-EINVAL, holdline_stats(NULL, (char *)&m, 1));
  every_function_refuses(NULL, 1);
  holdline_log(NULL, NULL, -1);
  holdline_log(NULL, NULL, 99);
  holdline_hub_free(hub);
  holdline_server_free(server);
}

static void a_ctx_that_is_none_is_refused(void) {
  int local;
  every_function_refuses((holdline_ctx *)&local, 1);
  every_function_refuses((holdline_ctx *)1, 1);
}

/* ---------------------------------------------------------------- inside callbacks */

static int misuse_in_request(void *user, holdline_ctx *ctx, holdline_conn conn, const holdline_request *request) {
  seen *s = user;
  uint64_t data;
  s->kept = ctx;
  s->conn = conn;
  s->kept_request = request;
  IS(-EBUSY, holdline_server_turn(s->server, 0));
  IS(-EBUSY, holdline_server_run(s->server));
  IS(0, holdline_server_timeout_ms(s->server));
  CHECK(holdline_server_fd(s->server) >= 0 && holdline_server_port(s->server) > 0);
  IS(-EINVAL, holdline_data(ctx, conn, NULL));
  IS(-EINVAL, holdline_peer(ctx, conn, NULL, 10));
  IS(-EINVAL, holdline_peer(ctx, conn, (char *)&data, 0));
  IS(-EINVAL, holdline_send(ctx, conn, HOLDLINE_TEXT, NULL, 5));
  IS(-ENOENT, holdline_send(ctx, conn, HOLDLINE_TEXT, X, 1)); /* it is no WebSocket */
  IS(-ENOENT, holdline_send(ctx, 0, HOLDLINE_TEXT, X, 1));
  IS(-ENOENT, holdline_send(ctx, UINT64_MAX, HOLDLINE_TEXT, X, 1));
  IS(-ENOENT, holdline_data(ctx, conn ^ 1, &data));
  IS(-ENOENT, holdline_close(ctx, conn, 1000, NULL));
  IS(-EINVAL, holdline_publish_here(ctx, NULL, NULL));
  CHECK(holdline_request_header(request, NULL).ptr == NULL);
  s->done++;
  return HOLDLINE_PASS;
}

static void *on_another_thread(void *user) {
  seen *s = user;
  every_function_refuses(s->kept, s->conn);
  CHECK(holdline_request_header(s->kept_request, "host").ptr == NULL);
  IS(-EBUSY, holdline_server_turn(s->server, 0));
  return NULL;
}

static int ask_another_thread(void *user, holdline_ctx *ctx, holdline_conn conn, const holdline_request *request) {
  pthread_t thread;
  int route = misuse_in_request(user, ctx, conn, request);
  CHECK(pthread_create(&thread, NULL, on_another_thread, user) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  return route;
}

static void with_request(seen *s, int (*request)(void *, holdline_ctx *, holdline_conn, const holdline_request *)) {
  holdline_callbacks table = {0};
  client *c;
  table.size = sizeof table;
  table.request = request;
  s->server = serve(NULL, &table, s);
  s->hub = holdline_server_hub(s->server);
  c = dial(s->server);
  ask(c, "GET /health", "", "");
  UNTIL(s->server, has(c, "HTTP/1.1 "));
  hang_up(c);
}

static void a_callback_cannot_misuse_its_server(void) {
  seen s = {0};
  with_request(&s, misuse_in_request);
  IS(1, s.done);
  every_function_refuses(s.kept, s.conn); /* it has returned */
  holdline_hub_free(s.hub);
  holdline_server_free(s.server);
  every_function_refuses(s.kept, s.conn); /* and is freed */
}

static void a_ctx_is_for_its_thread(void) {
  seen s = {0};
  with_request(&s, ask_another_thread);
  IS(1, s.done);
  holdline_hub_free(s.hub);
  holdline_server_free(s.server);
}

static int free_in_callback(void *user, holdline_ctx *ctx, holdline_conn conn, const holdline_request *request) {
  seen *s = user;
  (void)request;
  holdline_server_free(s->server);
  s->freed++;
  IS(-ENOENT, holdline_send(ctx, conn, HOLDLINE_TEXT, X, 1)); /* all is still there */
  return HOLDLINE_PASS;
}

static void a_server_that_frees_itself_ends_instead(void) {
  seen s = {0};
  holdline_callbacks table = {0};
  client *c;
  int result = 0;
  table.size = sizeof table;
  table.request = free_in_callback;
  s.server = serve(NULL, &table, &s);
  c = dial(s.server);
  ask(c, "GET /health", "", "");
  while (result == 0) {
    result = holdline_server_turn(s.server, 100);
  }
  IS(-ESHUTDOWN, result);
  IS(1, s.freed);
  holdline_server_free(s.server);
  hang_up(c);
}

/* ---------------------------------------------------------------- two servers on one thread */

static int inner(void *user, holdline_ctx *ctx, holdline_conn conn, const holdline_request *request) {
  seen *outer = user;
  uint64_t data = 0;
  CHECK(ctx != outer->kept);
  CHECK(holdline_request_header(request, "host").len > 0);
  CHECK(holdline_request_header(outer->kept_request, "host").len > 0); /* of the callback below this one */
  IS(0, holdline_set_data(outer->kept, outer->conn, 5));
  IS(0, holdline_data(outer->kept, outer->conn, &data));
  IS(5, data);
  IS(0, holdline_set_data(ctx, conn, 6));
  outer->done++;
  return HOLDLINE_PASS;
}

static int turn_the_other(void *user, holdline_ctx *ctx, holdline_conn conn, const holdline_request *request) {
  seen *s = user;
  uint64_t data = 0;
  client *c = dial(s->other);
  s->kept = ctx;
  s->conn = conn;
  s->kept_request = request;
  ask(c, "GET /health", "", "");
  UNTIL(s->other, has(c, "HTTP/1.1 200"));
  hang_up(c);
  IS(0, holdline_data(ctx, conn, &data));
  IS(5, data);
  return HOLDLINE_PASS;
}

static void a_callback_may_turn_another_server(void) {
  seen s = {0};
  holdline_callbacks table = {0};
  table.size = sizeof table;
  table.request = inner;
  s.other = serve(NULL, &table, &s);
  with_request(&s, turn_the_other);
  IS(1, s.done);
  holdline_hub_free(s.hub);
  holdline_server_free(s.server);
  holdline_server_free(s.other);
}

/* ---------------------------------------------------------------- tickets, queues, descriptors */

static int later_without_a_ticket(void *user, holdline_ctx *ctx, holdline_conn conn, const holdline_request *r) {
  (void)user, (void)ctx, (void)conn, (void)r;
  return HOLDLINE_ROUTE_LATER;
}

static void later_without_a_ticket_is_an_error(void) {
  seen s = {0};
  holdline_callbacks table = {0};
  client *c;
  table.size = sizeof table;
  table.request = later_without_a_ticket;
  s.server = serve(NULL, &table, &s);
  c = dial(s.server);
  ask(c, "GET /", "", "");
  UNTIL(s.server, has(c, "HTTP/1.1 500 "));
  hang_up(c);
  holdline_server_free(s.server);
}

static void tickets_that_name_nothing_are_ignored(void) {
  holdline_server *server = serve(NULL, NULL, NULL);
  holdline_hub *hub = holdline_server_hub(server);
  IS(0, holdline_answer(hub, 1, 200, "text/plain", X, 1));
  IS(0, holdline_answer(hub, UINT64_MAX, HOLDLINE_ALLOW, NULL, NULL, 0));
  IS(0, holdline_answer(hub, UINT64_MAX >> 1, 200, NULL, NULL, 0));
  IS(0, holdline_server_turn(server, 0));
  holdline_hub_free(hub);
  holdline_server_free(server);
}

static void a_server_that_is_not_turned_says_so(void) {
  holdline_server *server = serve(NULL, NULL, NULL);
  holdline_hub *hub = holdline_server_hub(server);
  int sent = 0;
  while (holdline_signal(hub, 0) == 0) {
    CHECK(++sent < 100000);
  }
  IS(-EAGAIN, holdline_signal(hub, 0));
  IS(0, holdline_shutdown(hub, 0)); /* this always gets through */
  IS(-ESHUTDOWN, holdline_server_turn(server, -1));
  holdline_hub_free(hub);
  holdline_server_free(server);
}

static int descriptors(void) {
  DIR *dir = opendir("/proc/self/fd");
  int count = 0;
  CHECK(dir != NULL);
  while (readdir(dir) != NULL) {
    count++;
  }
  closedir(dir);
  return count;
}

static void freeing_closes_every_descriptor(void) {
  int before = descriptors();
  holdline_server *server = serve(NULL, NULL, NULL);
  client *c = dial(server);
  ask(c, "GET /channels/a", "Accept: text/event-stream\r\n", "");
  UNTIL(server, has(c, "retry: "));
  CHECK(descriptors() > before);
  holdline_server_free(server);
  hang_up(c);
  IS(before, descriptors());
}

/* ---------------------------------------------------------------- many threads */

static void *publish_much(void *hub) {
  holdline_message m = message_of("a", "one of many");
  holdline_hub *own = holdline_hub_clone(hub);
  int n, result = 0;
  for (n = 0; n < 500 && result != -ESHUTDOWN; n++) {
    result = holdline_publish(own, &m, NULL);
    CHECK(result >= 0 || result == -ENOMEM || result == -ESHUTDOWN);
    result = holdline_signal(own, (uint64_t)n);
    CHECK(result == 0 || result == -EAGAIN || result == -ESHUTDOWN);
  }
  holdline_hub_free(own);
  return NULL;
}

static void hubs_are_for_any_thread(void) {
  holdline_server *server = serve(NULL, NULL, NULL);
  holdline_hub *hub = holdline_server_hub(server);
  pthread_t threads[4];
  int n;
  for (n = 0; n < 4; n++) {
    CHECK(pthread_create(&threads[n], NULL, publish_much, hub) == 0);
  }
  for (n = 0; n < 50; n++) {
    IS(0, holdline_server_turn(server, 1));
  }
  holdline_server_free(server); /* they find it gone */
  for (n = 0; n < 4; n++) {
    CHECK(pthread_join(threads[n], NULL) == 0);
  }
  holdline_hub_free(hub);
}

/* ---------------------------------------------------------------- several loops */

typedef struct {
  holdline_server *server;
  pthread_t main;
  atomic_int requests, elsewhere, messages, signals, closed;
  atomic_ullong conn;
} looped;

static int on_any_loop(void *user, holdline_ctx *ctx, holdline_conn conn, const holdline_request *request) {
  looped *s = user;
  uint64_t data = 0;
  (void)request;
  IS(0, holdline_set_data(ctx, conn, 3));
  IS(0, holdline_data(ctx, conn, &data));
  IS(-EBUSY, holdline_server_turn(s->server, 0)); /* whether its thread turns it now or not */
  IS(-EBUSY, holdline_server_run(s->server));
  if (!pthread_equal(pthread_self(), s->main)) {
    s->elsewhere++;
  }
  s->conn = conn;
  s->requests++;
  return HOLDLINE_WEBSOCKET;
}

static void on_each_loop(void *user, holdline_ctx *ctx, uint64_t value) {
  looped *s = user;
  IS(5, value);
  if (pthread_equal(pthread_self(), s->main)) {
    IS(-ENOENT, holdline_send(ctx, s->conn, HOLDLINE_TEXT, X, 1)); /* it is another loop's */
  } else {
    holdline_server_free(s->server); /* from within: refused, and shut down */
  }
  s->signals++;
}

static void on_message(void *user, holdline_ctx *ctx, holdline_conn conn, int kind, const uint8_t *bytes, size_t len) {
  looped *s = user;
  (void)ctx, (void)conn, (void)kind, (void)bytes, (void)len;
  IS(-EBUSY, holdline_server_turn(s->server, 0)); /* nobody turns it now, but this would be from within */
  IS(0, holdline_server_timeout_ms(s->server));
  s->messages++;
}

static void on_closed(void *user, holdline_ctx *ctx, holdline_conn conn, int code) {
  looped *s = user;
  (void)ctx, (void)conn, (void)code;
  IS(-EBUSY, holdline_server_turn(s->server, 0));
  s->closed++;
}

static void callbacks_of_other_loops_cannot_misuse_it_either(void) {
  looped s = {0};
  holdline_config config = {0};
  holdline_callbacks table = {0};
  holdline_hub *hub;
  client *c;
  int result = 0;
  config.loops = 65;
  config.size = sizeof config;
  IS(-EINVAL, holdline_server_new(&config, NULL, NULL, &s.server));
  config.loops = 2;
  table.size = sizeof table;
  table.request = on_any_loop;
  table.signal = on_each_loop;
  table.closed = on_closed;
  table.message = on_message;
  s.main = pthread_self();
  s.server = serve(&config, &table, &s);
  hub = holdline_server_hub(s.server);
  c = dial(s.server);
  tell(c, UPGRADE, sizeof UPGRADE - 1);
  UNTIL(s.server, has(c, "HTTP/1.1 101 "));
  IS(1, s.requests);
  IS(1, s.elsewhere); /* the other loop has fewer */
  tell(c, "\x81\x81\0\0\0\0x", 7);
  while (s.messages == 0) {
    CHECK(poll(NULL, 0, 1) == 0); /* and here it is not turned */
  }
  IS(0, holdline_signal(hub, 5));
  while (result == 0) {
    result = holdline_server_turn(s.server, 100);
  }
  IS(-ESHUTDOWN, result);
  IS(2, s.signals);
  holdline_server_free(s.server);
  IS(1, s.closed);
  holdline_hub_free(hub);
  hang_up(c);
}

int main(void) {
  signal(SIGPIPE, SIG_DFL);
  setvbuf(stdout, NULL, _IOLBF, 0);
  TEST(null_is_an_argument_like_any_other);
  TEST(a_ctx_that_is_none_is_refused);
  TEST(a_callback_cannot_misuse_its_server);
  TEST(a_ctx_is_for_its_thread);
  TEST(a_server_that_frees_itself_ends_instead);
  TEST(a_callback_may_turn_another_server);
  TEST(later_without_a_ticket_is_an_error);
  TEST(tickets_that_name_nothing_are_ignored);
  TEST(a_server_that_is_not_turned_says_so);
  TEST(freeing_closes_every_descriptor);
  TEST(hubs_are_for_any_thread);
  TEST(callbacks_of_other_loops_cannot_misuse_it_either);
  return 0;
}
