"""Tables of what came out, in Markdown. Reads the lines of runs and the description of the environment only."""

from collections import defaultdict
from statistics import median

from .runs import AGAIN
from .work import ALL, MEMORY, RATE, VICTIMS

FLOOR, HOLDLINE, TCP = "floor", "holdline", "tcp"
NOTHING = "–"
# What the README has room for.
SHORT = ("echo-1", "echo-16", "connect", "publish-1", "fanout-ws-1000-1", "fanout-ws-1000-16", "fanout-sse-1000-1",
         "fanout-poll-1000-1", "resume-ws", "idle-ws")
MARKS = {
    "†": "the generator had no time left: the rate per second of the server's processor holds, latencies do not",
}


class Results:
    """Lines of runs, found by work, column and round."""

    def __init__(self, lines, environment):
        self.lines = defaultdict(dict)
        for line in lines:
            self.lines[line["work"], line["column"]][line["round"]] = line
        self.environment = environment
        self.titles = environment["titles"]
        self.works = [work for work in ALL if any(key[0] == work.name for key in self.lines)]
        present = {key[1] for key in self.lines}
        self.columns = [name for name in self.titles if name in present and name not in (FLOOR, TCP, AGAIN)]
        self.has_again = AGAIN in present
        self.notes = []

    def rounds(self, work, column):
        return self.lines.get((work.name, column), {})

    def values(self, work, column, key):
        """That field of every round that has it."""
        found = {}
        for turn, line in self.rounds(work, column).items():
            value = key(line)
            if value is not None and "trouble" not in line:
                found[turn] = value
        return found

    def median(self, work, column, key):
        values = self.values(work, column, key)
        return median(values.values()) if values else None

    def ratio(self, work, column, other=FLOOR):
        """The median over rounds of the ratio to another column of the same round."""
        mine, theirs = self.values(work, column, rate), self.values(work, other, rate)
        ratios = [mine[turn] / theirs[turn] for turn in mine if theirs.get(turn)]
        return median(ratios) if ratios else None

    def spread(self, work):
        """By how much two columns of the same server differed at most."""
        key = rate if work.figure == RATE else figure_of(work)
        one, two = self.values(work, HOLDLINE, key), self.values(work, AGAIN, key)
        differences = [abs(two[turn] / one[turn] - 1) for turn in two if one.get(turn)]
        return max(differences) if differences else None

    def remarks(self, work, column):
        """What must stand beside a figure: marks, and what went wrong in words."""
        lines = list(self.rounds(work, column).values())
        text = ""
        limited = [line for line in lines if line.get("bottleneck") == "generator"]
        if len(limited) * 2 > len(lines):
            text += " †"
        for field, word in (("lost", "lost"), ("duplicates", "twice"), ("disordered", "out of order")):
            count = sum(line.get(field) or 0 for line in lines)
            if count:
                text += f" **{count} {word}**"
        troubles = [line["trouble"] for line in lines if "trouble" in line]
        if troubles:
            failed = "failed" if len(troubles) == len(lines) else f"{len(troubles)} of {len(lines)} runs failed"
            text += f" {failed}{self.note(f'{self.titles[column]}, {work.title}: {troubles[-1]}')}"
        return text

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)
        return f" [{self.notes.index(text) + 1}]"

    def cell(self, work, column, value, form, best=False):
        """A figure with its remarks, or that there is none."""
        remarks = self.remarks(work, column)
        if value is None:
            return remarks.strip() or NOTHING
        text = form(value)
        return (f"**{text}**" if best else text) + remarks


def rate(line):
    return line.get("per_cpu_second")


def at(quantile):
    return lambda line: (line.get("latency_us") or {}).get(quantile)


def bytes_each(line):
    return line.get("bytes_per_connection")


def times_slower(line):
    return line.get("p99_ratio")


def resident(line):
    return (line.get("memory") or {}).get("rss_kb")


def figure_of(work):
    return {RATE: rate, MEMORY: bytes_each, VICTIMS: times_slower}[work.figure]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def ratios(results, works, columns):
    """Row by row: the floor as it is, holdline, the noise, each peer."""
    head = ["per second of the server's processor", "floor = 1"]
    rows = []
    for work in works:
        one = FLOOR if results.rounds(work, FLOOR) else HOLDLINE
        values = {column: results.ratio(work, column, one) for column in columns}
        best = max((value for value in values.values() if value is not None), default=None)
        title = work.title + (" ¹" if one == HOLDLINE else "")
        row = [title, results.cell(work, FLOOR, results.median(work, FLOOR, rate), thousands)]
        for column in columns:
            row.append(results.cell(work, column, values[column], "{:.2f}".format, values[column] == best))
            if column == HOLDLINE:
                row.append(percent(results.spread(work)))
        rows.append(row)
    for column in columns:
        head.append(results.titles[column])
        if column == HOLDLINE:
            head.append("A/A")
    return table(head, rows)


def plain(results, works, columns, first, key, form, lowest=None):
    """Figures as they are. `lowest`: the lowest of a row stands out; False: the highest; None: none does."""
    rows = []
    for work in works:
        read = key(work)
        values = {column: results.median(work, column, read) for column in columns}
        if all(value is None for value in values.values()):
            continue
        judged = [value for column, value in values.items() if value is not None and column != FLOOR]
        best = (min(judged) if lowest else max(judged)) if lowest is not None and judged else None
        rows.append([work.title] + [
            results.cell(work, column, values[column], form, column != FLOOR and values[column] == best)
            for column in columns])
    return table([first] + [results.titles[column] for column in columns], rows) if rows else ""


