"""Prints docs/conformance.md, made of what the sections of run left in a directory and of the dated results of long
runs, which are kept beside what was run.

    .ci/conformance.py .ci/cache/results
"""

import csv
import sys
from pathlib import Path

top = Path(__file__).resolve().parent.parent
results = Path(sys.argv[1])

INTRO = """\
# What holdline was tried against

This page is written by `UPDATE=1 .ci/run conformance`, from what the last runs of the other sections gave. Each line
can be repeated with the command that it names. What was found and mended stands in the [changelog](../CHANGELOG.md).
"""

# What is tried, by whom the tests were written, how much of it there is, which programs of `cargo test` it is.
TABLES = [
    ("HTTP/1.1, bytes as they are: heads, framing, chunks, limits, smuggling and its published flaws, pipelining, "
     "Expect, HEAD", "{rows} rows with the one right answer; on sockets whole, byte by byte and in halves, in memory "
     "cut at every byte and read through small windows", ["http_raw", "http_sim"]),
    ("WebSocket frames: fragments, reserved bits, lengths, close codes, UTF-8, limits",
     "each whole, byte by byte and cut everywhere, to the codec, and to whole engines on each kind of path",
     ["lib", "ws_sim"]),
    ("Event streams, by the grammar of WHATWG HTML §9.2", "a reader of its own, cut everywhere, which then reads the "
     "server", ["event_stream"]),
    ("Payloads that look like something else", "about 90, published in up to 19 ways, to 11 kinds of listener, live "
     "and replayed", ["payloads", "wire_payloads"]),
    ("The protocol as clients see it", "flows of the real binary over sockets",
     ["wire"]),
    ("Behaviour in virtual time", "simulated flows, most of them also a byte at a time", ["flows", "reviewed"]),
    ("Faults on real sockets", "a proxy that stalls, resets, half-closes, delays, splits and buffers; stopped clients; "
     "no descriptors left; thousands of abandoned connections; slowloris; a soak", ["faults", "soak"]),
    ("Random worlds with an oracle", "a short run; a million steps below", ["chaos"]),
    ("Fuzz targets over their corpora", "every input found so far that shows something new", ["corpora"]),
]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def read(path):
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def tsv(path):
    lines = [line for line in read(path) if line and not line.startswith("#")]
    return [row for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]


def own_tables():
    passed, failed = {}, {}
    for name, good, bad in tsv(results / "test.tsv"):
        name = "lib" if name.endswith("src/lib.rs") else Path(name).stem
        passed[name] = passed.get(name, 0) + int(good)
        failed[name] = failed.get(name, 0) + int(bad)
    count = (read(results / "rows.tsv") or ["?"])[0]
    for what, tried, programs in TABLES:
        known = [name for name in programs if name in passed]
        if not known:
            result = "not run"
        else:
            good, bad = sum(passed[name] for name in known), sum(failed[name] for name in known)
            result = f"{good} tests passed" + (f", **{bad} failed**" if bad else "")
        flags = " ".join("--lib" if name == "lib" else f"--test {name}" for name in programs)
        yield what, "us", tried.format(rows=count), result, f"`cargo test {flags}`"


def others():
    autobahn = (read(results / "autobahn.tsv") or ["not run"])[0]
    yield ("WebSocket, `examples/echo.rs`", "the Autobahn testsuite's authors",
           "its sections 1–7, 9 and 10; informational are cases that have no right answer", autobahn,
           "`.ci/run autobahn`")
    rows = tsv(results / "foreign.tsv")[1:]
    cells = [cell for row in rows for cell in row[3:9]]
    result = f"{cells.count('ok')} of {len([c for c in cells if not c.startswith('n/a')])}" if rows else "not run"
    yield ("Clients that others wrote", "us; the clients by their authors", f"{len(rows)} of them or of their ways, "
           "below", result, "`tests/foreign/run`")
    worlds = [line for line in read(results / "chaos.tsv") if line.startswith("seeds")]
    steps = sum(int(line.split(", ")[1].split()[0]) for line in worlds)
    cuts = [line for line in read(results / "chaos.tsv") if "cuts" in line]
    yield ("Random worlds: 1–3 engines over one order, cuts, stalls, resets, changes of transport, eviction, restarts",
           "us", "an oracle: delivered and announced gaps together are what was published, in order, to the byte; no "
           "position too early; nothing left when all have gone", f"{steps} steps; {', '.join(cuts)}; nothing lost"
           if worlds else "not run", "`.ci/run chaos`; longer: `STEPS=20000000 .ci/run chaos`")
    for what, *result in tsv(results / "threads.tsv"):
        if what != "what":
            yield (f"Threads and memory: {what}", "us; the checkers by their authors", "see `tests/sanitize/run`",
                   " ".join(result), f"`tests/sanitize/run {what.split()[0]}`")


def foreign():
    rows = tsv(results / "foreign.tsv")
    if not rows:
        return ""
    notes = {}

    def mark(cell):
        if not cell.startswith("n/a"):
            return cell
        reason = cell[3:].strip().strip("()")
        return f"n/a[^{notes.setdefault(reason, len(notes) + 1)}]" if reason else "n/a"

    body = [row[:3] + [mark(cell) for cell in row[3:]] for row in rows[1:]]
    text = "\n## Clients that others wrote\n\n"
    text += ("Each subscribes; comes back with its position; is cut off; gets a gap; is quiet until a heartbeat; and "
             "is told that the server goes.\n\n") + table(rows[0], body)
    return text + "".join(f"\n[^{number}]: {reason}" for reason, number in notes.items()) + ("\n" if notes else "")


def kept(title, text, *paths):
    """Results of runs that are too long for every day."""
    out = ""
    for path in paths:
        lines = read(top / path)
        notes = [line.lstrip("# ") for line in lines if line.startswith("#")]
        rows = tsv(top / path)
        if rows:
            out += ("\n".join(notes) + "\n\n" if notes else "") + table(rows[0], rows[1:]) + "\n"
    return f"\n## {title}\n\n{text}\n\n{out}".rstrip() + "\n" if out else ""


head = ["what", "tests written by", "tried", "result", "again with"]
print(INTRO + "\n" + table(head, list(others()) + list(own_tables())), end="")
print(foreign(), end="")
print(kept("Fuzzing", "Each target alone, with `fuzz/run --record 600`; three seconds each in `.ci/run fuzz`.",
           "fuzz/RESULTS.tsv"), end="")
print(kept("Longer runs", "Of the random worlds, the models of threads, and the sanitizers.",
           "tests/long-runs.tsv"), end="")
print(kept("Mutation", "One expression after the other is broken, with `cargo mutants`; what no test notices and why "
           "that is well stands in `tests/mutants-survivors.txt`.", "tests/mutants.tsv"), end="")
