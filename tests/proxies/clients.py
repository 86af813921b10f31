"""Clients of the three transports in as few lines as PROTOCOL.md allows, which see every byte that a proxy changes."""

import asyncio
import base64
import functools
import json
import os
import socket
import ssl
import struct
from typing import NamedTuple
from urllib.parse import urlencode

PATIENCE = 30  # seconds for what should take none


def busy():
    """By how much what is allowed grows, because others use this machine too."""
    return min(6, max(1, os.getloadavg()[0] / os.cpu_count() / 1.5))


async def soon(awaitable, seconds):
    """`asyncio.wait_for`, which may swallow that it is cancelled; longer on a machine that is busy."""
    async with asyncio.timeout(seconds * busy()):
        return await awaitable


class Refused(Exception):
    """An answer that is not the one that was hoped for."""

    def __init__(self, answer):
        super().__init__(f"{answer.status} {answer.body[:200]!r}")
        self.answer = answer


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


class Site(NamedTuple):
    """Where a client goes, and what it calls that."""

    port: int
    is_tls: bool = False
    host: str = "rt.example"
    below: str = ""
    source: str = ""  # the client's own address
    source_port: int = 0
    receive_buffer: int = 0

    async def connect(self):
        link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            link.setblocking(False)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.receive_buffer:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
            if self.source or self.source_port:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                link.bind((self.source or "127.0.0.1", self.source_port))
            await soon(asyncio.get_running_loop().sock_connect(link, ("127.0.0.1", self.port)), PATIENCE)
        except BaseException:
            link.close()
            raise
        more = {"ssl": tls(), "server_hostname": self.host.split(":")[0]} if self.is_tls else {}
        limit = self.receive_buffer or 1 << 20
        return await soon(asyncio.open_connection(sock=link, limit=limit, **more), PATIENCE)


@functools.cache
def tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is signed by nobody
    context.set_alpn_protocols(["http/1.1"])
    return context


