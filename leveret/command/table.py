"""Tables of text: columns as wide as what is in them, and together no wider than the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from leveret.topology.printable import printable

_LEAST = 8


class Column(NamedTuple):
    """A column: its title, whether its cells stand at the right, and whether they may be cut."""

    title: str
    right: bool = False
    may_cut: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the lines of a table. Where it is too wide, the widest cells that may be cut are, and end in `…`."""
    cells = [[column.title for column in columns], *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    while sum(widths) + len(widths) - 1 > width:
        at = max((at for at, column in enumerate(columns) if column.may_cut), key=lambda at: widths[at], default=None)
        if at is None or widths[at] <= _LEAST:
            break
        widths[at] -= 1
    return [" ".join(_fit(*cell) for cell in zip(row, widths, columns, strict=True)).rstrip() for row in cells]


def _fit(cell: str, width: int, column: Column) -> str:
    if len(cell) > width:
        cell = f"{cell[: width - 1]}…"
    return cell.rjust(width) if column.right else cell.ljust(width)


def spell(seconds: float | None) -> str:
    """Write a duration as people say it: 0.3s, 45s, 2m07s, 3h12m, 4d02h; `-` where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for size, unit, smaller, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller:02}{small}"
    return f"{whole}s"
