"""The command line of load/compare: what is run, and where it is written to."""

import argparse
import json
import os
import platform
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import report
from .runs import AGAIN, AGAIN_TITLE, Runner, columns_of, generator_path, schedule, scenarios_of
from .servers import CACHE, LOAD, MEASURES, Trouble, all_peers
from .work import ALL

ROOT = LOAD.parent
# A process has descriptors beside its connections.
SPARE_DESCRIPTORS = 200
PLOT_SECONDS_MAX = 60
PLOTS = ROOT / "docs" / "performance"
BEGIN, END = "<!-- compare:begin -->", "<!-- compare:end -->"


def main(words):
    options = parse(words)
    # Whoever ends it ends what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.list:
            return tell_list()
        if options.report:
            return tell(options, Path(options.report))
        return compare(options)
    except Trouble as trouble:
        print(f"load/compare: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nload/compare: interrupted; what it had started has ended. --report tells what it has got",
              file=sys.stderr)
        return 130


def parse(words):
    parser = argparse.ArgumentParser(
        prog="load/compare",
        description="Runs holdline and other servers on the same work in turns, each on one processor with the "
                    "generator on another, and writes tables of what a second of the server's processor gives.")
    parser.add_argument("--quick", action="store_true", help="one round of one second of the main rows")
    parser.add_argument("--peers", type=commas, help="only these, besides holdline and the floor; 'none' for none")
    parser.add_argument("--scenarios", type=commas, help="only these rows; a name ending in * stands for many")
    parser.add_argument("--rounds", type=number(1, 100), help="how often each is run [3]")
    parser.add_argument("--seconds", type=number(0.1, 600), help="how long each run counts [3]")
    parser.add_argument("--out", help="where results are written to [load/target/compare]")
    parser.add_argument("--write", action="store_true",
                        help="also into docs/performance.md and README.md, between their marks")
    parser.add_argument("--list", action="store_true", help="names the rows and the servers")
    parser.add_argument("--report", metavar="DIR", help="runs nothing: tells again what an earlier run wrote there")
    options = parser.parse_args(words)
    options.command = shlex.join(["load/compare", *words])
    options.rounds = int(options.rounds or (1 if options.quick else 3))
    options.seconds = options.seconds or (1.0 if options.quick else 3.0)
    return options


