"""A client on a transport, and the steps that it is led through. What each has to see is said here; a step fails by an
exception.
"""

import asyncio
import time

import wire
from wire import Told
from world import PATIENCE

KEPT = 5  # messages a channel

# What stands on one line of an event stream, what ends lines, what parsers take for their own, what is no text.
PAYLOADS = [
    b"plain", b"a\rb", b"a\nb", b"a\r\nb", b"\r", b"\n", b"\r\n\r\n", b"a\n\r\nb\n", b"nul \0 nul", b"\xef\xbb\xbfBOM",
    "😀 ünï \u2028 \u2029 \x85 end".encode(), b" leading and trailing ", b"data: x", b"id: 7\nevent: gap\ndata: y",
    b": comment", b"retry: 1", b"event: bye\n\ndata: x", b'{"op":"bye"}', b"id: x\n\ntwo", b"cursor: x\n\n",
    b"\xff\xfe\x00", b"\xed\xa0\x80", b"a\xf0\x9f", b"x" * 65536, "😀".encode() * 16384, b"\n" * 1000, bytes(range(256)),
]  # fmt: skip


# What their versions of today do, and what is therefore not asked of them.
REMARKS = {
    "websocat": "does not show close codes",
    "libwebsockets": "takes the close codes 1012 and 1013 for mistakes and shows 1002, with the reason that was given",
    "httpx-sse": "gives out a block without data as an empty message",
    "eventsource": "passes over ids of blocks without data: cut before its first message, it begins anew from now on",
}


class NotApplicable(Exception):
    """With the reason."""


class Cell:
    """A client on a transport."""

    def __init__(self, client, version, driver, kind, reader):
        self.client, self.version, self.driver, self.kind, self.reader = client, version, driver, kind, reader
        self.results = {}

    @property
    def comes_back_by_itself(self):
        return self.client in ("eventsource", "Chromium-EventSource")

    def note(self, step, result):
        """A step may have several parts: the worst of them counts. What is no step fails the run, and no more."""
        if step is None:
            return
        order = ["ok", "n/a", "FAIL"]
        best = max(self.results.get(step, "ok"), result, key=lambda r: order.index(r.split(" ")[0]))
        self.results[step] = best


