"""What the clients meet: the server as a process, and a proxy before it that can break a connection in many ways."""

import asyncio
import json
import os
import signal
import socket
import struct
import time

PATIENCE = 30  # seconds for what should take none


class Server:
    """A running binary with its defaults but for what is given."""

    @classmethod
    async def start(cls, binary, *options):
        self = cls()
        # Options are variables too.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HOLDLINE_")}
        command = [binary, "--listen", "127.0.0.1:0", "--log-level", "warn", "--drain", "3s", *options]
        self.process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, env=clean
        )
        line = (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)).decode()
        assert line.startswith("listening on http://127.0.0.1:"), f"{command}: {line!r}"
        self.port = int(line.strip().rsplit(":", 1)[1])
        return self

    async def end(self, with_signal=signal.SIGKILL):
        if self.process.returncode is None:
            self.process.send_signal(with_signal)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)

    async def request(self, method, path, body=b"", **headers):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), json.loads(body)

    async def publish(self, channel, *payloads, **headers):
        """Their ids."""
        ids = []
        for payload in payloads:
            payload = payload if isinstance(payload, bytes) else payload.encode()
            status, answer = await self.request("POST", f"/channels/{channel}", payload, **headers)
            assert status in (201, 202), answer
            ids.append(answer["id"])
        return ids

    async def listeners(self, channel, count):
        """Waits until there are so many."""
        end = time.monotonic() + PATIENCE
        while True:
            _, told = await self.request("GET", f"/channels/{channel}")
            if told["subscribers"] == count:
                return
            assert time.monotonic() < end, f"{told['subscribers']} are counted, not {count}"
            await asyncio.sleep(0.05)


class Proxy:
    """Passes bytes on, remembers what the client sent, and breaks connections when it is told to."""

    @classmethod
    async def before(cls, server):
        self = cls()
        self.port_behind = server.port
        self.pairs = set()
        self.sent = []  # by the client, a bytearray for each connection
        self.accepted = []  # when
        self.open = asyncio.Event()
        self.open.set()
        self.left = None  # of the bytes to the client before it is cut
        self.listener = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    def hold(self):
        """Connections are accepted and get no further, until `release`."""
        self.open.clear()

    def release(self, server=None):
        self.port_behind = server.port if server else self.port_behind
        self.open.set()

    def cut_after(self, count):
        """Resets every connection when so many more bytes have gone to the client."""
        self.left = count

    def reset(self):
        self.left = None
        for near, far in list(self.pairs):
            reset(near)
            reset(far)

    async def end(self):
        self.listener.close()
        self.open.set()
        self.reset()

    async def accept(self, near_reader, near):
        self.accepted.append(time.monotonic())
        sent = bytearray()
        self.sent.append(sent)
        await self.open.wait()
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.port_behind)
        except OSError:
            reset(near)
            return
        pair = (near, far)
        self.pairs.add(pair)
        up = asyncio.create_task(self.copy(near_reader, far, sent.extend))
        down = asyncio.create_task(self.copy(far_reader, near, None))
        await asyncio.gather(up, down)
        self.pairs.discard(pair)
        for writer in pair:
            writer.close()

    async def copy(self, reader, writer, note):
        try:
            while data := await reader.read(65536):
                if note:
                    note(data)
                elif self.left is not None:
                    data, is_last = data[: self.left], len(data) > self.left
                    self.left -= len(data)
                    writer.write(data)
                    if is_last:
                        await writer.drain()
                        self.reset()
                        return
                    continue
                writer.write(data)
                await writer.drain()
            writer.write_eof()
            if note:
                return
            # A client that keeps its side open after the server's end would keep the pair.
            await asyncio.wait_for(writer.drain(), PATIENCE)
        except (OSError, asyncio.TimeoutError):
            reset(writer)

    def answered_a_ping(self):
        """Whether a masked pong of eight bytes was sent on the newest connection."""
        return b"\x8a\x88" in self.sent[-1]

    def asked_last(self):
        """The head of the newest request, in lower case."""
        return bytes(self.sent[-1]).decode("latin-1").lower()


def reset(writer):
    """RST rather than FIN."""
    if not writer.transport.is_closing():
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
