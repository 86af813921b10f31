/* Nested in a libuv loop: a poll handle for the server's descriptor, a timer for what is due. Channel "clock" has a tick
 * each second.
 *
 *   cc -o libuv libuv.c $(pkg-config --cflags --libs holdline libuv)
 *   ./libuv 127.0.0.1:7070 */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <uv.h>

#include <holdline.h>

typedef struct {
  holdline_server *server;
  holdline_hub *hub;
  uv_poll_t readable;
  uv_timer_t due, tick;
  uv_signal_t interrupt, terminate;
  int ticks;
} program;

static void on_due(uv_timer_t *timer);

static void end(program *own) {
  uv_close((uv_handle_t *)&own->readable, NULL);
  uv_close((uv_handle_t *)&own->due, NULL);
  uv_close((uv_handle_t *)&own->tick, NULL);
  uv_close((uv_handle_t *)&own->interrupt, NULL);
  uv_close((uv_handle_t *)&own->terminate, NULL);
}

static void turn(program *own) {
  int wait;
  if (holdline_server_turn(own->server, 0) < 0) {
    end(own); /* it has been shut down */
    return;
  }
  wait = holdline_server_timeout_ms(own->server);
  if (wait >= 0) {
    uv_timer_start(&own->due, on_due, (uint64_t)wait, 0);
  } else {
    uv_timer_stop(&own->due);
  }
}

static void on_due(uv_timer_t *timer) { turn(timer->data); }

static void on_readable(uv_poll_t *handle, int status, int events) {
  (void)status, (void)events;
  turn(handle->data);
}

static void on_tick(uv_timer_t *timer) {
  program *own = timer->data;
  char json[32];
  int len = snprintf(json, sizeof json, "{\"t\":%d}", ++own->ticks);
  holdline_message message = HOLDLINE_MESSAGE_INIT;
  message.channel = (holdline_bytes){(const uint8_t *)"clock", 5};
  message.event = (holdline_bytes){(const uint8_t *)"tick", 4};
  message.payload = (holdline_bytes){(const uint8_t *)json, (size_t)len};
  holdline_publish(own->hub, &message, NULL);
}

static void on_signal(uv_signal_t *handle, int number) {
  (void)number;
  holdline_shutdown(((program *)handle->data)->hub, 2000);
}

static void watch(uv_loop_t *loop, program *own) {
  uv_poll_init(loop, &own->readable, holdline_server_fd(own->server));
  uv_timer_init(loop, &own->due);
  uv_timer_init(loop, &own->tick);
  uv_signal_init(loop, &own->interrupt);
  uv_signal_init(loop, &own->terminate);
  own->readable.data = own->due.data = own->tick.data = own->interrupt.data = own->terminate.data = own;
  uv_poll_start(&own->readable, UV_READABLE, on_readable);
  uv_timer_start(&own->due, on_due, 0, 0);
  uv_timer_start(&own->tick, on_tick, 1000, 1000);
  uv_signal_start(&own->interrupt, on_signal, SIGINT);
  uv_signal_start(&own->terminate, on_signal, SIGTERM);
}

int main(int argc, char **argv) {
  char where[128];
  const char *address[] = {argc > 1 ? argv[1] : "127.0.0.1:7070"};
  holdline_config config = {.size = sizeof config, .listen = address, .listen_len = 1};
  program own = {0};
  int result = holdline_server_new(&config, NULL, NULL, &own.server);
  if (result < 0) {
    fprintf(stderr, "%s: %s\n", address[0], holdline_strerror(result));
    return 1;
  }
  own.hub = holdline_server_hub(own.server);
  watch(uv_default_loop(), &own);
  holdline_server_address(own.server, 0, where, sizeof where);
  printf("listening on %s\n", where);
  fflush(stdout);
  uv_run(uv_default_loop(), UV_RUN_DEFAULT);
  uv_loop_close(uv_default_loop());
  holdline_hub_free(own.hub);
  holdline_server_free(own.server);
  return 0;
}
