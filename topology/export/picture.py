"""A picture of work queues: what leads into each, what runs its tasks, and what becomes of those that fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from leveret.topology import names, registry
from leveret.topology import queues as work_queues
from leveret.topology.export.drawing import LINE, arrow, box, box_height, box_width, picture, shown, text
from leveret.topology.objects import PRODUCERS_EXCHANGES
from leveret.topology.queues import WorkQueue

_EDGE, _ACROSS, _DOWN, _BETWEEN = 16, 56, 12, 28
_MOST_LINES = 30
"""So many tasks or keys are named; of more it is said how many there are."""


class _Column(NamedTuple):
    """Boxes one below the other."""

    boxes: list[list[str]]
    kinds: list[str]

    @property
    def width(self) -> float:
        return max(map(box_width, self.boxes), default=0)

    @property
    def height(self) -> int:
        return sum(box_height(lines) + _DOWN for lines in self.boxes) - _DOWN if self.boxes else 0


def svg_of(queues: Sequence[WorkQueue] | None = None) -> str:
    """Return an SVG of these work queues, by default of all known: exchanges, queues, retry tiers, DLQs and tasks."""
    bands = [(queue, _columns(queue)) for queue in (work_queues.known() if queues is None else queues)]
    count = max((len(columns) for _, columns in bands), default=0)
    widths = [max(columns[number].width for _, columns in bands) for number in range(count)]
    starts = [_EDGE * 2 + sum(widths[:number]) + _ACROSS * number for number in range(count)]
    titles = [_title(queue) for queue, _ in bands]
    right = max([starts[-1] + widths[-1] if starts else 0, *(_EDGE + box_width([title]) for title in titles)]) + _EDGE
    drawn: list[str] = []
    y: float = _EDGE
    for (_, columns), title in zip(bands, titles, strict=True):
        tall = LINE + 2 * _EDGE + max(column.height for column in columns)
        drawn.append(
            f'<rect class="band" x="{_EDGE}" y="{y:.0f}" width="{right - _EDGE:.0f}" height="{tall:.0f}" rx="8"/>'
        )
        drawn.append(text(_EDGE * 2, y + 22, title, "head"))
        drawn += _band(columns, starts, widths, y + LINE + _EDGE)
        y += tall + _BETWEEN
    width, height = right + _EDGE, max(y - _BETWEEN + _EDGE, 2 * _EDGE)
    return picture(width, height, ['<rect class="ground" width="100%" height="100%"/>', *drawn])


def _title(queue: WorkQueue) -> str:
    times = f"at most {queue.attempts} attempts" if queue.retry_delays else "one attempt"
    return f"{shown(queue.name)}: {times}"


def _columns(queue: WorkQueue) -> list[_Column]:
    """Return the columns of a work queue: its exchanges, its queues, its tasks, and where those go that fail."""
    keys: dict[str, list[str]] = {}
    for exchange, key in _ways(queue):
        keys.setdefault(exchange, []).append(shown(key))
    ways = [[exchange, *_few(found, "keys")] for exchange, found in keys.items()]
    waiting = [
        [shown(name), *([f"{names.PRIORITY_HEADER}: {level}"] if queue.priorities else [])]
        for name, level in zip(queue.waits_in, names.LEVELS if queue.priorities else ("",), strict=True)
    ]
    tasks = ["tasks", *_few([shown(task.name) for task in registry.of_queue(queue)], "tasks")]
    failed = [[shown(names.failed_exchange(queue.name)), "when an attempt has failed"]]
    for tier, delay in enumerate(queue.retry_delays, 1):
        back = f"back as {names.AGAIN_EXCHANGE} {shown(names.attempt_key(queue.name, tier + 1))}"
        failed.append([shown(names.retry_queue(queue.name, tier, delay)), back])
    failed.append([shown(names.dlq_name(queue.name)), "after the last attempt"])
    return [
        _Column(ways, [""] * len(ways)),
        _Column(waiting, ["ours"] * len(waiting)),
        _Column([tasks], [""]),
        _Column(failed, [*("" for _ in failed[:-1]), "dead"]),
    ]


def _ways(queue: WorkQueue) -> Iterable[tuple[str, str]]:
    """Yield the exchanges to which producers publish, with the keys that lead from each into the queue."""
    for exchange in PRODUCERS_EXCHANGES:
        match exchange.name:
            case names.DIRECT_EXCHANGE:
                yield exchange.name, queue.name
            case names.TOPIC_EXCHANGE:
                yield from ((exchange.name, topic) for topic in queue.topics)
            case names.FANOUT_EXCHANGE if queue.fanout:
                yield exchange.name, "any key"


def _few(lines: list[str], what: str) -> list[str]:
    more = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], f"and {more} more {what}"] if more > 0 else lines or ["none is loaded"]


def _band(columns: list[_Column], starts: list[float], widths: list[float], top: float) -> list[str]:
    """Draw the columns of a work queue, and arrows from each to the next by a line between them."""
    drawn: list[str] = []
    middles: list[list[float]] = []
    for column, start, width in zip(columns, starts, widths, strict=True):
        y, found = top, []
        for lines, kind in zip(column.boxes, column.kinds, strict=True):
            drawn += box(start, y, width, lines, kind)
            found.append(y + min(box_height(lines), 2 * LINE + 10) / 2)
            y += box_height(lines) + _DOWN
        middles.append(found)
    for number in range(len(columns) - 1):
        left, right = starts[number] + widths[number], starts[number + 1]
        middle = (left + right) / 2
        drawn += [
            arrow((left, y), (middle, y), (middle, middles[number + 1][0]), (right, middles[number + 1][0]))
            for y in middles[number]
        ]
        first = middles[number][0]
        drawn += [arrow((left, first), (middle, first), (middle, y), (right, y)) for y in middles[number + 1][1:]]
    return drawn
