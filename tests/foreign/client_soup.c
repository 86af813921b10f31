/* One WebSocket of libsoup: `client_soup URL [PROTOCOL]`, told on stdout in the words of `drivers.py`, until it ends or
 * is killed. Without arguments it tells its version. */

#include <libsoup/soup.h>
#include <stdio.h>

static GMainLoop *loop;
static char failure[256] = "no Close";

static void on_message(SoupWebsocketConnection *socket, int type, GBytes *message, gpointer unused) {
    gsize size;
    const guchar *payload = g_bytes_get_data(message, &size);
    char *packed = g_base64_encode(payload, size);
    printf("%s\t%s\n", type == SOUP_WEBSOCKET_DATA_TEXT ? "text" : "binary", packed);
    g_free(packed);
}

static void on_error(SoupWebsocketConnection *socket, GError *error, gpointer unused) {
    snprintf(failure, sizeof failure, "%s", error->message); /* "closed" follows */
}

static void on_closed(SoupWebsocketConnection *socket, gpointer unused) {
    /* 0 if no Close came. */
    gushort code = soup_websocket_connection_get_close_code(socket);
    const char *reason = soup_websocket_connection_get_close_data(socket);
    if (code == 0 || code == SOUP_WEBSOCKET_CLOSE_ABNORMAL)
        printf("lost\t%s\n", failure);
    else
        printf("closed\t%d\t%s\n", code, reason ? reason : "");
    g_main_loop_quit(loop);
}

static void on_connected(GObject *session, GAsyncResult *result, gpointer unused) {
    GError *error = NULL;
    SoupWebsocketConnection *socket = soup_session_websocket_connect_finish(SOUP_SESSION(session), result, &error);
    if (!socket) {
        printf("lost\t%s\n", error->message);
        g_main_loop_quit(loop);
        return;
    }
    const char *protocol = soup_websocket_connection_get_protocol(socket);
    printf("open\t%s\n", protocol ? protocol : "");
    soup_websocket_connection_set_max_incoming_payload_size(socket, 1 << 20);
    g_signal_connect(socket, "message", G_CALLBACK(on_message), NULL);
    g_signal_connect(socket, "error", G_CALLBACK(on_error), NULL);
    g_signal_connect(socket, "closed", G_CALLBACK(on_closed), NULL);
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count < 2) {
        printf("client\tlibsoup\t%u.%u.%u\n", soup_get_major_version(), soup_get_minor_version(),
               soup_get_micro_version());
        return 0;
    }
    loop = g_main_loop_new(NULL, FALSE);
    SoupSession *session = soup_session_new();
    SoupMessage *request = soup_message_new("GET", arguments[1]);
    char *protocols[] = {count > 2 ? arguments[2] : NULL, NULL};
    soup_session_websocket_connect_async(session, request, NULL, protocols[0] ? protocols : NULL, G_PRIORITY_DEFAULT,
                                         NULL, on_connected, NULL);
    g_main_loop_run(loop);
    return 0;
}
