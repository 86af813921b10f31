"""What is asked of each proxy. A check has one sentence, returns what it saw, and raises if that is not as it should
be."""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import shutil
import signal
import time

from blocks import put, with_part
from clients import PATIENCE, busy, Follower, Http, LOST, Refused, Stream, Ws, ask, publish, soon
from world import NAME

SHORT = 5  # seconds within which what is said at once has come
MESSAGES = 120
TRANSPORTS = ["ws", "sse", "poll"]


class Skip(Exception):
    """Why a check cannot be made here."""


def cells(world):
    """What goes into the tables of the page: (table, row, kind) → cell."""
    if not hasattr(world, "cells"):
        world.cells = {}
    return world.cells


async def outcome(attempt):
    """`yes`, or the status of the refusal."""
    try:
        await attempt
        return "yes"
    except Refused as refused:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return f"{refused.answer.status} `{refused.answer.json()['error']}`"
        return str(refused.answer.status)


def demand(answer, *statuses):
    if answer.status not in statuses:
        raise Refused(answer)
    return answer


# ---------------------------------------------------------------- with the defaults


async def try_stream(site, server):
    stream = await Stream.open(site, "/events?channel=a")
    try:
        await stream.block(SHORT)
        for n in range(3):
            await publish(server.site, "a", f"at once {n}")
            assert await stream.message(SHORT) == f"at once {n}"
    finally:
        stream.close()


async def try_poll(site, server):
    cursor = demand(await ask(site, "GET", "/poll?channel=b"), 200).json()["cursor"]
    asked = asyncio.create_task(ask(site, "GET", f"/poll?channel=b&since={cursor}"))
    await server.listeners("b", 1)
    await publish(server.site, "b", "held")
    assert [one["text"] for one in demand(await asked, 200).json()["messages"]] == ["held"]


async def try_socket(site, server, **headers):
    ws = await Ws.open(site, "/ws?channel=c", **headers)
    try:
        while (await ws.told(SHORT))["op"] != "live":
            pass
        await publish(server.site, "c", "both ways")
        assert await ws.message(SHORT) == "both ways"
        ws.send(1, b'{"op":"publish","channel":"c","text":"back"}')
        assert await ws.message(SHORT) == "back"
    finally:
        ws.close()


async def try_publish(site, **headers):
    await publish(site, "d", "by request", **headers)


async def defaults(world, kind):
    """With the defaults alone, each transport does what the page says."""
    text = world.blocks["caddy" if kind == "caddy" else f"{kind}-defaults"]
    names = []
    for name, options in {"no option": [], "`--host`": ["--host", NAME]}.items():
        server = await world.holdline(*options)
        proxy = await world.proxy(kind, text, server)
        page = {"Origin": f"http{'s' * proxy.is_tls}://{NAME}"}
        rows = {
            "event stream": try_stream(proxy.site, server),
            "long-poll": try_poll(proxy.site, server),
            "publishing": try_publish(proxy.site),
            "publishing from a page": try_publish(proxy.site, **page),
            "WebSocket": try_socket(proxy.site, server),
            "WebSocket from a page": try_socket(proxy.site, server, **page),
        }
        for row, attempt in rows.items():
            cells(world)["defaults", f"{row}, {name}", kind] = cell = await outcome(attempt)
            names.append(cell)
        await world.end(proxy.process)
        await world.end(server.process)
    return f"{names.count('yes')} of {len(names)} work"


async def refusals_name_what_to_set(world, kind):
    """A refusal names the option that lets it pass."""
    server = await world.holdline()
    proxy = await world.proxy(kind, world.blocks[kind], server)
    told = demand(await ask(proxy.site, "GET", "/channels/a"), 421).json()["message"]
    assert f"--host {NAME}" in told or "--host" in told, told
    server = await world.holdline("--host", NAME)
    proxy = await world.proxy(kind, world.blocks[kind], server)
    foreign = {"Origin": "https://app.example"}
    told = demand(await ask(proxy.site, "POST", "/channels/a", b"x", **foreign), 403).json()
    assert told["error"] == "origin" and "--origin" in told["message"], told
    assert "--origin" in server.log(), server.log()
    server = await world.holdline("--host", NAME, "--origin", "https://app.example")
    proxy = await world.proxy(kind, world.blocks[kind], server)
    await publish(proxy.site, "a", "x", **foreign)
    await try_socket(proxy.site, server, **foreign)
    # A port that is not the scheme's own is part of both.
    site = proxy.site._replace(host=f"{NAME}:8443")
    await publish(site, "a", "x", Origin=f"https://{NAME}:8443")
    await try_socket(site, server, Origin=f"https://{NAME}:8443")