class Line:
    """A cell on a channel of a server, behind a proxy."""

    count = 0

    def __init__(self, cell, server):
        Line.count += 1
        self.cell, self.server = cell, server
        self.channel = f"foreign.{Line.count}"
        self.number = Line.count
        self.generation = 0
        self.reader = cell.reader(self.channel)
        self.came = asyncio.Queue()
        self.heartbeats, self.retries = [], []

    async def open(self, since=""):
        await self.drop()
        await self.server.listeners(self.channel, 0)  # or the old one is taken for the new one
        self.generation += 1
        self.came = asyncio.Queue()
        self.reader.begin()
        self.since = since
        self.is_over = False
        self.ask()

    def ask(self):
        scheme = "ws" if self.cell.kind == "ws" else "http"
        # A browser's EventSource cannot set a header before it has a position itself.
        in_header = self.cell.kind == "stream" or self.cell.client == "httpx-sse"
        target = self.reader.target("" if in_header else self.since)
        url = f"{scheme}://127.0.0.1:{self.proxy.port}{target}"
        last = self.since if in_header else ""
        self.cell.driver.open(
            self.name(), self.listener(), self.cell.client, self.cell.kind, url, self.reader.protocol, last
        )

    def name(self):
        return f"{self.number}.{self.generation}"

    def listener(self):
        generation = self.generation
        return lambda *report: generation == self.generation and self.heard(*report)

    def heard(self, kind, *fields):
        try:
            told = self.reader.read(kind, fields)
        except Exception as error:  # whatever a client makes of it
            told = [Told("dead", f"{type(error).__name__}: {error}")]
        for one in told:
            if one.what == "heartbeat":
                self.heartbeats.append(one.text)
            elif one.what == "retry":
                self.retries.append(int(one.text))
            if one.what in ("lost", "dead", "bye", "refused"):
                self.is_over = True
            self.came.put_nowait(one)
        if kind == "answer" and not self.is_over:
            self.since = self.reader.position
            self.ask()

    async def drop(self):
        await self.cell.driver.drop(self.name())

    async def next(self, noise=("open", "heartbeat", "retry", "other")):
        while True:
            try:
                one = await asyncio.wait_for(self.came.get(), PATIENCE)
            except asyncio.TimeoutError:
                raise AssertionError("nothing more came") from None
            assert one.what != "dead", one.text
            if one.what not in noise:
                return one

    async def expect(self, *whats):
        """Each is `what` or `what text`."""
        for what in whats:
            one = await self.next()
            assert what in (one.what, f"{one.what} {one.text}"), f"expected {what}, came {str(one)[:300]}"

    async def messages(self, payloads, ids):
        for payload, id in zip(payloads, ids):
            payload = payload if isinstance(payload, bytes) else payload.encode()
            one = await self.next()
            assert one.what == "message", f"expected a message, came {str(one)[:300]}"
            assert one.payload == payload, f"expected {payload[:60]!r}, came {one.payload[:60]!r}"
            if self.reader.tells_positions:
                assert one.id == id, f"{payload[:60]!r} is {id}, came as {one.id}"

    async def publish(self, *payloads, **headers):
        return await self.server.publish(self.channel, *payloads, **headers)

    async def live(self, *payloads):
        await self.server.listeners(self.channel, 1)
        await self.messages(payloads, await self.publish(*payloads))

    async def has_heard(self):
        """Waits until the client knows where it is: it is counted before the first bytes reach it."""
        if self.cell.comes_back_by_itself:
            await self.next(noise=())  # that it is open. What it has read since then it does not tell.
            return await asyncio.sleep(1)
        end = time.monotonic() + PATIENCE
        while not self.reader.position:
            assert time.monotonic() < end, "no position"
            await asyncio.sleep(0.02)

    async def come_back(self):
        """With its position, if it does not do so by itself."""
        if not self.cell.comes_back_by_itself:
            await self.open(self.reader.position)

    async def is_away(self, publish):
        """Not connected while this happens."""
        if self.cell.comes_back_by_itself:
            self.proxy.hold()
            self.proxy.reset()
            await self.expect("lost")
        else:
            await self.drop()
        await self.server.listeners(self.channel, 0)
        result = await publish()
        self.proxy.release()
        await self.come_back()
        return result


# ---------------------------------------------------------------- the steps


async def keeps_its_first_position(line):
    """Cut before anything was published, it misses nothing."""
    if not line.reader.tells_positions:
        raise NotApplicable("a raw WebSocket says no positions")
    if isinstance(line.reader, wire.RawPoll):
        raise NotApplicable("the first answer brings the first position")
    if line.cell.client == "eventsource":
        raise NotApplicable(REMARKS["eventsource"])
    await line.open()
    await line.server.listeners(line.channel, 1)
    await line.has_heard()
    await line.messages(["0"], await line.is_away(lambda: line.publish("0")))


async def subscribes(line):
    await line.open()
    await line.server.listeners(line.channel, 1)
    ids = await line.publish("1", "2", "3")
    await line.messages(["1", "2", "3"], ids)
    assert bool(line.reader.position) == line.reader.tells_positions, line.reader.position


async def resumes(line):
    if not line.reader.tells_positions:
        raise NotApplicable("a raw WebSocket says no positions")
    missed = ["4", "5", "6"]
    await line.drop()
    await line.server.listeners(line.channel, 0)
    ids = await line.publish(*missed)
    await line.open(line.reader.position)
    await line.messages(missed, ids)
    await line.live("7")


async def is_cut(line):
    """In the middle of a message, which is half there."""
    await line.server.listeners(line.channel, 1)
    text = "8" * 3000
    line.proxy.cut_after(1000)
    ids = await line.publish(text)
    await line.expect("lost")
    await line.come_back()
    if line.reader.tells_positions:
        await line.messages([text], ids)
    await line.live("9")


def close(said, client):
    """What a client may make of a code and a reason."""
    match client:
        case "websocat":
            return ["?"]
        case "libwebsockets":
            return [said, f"1002 {said.split(' ')[1]}"]
    return [said]


