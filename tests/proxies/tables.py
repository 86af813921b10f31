"""The tables of the page that are made of what was seen."""

from behaviour import cells
from blocks import PAGE

HEAD = {"nginx": "nginx", "haproxy": "haproxy", "caddy": "Caddy"}


def seen_by_table(world):
    seen = {}
    for (table, row, kind), cell in cells(world).items():
        seen.setdefault(table, {}).setdefault(row, {})[kind] = cell
    return seen


async def update(world):
    """The page's tables are written."""
    assert len(world.versions) == len(HEAD), "all proxies are needed"
    for table, rows in seen_by_table(world).items():
        write(table, rows, world.versions)


async def compare(world):
    """What the page's tables say is what was seen."""
    for table, rows in seen_by_table(world).items():
        stored = {row[0]: dict(zip(HEAD, row[1:])) for row in world.blocks.rows(table)}
        assert sorted(stored) == sorted(rows), f"{table}: rows {sorted(stored)}"
        for row, by_kind in rows.items():
            for kind, cell in by_kind.items():
                assert stored[row][kind] == cell, f"{kind}, {row}: {cell}, the page says {stored[row][kind]}"


def write(table, rows, versions):
    heads = [f"{HEAD[kind]} {version}" for kind, version in versions.items()]
    lines = [f"| | {' | '.join(heads)} |", "|---" * 4 + "|"]
    lines += [f"| {row} | {' | '.join(by_kind.get(kind, '–') for kind in HEAD)} |" for row, by_kind in rows.items()]
    mark = f"<!-- table: {table} -->\n"
    before, after = PAGE.read_text().split(mark, 1)
    rest = after.lstrip("\n").split("\n\n", 1)[1]
    PAGE.write_text("\n".join([before + mark, *lines, "", rest]))
