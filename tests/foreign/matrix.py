"""Other people's clients against a running binary: each of them, on each transport that it speaks,

    subscribes   and hears what is published, in order, under the ids that the publisher was told
    resumes      is away, comes back with the one string it kept: what it missed, once, then what is new
    cut          is reset in the middle of a message, then loses the server altogether; notices, comes back, loses nothing
    gap          is told when it missed more than is kept, and when the server is another one
    heartbeat    hears that the server is there, and where it is; answers pings; is still there when that is over
    told to go   hears of a shutdown, in the words of its transport

and is handed payloads that a transport could mangle. `run` installs what this needs and starts it.
"""

import argparse
import asyncio
import logging
import pathlib
import signal
import sys

import steps
import wire
from drivers import Curl, InC, Many, One, Websocat
from steps import KEPT, REMARKS, Cell, Line, NotApplicable
from world import PATIENCE, Proxy, Server

QUIET = 12  # seconds: more than the ten in which a ping must be answered
SECONDS_MAX = 170
AT_ONCE = 16  # lines that are busy at a time
FAILURES_MAX = 2  # of a line; then the rest is not tried

STEPS = ["subscribes", "resumes", "cut", "gap", "heartbeat", "told to go"]


class Run:
    def __init__(self, binary, cells):
        self.binary, self.cells = binary, cells
        self.passed = self.failed = 0
        self.busy = asyncio.Semaphore(AT_ONCE)

    async def check(self, cell, step, title, run):
        name = f"{cell.client}, {cell.reader.name}: {title}"
        try:
            await asyncio.wait_for(run, 3 * PATIENCE)
        except NotApplicable as why:
            print(f"n/a   {name}: {why}", flush=True)
            cell.note(step, f"n/a ({why})")
        except Exception as error:  # whatever a client makes of it
            self.fail(f"{name}: {type(error).__name__} {error}"[:600])
            cell.note(step, "FAIL")
            return False
        else:
            self.ok(name)
            cell.note(step, "ok")
        return True

    def ok(self, name):
        self.passed += 1
        print(f"ok    {name}", flush=True)

    def fail(self, name):
        self.failed += 1
        print(f"FAIL  {name}", flush=True)

    async def lines(self, server):
        lines = [Line(cell, server) for cell in self.cells]
        for line in lines:
            line.proxy = await Proxy.before(server)
        return lines

    async def everyone(self, lines, step, title, run):
        await asyncio.gather(*(self.check(line.cell, step, title, run(line)) for line in lines))

    async def travel(self, line):
        way = [
            (None, "cut before its first message, misses nothing", steps.keeps_its_first_position),
            ("subscribes", "subscribes", steps.subscribes),
            ("resumes", "resumes", steps.resumes),
            ("cut", "cut in a message, comes back", steps.is_cut),
            ("gap", "a gap, then what is kept", steps.has_a_gap),
            (None, "payloads as they are", steps.payloads),
        ]
        failures = 0
        async with self.busy:
            for step, title, run in way:
                if failures < FAILURES_MAX and not await self.check(line.cell, step, title, run(line)):
                    failures += 1
                    line.proxy.release()
                    line.proxy.left = None
                    await line.open()  # the next step is another matter

    async def busy_server(self):
        """Everything but silence, then an orderly end."""
        server = await Server.start(self.binary, "--history", str(KEPT))
        lines = await self.lines(server)
        try:
            await asyncio.gather(*(self.travel(line) for line in lines))
            await asyncio.gather(*(server.listeners(line.channel, 1) for line in lines), return_exceptions=True)
            for line in lines:
                line.proxy.hold()
                line.retries.clear()
            ends = asyncio.create_task(self.everyone(lines, "told to go", "told to go", steps.is_told))
            await asyncio.sleep(0)
            status = await server.end(signal.SIGTERM)
            (self.ok if status == 0 else self.fail)(f"the server exits with {status}")
            await ends
            server = await Server.start(self.binary)
            for line in lines:
                line.proxy.release(server)
            await self.everyone(
                lines,
                "gap",
                "comes back to another server, a gap",
                lambda line: steps.comes_back_to_another(line, server),
            )
        finally:
            await self.clean_up(server, lines)

    async def quiet_server(self):
        """Silence, then a sudden end."""
        server = await Server.start(self.binary, "--heartbeat", "1s")
        lines = await self.lines(server)
        try:
            await self.everyone(lines, "heartbeat", "subscribes where it will be quiet", steps.begins_quiet)
            newest = (await server.publish("elsewhere", "moves the position"))[0]
            await asyncio.sleep(QUIET)
            await self.everyone(
                lines, "heartbeat", "heartbeats, and is still there", lambda line: steps.has_heartbeats(line, newest)
            )
            for line in lines:
                line.proxy.hold()
            ends = asyncio.create_task(
                self.everyone(lines, "cut", "notices that the server died", steps.notices_the_death)
            )
            await server.end()
            await ends
            server = await Server.start(self.binary)
            for line in lines:
                line.proxy.release(server)
            await self.everyone(
                lines, "cut", "comes back after the death", lambda line: steps.comes_back_to_another(line, server)
            )
        finally:
            await self.clean_up(server, lines)

    async def clean_up(self, server, lines):
        await asyncio.gather(*(line.drop() for line in lines), return_exceptions=True)
        await asyncio.gather(*(line.proxy.end() for line in lines), return_exceptions=True)
        await server.end()