# ---------------------------------------------------------------- with the page's configuration


async def nothing_is_lost(world, kind):
    """Over TLS, nothing is lost, doubled or out of order while proxy and server are killed and started anew."""
    data = world.directory(is_proxys=False) / "data"
    server = await world.holdline("--host", NAME, "--data", str(data), "--limit", "publishes=off", "--drain", "0s")
    proxy = await world.proxy(kind, world.blocks[kind], server)
    followers = [Follower(transport, proxy.site, "a") for transport in TRANSPORTS]
    for follower in followers:
        await follower.until(lambda one: one.position)
    happens = {
        MESSAGES // 5: proxy.reload,
        2 * MESSAGES // 5: proxy.restart,
        3 * MESSAGES // 5: server.restart,
        4 * MESSAGES // 5: proxy.reload,
    }
    publisher, meanwhile = Publisher(proxy.site, "a"), []
    for n in range(MESSAGES):
        if n in happens:
            meanwhile.append(asyncio.create_task(happens[n]()))
        await publisher.publish(str(n))
        await asyncio.sleep(0.02)
    await asyncio.gather(*meanwhile)
    wanted = [str(n) for n in range(MESSAGES)]
    for follower in followers:
        await follower.until(lambda one: len(one.got) >= MESSAGES)
    await asyncio.sleep(0.2)  # what would come twice
    for follower in followers:
        follower.stop()
        assert follower.got == wanted, f"{follower.transport}: {first_difference(follower.got, wanted)}"
        assert not follower.gaps, f"{follower.transport}: {follower.gaps}"
    return "{} messages, {}".format(
        MESSAGES, ", ".join(f"{one.transport} connected {one.opened} times" for one in followers)
    )


async def reload(world, kind):
    """A reload cuts nobody, but that Caddy closes WebSockets."""
    server = await world.holdline("--host", NAME)
    proxy = await world.proxy(kind, world.blocks[kind], server)
    stream = await Stream.open(proxy.site, "/events?channel=a")
    ws = await Ws.open(proxy.site, "/ws?channel=a")
    waiting = [asyncio.create_task(waits(one)) for one in (stream, ws)]
    before = proxy.processes()
    await proxy.reload()
    async with asyncio.timeout(PATIENCE):
        # nginx and haproxy have a new process beside the old one, which has somebody to serve.
        while kind != "caddy" and len(proxy.processes()) <= len(before):
            await asyncio.sleep(0.05)
    demand(await ask(proxy.site, "GET", "/channels/a"), 200)
    if kind == "caddy":
        await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    await publish(server.site, "a", "through the old one")
    cut = await soon(asyncio.gather(*waiting), SHORT)
    assert [seconds is not None for seconds in cut] == [False, kind == "caddy"], cut
    stream.close()
    ws.close()


