#!/usr/bin/env python3
"""Real proxies before the server, by the configurations of docs/proxies.md: a line for each check, the sum as the last.

    checks.py BINARY [--only TEXT] [--update]

Exit status 1 if a check failed. `--update` writes the tables of the page instead of comparing them.
"""

import argparse
import asyncio
import os
import signal
import sys

import behaviour
import crowds
import tables
from blocks import Blocks
from clients import soon
from world import KINDS, World

AT_ONCE = 8  # checks: most of them wait
PATIENCE = 120  # seconds for a check
BUDGET = 150  # seconds for all of them


class Run:
    def __init__(self, world, only):
        self.world, self.only = world, only
        self.passed = self.failed = self.skipped = 0
        self.gate = asyncio.Semaphore(AT_ONCE)

    def say(self, what, name, detail=""):
        print(f"{what} {name}{detail and ' — '}{detail}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        self.say("SKIPPED", name, why)

    async def check(self, function, *arguments):
        name = ": ".join([*map(str, arguments), function.__doc__.split(".")[0].strip()])
        if self.only not in name and self.only:
            return
        async with self.gate:
            try:
                detail = await soon(function(self.world, *arguments), PATIENCE)
            except behaviour.Skip as why:
                self.skip(name, str(why))
            except Exception as error:  # a check that fails is told, whatever it met
                self.failed += 1
                self.say("FAIL", name, f"{type(error).__name__} {error}")
            else:
                self.passed += 1
                self.say("ok", name, detail or "")


async def main(arguments):
    for number in (signal.SIGTERM, signal.SIGINT):
        # What was started is ended also then.
        asyncio.get_running_loop().add_signal_handler(number, asyncio.current_task().cancel)
    blocks = Blocks()
    world = World(os.path.realpath(arguments.binary), blocks)
    run = Run(world, arguments.only)
    for kind in KINDS:
        if kind not in world.versions:
            run.skip(kind, "it is not installed")
    print(", ".join(f"{kind} {version}" for kind, version in world.versions.items()), flush=True)
    try:
        checks = [run.check(function, kind) for function in behaviour.EACH for kind in world.versions]
        checks += [run.check(function) for function, kind in behaviour.ALONE if kind in world.versions]
        checks += [run.check(crowds.many, kind) for kind in world.versions]
        await soon(asyncio.gather(*checks), BUDGET)
        if not arguments.only:
            await run.check(tables.update if arguments.update else tables.compare)
    finally:
        await world.close()
    unused = [name for name in blocks.unused() if not arguments.only and set(world.versions) == set(KINDS)]
    if unused:
        run.failed += 1
        run.say("FAIL", "every configuration of the page is used", ", ".join(unused))
    skipped = f", {run.skipped} skipped" if run.skipped else ""
    print(f"{run.passed} passed, {run.failed} failed{skipped}")
    return 1 if run.failed or not run.passed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--only", default="")
    parser.add_argument("--update", action="store_true")
    try:
        sys.exit(asyncio.run(main(parser.parse_args())))
    except (asyncio.CancelledError, TimeoutError):
        sys.exit("FAIL ended before all was tried")
