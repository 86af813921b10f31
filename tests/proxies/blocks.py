"""The configurations of docs/proxies.md, as they stand there, and what a test has to put in their place: addresses,
ports and files. What is to be replaced has to be there, so that page and test cannot drift apart."""

import pathlib
import re

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "proxies.md"
MARKED = re.compile(r"^<!-- tested: (?P<name>[^>]+) -->\n+```\w+\n(?P<text>.*?)^```$", re.M | re.S)


class Blocks:
    def __init__(self):
        self.page = PAGE.read_text()
        found = [(match["name"], match["text"]) for match in MARKED.finditer(self.page)]
        self.texts = dict(found)
        assert len(self.texts) == len(found), "two blocks have one name"
        self.used = set()
        fenced = len(re.findall(r"^```(nginx|haproxy|caddy)$", self.page, re.M))
        assert fenced == len(found), f"{fenced} configurations in the page, {len(found)} of them are tested"

    def __getitem__(self, name):
        self.used.add(name)
        return self.texts[name]

    def unused(self):
        return sorted(set(self.texts) - self.used)

    def rows(self, name):
        """The table below a mark, a list of cells for each row without the first two."""
        mark = f"<!-- table: {name} -->\n"
        assert mark in self.page, f"there is no table {name}"
        lines = self.page.split(mark, 1)[1].lstrip("\n").split("\n\n", 1)[0].splitlines()
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def put(text, places):
    """Each of these strings replaced by another."""
    for old, new in places.items():
        assert old in text, f"{old!r} is not in\n{text}"
        text = text.replace(old, new)
    return text


def with_part(text, part):
    """The configuration with one block of it, known by its first line, replaced by another that begins alike."""
    first = part.strip().splitlines()[0].strip()
    lines = text.splitlines()
    at = next((n for n, line in enumerate(lines) if line.strip().split("{")[0].split()[:1] == first.split()[:1]), None)
    assert at is not None, f"no {first.split()[0]!r} in\n{text}"
    end = at + 1
    if first.endswith("{"):
        depth = 1
        while depth:
            depth += lines[end].count("{") - lines[end].count("}")
            end += 1
    else:  # haproxy: to the next line that is not indented
        while end < len(lines) and (not lines[end] or lines[end][0].isspace()):
            end += 1
    return "\n".join([*lines[:at], part.rstrip("\n"), "", *lines[end:], ""])
