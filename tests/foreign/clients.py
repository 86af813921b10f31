"""Drives `websockets`, `aiohttp`, `httpx` and `httpx-sse`, as `matrix.py` tells it: see `drivers.py` for the words.

What they are given by the server is passed on as they gave it; nothing is judged here.
"""

import asyncio
import base64
import importlib
import importlib.metadata
import sys


def load(name, needs=()):
    """The module, told with its version; or None, told with why."""
    try:
        for other in needs:
            importlib.import_module(other)
        module = importlib.import_module(name)
        tell("client", name.replace("_", "-"), importlib.metadata.version(name))
        return module
    except ImportError as error:
        tell("missing", name.replace("_", "-"), str(error))
        return None


def tell(*fields):
    print(*fields, sep="\t", flush=True)


def packed(payload):
    return base64.b64encode(payload if isinstance(payload, bytes) else payload.encode()).decode()


websockets = load("websockets")
aiohttp = load("aiohttp")
httpx = load("httpx")
httpx_sse = load("httpx_sse", ["httpx"])


class Lost(Exception):
    """The connection broke."""


async def websockets_ws(n, url, protocol, _last):
    from websockets.asyncio.client import connect

    async with connect(url, subprotocols=[protocol] if protocol else None, proxy=None, max_size=None) as socket:
        try:
            tell(n, "open", socket.subprotocol or "")
            while True:
                frame = await socket.recv()
                tell(n, "text" if isinstance(frame, str) else "binary", packed(frame))
        except websockets.ConnectionClosed as closed:
            if closed.rcvd is None:
                raise Lost(str(closed)) from closed
            tell(n, "closed", closed.rcvd.code, closed.rcvd.reason)
        except asyncio.CancelledError:
            socket.transport.abort()  # or it would say goodbye
            raise


async def aiohttp_ws(n, url, protocol, _last):
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(url, protocols=[protocol] if protocol else [], max_msg_size=0)
        tell(n, "open", socket.protocol or "")
        while True:
            frame = await socket.receive()
            if frame.type == aiohttp.WSMsgType.TEXT:
                tell(n, "text", packed(frame.data))
            elif frame.type == aiohttp.WSMsgType.BINARY:
                tell(n, "binary", packed(frame.data))
            elif frame.type == aiohttp.WSMsgType.CLOSE:
                return tell(n, "closed", frame.data, frame.extra)
            else:
                raise Lost(f"{frame.type!r} {frame.data!r}")


async def aiohttp_stream(n, url, _protocol, last):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        async with session.get(url, headers=stream_headers(last)) as answer:
            answer.raise_for_status()
            async for piece in answer.content.iter_any():
                tell(n, "bytes", packed(piece))
    tell(n, "end")


async def aiohttp_get(n, url, _protocol, _last):
    if n not in sessions:
        sessions[n] = aiohttp.ClientSession()
    async with sessions[n].get(url) as answer:
        body = await answer.read()
        tell(n, "answer", answer.status, headers(answer.headers.items()), packed(body))


async def httpx_stream(n, url, _protocol, last):
    async with httpx.AsyncClient(timeout=None, trust_env=False) as client:
        async with client.stream("GET", url, headers=stream_headers(last)) as answer:
            answer.raise_for_status()
            async for piece in answer.aiter_raw():
                tell(n, "bytes", packed(piece))
    tell(n, "end")


async def httpx_get(n, url, _protocol, _last):
    if n not in sessions:
        sessions[n] = httpx.AsyncClient(timeout=None, trust_env=False)
    answer = await sessions[n].get(url)
    tell(n, "answer", answer.status_code, headers(answer.headers.items()), packed(answer.content))


async def httpx_sse_source(n, url, _protocol, last):
    async with httpx.AsyncClient(timeout=None, trust_env=False) as client:
        more = {"Last-Event-ID": last} if last else {}
        async with httpx_sse.aconnect_sse(client, "GET", url, headers=more) as source:
            source.response.raise_for_status()
            async for event in source.aiter_sse():
                if event.event == "message" and event.data == "":  # it makes an event of every block
                    tell(n, "blank", event.id, event.retry or "")
                else:
                    tell(n, "event", packed(event.event), event.id, packed(event.data), event.retry or "")
    tell(n, "end")


def stream_headers(last):
    return {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}


def headers(pairs):
    return packed("".join(f"{name}: {value}\n" for name, value in pairs))


sessions = {}  # those of repeated requests, for their connections to be used again
running = {}


async def run(n, client, kind, *how):
    try:
        await globals()[f"{client.replace('-', '_')}_{kind}"](n, *how)
    except asyncio.CancelledError:
        raise
    except Exception as error:  # whatever a client makes of it
        tell(n, "lost", f"{type(error).__name__}: {error}".replace("\n", " ").replace("\t", " "))
        await forget(n)


async def forget(n):
    session = sessions.pop(n, None)
    if session:
        await (session.close() if hasattr(session, "close") else session.aclose())


async def drop(n):
    task = running.pop(n, None)
    if task:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await forget(n)


async def main():
    tell("ready")
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := (await stdin.readline()).decode().rstrip("\n"):
        verb, n, *how = line.split("\t")
        if verb == "drop":
            await drop(n)
            tell(n, "dropped")
        else:
            running[n] = asyncio.create_task(run(n, *how))


asyncio.run(main())
