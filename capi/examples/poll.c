/* Nested in a loop of one's own over poll(2), on one thread: channel "clock" has a tick each second.
 *
 *   cc -o poll poll.c $(pkg-config --cflags --libs holdline)
 *   ./poll 127.0.0.1:7070 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <holdline.h>

static int signalled[2];

static void on_signal(int number) {
  char byte = (char)number;
  ssize_t ignored = write(signalled[1], &byte, 1); /* all that a handler may do: tell the loop */
  (void)ignored;
}

static long long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void publish_tick(holdline_hub *hub, int n) {
  char json[32];
  int len = snprintf(json, sizeof json, "{\"t\":%d}", n);
  holdline_message message = HOLDLINE_MESSAGE_INIT;
  message.channel = (holdline_bytes){(const uint8_t *)"clock", 5};
  message.event = (holdline_bytes){(const uint8_t *)"tick", 4};
  message.payload = (holdline_bytes){(const uint8_t *)json, (size_t)len};
  holdline_publish(hub, &message, NULL);
}

/* Until the server has ended. */
static int loop(holdline_server *server, holdline_hub *hub) {
  struct pollfd watched[2] = {{holdline_server_fd(server), POLLIN, 0}, {signalled[0], POLLIN, 0}};
  long long next_tick = now_ms();
  int n = 0, result = 0;
  while (result == 0) {
    long long wait = next_tick - now_ms();
    int due = holdline_server_timeout_ms(server);
    if (due >= 0 && due < wait) {
      wait = due;
    }
    if (poll(watched, 2, wait > 0 ? (int)wait : 0) < 0 && errno != EINTR) {
      return -errno;
    }
    if (watched[1].revents & POLLIN) {
      char byte;
      if (read(signalled[0], &byte, 1) == 1) {
        holdline_shutdown(hub, 2000);
      }
    }
    if (now_ms() >= next_tick) {
      next_tick += 1000;
      publish_tick(hub, ++n);
    }
    result = holdline_server_turn(server, 0);
  }
  return result == -ESHUTDOWN ? 0 : result;
}

int main(int argc, char **argv) {
  char where[128];
  const char *address[] = {argc > 1 ? argv[1] : "127.0.0.1:7070"};
  holdline_config config = {.size = sizeof config, .listen = address, .listen_len = 1};
  struct sigaction action = {.sa_handler = on_signal};
  holdline_server *server;
  holdline_hub *hub;
  int result = holdline_server_new(&config, NULL, NULL, &server);
  if (result < 0 || pipe(signalled) != 0) {
    fprintf(stderr, "%s: %s\n", address[0], holdline_strerror(result));
    return 1;
  }
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  holdline_server_address(server, 0, where, sizeof where);
  printf("listening on %s\n", where);
  fflush(stdout);
  hub = holdline_server_hub(server);
  result = loop(server, hub);
  holdline_hub_free(hub);
  holdline_server_free(server);
  return result < 0;
}