def flooded(results, works, columns):
    """How long the others wait, alone and beside one that floods."""
    rows = []
    for work in works:
        multiples = {column: results.median(work, column, times_slower) for column in columns}
        if any(multiples.values()):
            rows.append([work.title] + [results.cell(work, column, multiples[column], "× {:.1f}".format)
                                        for column in columns])
        for title, field in (("alone, µs", "p99_without_us"), ("beside it, µs", "p99_with_us")):
            values = [results.median(work, column, lambda line, field=field: line.get(field)) for column in columns]
            if any(values):
                rows.append([title] + [NOTHING if value is None else micros(value) for value in values])
    return table(["99th percentile of echoes"] + [results.titles[column] for column in columns], rows) if rows else ""


def latencies(results, works, columns):
    rows = []
    for work in works:
        row = [work.title]
        for column in columns:
            middle, high = (results.median(work, column, at(quantile)) for quantile in ("p50", "p99"))
            row.append(NOTHING if middle is None or high is None else f"{micros(middle)} / {micros(high)}")
        if any(cell != NOTHING for cell in row[1:]):
            rows.append(row)
    head = ["median / 99th percentile, µs"] + [results.titles[column] for column in columns]
    return table(head, rows) if rows else ""


def thousands(value):
    return f"{value / 1000:,.0f} k".replace(",", " ") if value >= 1000 else f"{value:.0f}"


def micros(value):
    return f"{value:,.0f}".replace(",", " ")


def percent(share):
    return NOTHING if share is None else f"± {share * 100:.0f} %"


def whole(value):
    return f"{value:,.0f}".replace(",", " ")


def full(results, plots=(), folder=""):
    """What stands in docs/performance.md, with plots that lie in a folder beside it."""
    rated = [work for work in results.works if work.figure == RATE]
    columns = results.columns
    with_floor = [FLOOR, *columns]
    parts = [ratios(results, rated, columns), legend(results, rated)]
    bare = bare_echo(results, rated)
    if bare:
        parts.append(bare)
    memory = [work for work in results.works if work.figure == MEMORY]
    crowds = [work for work in rated if work.connections >= 1000 and work.scenario == "fanout"]
    floods = [work for work in results.works if work.figure == VICTIMS]
    parts += [
        plain(results, memory, with_floor, "bytes per connection", lambda _: bytes_each, whole, lowest=True),
        flooded(results, floods, with_floor),
        heading("Messages per second of the server's processor",
                plain(results, rated, with_floor, "", lambda _: rate, thousands)),
        heading("Latency", latencies(results, rated, with_floor)),
        heading("Memory while it works",
                plain(results, crowds, with_floor, "resident, KiB", lambda _: resident, whole)),
    ]
    parts.append(heading("Drawn", "\n".join(f"![{name.removesuffix('.svg')}]({folder}{name})" for name in plots)))
    if results.notes:
        parts.append("\n".join(f"[{at + 1}] {note}" for at, note in enumerate(results.notes)) + "\n")
    parts.append(environment(results))
    return "\n\n".join(part for part in parts if part).replace("\n\n\n", "\n\n") + "\n"


def heading(title, text):
    return f"### {title}\n\n{text}" if text else ""


def legend(results, works):
    """What the marks mean, as far as they stand there."""
    again = "A/A: holdline in a second column, in each round; by how much the two differ at most is noise. " \
        if results.has_again else ""
    text = again + "**Bold**: the best of the row. –: the server cannot do it."
    if any(not results.rounds(work, FLOOR) for work in works):
        text += " ¹: there is no floor for it; holdline = 1."
    marked = any(results.remarks(work, column).find("†") >= 0 for work in works for column in results.columns)
    if marked:
        text += f" †: {MARKS['†']}."
    return text


def bare_echo(results, works):
    values = [(work, results.ratio(work, TCP)) for work in works]
    told = ", ".join(f"{work.title} {value:.2f}" for work, value in values if value is not None)
    return f"The same bytes through a bare TCP echo, which does not look at them: {told}." if told else ""


def environment(results):
    about = results.environment
    text = (f"Measured on {about['date']} by `{about['command']}`: "
            f"the median of {about['rounds']} of {about['seconds']:g} s each. "
            f"{about['machine']}. {'; '.join(about['versions'])}.")
    if about["missing"]:
        text += "\n\n**Not installed, so not measured:** " + "; ".join(about["missing"]) + "."
    if about["skipped"]:
        text += "\n\n**Left out:** " + "; ".join(about["skipped"]) + "."
    lines = [line for rounds in results.lines.values() for line in rounds.values()]
    disturbed = sum(bool(line.get("disturbed")) for line in lines)
    if disturbed:
        text += (f"\n\nIn {disturbed} of {len(lines)} runs something else ran on the generator's processor: "
                 "their latencies mean little.")
    return text


def short(results):
    """What stands in the README."""
    works = [work for work in results.works if work.name in SHORT]
    rated = [work for work in works if work.figure == RATE]
    memory = [work for work in works if work.figure == MEMORY]
    columns = [column for column in results.columns
               if any(results.rounds(work, column) for work in works)]
    parts = [
        ratios(results, rated, columns),
        legend(results, rated),
        plain(results, memory, columns, "bytes per connection", lambda _: bytes_each, whole, lowest=True),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