def speaks(client):
    """What a client can do: pairs of kind and reader."""
    streams = [("stream", reader) for reader in wire.STREAMS] + [("get", reader) for reader in wire.POLLS]
    sources = [("source", reader) for reader in wire.STREAMS]
    sockets = [("ws", reader) for reader in wire.SOCKETS]
    return {
        "curl": streams,
        "websockets": sockets,
        "aiohttp": sockets + streams,
        "httpx": streams,
        "httpx-sse": sources,
        "ws": sockets,
        "eventsource": sources,
        "node-fetch": streams,
        "gorilla": sockets,
        "nhooyr": sockets,
        "net-http": streams,
        "libwebsockets": sockets,
        "libsoup": sockets,
        "websocat": sockets,
        "Chromium-WebSocket": sockets,
        "Chromium-EventSource": sources,
        "Chromium-fetch": streams,
    }[client]


def drivers(cache):
    """Those that there could be."""
    here = pathlib.Path(__file__).parent
    node = {"NODE_PATH": str(cache / "clients-node" / "node_modules")}
    return {
        "curl": Curl(),
        "websockets, aiohttp, httpx, httpx-sse": Many(
            [str(cache / "clients-python/bin/python"), str(here / "clients.py")]
        ),
        "ws, eventsource, node-fetch": Many(["node", str(here / "clients.mjs")], node),
        "gorilla, nhooyr, net-http": Many([str(cache / "clients-bin/clients-go")]),
        "libwebsockets": InC("libwebsockets", str(cache / "clients-bin/client_lws"), True),
        "libsoup": InC("libsoup", str(cache / "clients-bin/client_soup"), False),
        "websocat": Websocat(str(cache / "clients-python/bin/websocat")),
        "Chromium": Many(["node", str(here / "browser.mjs")], node),
    }


async def begin(all_drivers, only):
    """The cells that there are, and what is missing."""
    cells, missing = [], {}
    for name, driver in all_drivers.items():
        try:
            versions, absent = await driver.begin()
        except (OSError, AssertionError, asyncio.TimeoutError) as error:
            versions, absent = {}, {name: str(error)}
        missing.update(absent)
        for client, version in versions.items():
            cells += [
                Cell(client, version, driver, *how) for how in speaks(client) if only in f"{client}, {how[1].name}"
            ]
    return cells, missing


def show(cells, missing, absent):
    rows = [["client", "version", "transport", *STEPS]]
    notes = []
    for cell in cells:
        row = [cell.client, cell.version, cell.reader.name]
        for step in STEPS:
            result = cell.results.get(step, "-")
            if result.startswith("n/a"):
                if result not in notes:
                    notes.append(result)
                result = f"n/a {notes.index(result) + 1}"
            row.append(result)
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(field.ljust(width) for field, width in zip(row, widths)).rstrip())
    for number, note in enumerate(notes, 1):
        print(f"  {number}: {note.removeprefix('n/a ')}")
    for client in dict.fromkeys(cell.client for cell in cells):
        if client in REMARKS:
            print(f"  {client} {REMARKS[client]}")
    for name, why in missing.items():
        print(f"SKIPPED, not there: {name}: {why}")
    for what in absent:
        print(f"SKIPPED, could not be installed: {what}")


def write(path, cells):
    with open(path, "w") as file:
        print("client", "version", "transport", *STEPS, sep="\t", file=file)
        for cell in cells:
            print(
                cell.client,
                cell.version,
                cell.reader.name,
                *(cell.results.get(step, "-") for step in STEPS),
                sep="\t",
                file=file,
            )


async def main(options):
    all_drivers = drivers(options.cache)
    cells, missing = await begin(all_drivers, options.only)
    run = Run(options.binary, cells)
    # However it ends, what was started here ends with it.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    try:
        await asyncio.wait_for(asyncio.gather(run.busy_server(), run.quiet_server()), SECONDS_MAX)
    except asyncio.TimeoutError:
        run.fail(f"not done within {SECONDS_MAX} s")
    finally:
        await asyncio.gather(*(driver.end() for driver in all_drivers.values()), return_exceptions=True)
    show(cells, missing, options.absent)
    if options.tsv:
        write(options.tsv, cells)
    print(f"{run.passed} passed, {run.failed} failed")
    return 1 if run.failed or not cells else 0


if __name__ == "__main__":
    # A process that ends while it is being killed is a warning to asyncio.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description="Other people's clients against a running binary.")
    parser.add_argument("binary")
    parser.add_argument(
        "--cache", type=lambda path: pathlib.Path(path).absolute(), required=True, help="where `run` installed them"
    )
    parser.add_argument("--tsv", help="writes the matrix there")
    parser.add_argument("--absent", action="append", default=[], help="what could not be installed")
    parser.add_argument("--only", default="", help="the cells with this in `client, transport`")
    sys.exit(asyncio.run(main(parser.parse_args())))
