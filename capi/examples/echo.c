/* A WebSocket echo server: what comes on any path, text or binary, goes back as it came.
 *
 *   cc -o echo echo.c $(pkg-config --cflags --libs holdline) -pthread
 *   ./echo 127.0.0.1:7070
 *
 * The server runs on the main thread. Another one waits for SIGINT and SIGTERM and then ends it in order: the library
 * sets no signal handler, so how a program ends is its own decision. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include <holdline.h>

static int on_request(void *user, holdline_ctx *ctx, holdline_conn conn, const holdline_request *request) {
  (void)user, (void)ctx, (void)conn;
  /* What asks for no WebSocket is passed on to the built-in routes. */
  return holdline_request_is_websocket(request) == 1 ? HOLDLINE_WEBSOCKET : HOLDLINE_PASS;
}

static void on_message(void *user, holdline_ctx *ctx, holdline_conn conn, int kind, const uint8_t *bytes, size_t len) {
  (void)user;
  /* A connection is not read while an echo waits for it, so this does not come to -ENOBUFS. */
  if (holdline_send(ctx, conn, kind, bytes, len) == -ENOBUFS) {
    holdline_close(ctx, conn, 1013, "the echo is not being read");
  }
}

static void *await_signal(void *hub) {
  sigset_t set;
  int number;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigwait(&set, &number);
  holdline_shutdown(hub, 2000);
  return NULL;
}

static void on_log(void *user, int level, const char *line) {
  (void)user;
  fprintf(stderr, "%d %s\n", level, line);
}

int main(int argc, char **argv) {
  char where[128];
  const char *address[] = {argc > 1 ? argv[1] : "127.0.0.1:7070"};
  holdline_config config = {
      .size = sizeof config,
      .listen = address,
      .listen_len = 1,
      .open = 1,
      .ws_message_bytes_max = 64 << 20,
      .ws_frame_bytes_max = 64 << 20,
      .ws_fragments_max = UINT32_MAX,
  };
  holdline_callbacks callbacks = {.size = sizeof callbacks, .request = on_request, .message = on_message};
  holdline_server *server;
  holdline_hub *hub;
  pthread_t thread;
  sigset_t set;
  int result;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, NULL); /* before there is another thread */
  holdline_log(on_log, NULL, 2);
  result = holdline_server_new(&config, &callbacks, NULL, &server);
  if (result < 0) {
    fprintf(stderr, "%s: %s\n", address[0], holdline_strerror(result));
    return 1;
  }
  holdline_server_address(server, 0, where, sizeof where);
  printf("listening on %s\n", where);
  fflush(stdout);
  hub = holdline_server_hub(server);
  if (pthread_create(&thread, NULL, await_signal, hub) != 0) {
    return 1;
  }
  result = holdline_server_run(server);
  pthread_join(thread, NULL);
  holdline_server_free(server);
  holdline_hub_free(hub);
  return result < 0;
}
