"""Starts the programs that use other people's clients, and speaks with them.

A driver is a program that may hold many connections. Lines of fields between tabs go both ways; payloads, names and
heads are in base64. It begins with what it can do, then waits for orders:

    client NAME VERSION | missing NAME WHY | ready
    > open N NAME KIND URL PROTOCOL LAST     KIND: ws, stream (the bytes of an event stream), source (its events), get
    > drop N                                 ends it without a word; answered with `dropped`

and reports, each line with N before it (`blank` is a block of an event stream without data):

    open PROTOCOL | text PAYLOAD | binary PAYLOAD | ping | closed CODE REASON
    bytes PIECE | event NAME ID DATA RETRY | blank ID RETRY | answer STATUS HEAD BODY
    end                                      in order
    lost WHY | dead WHY                      the connection broke; and the client will not come back by itself

curl, websocat and the programs in C are a process for each connection: their output becomes the same reports here.
"""

import asyncio
import base64
import contextlib
import os
import re
import tempfile
from urllib.parse import urlsplit

from world import PATIENCE

LINE_BYTES_MAX = 1 << 20


def packed(payload):
    return base64.b64encode(payload).decode()


async def start(command, **more):
    return await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES_MAX, **more
    )


class Many:
    """A program that holds many connections."""

    def __init__(self, command, environment=None):
        self.command = command
        self.environment = {**os.environ, **(environment or {})}
        self.listeners = {}
        self.process = None

    async def begin(self):
        """What it can do: {name: version}, {name: why not}."""
        self.process = await start(self.command, env=self.environment)
        clients, missing = {}, {}
        while True:
            fields = await asyncio.wait_for(self.line(), 2 * PATIENCE)
            match fields:
                case ["client", name, version]:
                    clients[name] = version
                case ["missing", name, why]:
                    missing[name] = why
                case ["ready"]:
                    break
                case _:
                    raise AssertionError(f"{self.command}: {fields}")
        self.task = asyncio.create_task(self.listen())
        return clients, missing

    async def line(self):
        line = await self.process.stdout.readline()
        assert line, f"{self.command} ended"
        return line.decode().rstrip("\n").split("\t")

    async def listen(self):
        with contextlib.suppress(AssertionError):
            while True:
                n, *report = await self.line()
                if n in self.listeners:
                    self.listeners[n](*report)
        for listener in self.listeners.values():
            listener("dead", "the driver ended")

    def order(self, *fields):
        self.process.stdin.write(("\t".join(fields) + "\n").encode())

    def open(self, n, listener, client, kind, url, protocol, last):
        self.listeners[n] = listener
        self.order("open", n, client, kind, url, protocol, last)

    async def drop(self, n):
        """Nothing is reported of it after this."""
        if n not in self.listeners:
            return
        dropped = asyncio.get_running_loop().create_future()
        self.listeners[n] = lambda kind, *_: kind == "dropped" and not dropped.done() and dropped.set_result(None)
        self.order("drop", n)
        await asyncio.wait_for(dropped, PATIENCE)
        del self.listeners[n]

    async def end(self):
        if self.process and self.process.returncode is None:
            self.process.stdin.close()
            try:
                await asyncio.wait_for(self.process.wait(), PATIENCE)
            except asyncio.TimeoutError:
                self.process.kill()


class One:
    """A program that is one connection."""

    def __init__(self, name, path, version_options, version_pattern):
        self.name, self.path = name, path
        self.version_options, self.version_pattern = version_options, version_pattern
        self.running = {}

    async def begin(self):
        try:
            process = await start([self.path, *self.version_options])
        except OSError as error:
            return {}, {self.name: f"{self.path}: {error.strerror}"}
        said, _ = await process.communicate()
        version = re.search(self.version_pattern, said.decode())
        return {self.name: version.group(1) if version else "?"}, {}

    def open(self, n, listener, _client, kind, url, protocol, last):
        self.running[n] = asyncio.create_task(self.run(listener, kind, url, protocol, last))

    async def run(self, listener, kind, url, protocol, last):
        starting = asyncio.ensure_future(self.start(kind, url, protocol, last))
        try:
            # Dropped while it starts, it is ended like any other.
            await self.report(await asyncio.shield(starting), kind, listener)
        except Exception as error:
            listener("dead", f"{type(error).__name__}: {error}")
        finally:
            process = await starting
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def drop(self, n):
        task = self.running.pop(n, None)
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def end(self):
        for n in list(self.running):
            await self.drop(n)


