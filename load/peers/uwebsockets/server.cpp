// The peer uWebSockets: `/echo` sends back, what comes on `/pub` goes to everyone on `/ws`.
//
// As its documentation advises: its native publish and subscribe (which batches what comes together and corks each
// socket), one behaviour for each route, no compression. No timeouts and pings: the others have none either. Back-pressure
// is limited well above what a run has in flight, so that nothing is dropped by design.

#include <cstdlib>
#include <iostream>
#include <string_view>

#include "App.h"

namespace {

struct Nothing {};
using Socket = uWS::WebSocket<false, true, Nothing>;

constexpr const char *topic = "bench";

uWS::App::WebSocketBehavior<Nothing> behaviour() {
    uWS::App::WebSocketBehavior<Nothing> made;
    made.compression = uWS::DISABLED;
    made.maxPayloadLength = 1024 * 1024;
    made.maxBackpressure = 16 * 1024 * 1024;
    made.idleTimeout = 0;
    made.sendPingsAutomatically = false;
    return made;
}

} // namespace

int main(int count, char **arguments) {
    const int port = count > 1 ? std::atoi(arguments[1]) : 7070;
    uWS::App app;

    auto echo = behaviour();
    echo.message = [](Socket *socket, std::string_view message, uWS::OpCode code) { socket->send(message, code); };

    auto listen = behaviour();
    listen.open = [](Socket *socket) { socket->subscribe(topic); };

    auto publish = behaviour();
    publish.message = [&app](Socket *, std::string_view message, uWS::OpCode code) {
        app.publish(topic, message, code);
    };

    app.ws<Nothing>("/echo", std::move(echo))
        .ws<Nothing>("/ws", std::move(listen))
        .ws<Nothing>("/pub", std::move(publish))
        .listen("127.0.0.1", port, [](auto *socket) {
            if (!socket) {
                std::cerr << "cannot listen" << std::endl;
                std::exit(1);
            }
        })
        .run();
}