class Http:
    """One connection, of HTTP/1.1."""

    def __init__(self, reader, writer, site):
        self.reader, self.writer, self.site = reader, writer, site

    @classmethod
    async def open(cls, site):
        return cls(*await site.connect(), site)

    async def send(self, method, path, body=b"", **headers):
        lines = [f"{method} {self.site.below}{path} HTTP/1.1", f"Host: {headers.pop('Host', self.site.host)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self.writer.drain()

    async def head(self):
        text = await soon(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        first, *lines = text.decode("latin-1").split("\r\n")
        headers = {}
        for name, value in (line.split(":", 1) for line in lines if line):
            headers[name.lower()] = value.strip()
        return int(first.split(" ")[1]), headers

    async def pieces(self, headers):
        """The body, as it comes."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                yield (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readuntil(b"\r\n")
        elif "content-length" in headers:
            yield await self.reader.readexactly(int(headers["content-length"]))
        else:
            while piece := await self.reader.read(65536):
                yield piece

    async def answer(self, patience=PATIENCE):
        status, headers = await soon(self.head(), patience)
        if status == 204 or status < 200:
            return Answer(status, headers, b"")

        async def whole():
            return b"".join([piece async for piece in self.pieces(headers)])

        return Answer(status, headers, await soon(whole(), patience))

    async def ask(self, method, path, body=b"", patience=PATIENCE, **headers):
        await self.send(method, path, body, **headers)
        return await self.answer(patience)

    def close(self):
        self.writer.transport.abort()


async def ask(site, method, path, body=b"", patience=PATIENCE, **headers):
    """One request on a connection of its own."""
    http = await Http.open(site)
    try:
        return await http.ask(method, path, body, patience, Connection="close", **headers)
    finally:
        http.close()


class Block(NamedTuple):
    event: str
    id: str
    data: str
    is_heartbeat: bool


class Stream:
    """An event stream."""

    def __init__(self, http, headers):
        self.http, self.headers = http, headers
        self.rest = b""
        self.source = http.pieces(headers)

    @classmethod
    async def open(cls, site, path, **headers):
        http = await Http.open(site)
        try:
            await http.send("GET", path, Accept="text/event-stream", **headers)
            status, told = await http.head()
            if status != 200:
                raise Refused(Answer(status, told, b"".join([piece async for piece in http.pieces(told)])))
            return cls(http, told)
        except BaseException:
            http.close()
            raise

    async def block(self, patience=PATIENCE):
        """The next block; None at an orderly end."""
        while b"\n\n" not in self.rest:
            try:
                self.rest += await soon(anext(self.source), patience)
            except StopAsyncIteration:
                return None
        block, self.rest = self.rest.split(b"\n\n", 1)
        fields, comments = {}, 0
        for line in block.decode().split("\n"):
            name, _, value = line.partition(":")
            comments += not name
            fields[name] = value.removeprefix(" ")
        return Block(fields.get("event", ""), fields.get("id", ""), fields.get("data", ""), comments > 0)

    async def message(self, patience=PATIENCE):
        while (block := await self.block(patience)) is not None:
            if block.event == "message":
                return payload_of(json.loads(block.data))
        raise EOFError

    def close(self):
        self.http.close()


class Ws:
    """A WebSocket."""

    def __init__(self, http):
        self.http = http

    @classmethod
    async def open(cls, site, path, **headers):
        http = await Http.open(site)
        try:
            key = base64.b64encode(os.urandom(16)).decode()
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": 13}
            await http.send("GET", path, **upgrade, Sec_WebSocket_Key=key, **headers)
            status, told = await http.head()
            if status != 101:
                raise Refused(Answer(status, told, b"".join([piece async for piece in http.pieces(told)])))
            return cls(http)
        except BaseException:
            http.close()
            raise

    async def frame(self):
        read = self.http.reader.readexactly
        first, length = await read(2)
        if length == 126:
            (length,) = struct.unpack("!H", await read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await read(8))
        return first & 15, await read(length)

    def send(self, opcode, payload):
        mask = os.urandom(4)
        assert len(payload) < 126
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.http.writer.write(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    async def text(self, patience=PATIENCE):
        """The next text frame; pings are answered."""
        while True:
            opcode, payload = await soon(self.frame(), patience)
            if opcode == 9:
                self.send(10, payload)
            elif opcode == 8:
                raise EOFError(f"closed {struct.unpack('!H', payload[:2])[0]}")
            elif opcode == 1:
                return payload.decode()

    async def told(self, patience=PATIENCE):
        return json.loads(await self.text(patience))

    async def message(self, patience=PATIENCE):
        while (told := await self.told(patience))["op"] != "message":
            pass
        return payload_of(told)

    def close(self):
        self.http.close()


def payload_of(envelope):
    return envelope["text"] if "text" in envelope else envelope["data"]


async def publish(site, channel, text, patience=PATIENCE, **headers):
    """One message, by one request; Refused if it is not taken."""
    headers = {"Content_Type": "text/plain", **headers}
    answer = await ask(site, "POST", f"/channels/{channel}", text.encode(), patience, **headers)
    if answer.status not in (201, 202):
        raise Refused(answer)
    return answer.json()


LOST = (
    OSError,
    EOFError,
    ValueError,
    Refused,
)  # TimeoutError and ssl.SSLError are an OSError, IncompleteReadError an EOFError


class Follower:
    """Listens to a channel over one transport, comes back when it is cut, and keeps what it was told."""

    def __init__(self, transport, site, channel):
        self.transport, self.site, self.channel = transport, site, channel
        self.position = ""
        self.got, self.gaps, self.opened = [], [], 0
        self.task = asyncio.create_task(self.run())

    async def run(self):
        once = {"ws": self.once_ws, "sse": self.once_sse, "poll": self.once_poll}[self.transport]
        while True:
            try:
                await once()
            except LOST:
                pass
            await asyncio.sleep(0.1)

    def query(self, **more):
        since = {"since": self.position} if self.position else {}
        return urlencode({"channel": self.channel, **since, **more})

    def keep(self, told):
        self.position = told.get("cursor") or told.get("resumed") or told.get("id") or self.position

    async def once_ws(self):
        ws = await Ws.open(self.site, f"/ws?{self.query()}")
        self.opened += 1
        try:
            while True:
                told = await ws.told(60)
                self.keep(told)
                if told["op"] == "message":
                    self.got.append(payload_of(told))
                elif told["op"] == "gap":
                    self.gaps.append(told["reason"])
        finally:
            ws.close()

    async def once_sse(self):
        stream = await Stream.open(self.site, f"/events?{self.query()}")
        self.opened += 1
        try:
            while block := await stream.block(60):
                self.position = block.id or self.position
                if block.event == "message":
                    self.got.append(payload_of(json.loads(block.data)))
                elif block.event == "gap":
                    self.gaps.append(json.loads(block.data)["reason"])
        finally:
            stream.close()

    async def once_poll(self):
        http = await Http.open(self.site)
        self.opened += 1
        try:
            while True:
                answer = await http.ask("GET", f"/poll?{self.query(wait=10)}", patience=15)
                if answer.status != 200:
                    return
                told = answer.json()
                self.keep(told)
                self.got += [payload_of(message) for message in told["messages"]]
                self.gaps += [gap["reason"] for gap in told["gap"] or []]
                if told.get("retry_ms") or answer.headers.get("connection") == "close":
                    return
        finally:
            http.close()

    async def until(self, ready, patience=PATIENCE):
        end = asyncio.get_running_loop().time() + patience
        while not ready(self):
            assert asyncio.get_running_loop().time() < end, f"{self.transport} has {len(self.got)}, {self.gaps}"
            await asyncio.sleep(0.02)

    def stop(self):
        self.task.cancel()
