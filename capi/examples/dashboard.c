/* A device with a sensor and a lamp, and their page: one port, one process.
 *
 *   cc -o dashboard dashboard.c $(pkg-config --cflags --libs holdline) -pthread
 *   ./dashboard 127.0.0.1:7070
 *
 * A C thread measures and publishes; the page listens to channel "device" over the built-in routes, and a
 * click POSTs to /lamp, which the program answers itself. Clients may listen, and publish nothing. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <holdline.h>

static const char PAGE[] =
    "<!doctype html><meta charset=utf-8><title>device</title>\n"
    "<h1>device</h1><p>temperature: <b id=t>?</b> &deg;C</p>\n"
    "<p>lamp: <b id=l>?</b> <button onclick=\"lamp('on')\">on</button> <button onclick=\"lamp('off')\">off</button></p>\n"
    "<script>\n"
    "const lamp = (state) => fetch('/lamp', {method: 'POST', body: state});\n"
    "const events = new EventSource('/channels/device?since=earliest');\n"
    "events.addEventListener('temperature', (e) => t.textContent = JSON.parse(e.data).celsius);\n"
    "events.addEventListener('lamp', (e) => l.textContent = JSON.parse(e.data).state);\n"
    "</script>\n";

static holdline_bytes bytes(const char *text) {
  holdline_bytes all = {(const uint8_t *)text, strlen(text)};
  return all;
}

static int is(holdline_bytes text, const char *wanted) {
  return text.len == strlen(wanted) && memcmp(text.ptr, wanted, text.len) == 0;
}

static holdline_message reading(const char *event, const char *json) {
  holdline_message message = HOLDLINE_MESSAGE_INIT;
  message.channel = bytes("device");
  message.event = bytes(event);
  message.type = bytes("application/json");
  message.payload = bytes(json);
  return message;
}

static int reply(holdline_ctx *ctx, holdline_conn conn, int status, const char *type, const char *body) {
  holdline_reply(ctx, conn, status, type, (const uint8_t *)body, strlen(body));
  return HOLDLINE_RESPONDED;
}

static int set_lamp(holdline_ctx *ctx, holdline_conn conn, holdline_bytes state) {
  char json[64];
  holdline_message message;
  if (!is(state, "on") && !is(state, "off")) {
    return reply(ctx, conn, 400, "text/plain", "say on or off\n");
  }
  snprintf(json, sizeof json, "{\"state\":\"%.*s\"}", (int)state.len, (const char *)state.ptr);
  message = reading("lamp", json);
  if (holdline_publish_here(ctx, &message, NULL) < 0) {
    return reply(ctx, conn, 503, "text/plain", "no room: try again\n");
  }
  return reply(ctx, conn, 200, "application/json", json);
}

static int on_request(void *user, holdline_ctx *ctx, holdline_conn conn, const holdline_request *request) {
  (void)user;
  if (is(request->path, "/") && is(request->method, "GET")) {
    return reply(ctx, conn, 200, "text/html; charset=utf-8", PAGE);
  }
  if (is(request->path, "/lamp") && is(request->method, "POST")) {
    return set_lamp(ctx, conn, holdline_request_body(request));
  }
  return HOLDLINE_PASS; /* to /channels/device, /events, /ws, /health … */
}

static int on_authorize(void *user, holdline_ctx *ctx, holdline_conn conn, int action, holdline_bytes channel,
                        const holdline_request *request) {
  (void)user, (void)ctx, (void)conn, (void)channel, (void)request;
  return action == HOLDLINE_PUBLISH ? HOLDLINE_FORBIDDEN : HOLDLINE_ALLOW;
}

/* Measures four times a second, until a signal says that it is over. */
static void *measure(void *hub) {
  const struct timespec pause = {0, 250000000};
  sigset_t set;
  int n;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  for (n = 0; sigtimedwait(&set, NULL, &pause) < 0; n++) {
    char json[64];
    holdline_message message;
    snprintf(json, sizeof json, "{\"celsius\":%d.%d}", 20 + n / 10 % 5, n % 10);
    message = reading("temperature", json);
    holdline_publish(hub, &message, NULL);
  }
  holdline_shutdown(hub, 2000);
  return NULL;
}

int main(int argc, char **argv) {
  char where[128];
  const char *address[] = {argc > 1 ? argv[1] : "127.0.0.1:7070"};
  holdline_config config = {.size = sizeof config, .listen = address, .listen_len = 1, .device = 1};
  holdline_callbacks callbacks = {.size = sizeof callbacks, .authorize = on_authorize, .request = on_request};
  holdline_server *server;
  holdline_hub *hub;
  pthread_t thread;
  sigset_t set;
  int result;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, NULL); /* the thread that measures waits for them */
  result = holdline_server_new(&config, &callbacks, NULL, &server);
  if (result < 0) {
    fprintf(stderr, "%s: %s\n", address[0], holdline_strerror(result));
    return 1;
  }
  holdline_server_address(server, 0, where, sizeof where);
  printf("listening on %s\n", where);
  fflush(stdout);
  hub = holdline_server_hub(server);
  if (pthread_create(&thread, NULL, measure, hub) != 0) {
    return 1;
  }
  result = holdline_server_run(server);
  pthread_join(thread, NULL);
  holdline_server_free(server);
  holdline_hub_free(hub);
  return result < 0;
}
