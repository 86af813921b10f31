// The peer uWebSockets: `/echo` sends back, what comes by POST to `/pub` goes to everyone on `/ws`, `/sse` and `/poll`.
//
// As its documentation advises: its native publish and subscribe (which batches what comes together and corks each
// socket), one behaviour for each route, no compression. No timeouts and pings: the others have none either. Back-pressure
// is limited well above what a run has in flight, so that nothing is dropped by design.
//
// It has no event streams or polls of its own. They are what one writes by hand: a list of responses, to which all
// that was published in a turn of the loop goes in one corked write, and for polls a ring of messages, so that nothing
// is missed between two of them. There is no replay for streams, no heartbeat, no limit for the slow.

#include <array>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "App.h"

namespace {

struct Nothing {};
using Socket = uWS::WebSocket<false, true, Nothing>;
using Response = uWS::HttpResponse<false>;

constexpr const char *topic = "bench";
constexpr std::size_t ring_messages = 4096;

// A response that waits: a stream's for good, a poll's until there is something.
struct Waiting {
    Response *response;
    std::size_t place;
    std::uint64_t since;
};

using List = std::vector<std::unique_ptr<Waiting>>;

void add(List &list, Response *response, std::uint64_t since) {
    list.push_back(std::make_unique<Waiting>(Waiting{response, list.size(), since}));
    Waiting *waiting = list.back().get();
    response->onAborted([&list, waiting]() {
        const std::size_t place = waiting->place;
        list.back()->place = place;
        std::swap(list[place], list.back());
        list.pop_back();
    });
}

class Channel {
  public:
    void publish(std::string_view message) { ring[published++ % ring_messages] = message; }

    void stream(Response *response) {
        response->writeHeader("Content-Type", "text/event-stream")->writeHeader("Cache-Control", "no-store");
        response->write(":\n\n");
        add(streams, response, published);
    }

    void poll(Response *response, std::string_view since) {
        const std::uint64_t from = since == "latest" ? published : std::strtoull(std::string(since).c_str(), nullptr, 10);
        if (from < published) {
            answer(response, body(from));
        } else {
            add(polls, response, from);
        }
    }

    // After each turn of the loop: everybody gets what was published in it.
    void deliver() {
        if (delivered == published) {
            return;
        }
        std::string events;
        for (std::uint64_t at = delivered; at < published; at++) {
            events.append("data: ").append(ring[at % ring_messages]).append("\n\n");
        }
        for (const auto &waiting : streams) {
            Response *response = waiting->response;
            response->cork([response, &events]() { response->write(events); });
        }
        std::string news;
        std::uint64_t news_since = UINT64_MAX;
        List answered = std::move(polls);
        polls.clear();
        for (const auto &waiting : answered) {
            if (waiting->since != news_since) {
                news_since = waiting->since;
                news = body(news_since);
            }
            Response *response = waiting->response;
            response->cork([this, response, &news]() { answer(response, news); });
        }
        delivered = published;
    }

  private:
    std::string body(std::uint64_t from) const {
        std::string all;
        for (std::uint64_t at = std::max(from, published - std::min<std::uint64_t>(published, ring_messages)); at < published; at++) {
            all.append(ring[at % ring_messages]).append("\n");
        }
        return all;
    }

    void answer(Response *response, std::string_view news) {
        response->writeHeader("Content-Type", "text/plain")->writeHeader("Next", published)->end(news);
    }

    std::array<std::string, ring_messages> ring;
    std::uint64_t published = 0;
    std::uint64_t delivered = 0;
    List streams;
    List polls;
};

uWS::App::WebSocketBehavior<Nothing> behaviour() {
    uWS::App::WebSocketBehavior<Nothing> made;
    made.compression = uWS::DISABLED;
    made.maxPayloadLength = 1024 * 1024;
    made.maxBackpressure = 16 * 1024 * 1024;
    made.idleTimeout = 0;
    made.sendPingsAutomatically = false;
    return made;
}

// A body that comes in one piece is not copied.
void on_body(Response *response, auto whole) {
    response->onAborted([]() {});
    response->onData([response, whole, pieces = std::string()](std::string_view piece, bool last) mutable {
        if (last && pieces.empty()) {
            whole(piece);
        } else {
            pieces.append(piece);
            if (last) {
                whole(pieces);
            }
        }
        if (last) {
            response->end();
        }
    });
}

} // namespace

int main(int count, char **arguments) {
    const int port = count > 1 ? std::atoi(arguments[1]) : 7070;
    uWS::App app;
    static Channel channel;
    uWS::Loop::get()->addPostHandler(&channel, [](uWS::Loop *) { channel.deliver(); });

    auto echo = behaviour();
    echo.message = [](Socket *socket, std::string_view message, uWS::OpCode code) { socket->send(message, code); };

    auto listen = behaviour();
    listen.open = [](Socket *socket) { socket->subscribe(topic); };

    app.ws<Nothing>("/echo", std::move(echo))
        .ws<Nothing>("/ws", std::move(listen))
        .get("/sse", [](auto *response, auto *) { channel.stream(response); })
        .get("/poll", [](auto *response, auto *request) { channel.poll(response, request->getQuery("since")); })
        .post("/pub", [&app](auto *response, auto *) {
            on_body(response, [&app](std::string_view message) {
                app.publish(topic, message, uWS::OpCode::TEXT);
                channel.publish(message);
            });
        })
        .listen("127.0.0.1", port, [](auto *socket) {
            if (!socket) {
                std::cerr << "cannot listen" << std::endl;
                std::exit(1);
            }
        })
        .run();
}
