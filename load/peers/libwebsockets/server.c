/*
 * The peer libwebsockets: `/echo` sends back, what comes on `/pub` goes to everyone on `/ws`.
 *
 * As its documentation advises: nothing is written but in the "writeable" callback, which is asked for; there as many
 * messages leave as the socket takes (`lws_send_pipe_choked`). The fan-out keeps each message once, with the room that
 * lws wants before it, and each listener has a position in that ring. Nagle's algorithm is off by
 * default. Its loop is its own, on poll(2): with libuv's each row came out slower, a fan-out to 10 000 by half.
 */
#include <libwebsockets.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MESSAGE_BYTES_MAX = 64 * 1024, RING_MESSAGES = 4096, RECEIVE_BYTES = 32 * 1024 };

struct message {
    unsigned char *bytes; /* LWS_PRE bytes before them are ours */
    size_t length;
    bool binary;
    struct message *next;
};

enum route { ECHO, LISTEN, PUBLISH };

struct session {
    struct lws *wsi;
    enum route route;
    struct message *first, *last; /* an echo's, that wait to be written */
    struct message *partial;      /* what came of a message so far */
    uint64_t position;            /* a listener's next message in the ring */
    struct session *left, *right; /* the listeners */
};

static struct message *ring[RING_MESSAGES];
static uint64_t published;
static struct session listeners; /* a circle, with this one as its start */

static void free_message(struct message *message) {
    if (message) {
        free(message->bytes - LWS_PRE);
        free(message);
    }
}

/* Adds what came to the message it belongs to: NULL if it is too large, or no memory is there. */
static struct message *take_in(struct session *session, struct lws *wsi, const void *bytes, size_t length) {
    struct message *message = session->partial;
    if (!message) {
        message = calloc(1, sizeof *message);
        if (!message)
            return NULL;
        message->binary = lws_frame_is_binary(wsi);
        session->partial = message;
    }
    size_t ahead = lws_remaining_packet_payload(wsi); /* the rest of this frame: one allocation for both */
    if (message->length + length + ahead > MESSAGE_BYTES_MAX)
        return NULL;
    unsigned char *room = message->bytes ? message->bytes - LWS_PRE : NULL;
    room = realloc(room, LWS_PRE + message->length + length + ahead);
    if (!room)
        return NULL;
    message->bytes = room + LWS_PRE;
    memcpy(message->bytes + message->length, bytes, length);
    message->length += length;
    return message;
}

static int write_message(struct lws *wsi, struct message *message) {
    enum lws_write_protocol kind = message->binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
    return lws_write(wsi, message->bytes, message->length, kind) < (int)message->length ? -1 : 0;
}

static void publish(struct message *message) {
    struct message **place = &ring[published++ % RING_MESSAGES];
    free_message(*place);
    *place = message;
    for (struct session *one = listeners.right; one != &listeners; one = one->right)
        lws_callback_on_writable(one->wsi);
}

static int received(struct session *session, struct lws *wsi, const void *bytes, size_t length) {
    struct message *message = take_in(session, wsi, bytes, length);
    if (!message)
        return -1;
    if (lws_remaining_packet_payload(wsi) || !lws_is_final_fragment(wsi))
        return 0;
    session->partial = NULL;
    switch (session->route) {
    case ECHO:
        *(session->last ? &session->last->next : &session->first) = message;
        session->last = message;
        lws_callback_on_writable(wsi);
        break;
    case LISTEN:
        free_message(message);
        break;
    case PUBLISH:
        publish(message);
        break;
    }
    return 0;
}

static int write_echoes(struct session *session, struct lws *wsi) {
    while (session->first && !lws_send_pipe_choked(wsi)) {
        struct message *message = session->first;
        int failed = write_message(wsi, message);
        session->first = message->next;
        if (!session->first)
            session->last = NULL;
        free_message(message);
        if (failed)
            return -1;
    }
    if (session->first)
        lws_callback_on_writable(wsi);
    return 0;
}

static int write_published(struct session *session, struct lws *wsi) {
    if (published - session->position > RING_MESSAGES)
        return -1; /* it lags behind by the whole ring */
    while (session->position < published && !lws_send_pipe_choked(wsi)) {
        if (write_message(wsi, ring[session->position++ % RING_MESSAGES]))
            return -1;
    }
    if (session->position < published)
        lws_callback_on_writable(wsi);
    return 0;
}

static int opened(struct session *session, struct lws *wsi) {
    char path[16] = "";
    lws_hdr_copy(wsi, path, sizeof path, WSI_TOKEN_GET_URI);
    session->wsi = wsi;
    if (!strcmp(path, "/echo")) {
        session->route = ECHO;
    } else if (!strcmp(path, "/pub")) {
        session->route = PUBLISH;
    } else {
        session->route = LISTEN;
        session->position = published;
        session->left = listeners.left;
        session->right = &listeners;
        session->left->right = session->right->left = session;
    }
    return 0;
}

static void closed(struct session *session) {
    if (session->left) {
        session->left->right = session->right;
        session->right->left = session->left;
    }
    while (session->first) {
        struct message *next = session->first->next;
        free_message(session->first);
        session->first = next;
    }
    free_message(session->partial);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t length) {
    struct session *session = user;
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        return opened(session, wsi);
    case LWS_CALLBACK_RECEIVE:
        return received(session, wsi, in, length);
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return session->route == LISTEN ? write_published(session, wsi) : write_echoes(session, wsi);
    case LWS_CALLBACK_CLOSED:
        closed(session);
        return 0;
    default: /* dozens more, that a server without them need not know */
        return lws_callback_http_dummy(wsi, reason, user, in, length);
    }
}

int main(int count, char **arguments) {
    listeners.left = listeners.right = &listeners;
    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    const struct lws_protocols protocols[] = {
        /* The largest message in one piece, in and out. A connection that is sent nothing never touches its buffer. */
        {.name = "bench",
         .callback = callback,
         .per_session_data_size = sizeof(struct session),
         .rx_buffer_size = RECEIVE_BYTES},
        {.name = NULL},
    };
    struct lws_context_creation_info info = {
        .port = count > 1 ? atoi(arguments[1]) : 7070,
        .iface = "127.0.0.1",
        .protocols = protocols,
        .pt_serv_buf_size = RECEIVE_BYTES,
        .fd_limit_per_thread = (unsigned int)descriptors.rlim_cur,
        .options = LWS_SERVER_OPTION_DISABLE_IPV6,
    };
    lws_set_log_level(LLL_ERR, NULL);
    struct lws_context *context = lws_create_context(&info);
    if (!context)
        return 1;
    while (lws_service(context, 0) >= 0)
        ;
    lws_context_destroy(context);
    return 0;
}