def first_difference(got, wanted):
    at = next((at for at, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
    return f"{len(got)} came, from {at} on {got[at : at + 5]} for {wanted[at : at + 5]}"


class Publisher:
    """Publishes as one does that must not lose anything: with the same key until it is taken."""

    def __init__(self, site, channel):
        self.site, self.channel, self.http = site, channel, None

    async def publish(self, text):
        end = time.monotonic() + 20
        while True:
            try:
                return await self.once(text)
            except LOST as error:
                self.http = self.http and self.http.close()
                assert time.monotonic() < end, f"message {text} is not taken: {error!r}"
                await asyncio.sleep(0.05)

    async def once(self, text):
        self.http = self.http or await Http.open(self.site)
        headers = {"Content_Type": "text/plain", "Idempotency_Key": f"key-{text}"}
        answer = await self.http.ask("POST", f"/channels/{self.channel}", text.encode(), 3, **headers)
        demand(answer, 201, 202)
        if answer.headers.get("connection") == "close":
            self.http = self.http.close()


async def second_version(world, kind):
    """HTTP/2 to the client carries event streams and polls."""
    server = await world.holdline("--host", NAME)
    proxy = await world.proxy(kind, world.blocks[kind], server)
    curl = ["curl", "-sSNk", "--http2", "--max-time", "60", "--resolve", f"{NAME}:{proxy.port}:127.0.0.1"]
    base = f"https://{NAME}:{proxy.port}"
    stream = await world.spawn(proxy.directory, *curl, "-i", f"{base}/events?channel=a", stdout=asyncio.subprocess.PIPE)
    head = (await soon(stream.stdout.readuntil(b"\r\n\r\n"), SHORT)).decode()
    assert head.startswith("HTTP/2 200"), head
    first = await soon(stream.stdout.readuntil(b"\n\n"), SHORT)
    assert first.startswith(b"retry:"), first
    await publish(server.site, "a", "by h2")
    event = await soon(stream.stdout.readuntil(b"\n\n"), SHORT)
    assert b'"text":"by h2"' in event, event
    await world.end(stream)
    if kind != "haproxy":  # which finds out by writing, as `gone` shows
        start = time.monotonic()
        await server.listeners("a", 0)
        assert time.monotonic() - start < SHORT * busy(), "a client that has gone is not noticed"
    poll = await world.spawn(
        proxy.directory,
        *curl,
        "-w",
        "\n%{http_version}",
        f"{base}/poll?channel=a&since=earliest",
        stdout=asyncio.subprocess.PIPE,
    )
    told, number = (await soon(poll.communicate(), SHORT))[0].rsplit(b"\n", 1)
    assert number == b"2" and json.loads(told)["messages"][0]["text"] == "by h2", (number, told)


async def silence(world, kind):
    """Heartbeats outlast the proxy's idle timeout, and without them it cuts what is quiet."""
    # In proportion: 15 s and 25 s to the 60 s, 50 s or 75 s of the page are here 1 s and 2 s to 4 s.
    short = {
        "nginx": lambda text: put(
            text, {"proxy_pass http://holdline;": "proxy_pass http://holdline; proxy_read_timeout 4s;"}
        ),
        "haproxy": lambda text: (
            "defaults\n    mode http\n    timeout connect 5s\n    timeout client 4s\n    timeout server 4s\n"
            + put(text, {"timeout server 75s": "timeout server 4s"})
        ),
        "caddy": lambda text: text,
    }[kind]
    text = world.blocks[kind]
    kept, cut = await asyncio.gather(*(stays(world, kind, text, short, heartbeat) for heartbeat in ("2s", "1h")))
    assert kept == [None, None], f"cut after {kept} in spite of heartbeats"
    if kind == "caddy":
        assert cut == [None, None], cut
        return "it cuts nothing that is quiet, for 9 s"
    assert all(after and 3.5 <= after <= 8 for after in cut), cut
    return "kept for 9 s; without heartbeats cut after {:.1f} s and {:.1f} s".format(*cut)


async def stays(world, kind, text, short, heartbeat):
    """After how many seconds a quiet stream and a quiet WebSocket are cut; None for what stays."""
    server = await world.holdline("--host", NAME, "--heartbeat", heartbeat)
    proxy = await world.proxy(kind, text, server, edit=short)
    waiting, opened = [], []
    for opening in (Stream.open(proxy.site, "/events?channel=a"), Ws.open(proxy.site, "/ws?channel=a")):
        start = time.monotonic()
        opened.append(await opening)
        waiting.append(asyncio.create_task(waits(opened[-1], start)))
    if heartbeat == "2s":
        demand(await ask(proxy.site, "GET", "/poll?channel=a&since=latest&wait=3"), 200)
    await asyncio.wait(waiting, timeout=9)
    # They are not only open: what is said now comes.
    await publish(server.site, "a", "still there")
    told = await soon(asyncio.gather(*waiting), SHORT)
    for one in opened:
        one.close()
    return told


async def waits(connection, start=0):
    """None once a message comes, or how long after that start the connection ended."""
    try:
        await connection.message(30)
    except LOST:
        return time.monotonic() - start


async def long_poll_outlives(world, kind):
    """A poll held for longer than the proxy waits is a 504, which `wait` avoids."""
    if kind == "caddy":
        server = await world.holdline("--host", NAME)
        proxy = await world.proxy(kind, world.blocks[kind], server)
        demand(await ask(proxy.site, "GET", "/poll?channel=a&since=latest&wait=4"), 200)
        return "it waits for ever"
    edit = {
        "nginx": lambda text: put(
            text, {"proxy_pass http://holdline;": "proxy_pass http://holdline; proxy_read_timeout 2s;"}
        ),
        "haproxy": lambda text: put(text, {"timeout server 75s": "timeout server 2s"}),
    }[kind]
    server = await world.holdline("--host", NAME)
    proxy = await world.proxy(kind, world.blocks[kind], server, edit=edit)
    demand(await ask(proxy.site, "GET", "/poll?channel=a&since=latest&wait=10"), 504)
    demand(await ask(proxy.site, "GET", "/poll?channel=a&since=latest&wait=1"), 200)


async def who_is_counted(world, kind):
    """Limits count for whom the proxy names, whatever clients write themselves."""
    server = await world.holdline("--host", NAME, "--trusted-proxy", "127.0.0.1", "--limit", "connections=2")
    proxy = await world.proxy(kind, world.blocks[kind], server)
    one, other = (proxy.site._replace(source=source) for source in ("127.0.0.2", "127.0.0.3"))
    held = [await Stream.open(one, "/events?channel=a") for _ in range(2)]
    lies = {"X_Forwarded_For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X_Real_IP": "203.0.113.9"}
    for headers in ({}, lies):
        demand(await ask(one, "GET", "/channels/a", **headers), 429)
    held.append(await Stream.open(other, "/events?channel=a"))
    # And who asks for this, from a proxy's address.
    assert (await server.stats())["addresses"] == 3, await server.stats()
    for stream in held:
        stream.close()
    # Whoever is not trusted may write what it likes; on this machine it is not limited anyway.
    direct = server.site._replace(source="127.0.0.4")
    held = [await Stream.open(direct, "/events?channel=a", **lies) for _ in range(4)]
    for stream in held:
        stream.close()
    # Without the option the header is not looked at: all are this machine's.
    server = await world.holdline("--host", NAME, "--limit", "connections=2")
    proxy = await world.proxy(kind, world.blocks[kind], server)
    held = [await Stream.open(proxy.site, "/events?channel=a") for _ in range(4)]
    assert (await server.stats())["addresses"] == 0
    for stream in held:
        stream.close()
    return "the third of one address is 429, another's first is let in"


async def two_proxies(world, kind):
    """Behind a second proxy the client's own address is found, and is not on this machine."""
    # Caddy has to be told of the other; the rest passes on what it is given.
    told = {"127.0.0.1:7070": "127.0.0.1:7070 {\n\t\ttrusted_proxies 127.0.0.0/8\n}"} if kind == "caddy" else {}
    server = await world.holdline("--host", NAME, "--trusted-proxy", "127.0.0.0/8", "--limit", "connections=1")
    proxy = await world.proxy(kind, world.blocks[kind], server, edit=lambda text: put(text, told))
    outer = {"X_Forwarded_For": "198.51.100.7, 203.0.113.9"}
    stream = await Stream.open(proxy.site, "/events?channel=a", **outer)
    demand(await ask(proxy.site, "GET", "/channels/a", **outer), 429)
    demand(await ask(proxy.site, "GET", "/channels/a", X_Forwarded_For="203.0.113.10"), 200)
    for path in ("/", "/stats", "/channels/a/presence"):
        demand(await ask(proxy.site, "GET", path, X_Forwarded_For="203.0.113.10"), 403)
    demand(await ask(proxy.site, "GET", "/health", X_Forwarded_For="203.0.113.10"), 200)
    stream.close()


async def unix_socket(world, kind):
    """A unix socket lets in the proxy's group and nobody else."""
    directory = world.directory(is_proxys=False)
    directory.chmod(0o755)
    path = directory / "holdline.sock"
    base, part = world.blocks[kind], world.blocks[f"unix {kind}"]
    text = put(part if kind == "caddy" else with_part(base, part), {"/run/holdline/holdline.sock": str(path)})
    listen = ["--listen", f"unix:{path}", "--trusted-proxy", "unix", "--limit", "connections=2"]
    group = world.group or str(os.getegid())
    server = await world.holdline(*listen, "--unix-mode", "660", "--unix-group", group, is_listening=False)
    proxy = await world.proxy(kind, text, {})
    await publish(proxy.site, "a", "by a file")
    one = proxy.site._replace(source="127.0.0.2")
    ws = await Ws.open(one, "/ws?channel=a&since=earliest")
    assert await ws.message(SHORT) == "by a file"
    stream = await Stream.open(one, "/events?channel=a")
    demand(await ask(one, "GET", "/channels/a"), 429)
    demand(await ask(one._replace(source="127.0.0.3"), "GET", "/channels/a"), 200)
    ws.close()
    stream.close()
    await world.end(server.process)
    if not world.user:
        return "as one user: that others are kept out is not seen"
    # What the umask leaves, and what only its owner may.
    for mode in ([], ["--unix-mode", "600"]):
        server = await world.holdline(*listen, *mode, is_listening=False)
        demand(await ask(proxy.site, "GET", "/channels/a"), 502, 503)
        await world.end(server.process)


async def below_a_path(world, kind):
    """Below a path that the proxy strips, everything is found relative to it."""
    server = await world.holdline("--host", NAME)
    base, part = world.blocks[kind], world.blocks[f"path {kind}"]
    proxy = await world.proxy(kind, part if kind == "caddy" else with_part(base, part), server)
    site = proxy.site._replace(below="/realtime")
    await try_stream(site, server)
    await try_poll(site, server)
    await try_socket(site, server, Origin=f"https://{NAME}")
    await publish(site, "a", "below", Origin=f"https://{NAME}")
    # What an answer names can be followed by whoever knows only the address that it came from.
    answer = demand(await ask(site, "GET", "/poll?channel=a"), 200)
    following = answer.json()["next"]
    assert following.startswith("?") and answer.headers["link"].startswith("<?"), (following, answer.headers)
    demand(await ask(site, "GET", f"/poll{following}&wait=0"), 200)
    page = demand(await ask(site, "GET", "/"), 200)
    assert page.headers["content-type"].startswith("text/html"), page.headers
    for absolute in (b'src="/', b'href="/', b"src='/", b"href='/"):
        assert absolute not in page.body, f"the console names {absolute}"
    told = await browsers_client(world, proxy, site)
    moved = demand(await ask(proxy.site, "GET", "/realtime"), 301, 308)
    assert moved.headers["location"].endswith("/realtime/"), moved.headers
    demand(await ask(proxy.site, "GET", "/other"), 404, 503, 200)
    if kind != "caddy":
        assert (await ask(proxy.site, "GET", "/channels/a")).status in (404, 503), "the rest of the site is not ours"
    return told


async def browsers_client(world, proxy, site):
    """The client that is served there finds its way from the address of the page."""
    if not shutil.which("node"):
        return "the client for browsers is not tried: no node"
    served = proxy.directory / "client.mjs"
    served.write_bytes(demand(await ask(site, "GET", "/client.js"), 200).body)
    script = pathlib.Path(__file__).parent / "below.mjs"
    node = await world.spawn(
        proxy.directory,
        "node",
        script,
        served,
        f"https://{NAME}:{site.port}{site.below}",
        stdout=asyncio.subprocess.PIPE,
        env={**proxy.environment(), "NODE_TLS_REJECT_UNAUTHORIZED": "0"},
    )
    out, _ = await soon(node.communicate(), PATIENCE)
    assert node.returncode == 0, proxy.log()
    return f"the client for browsers: {out.decode().strip()}"


async def gone(world, kind):
    """Who goes is gone for the server too."""
    # What only a heartbeat finds out takes longer than what is told.
    server = await world.holdline("--host", NAME, "--heartbeat", "2s" if kind == "haproxy" else "20s")
    proxy = await world.proxy(kind, world.blocks[kind], server)
    took = {}
    stream = await Stream.open(proxy.site, "/events?channel=sse")
    ws = await Ws.open(proxy.site, "/ws?channel=ws")
    poll = await Http.open(proxy.site)
    for channel, http in (("sse", stream.http), ("ws", ws.http), ("poll", poll)):
        if channel == "poll":  # which ends by itself
            await poll.send("GET", "/poll?channel=poll&since=latest&wait=5")
        await server.listeners(channel, 1)
        start = time.monotonic()
        # As browsers do: the end of TLS, and then of the connection without waiting for an answer.
        http.writer.transport.close()
        await asyncio.sleep(0.02)
        http.writer.transport.abort()
        await server.listeners(channel, 0)
        took[channel] = time.monotonic() - start
    told = ", ".join(f"{channel} after {seconds:.1f} s" for channel, seconds in took.items())
    if kind == "haproxy":
        # It finds out by writing: with a heartbeat that is not acknowledged, with the answer of the poll.
        assert took["sse"] < 6 * busy() and took["poll"] < 6 * busy() and took["ws"] < busy(), took
    else:
        assert max(took.values()) < 3 * busy(), took
    return told


async def slow_reader(world, kind):
    """A slow reader is told what it missed, and nobody waits for it."""
    options = ["--history", "10,5m,8M", "--limit", "publishes=off", "--limit", "channel-publishes=off"]
    server = await world.holdline("--host", NAME, *options)
    proxy = await world.proxy(kind, world.blocks[kind], server)
    tiny = proxy.site._replace(receive_buffer=8192)
    stream = await Stream.open(tiny, "/events?channel=a")
    ws = await Ws.open(tiny, "/ws?channel=a")
    quick = Follower("sse", proxy.site, "a")
    await server.listeners("a", 3)
    http = await Http.open(server.site)
    start = time.monotonic()
    count = 0
    # Kernel and proxy take some megabytes before the server notices at all.
    while count < 140:
        for _ in range(20):
            body = f"{count:04}".encode().ljust(60_000, b".")
            demand(await http.ask("POST", "/channels/a", body, Content_Type="text/plain"), 201)
            count += 1
        await quick.until(lambda one, count=count: len(one.got) >= count)
    took = time.monotonic() - start
    http.close()
    quick.stop()
    assert [int(text[:4]) for text in quick.got] == list(range(count)), "the quick one missed some"
    assert not quick.gaps and quick.opened == 1, (quick.gaps, quick.opened)
    missed = []
    for name, read in (("sse", stream_reports(stream)), ("ws", socket_reports(ws))):
        got, gaps = [], []
        async for what, value in read:
            if what == "gap":
                gaps.append((len(got), value))
            else:
                got.append(int(value[:4]))
            if got and got[-1] == count - 1:
                break
        holes = [at for at, (a, b) in enumerate(zip(got, got[1:]), 1) if b != a + 1]
        assert got == sorted(set(got)), f"{name}: out of order or doubled"
        assert holes == [at for at, _ in gaps], f"{name}: holes at {holes}, gaps at {gaps}"
        assert gaps and {reason for _, reason in gaps} == {"slow"}, f"{name}: {gaps}"
        missed.append(f"{name} missed {count - len(got)}")
    stream.close()
    ws.close()
    return f"of {count} × 60 kB, {', '.join(missed)}, announced; the quick one has all after {took:.1f} s"


async def stream_reports(stream):
    while block := await stream.block():
        if block.event:
            told = json.loads(block.data)
            yield ("gap", told["reason"]) if block.event == "gap" else ("message", told["text"])


async def socket_reports(ws):
    while True:
        told = await ws.told()
        if told["op"] in ("gap", "message"):
            yield ("gap", told["reason"]) if told["op"] == "gap" else ("message", told["text"])


async def listening_only(world, kind):
    """Where the page lets others only listen, they do nothing else."""
    server = await world.holdline("--host", NAME)
    base, part = world.blocks[kind], world.blocks[f"listening {kind}"]
    proxy = await world.proxy(kind, part if kind == "caddy" else with_part(base, part), server)
    await try_stream(proxy.site, server)
    await try_poll(proxy.site, server)
    for method, path in [
        ("POST", "/channels/a"),
        ("PUT", "/channels/a"),
        ("DELETE", "/channels/a"),
        ("POST", "/publish"),
    ]:
        demand(await ask(proxy.site, method, path, b"x"), 403)
    for path in ("/ws?channel=a", "/channels/a"):
        try:
            (await Ws.open(proxy.site, path)).close()
            raise AssertionError(f"a WebSocket is let through to {path}")
        except Refused as refused:
            # Without its upgrade it is a plain request, for what a channel is.
            assert refused.answer.status in (403, 426) or path == "/channels/a", refused


async def restart(world, kind):
    """While the server restarts on a socket that it inherits, every stream is accepted."""
    seen = {}
    for name, start in {"inherited": world.holdline_of_manager, "own": world.holdline}.items():
        server = await start("--host", NAME, "--drain", "0s")
        proxy = await world.proxy(kind, world.blocks[kind], server)
        stream = await Stream.open(proxy.site, "/events?channel=a")
        statuses, ended = collections.Counter(), asyncio.Event()
        opening = asyncio.create_task(open_streams(proxy.site, statuses, ended))
        await enough(statuses, 2)
        await server.restart(0.5)
        while await stream.block():
            pass
        await enough(statuses, 2)
        ended.set()
        await opening
        seen[name] = statuses
    assert set(seen["inherited"]) == {200}, seen["inherited"]
    return "; ".join(f"{name}: {dict(sorted(statuses.items()))}" for name, statuses in seen.items())


async def enough(statuses, count):
    """Waits until so many streams more are open."""
    wanted = statuses[200] + count
    async with asyncio.timeout(PATIENCE):
        while statuses[200] < wanted:
            await asyncio.sleep(0.02)


async def open_streams(site, statuses, ended):
    """Counts what streams are answered that are opened one after the other."""
    while not ended.is_set():
        try:
            stream = await Stream.open(site, "/events?channel=a")
            stream.close()
            statuses[200] += 1
        except Refused as refused:
            statuses[refused.answer.status] += 1
        except LOST:
            statuses["closed"] += 1
        await asyncio.sleep(0.02)


# ---------------------------------------------------------------- connections that are used again


async def reuse(world, kind):
    """Connections to the server are used again, and no request fails over it."""
    server = await world.holdline("--host", NAME, "--limit", "publishes=off", "--limit", "channel-publishes=off")
    proxy = await world.proxy(kind, world.blocks[kind], server)
    before = await sockets_of(server.port)

    async def client(n):
        http = await Http.open(proxy.site)
        for m in range(75):
            method = ("POST", "GET")[m % 2]
            answer = await http.ask(method, f"/channels/a{n}", b"x" if method == "POST" else b"")
            demand(answer, 200, 201, 202)
            if answer.headers.get("connection") == "close":
                http.close()
                http = await Http.open(proxy.site)
        http.close()

    await asyncio.gather(*(client(n) for n in range(8)))
    used = await sockets_of(server.port) - before
    # What is not used again is in TIME_WAIT, or was: each would be one.
    assert used < 100, f"{used} connections for 600 requests"
    return f"600 requests over some {used} connections, none failed"


async def sockets_of(port):
    """Connections to a port, those that have just ended too."""
    with open("/proc/net/tcp") as lines:
        return sum(f":{port:04X}" in line.split()[2] for line in list(lines)[1:])


async def keep_alive_race(world, kind):
    """No request fails because the server closes a resting connection, if the proxy's pool is the shorter."""
    # In proportion: the pool's 60 s (of haproxy 5 s) and the server's 75 s.
    pool, server_s = {"nginx": (1, 2), "haproxy": (0.5, 6), "caddy": (1, 2)}[kind]
    shorter = {
        "nginx": {"keepalive 32;": f"keepalive 32; keepalive_timeout {pool}s;"},
        "haproxy": {"127.0.0.1:7070": "127.0.0.1:7070 pool-purge-delay 500ms"},
        "caddy": {"127.0.0.1:7070": f"127.0.0.1:7070 {{\ntransport http {{\nkeepalive {pool}s\n}}\n}}"},
    }[kind]
    cases = [(shorter, server_s), ({}, 2)]
    good, bad = await asyncio.gather(*(meet_the_end(world, kind, edit, seconds) for edit, seconds in cases))
    assert all(status in (201, 202) for status in good), f"POST: {good}"
    return f"POST: {said(good)}; with a pool that keeps longer than the server: {said(bad)}"


def said(statuses):
    return " ".join(str(status or "closed") for status in statuses)


async def meet_the_end(world, kind, edit, seconds):
    """What POSTs are answered that a proxy begins with resting connections, while the server closes these. The proxy is
    stopped for that moment, so that it reads of the requests before it reads of the end."""
    server = await world.holdline("--host", NAME, "--keep-alive", f"{seconds}s")
    proxy = await world.proxy(kind, world.blocks[kind], server, edit=lambda text: put(text, edit))
    https = [await Http.open(proxy.site) for _ in range(4)]
    try:
        for answer in await asyncio.gather(*(http.ask("POST", "/channels/a", b"x") for http in https)):
            demand(answer, 201, 202)
        await asyncio.sleep(seconds - 0.4)
        proxy.signal_all(signal.SIGSTOP)
        try:
            for http in https:
                await http.send("POST", "/channels/a", b"x")
            await asyncio.sleep(0.8)
        finally:
            proxy.signal_all(signal.SIGCONT)
        return [await status_of(http) for http in https]
    finally:
        for http in https:
            http.close()


async def status_of(http):
    """0: it was closed without an answer."""
    try:
        return (await http.answer()).status
    except LOST:
        return 0


# ---------------------------------------------------------------- one proxy's own


async def buffering(world):
    """nginx holds events back only where the header that forbids it is ignored."""
    server = await world.holdline("--host", NAME)
    ignoring = {"proxy_pass http://holdline;": "proxy_pass http://holdline; proxy_ignore_headers X-Accel-Buffering;"}
    proxy = await world.proxy("nginx", world.blocks["nginx"], server, edit=lambda text: put(text, ignoring))
    opening = asyncio.create_task(Stream.open(proxy.site, "/events?channel=a"))
    await server.listeners("a", 1)
    await publish(server.site, "a", "held back")
    done, _ = await asyncio.wait([opening], timeout=SHORT)
    if done:
        with contextlib.suppress(TimeoutError):
            raise AssertionError(f"it came: {await opening.result().message(SHORT)}")
    opening.cancel()
    unbuffered = {**ignoring, "proxy_http_version 1.1;": "proxy_http_version 1.1; proxy_buffering off;"}
    proxy = await world.proxy("nginx", world.blocks["nginx"], server, edit=lambda text: put(text, unbuffered))
    await try_stream(proxy.site, server)


async def port_is_dropped(world):
    """nginx's $host drops the port, so that a page on another port is a stranger."""
    server = await world.holdline("--host", NAME)
    proxy = await world.proxy(
        "nginx", world.blocks["nginx"], server, edit=lambda text: put(text, {"$http_host": "$host"})
    )
    site = proxy.site._replace(host=f"{NAME}:8443")
    demand(await ask(site, "POST", "/channels/a", b"x", Origin=f"https://{NAME}:8443"), 403)
    await publish(proxy.site, "a", "x", Origin=f"https://{NAME}")


async def own_header_passes(world):
    """A proxy that adds no X-Forwarded-For passes on what clients write there, or makes them all one."""
    server = await world.holdline("--trusted-proxy", "127.0.0.1", "--limit", "connections=1")
    proxy = await world.proxy("nginx", world.blocks["nginx-defaults"], server)
    stream = await Stream.open(proxy.site._replace(source="127.0.0.2"), "/events?channel=a")
    demand(await ask(proxy.site._replace(source="127.0.0.3"), "GET", "/channels/a"), 429)
    demand(await ask(proxy.site._replace(source="127.0.0.3"), "GET", "/channels/a", X_Forwarded_For="1.2.3.4"), 200)
    stream.close()


EACH = [
    nothing_is_lost,
    reload,
    silence,
    keep_alive_race,
    slow_reader,
    gone,
    defaults,
    refusals_name_what_to_set,
    who_is_counted,
    two_proxies,
    unix_socket,
    below_a_path,
    listening_only,
    restart,
    second_version,
    long_poll_outlives,
    reuse,
]
ALONE = [(buffering, "nginx"), (port_is_dropped, "nginx"), (own_header_passes, "nginx")]