async def has_a_gap(line):
    if not line.reader.tells_positions:
        await line.open("zzzzzzzz-1")
        one = await line.next()
        assert (one.what, one.text) in [("closed", code) for code in close("1013 gap", line.cell.client)], one
        return await line.open()
    missed = [str(n) for n in range(10, 10 + KEPT + 3)]
    ids = await line.is_away(lambda: line.publish(*missed))
    await line.expect("gap trimmed")
    await line.messages(missed[-KEPT:], ids[-KEPT:])
    await line.live("20")


async def payloads(line):
    """As they are, but for what an event stream in raw mode cannot say."""
    await line.server.listeners(line.channel, 1)
    is_raw_stream = isinstance(line.reader, wire.RawStream)
    expected = [joined_by_lf(p) for p in PAYLOADS] if is_raw_stream else PAYLOADS
    # Polls one by one: more at a time than are kept are a gap to them.
    at_once = 1 if line.cell.kind == "get" else len(PAYLOADS)
    for first in range(0, len(PAYLOADS), at_once):
        some = slice(first, first + at_once)
        await line.messages(expected[some], await line.publish(*PAYLOADS[some]))
    if not (is_raw_stream and line.cell.client == "httpx-sse"):  # it makes no difference to a block without data
        await line.messages([b""], await line.publish(b""))
    await line.messages(['{"a":[1,null]}'], await line.publish('{"a":[1,null]}', Content_Type="application/json"))
    ids = await line.publish("named", Event="price")
    one = await line.next()
    assert (one.payload, one.id) == (b"named", ids[0] if line.reader.tells_positions else ""), one
    assert one.event == ("price" if line.reader.tells_positions else ""), one


def joined_by_lf(payload):
    return payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if wire.is_utf8(payload) else payload


async def begins_quiet(line):
    if line.cell.kind == "get":
        line.reader.more = {"wait": 1}
    await line.open()
    await line.live("1")
    line.heartbeats.clear()


async def has_heartbeats(line, newest):
    """After so long without a message, told that the newest position is this."""
    if line.cell.kind == "ws":
        assert line.proxy.answered_a_ping(), "no pong"
    if line.cell.comes_back_by_itself:
        line.proxy.reset()
        await line.expect("lost")
        await line.live("2")
        if line.cell.client == "eventsource":
            raise NotApplicable("it passes over comments, and over ids of blocks without data")
        assert f"last-event-id: {newest.lower()}" in line.proxy.asked_last(), line.proxy.asked_last()
        return
    if line.reader.tells_positions:
        assert len(line.heartbeats) >= 3, line.heartbeats
        assert line.heartbeats[-1] == newest, (line.heartbeats, newest)
        assert line.reader.position == newest, line.reader.position
    await line.live("2")


async def notices_the_death(line):
    if line.cell.kind != "get":
        return await line.expect("lost")
    # A request on a connection that was used before may be repeated by the client itself.
    connections = len(line.proxy.accepted)
    while not line.is_over and len(line.proxy.accepted) == connections:
        await asyncio.sleep(0.05)


async def comes_back_to_another(line, server):
    line.server = server
    line.reader.more = {}
    if line.cell.kind != "get" or line.is_over:
        await line.come_back()
    if line.reader.tells_positions:
        await line.expect("gap epoch")
    await line.live("3")


async def is_told(line):
    """Waits for it."""
    reader = line.reader
    if isinstance(reader, wire.RawPoll) and line.cell.client == "Chromium-fetch":
        # A page is not shown `Connection: close`. It hears that its wait is over, and will be refused next.
        one = await line.next(noise=())
        assert one.what == "heartbeat", one
        return
    if reader.says_bye or line.cell.kind == "get":
        await line.expect("bye")
    if line.cell.kind == "ws":
        one = await line.next()
        assert (one.what, one.text) in [("closed", code) for code in close("1012 restart", line.cell.client)], one
    elif line.cell.comes_back_by_itself:
        await line.expect("lost")  # which is not `dead`
    elif line.cell.kind != "get":
        await line.expect("end")
        assert line.retries and 1000 <= line.retries[-1] <= 5000, line.retries