def commas(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def number(least, most):
    def read(text):
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
        return value
    return read


def tell_list():
    print("rows (--scenarios):")
    for work in ALL:
        print(f"  {work.name:22}{work.title}{'  (in --quick)' if work.quick else ''}")
    print("servers (--peers):")
    for peer in all_peers():
        print(f"  {peer.name:22}{peer.title}")
    return 0


def compare(options):
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        raise Trouble("two processors are needed, one for the server and one for the generator; this may use "
                      f"{len(cpus)}")
    wanted = chosen_works(options)
    peers = installed(chosen_peers(options))
    measured = [peer for peer in peers if peer.missing is None]
    for name in MEASURES:
        if not any(peer.name == name for peer in measured):
            raise Trouble(f"{name} is needed: {next(peer.missing for peer in peers if peer.name == name)}")
    generator = generator_path()
    works, skipped = possible(wanted, scenarios_of(generator))
    runs = schedule(works, columns_of(measured), options.rounds)
    if not runs:
        raise Trouble("nothing is left to run: " + "; ".join(skipped))
    out = Path(options.out) if options.out else LOAD / "target" / "compare"
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.jsonl"
    results.write_text("")
    about = environment(options, peers, skipped, cpus)
    (out / "environment.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    Runner(options, generator, results, cpus).carry_out(runs)
    return tell(options, out)


def chosen_peers(options):
    peers = all_peers()
    if options.peers is None:
        return peers
    names = {peer.name for peer in peers}
    unknown = [name for name in options.peers if name not in names and name != "none"]
    if unknown:
        raise Trouble(f"no server is called {', '.join(unknown)} (--list names them)")
    return [peer for peer in peers if peer.name in options.peers or peer.name in MEASURES]


def chosen_works(options):
    if options.scenarios is None:
        return [work for work in ALL if work.quick or not options.quick]
    works = []
    for name in options.scenarios:
        pattern = re.compile(re.escape(name).replace(r"\*", ".*"))
        found = [work for work in ALL if pattern.fullmatch(work.name)]
        if not found:
            raise Trouble(f"no row is called {name} (--list names them)")
        works += found
    return sorted(set(works), key=ALL.index)


def installed(peers):
    """Installs each; who cannot be is said so loudly, and left out."""
    for peer in peers:
        print(f"installing {peer.title} …", file=sys.stderr, flush=True)
        peer.install()
        if peer.missing is not None:
            print(f"NOT INSTALLED: {peer.title}: {peer.missing}", file=sys.stderr, flush=True)
        else:
            print(f"  {peer.version}", file=sys.stderr, flush=True)
    return peers


def possible(works, scenarios):
    """What the generator and the limits of this machine allow, and words for the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    able, skipped = [], []
    for work in works:
        if work.scenario not in scenarios:
            skipped.append(f"{work.name}: the generator has no scenario {work.scenario}")
        elif work.connections + SPARE_DESCRIPTORS > hard:
            skipped.append(f"{work.name}: a process may have {hard} descriptors here")
        else:
            able.append(work)
    for words in skipped:
        print(f"LEFT OUT: {words}", file=sys.stderr)
    return able, skipped


def environment(options, peers, skipped, cpus):
    titles = {peer.name: peer.title for peer in peers}
    titles[AGAIN] = AGAIN_TITLE
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": options.command,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "machine": f"{processor()}, {os.cpu_count()} processors (the server on number {cpus[0]}, the generator on "
                   f"number {cpus[1]}), Linux {platform.release()}, {toolchain()}",
        "titles": titles,
        "versions": list(dict.fromkeys(peer.version for peer in peers if peer.missing is None)),
        "missing": [f"{peer.title} ({peer.missing})" for peer in peers if peer.missing is not None],
        "skipped": skipped,
    }


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return " ".join(line.split(":", 1)[1].split())
    return platform.machine()


def toolchain():
    try:
        said = subprocess.run(["rustc", "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
        return "rustc " + said.split()[1]
    except (OSError, subprocess.SubprocessError):
        return "rustc unknown"


def tell(options, out):
    """Writes the tables of what stands in a directory."""
    try:
        about = json.loads((out / "environment.json").read_text())
        lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise Trouble(f"no results in {out}: {error}") from None
    drawn = [plot.name for plot in draw(out, lines)]
    (out / "table.md").write_text(report.full(report.Results(lines, about), drawn))
    print((out / "table.md").read_text())
    plots = f", {len(drawn)} plots" if drawn else ""
    print(f"{out}: results.jsonl, environment.json, table.md{plots}", file=sys.stderr)
    failed = [line for line in lines if "trouble" in line or "complaint" in line]
    for line in failed:
        word = line.get("trouble") or line["complaint"]
        print(f"FAILED: {line['work']}, round {line['round'] + 1}, {line['label']}: {word}", file=sys.stderr)
    if options.write:
        put(ROOT / "docs" / "performance.md", report.full(report.Results(lines, about), drawn, PLOTS.name + "/"))
        put(ROOT / "README.md", report.short(report.Results(lines, about)))
        PLOTS.mkdir(exist_ok=True)
        for name in drawn:
            shutil.copy(out / name, PLOTS / name)
    return 1 if failed else 0


def draw(out, lines):
    """The generator draws what it wrote: runs that came to an end."""
    ended = out / "ended.jsonl"
    ended.write_text("".join(json.dumps(line) + "\n" for line in lines if "per_second" in line))
    for old in out.glob("*.svg"):
        old.unlink()
    command = [generator_path(), "plot", str(ended), "--out", str(out)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PLOT_SECONDS_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"NO PLOTS: {error}", file=sys.stderr)
        return []
    if ran.returncode != 0:
        print(f"NO PLOTS: {ran.stderr.strip()}", file=sys.stderr)
    return sorted(out.glob("*.svg"))


def put(page, text):
    name = page.relative_to(ROOT)
    try:
        old = page.read_text()
    except OSError:
        print(f"NOT WRITTEN: there is no {name}", file=sys.stderr)
        return
    begin, end = old.find(BEGIN), old.find(END)
    if not 0 <= begin < end:
        print(f"NOT WRITTEN: {name} has no '{BEGIN}' with a '{END}' behind it", file=sys.stderr)
        return
    page.write_text(f"{old[: begin + len(BEGIN)]}\n\n{text}\n{old[end:]}")
    print(f"written: {name}", file=sys.stderr)
