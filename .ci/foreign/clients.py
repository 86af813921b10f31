"""Clients that others wrote, from Python: `websockets`, `aiohttp` and `httpx-sse`, against a running binary.

    python .ci/foreign/clients.py target/release/holdline

Each subscribes, receives, is cut and resumes with the one string it kept; meets a gap after more messages than are
kept; and is told when the server ends. One line a check; exit status 1 if one failed.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys

import aiohttp
import httpx
import httpx_sse
import websockets
from websockets.asyncio.client import connect

KEPT = 5
PATIENCE = 10


class Line:
    """A subscription to one channel that remembers where it is, as clients are told to: the newest string received."""

    def __init__(self, base, channel, since=None):
        self.base, self.channel, self.cursor = base, channel, since

    def query(self, **more):
        pairs = {"channel": self.channel, **more}
        if self.cursor:
            pairs["since"] = self.cursor
        return httpx.QueryParams(pairs)

    def remember(self, *strings):
        self.cursor = next((s for s in strings if s), self.cursor)


class Envelopes(Line):
    """`/ws`: JSON objects. What carries them differs: see `receive`."""

    async def open(self):
        await self.connect(f"{self.base.replace('http', 'ws', 1)}/ws?{self.query()}", "holdline.v1.json")
        hello = json.loads(await self.receive())
        assert (hello["op"], hello["version"]) == ("hello", 1), hello
        self.remember(hello.get("cursor"))

    async def next(self):
        while True:
            told = json.loads(await self.receive())
            self.remember(told.get("cursor"), told.get("id"))
            if told["op"] == "message":
                return told["text"]
            if told["op"] == "gap":
                self.remember(told["resumed"])
                return f"gap {told['reason']}"
            if told["op"] == "bye":
                assert told["code"] == 1012 and told["retry_ms"] > 0, told
                assert await self.closed() == 1012
                return "end"
            assert told["op"] in ("ok", "live", "heartbeat"), told


class WebsocketsJson(Envelopes):
    name = "websockets on /ws"

    async def connect(self, url, protocol):
        self.socket = await connect(url, subprotocols=[protocol], proxy=None)
        assert self.socket.subprotocol == protocol

    async def receive(self):
        return await self.socket.recv()

    async def closed(self):
        with contextlib.suppress(websockets.ConnectionClosed):
            raise AssertionError(await self.socket.recv())
        return self.socket.close_code

    async def cut(self):
        self.socket.transport.abort()


class AiohttpJson(Envelopes):
    name = "aiohttp on /ws"

    async def connect(self, url, protocol):
        self.session = aiohttp.ClientSession()
        self.socket = await self.session.ws_connect(url, protocols=[protocol])
        assert self.socket.protocol == protocol

    async def receive(self):
        return await self.socket.receive_str()

    async def closed(self):
        message = await self.socket.receive()
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
        return self.socket.close_code

    async def cut(self):
        await self.session.close()  # the connection, without a Close frame


class WebsocketsMeta(WebsocketsJson):
    """A raw WebSocket whose frames begin with what the payload alone cannot say."""

    name = "websockets on /channels/…, holdline.v1.meta"

    async def open(self):
        since = f"?{httpx.QueryParams(since=self.cursor)}" if self.cursor else ""
        await self.connect(f"{self.base.replace('http', 'ws', 1)}/channels/{self.channel}{since}", "holdline.v1.meta")

    async def next(self):
        while True:
            try:
                head, payload = (await self.receive()).split("\n\n", 1)
            except websockets.ConnectionClosed:
                assert self.socket.close_code == 1012, self.socket.close_code
                return "end"
            fields = dict(line.split(": ", 1) for line in head.split("\n"))
            self.remember(fields.get("cursor"), fields.get("id"))
            if "gap" in fields:
                gap = dict(part.split("=", 1) for part in fields["gap"].split("; "))
                self.remember(gap["resumed"])
                return f"gap {gap['reason']}"
            if "id" in fields:
                return payload


class Stream(Line):
    """Server-Sent Events, read by httpx-sse."""

    async def open(self):
        self.client = httpx.AsyncClient(timeout=PATIENCE, trust_env=False)
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": self.cursor} if self.cursor else {})}
        request = self.client.build_request("GET", self.url(), headers=headers)
        self.response = await self.client.send(request, stream=True)
        self.response.raise_for_status()
        self.events, self.retry = httpx_sse.EventSource(self.response).aiter_sse(), None

    async def next(self):
        async for event in self.events:
            self.remember(event.id)
            self.retry = event.retry or self.retry
            told = self.told(event)
            if told:
                return told
        # The stream ended as HTTP demands, else httpx would have raised.
        assert self.retry and self.retry >= 2000, self.retry
        return "end"

    async def cut(self):
        await self.response.aclose()
        await self.client.aclose()


class Events(Stream):
    name = "httpx-sse on /events"

    def url(self):
        return f"{self.base}/events?{httpx.QueryParams(channel=self.channel)}"

    def told(self, event):
        told = json.loads(event.data) if event.data else {}
        if event.event == "gap":
            return f"gap {told['reason']}"
        if event.event == "bye":
            assert told["retry_ms"] > 0, told
            return None  # the end follows
        return told.get("text")


class RawStream(Stream):
    name = "httpx-sse on /channels/…"

    def url(self):
        return f"{self.base}/channels/{self.channel}"

    def told(self, event):
        if event.event == "holdline-gap":
            return f"gap {json.loads(event.data)['reason']}"
        return event.data


class Poll(Line):
    name = "aiohttp on /poll"

    async def open(self):
        self.session = aiohttp.ClientSession(base_url=self.base)
        self.waiting = []
        if not self.cursor:
            await self.poll()

    async def poll(self):
        async with self.session.get(f"/poll?{self.query(wait=PATIENCE)}") as answer:
            assert answer.status == 200, await answer.text()
            told = await answer.json()
            closes = answer.headers.get("Connection", "").lower() == "close"
        self.remember(told["cursor"])
        self.waiting += [f"gap {gap['reason']}" for gap in told["gap"] or []]
        self.waiting += [message["text"] for message in told["messages"]]
        if closes and told.get("retry_ms"):
            self.waiting.append("end")

    async def next(self):
        while not self.waiting:
            await self.poll()
        return self.waiting.pop(0)

    async def cut(self):
        await self.session.close()


class RawPoll(Poll):
    name = "aiohttp on /channels/…?since="

    async def open(self):
        self.cursor = self.cursor or "latest"
        await super().open()

    async def poll(self):
        pairs = httpx.QueryParams(since=self.cursor, wait=PATIENCE)
        async with self.session.get(f"/channels/{self.channel}?{pairs}") as answer:
            assert answer.status in (200, 204), await answer.text()
            body = await answer.text()
            closes = answer.headers.get("Connection", "").lower() == "close"
            gap = answer.headers.get("Holdline-Gap")
        self.remember(answer.headers["Holdline-Cursor"])
        if gap:
            self.waiting.append(f"gap {dict(part.split('=', 1) for part in gap.split('; '))['reason']}")
        if answer.status == 200:
            self.waiting.append(body)
        elif closes:
            self.waiting.append("end")


LINES = [WebsocketsJson, AiohttpJson, WebsocketsMeta, Events, RawStream, Poll, RawPoll]


class Server:
    def __init__(self, binary):
        # Its defaults but for these: options are variables too.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HOLDLINE_")}
        command = [binary, "--listen", "127.0.0.1:0", "--history", str(KEPT), "--log-level", "warn"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=clean)
        self.base = self.process.stdout.readline().strip().removeprefix("listening on ")

    async def publish(self, channel, *texts):
        async with httpx.AsyncClient(trust_env=False) as client:
            for text in texts:
                answer = await client.post(f"{self.base}/channels/{channel}", content=text)
                assert answer.status_code in (201, 202), answer.text

    async def subscribers(self, channel, count):
        async with httpx.AsyncClient(trust_env=False) as client:
            while (await client.get(f"{self.base}/channels/{channel}")).json()["subscribers"] != count:
                await asyncio.sleep(0.02)


failed = passed = 0


async def check(name, run):
    global failed, passed
    try:
        await asyncio.wait_for(run, 3 * PATIENCE)
    except Exception as error:  # whatever a client makes of it
        failed += 1
        print(f"FAIL  {name}: {type(error).__name__} {str(error)[:600]}", flush=True)
    else:
        passed += 1
        print(f"ok    {name}", flush=True)


async def came(line, *expected):
    got = [await asyncio.wait_for(line.next(), PATIENCE) for _ in expected]
    assert got == list(expected), f"expected {list(expected)}, came {got}"


async def receives(server, line):
    await line.open()
    waiting = asyncio.ensure_future(came(line, "1", "2", "3"))
    await server.subscribers(line.channel, 1)
    await server.publish(line.channel, "1", "2", "3")
    await waiting


async def resumes(server, line):
    """Cut, three missed, then live again: these and no others."""
    await line.cut()
    await server.publish(line.channel, "4", "5", "6")
    await line.open()
    await came(line, "4", "5", "6")
    waiting = asyncio.ensure_future(came(line, "7"))
    await server.subscribers(line.channel, 1)
    await server.publish(line.channel, "7")
    await waiting


async def is_told_of_a_gap(server, line):
    await line.cut()
    missed = [str(n) for n in range(10, 10 + KEPT + 3)]
    await server.publish(line.channel, *missed)
    await line.open()
    await came(line, "gap trimmed", *missed[-KEPT:])


async def waits_for_the_end(server, line, ready):
    waiting = asyncio.ensure_future(came(line, "end"))
    await server.subscribers(line.channel, 1)
    ready.release()
    await waiting


async def main(binary):
    server = Server(binary)
    try:
        lines = [kind(server.base, f"python.{n}") for n, kind in enumerate(LINES)]
        for line in lines:
            await check(f"{line.name}: receives", receives(server, line))
            await check(f"{line.name}: cut, resumes, nothing lost or doubled", resumes(server, line))
            await check(f"{line.name}: a gap, then what is kept", is_told_of_a_gap(server, line))
        ready = asyncio.Semaphore(0)
        ends = [check(f"{line.name}: told of the end", waits_for_the_end(server, line, ready)) for line in lines]

        async def terminate():
            for _ in lines:
                await ready.acquire()
            server.process.send_signal(signal.SIGTERM)

        async def exits():
            while server.process.poll() is None:
                await asyncio.sleep(0.05)
            assert server.process.returncode == 0, server.process.returncode

        await asyncio.gather(*ends, check("the server exits with 0", exits()), asyncio.wait_for(terminate(), PATIENCE))
        for line in lines:
            await line.cut()
    finally:
        server.process.kill()
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


asyncio.run(main(sys.argv[1]))
