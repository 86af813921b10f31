/* Nested in a GLib main loop, as in a GTK program: a GSource that watches the server's descriptor. Channel "clock" has
 * a tick each second.
 *
 *   cc -o glib glib.c $(pkg-config --cflags --libs holdline glib-2.0)
 *   ./glib 127.0.0.1:7070 */
#include <glib-unix.h>
#include <glib.h>
#include <stdio.h>

#include <holdline.h>

typedef struct {
  GSource base;
  holdline_server *server;
  gpointer fd_tag;
} server_source;

typedef struct {
  GMainLoop *loop;
  holdline_hub *hub;
  int ticks;
} program;

static gboolean prepare(GSource *source, gint *timeout) {
  *timeout = holdline_server_timeout_ms(((server_source *)source)->server);
  return *timeout == 0;
}

static gboolean check(GSource *source) {
  server_source *own = (server_source *)source;
  return g_source_query_unix_fd(source, own->fd_tag) != 0 || holdline_server_timeout_ms(own->server) == 0;
}

static gboolean dispatch(GSource *source, GSourceFunc ended, gpointer user) {
  if (holdline_server_turn(((server_source *)source)->server, 0) == 0) {
    return G_SOURCE_CONTINUE;
  }
  return ended(user); /* it has been shut down */
}

static gboolean on_ended(gpointer user) {
  g_main_loop_quit(((program *)user)->loop);
  return G_SOURCE_REMOVE;
}

static gboolean on_tick(gpointer user) {
  program *own = user;
  char json[32];
  int len = snprintf(json, sizeof json, "{\"t\":%d}", ++own->ticks);
  holdline_message message = HOLDLINE_MESSAGE_INIT;
  message.channel = (holdline_bytes){(const uint8_t *)"clock", 5};
  message.event = (holdline_bytes){(const uint8_t *)"tick", 4};
  message.payload = (holdline_bytes){(const uint8_t *)json, (size_t)len};
  holdline_publish(own->hub, &message, NULL);
  return G_SOURCE_CONTINUE;
}

static gboolean on_signal(gpointer user) {
  holdline_shutdown(((program *)user)->hub, 2000);
  return G_SOURCE_CONTINUE;
}

static GSource *watch(holdline_server *server, program *own) {
  static GSourceFuncs functions = {.prepare = prepare, .check = check, .dispatch = dispatch};
  GSource *source = g_source_new(&functions, sizeof(server_source));
  ((server_source *)source)->server = server;
  ((server_source *)source)->fd_tag = g_source_add_unix_fd(source, holdline_server_fd(server), G_IO_IN);
  g_source_set_callback(source, on_ended, own, NULL);
  g_source_attach(source, NULL);
  return source;
}

int main(int argc, char **argv) {
  char where[128];
  const char *address[] = {argc > 1 ? argv[1] : "127.0.0.1:7070"};
  holdline_config config = {.size = sizeof config, .listen = address, .listen_len = 1};
  program own = {0};
  holdline_server *server;
  GSource *source;
  int result = holdline_server_new(&config, NULL, NULL, &server);
  if (result < 0) {
    fprintf(stderr, "%s: %s\n", address[0], holdline_strerror(result));
    return 1;
  }
  own.loop = g_main_loop_new(NULL, FALSE);
  own.hub = holdline_server_hub(server);
  source = watch(server, &own);
  g_unix_signal_add(SIGINT, on_signal, &own);
  g_unix_signal_add(SIGTERM, on_signal, &own);
  g_timeout_add(1000, on_tick, &own);
  holdline_server_address(server, 0, where, sizeof where);
  printf("listening on %s\n", where);
  fflush(stdout);
  g_main_loop_run(own.loop);
  g_source_unref(source);
  g_main_loop_unref(own.loop);
  holdline_hub_free(own.hub);
  holdline_server_free(server);
  return 0;
}
