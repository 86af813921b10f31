"""The schedule: every server on the same work, in turns, and what the generator says of each."""

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .servers import CACHE, Server, Trouble, end_process, last_line

# A second column of the same server: what differs between the two is noise.
AGAIN, AGAIN_TITLE = "again", "holdline again"
WARMUP_SECONDS = 0.5
# A run that has not ended by so long after its time is stopped.
EXTRA_SECONDS_MAX = 120
# Opening connections, settling, starting and ending, as it takes here; corrected by what it takes there.
SECONDS_AROUND = 2.0
CONNECTIONS_A_SECOND = 4000
CANNOT = 3


@dataclass
class Column:
    """A server in the tables; holdline stands there twice."""

    label: str
    title: str
    peer: object


@dataclass
class Run:
    work: object
    round: int
    column: Column

    def seconds(self, options):
        return self.work.seconds or options.seconds

    @property
    def warmup(self):
        return max(WARMUP_SECONDS, self.column.peer.warmup)

    def estimate(self, options):
        return SECONDS_AROUND + self.warmup + self.seconds(options) + self.work.connections / CONNECTIONS_A_SECOND


def columns_of(peers):
    """Every server once, and holdline a second time."""
    columns = [Column(peer.name, peer.title, peer) for peer in peers]
    at = next(at for at, column in enumerate(columns) if column.label == "holdline")
    return columns[: at + 1] + [Column(AGAIN, AGAIN_TITLE, columns[at].peer)] + columns[at + 1 :]


def schedule(works, columns, rounds):
    """Work by work; in each round all servers, in an order of its own, the same in each comparison."""
    runs = []
    for work in works:
        able = [column for column in columns if work.can(column.peer.profile) is None]
        for turn in range(rounds):
            shuffled = random.Random(f"{work.name} {turn}").sample(able, len(able))
            runs += [Run(work, turn, column) for column in shuffled]
    return runs


class Runner:
    """Carries out a schedule, and writes a line for each run."""

    def __init__(self, options, generator, results, cpus):
        self.options = options
        self.generator = generator
        self.results = results
        self.server_cpu, self.generator_cpu = cpus
        self.running = None

    def carry_out(self, runs):
        """Every run; one that fails is noted and does not stop the others. Returns the lines."""
        lines = []
        progress = Progress(runs, self.options)
        for run in runs:
            progress.begin(run)
            line = self.one(run)
            line.setdefault("scenario", run.work.scenario)
            line |= {"label": run.column.title, "work": run.work.name, "round": run.round, "column": run.column.label}
            with open(self.results, "a", encoding="utf-8") as out:
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
            lines.append(line)
            progress.end(run, line)
        return lines

    def one(self, run):
        """One server, started afresh, and the generator against it."""
        try:
            with Server(run.column.peer, run.work.scenario, self.server_cpu) as server:
                line = self.generate(run, server)
                if not server.is_alive():
                    line["trouble"] = f"the server ended: {server.last_words()}"
                return line
        except Trouble as trouble:
            return {"trouble": str(trouble)}

    def generate(self, run, server):
        out = server.directory / "line.json"
        seconds = run.seconds(self.options)
        command = [
            str(self.generator), run.work.scenario, *run.work.options,
            "--target", f"http://127.0.0.1:{server.port}", "--profile", str(run.column.peer.profile_path),
            "--pid", str(server.measured), "--cpu", str(self.generator_cpu), "--seconds", str(seconds),
            "--warmup", str(run.warmup), "--json", str(out), "--label", run.column.title, "--quiet",
        ]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, start_new_session=True)
        try:
            said, _ = process.communicate(timeout=seconds + run.warmup + EXTRA_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Trouble(f"the generator did not end {EXTRA_SECONDS_MAX} s after its time") from None
        finally:
            end_process(process)
        line = self.read_line(out)
        line["command"] = " ".join([Path(command[0]).name, *command[1:]])
        if process.returncode == CANNOT:
            line["cannot"] = last_line(said)
        elif process.returncode != 0:
            line["complaint" if "per_second" in line else "trouble"] = last_line(said) or f"status {process.returncode}"
        return line

    @staticmethod
    def read_line(path):
        try:
            return json.loads(path.read_text().splitlines()[-1])
        except (OSError, IndexError, ValueError):
            return {}


class Progress:
    """Which run of how many, what it gave, and how long the rest will take."""

    def __init__(self, runs, options):
        self.options = options
        self.count = len(runs)
        self.done = 0
        self.left = sum(run.estimate(options) for run in runs)
        self.estimated = self.elapsed = 0.0
        self.began = 0.0

    def remaining(self):
        pace = self.elapsed / self.estimated if self.estimated else 1.0
        return duration(self.left * pace)

    def begin(self, run):
        self.began = time.monotonic()
        self.text = (f"[{self.done + 1}/{self.count}, {self.remaining()} left] {run.work.name}, round {run.round + 1}: "
                     f"{run.column.label}")
        if sys.stderr.isatty():
            print(f"\r\x1b[K{self.text} …", end="", file=sys.stderr, flush=True)

    def end(self, run, line):
        estimate = run.estimate(self.options)
        self.done += 1
        self.left -= estimate
        self.estimated += estimate
        self.elapsed += time.monotonic() - self.began
        start = "\r\x1b[K" if sys.stderr.isatty() else ""
        print(f"{start}{self.text}: {brief(line)}", file=sys.stderr, flush=True)


def brief(line):
    for key in ("trouble", "cannot", "complaint"):
        if key in line:
            return f"{key.upper()}: {line[key]}"
    if line.get("per_cpu_second"):
        return f"{line['per_cpu_second'] / 1000:.1f} thousand per second of its processor"
    if line.get("bytes_per_connection") is not None:
        return f"{line['bytes_per_connection']} bytes per connection"
    return "done"


def duration(seconds):
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def scenarios_of(generator):
    """What this build of the generator can do, from its own help."""
    said = subprocess.run([generator, "--help"], capture_output=True, text=True, timeout=10, check=True).stdout
    return {line.split()[0] for line in said.splitlines() if line.startswith("  ") and line.split()[0].isalpha()}


def generator_path():
    """The generator as it was built beside the floor."""
    return Path((CACHE / "floor").read_text().strip()).with_name("holdline-load")
