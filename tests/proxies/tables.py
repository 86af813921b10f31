"""The table of the page that is made of what was seen."""

from behaviour import cells
from blocks import PAGE

HEAD = {"nginx": "nginx", "haproxy": "haproxy", "caddy": "Caddy"}


async def compare(world, update):
    """What the page says of the defaults is what was seen."""
    seen = cells(world)
    rows = list(dict.fromkeys(row for _, row, _ in seen))
    kinds = list(world.versions)
    lines = [f"| {row} | " + " | ".join(seen.get(("defaults", row, kind), "?") for kind in HEAD) + " |" for row in rows]
    if update:
        assert len(kinds) == len(HEAD), "all proxies are needed"
        heads = [f"{HEAD[kind]} {version}" for kind, version in world.versions.items()]
        write("\n".join(["| | " + " | ".join(heads) + " |", "|---|---|---|---|", *lines]))
        return "written"
    stored = {row[0]: dict(zip(HEAD, row[1:])) for row in world.blocks.rows("defaults")}
    assert sorted(stored) == sorted(rows), f"rows {sorted(stored)}"
    for (_, row, kind), cell in seen.items():
        assert stored[row][kind] == cell, f"{kind}, {row}: {cell}, the page says {stored[row][kind]}"


def write(table):
    mark = "<!-- table: defaults -->\n"
    before, after = PAGE.read_text().split(mark, 1)
    rest = after.lstrip("\n").split("\n\n", 1)[1]
    PAGE.write_text(f"{before}{mark}\n{table}\n\n{rest}")
