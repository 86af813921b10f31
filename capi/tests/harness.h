/* What the C tests share: checks, a server that is turned until something is so, and clients over plain sockets. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <holdline.h>

#define CHECK(that)                                                       \
  do {                                                                    \
    if (!(that)) {                                                        \
      printf("FAIL %s:%d: %s\n", __FILE__, __LINE__, #that);              \
      exit(1);                                                            \
    }                                                                     \
  } while (0)

#define IS(wanted, call)                                                  \
  do {                                                                    \
    long long is_ = (long long)(call), wanted_ = (long long)(wanted);     \
    if (is_ != wanted_) {                                                 \
      printf("FAIL %s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #call, is_, wanted_); \
      exit(1);                                                            \
    }                                                                     \
  } while (0)

#define TEST(name) printf("ok %s\n", (name(), #name))

static long long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Turns a server until something is so. */
#define UNTIL(server, that)                                               \
  do {                                                                    \
    long long end_ = now_ms() + 30000;                                    \
    while (!(that)) {                                                     \
      CHECK(now_ms() < end_);                                             \
      CHECK(holdline_server_turn((server), 20) == 0);                     \
    }                                                                     \
  } while (0)

static holdline_bytes text(const char *from) {
  holdline_bytes bytes = {(const uint8_t *)from, strlen(from)};
  return bytes;
}

static holdline_message message_of(const char *channel, const char *payload) {
  holdline_message message = HOLDLINE_MESSAGE_INIT;
  message.channel = text(channel);
  message.payload = text(payload);
  return message;
}

/* A server on a free port of loopback. */
static holdline_server *serve(holdline_config *config, const holdline_callbacks *callbacks, void *user) {
  static const char *const here[] = {"127.0.0.1:0"};
  holdline_config plain = {0};
  holdline_server *server = NULL;
  if (config == NULL) {
    config = &plain;
  }
  config->size = sizeof *config;
  config->listen = here;
  config->listen_len = 1;
  IS(0, holdline_server_new(config, callbacks, user, &server));
  CHECK(server != NULL);
  return server;
}

/* A client, and all that it has received. */
typedef struct {
  int fd;
  size_t len;
  char got[1 << 16];
} client;

static client *dial(holdline_server *server) {
  struct sockaddr_in to = {0};
  client *c = calloc(1, sizeof *c);
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons((uint16_t)holdline_server_port(server));
  CHECK(c != NULL && (c->fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
  CHECK(connect(c->fd, (struct sockaddr *)&to, sizeof to) == 0);
  CHECK(fcntl(c->fd, F_SETFL, O_NONBLOCK) == 0);
  return c;
}

static void hang_up(client *c) {
  close(c->fd);
  free(c);
}

static void tell(client *c, const void *bytes, size_t len) {
  CHECK(send(c->fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len);
}

static void ask(client *c, const char *line, const char *fields, const char *body) {
  char request[4096];
  int len = snprintf(request, sizeof request, "%s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s",
                     line, fields, strlen(body), body);
  tell(c, request, (size_t)len);
}

/* Takes what has come; whether `wanted` is in it. */
static int has(client *c, const char *wanted) {
  ssize_t n = recv(c->fd, c->got + c->len, sizeof c->got - 1 - c->len, 0);
  size_t at, len = strlen(wanted);
  c->len += n > 0 ? (size_t)n : 0;
  for (at = 0; at + len <= c->len; at++) {
    if (memcmp(c->got + at, wanted, len) == 0) {
      return 1;
    }
  }
  return 0;
}
