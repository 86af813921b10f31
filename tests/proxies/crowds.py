#!/usr/bin/env python3
"""More connections than one pair of addresses has ports: in a network of its own, where these are few."""

import asyncio
import fcntl
import itertools
import json
import os
import pathlib
import socket
import struct
import sys

from behaviour import Skip, cells
from blocks import Blocks, put, with_part
from clients import LOST, Refused, Stream
from world import NAME, World

PORTS = 40  # that a pair of addresses has, in place of 28 232
CLIENTS = 60
RANGE = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
REMEDIES = {
    "nginx": ["one address", "addresses", "sources", "unix"],
    "haproxy": ["one address", "addresses", "sources", "unix"],
    "caddy": ["one address", "addresses", "unix"],
}
ROWS = {
    "addresses": "two addresses of the server",
    "sources": "two addresses of the proxy",
    "unix": "a unix socket",
}


async def many(world, kind):
    """Beyond the ports of one pair of addresses connections are refused, and each remedy lets them in."""
    for name in REMEDIES[kind]:
        world.blocks.used |= {one for one in world.blocks.texts if one.startswith(f"{name} {kind}")}
    # What is started in there ends with it.
    apart = ["unshare", "--net", "--pid", "--kill-child", *([] if world.user else ["--map-root-user"])]
    command = [*apart, sys.executable, "-B", __file__, world.binary, kind]
    directory = world.directory(is_proxys=False)
    within = {**os.environ, "TMPDIR": str(directory)}
    process = await world.spawn(directory, *command, as_other=False, stdout=asyncio.subprocess.PIPE, env=within)
    out, _ = await process.communicate()
    world.running.discard(process)
    log = (directory / "log").read_text()
    if process.returncode != 0:
        assert "unshare" in log.splitlines()[0], log
        raise Skip(log.splitlines()[0])
    seen = json.loads(out)
    opened, refused = seen.pop("one address")
    assert PORTS - 4 <= opened <= PORTS and set(refused) <= {"500", "502", "503"}, f"one address: {opened}, {refused}"
    cells(world)["ports", "one address each", kind] = f"{opened} of {CLIENTS}, then {'/'.join(set(refused))}"
    for name, (count, others) in seen.items():
        assert count == CLIENTS, f"{name}: {count}, {others}"
        cells(world)["ports", ROWS[name], kind] = f"{count} of {CLIENTS}"
    told = ", ".join(f"{ROWS[name]} {count}" for name, (count, _) in seen.items())
    return f"with {PORTS} ports {opened} of {CLIENTS}, the others {'/'.join(set(refused))}; {told}"


# ---------------------------------------------------------------- in the network of its own


class Apart(World):
    """Where every port can be chosen, and none is taken from the few."""

    def free_port(self):
        return next(self.numbers)

    numbers = itertools.count(10_000)


async def see(binary, kind):
    bring_up_loopback()
    RANGE.write_text(f"40000 {40_000 + PORTS - 1}")
    world = Apart(binary, Blocks())
    sources = itertools.count(50_000)
    try:
        return {name: await crowd(world, kind, name, sources) for name in REMEDIES[kind]}
    finally:
        await world.close()


def bring_up_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        up_and_running = struct.pack("16sh14x", b"lo", 0x41)
        fcntl.ioctl(one, 0x8914, up_and_running)  # SIOCSIFFLAGS


async def crowd(world, kind, name, sources):
    """How many were let in, and what the others were answered."""
    port = world.free_port()
    path = world.directory(is_proxys=False) / "holdline.sock"
    path.parent.chmod(0o755)
    listen = ["--listen", f"127.0.0.2:{port}", "--listen", f"unix:{path}", "--unix-mode", "666"]
    await world.holdline("--host", NAME, *listen, port=port)
    text = put(configuration(world.blocks, kind, name), {})
    addresses = ["127.0.0.1:7070", "127.0.0.2:7070", "/run/holdline/holdline.sock"]
    places = [f"127.0.0.1:{port}", f"127.0.0.2:{port}", str(path)]
    proxy = await world.proxy(kind, text, {a: b for a, b in zip(addresses, places) if a in text})
    streams, refused = [], []
    for _ in range(CLIENTS):
        try:
            stream = await Stream.open(proxy.site._replace(source_port=next(sources)), "/events?channel=a")
            await stream.block()
            streams.append(stream)
        except LOST as error:
            refused.append(str(error.answer.status) if isinstance(error, Refused) else repr(error))
    for stream in streams:
        stream.close()
    await world.end(proxy.process)
    return len(streams), sorted(refused)


def configuration(blocks, kind, name):
    text = blocks[kind]
    if name == "one address":
        return text
    part = blocks[f"{name} {kind}"]
    if kind == "caddy":
        return part
    if (name, kind) == ("sources", "nginx"):
        http = "proxy_pass http://holdline;"
        return part + put(text, {http: f"{http}\n{blocks['sources nginx location']}"})
    return with_part(text, part)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(see(*sys.argv[1:]))))
