/* One WebSocket of libwebsockets: `client_lws HOST PORT PATH [PROTOCOL]`, told on stdout in the words of `drivers.py`,
 * until it ends or is killed. Without arguments it tells its version. */

#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_over;
static int is_closed;
static char *message;
static size_t size;

static void tell_message(const char *kind) {
    size_t room = size * 4 / 3 + 8;
    char *packed = malloc(room);
    if (!packed || lws_b64_encode_string(message ? message : "", (int)size, packed, (int)room) < 0) abort();
    printf("%s\t%s\n", kind, packed);
    free(packed);
    size = 0;
}

static int on_event(struct lws *socket, enum lws_callback_reasons reason, void *user, void *in, size_t length) {
    switch (reason) {
    case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH: { /* later the head is gone */
        char protocol[64] = "";
        lws_hdr_copy(socket, protocol, sizeof protocol, WSI_TOKEN_PROTOCOL);
        printf("open\t%s\n", protocol);
        break;
    }
    case LWS_CALLBACK_CLIENT_RECEIVE: /* as much of a message as fits into its buffer */
        message = realloc(message, size + length + 1);
        if (!message) abort();
        memcpy(message + size, in, length);
        size += length;
        if (lws_is_final_fragment(socket)) tell_message(lws_frame_is_binary(socket) ? "binary" : "text");
        break;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE: {
        const unsigned char *close = in;
        int code = length >= 2 ? close[0] << 8 | close[1] : 1005;
        printf("closed\t%d\t%.*s\n", code, length > 2 ? (int)length - 2 : 0, (const char *)close + 2);
        is_closed = 1;
        break;
    }
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
    case LWS_CALLBACK_CLIENT_CLOSED:
        if (!is_closed) printf("lost\t%s\n", in && length ? (const char *)in : "no Close");
        is_over = 1;
        break;
    default:
        break;
    }
    return 0;
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count < 4) {
        printf("client\tlibwebsockets\t%s\n", LWS_LIBRARY_VERSION);
        return 0;
    }
    lws_set_log_level(LLL_ERR, NULL);
    static const struct lws_protocols protocols[] = {{"foreign", on_event, 0, 16384, 0, NULL, 0}, {0}};
    struct lws_context_creation_info info = {.port = CONTEXT_PORT_NO_LISTEN, .protocols = protocols};
    struct lws_context *context = lws_create_context(&info);
    struct lws_client_connect_info connect = {
        .context = context,
        .address = arguments[1],
        .port = atoi(arguments[2]),
        .path = arguments[3],
        .host = arguments[1],
        .protocol = count > 4 ? arguments[4] : NULL,
        .local_protocol_name = "foreign",
    };
    if (!context || !lws_client_connect_via_info(&connect)) {
        printf("lost\tno connection\n");
        return 0;
    }
    while (!is_over && lws_service(context, 0) >= 0) {
    }
    return 0;
}