class Curl(One):
    FLAGS = ["-q", "-sS", "--noproxy", "*"]

    def __init__(self):
        super().__init__("curl", "curl", ["--version"], r"curl (\S+)")
        self.work = tempfile.TemporaryDirectory()
        self.count = 0

    async def start(self, kind, url, _protocol, last):
        if kind == "stream":
            header = ["-H", f"Last-Event-ID: {last}"] if last else []
            command = [self.path, *self.FLAGS, "-fN", "-H", "Accept: text/event-stream", *header, url]
            return await start(command, stderr=asyncio.subprocess.PIPE)
        self.count += 1
        head = f"{self.work.name}/{self.count}"
        command = [self.path, *self.FLAGS, "-D", head, "-o", f"{head}.body", url]
        process = await start(command, stderr=asyncio.subprocess.PIPE)
        process.head = head
        return process

    async def report(self, process, kind, listener):
        if kind == "stream":
            while piece := await process.stdout.read(65536):
                listener("bytes", packed(piece))
        said = (await process.stderr.read()).decode().strip()
        if await process.wait() != 0:
            listener("lost", said)
        elif kind == "stream":
            listener("end")
        else:
            listener("answer", *self.answer(process.head))

    def answer(self, head):
        """What it left in its files: the status, the head, the body."""
        with open(head, "rb") as file:
            first, lines = file.read().replace(b"\r\n", b"\n").split(b"\n", 1)
        body = b""
        with contextlib.suppress(FileNotFoundError), open(f"{head}.body", "rb") as file:  # none with a 204
            body = file.read()
        return first.split(b" ")[1].decode(), packed(lines), packed(body)


class Websocat(One):
    def __init__(self, path):
        super().__init__("websocat", path, ["--version"], r"websocat (\S+)")

    async def start(self, _kind, url, protocol, _last):
        flags = ["-v", "-E", "-B", "200000", "--no-exit-on-zeromsg", "--base64", "--base64-text"]
        prefixes = ["--text-prefix", "T", "--binary-prefix", "B"]
        offer = ["--protocol", protocol] if protocol else []
        return await start([self.path, *flags, *prefixes, *offer, url], stderr=asyncio.subprocess.STDOUT)

    async def report(self, process, _kind, listener):
        is_closed = False
        while line := (await process.stdout.readline()).decode().rstrip("\n"):
            if line.startswith(("T", "B")):
                listener("text" if line[0] == "T" else "binary", line[1:])
            elif "Connected to ws" in line:
                listener("open", "?")
            elif "WebSocket ping" in line:
                listener("ping")
            elif "WebSocket close message" in line:
                is_closed = True
                listener("closed", "?", "")  # it does not show the code
            elif "Reverse finished" in line:
                break  # the other direction is our own
        if not is_closed:
            listener("lost", "no Close")


class InC(One):
    """One of the programs beside this, which speak in the words above."""

    def __init__(self, name, path, splits_url):
        super().__init__(name, path, [], r"client\t\S+\t(\S+)")
        self.splits_url = splits_url

    async def start(self, _kind, url, protocol, _last):
        where = [url]
        if self.splits_url:
            parts = urlsplit(url)
            where = [parts.hostname, str(parts.port), f"{parts.path}?{parts.query}" if parts.query else parts.path]
        return await start([self.path, *where, *([protocol] if protocol else [])])

    async def report(self, process, _kind, listener):
        while line := (await process.stdout.readline()).decode().rstrip("\n"):
            listener(*line.split("\t"))
