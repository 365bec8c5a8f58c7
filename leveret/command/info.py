"""Show workers, queues and what runs."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Sequence

import click

from leveret.command import task_modules
from leveret.command.ending import tell, tell_json
from leveret.command.screen import PLAIN_WIDTH, may_colour, width
from leveret.command.verb import Verb, json_option, note, split_commas, tasks_option
from leveret.producers.watching.look import Look
from leveret.producers.watching.watch import Watch
from leveret.topology import queues, settings
from leveret.topology.errors import BrokerUnreachable
from leveret.topology.link import default_broker
from leveret.topology.names import work_queue_of
from leveret.topology.printable import printable

_HOME, _REST_OF_LINE, _REST_OF_SCREEN, _WHOLE_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"
_WARN, _NORMAL = "\x1b[33m", "\x1b[0m"


@click.command(
    "info",
    cls=Verb,
    help="Show which workers are there, what waits, what runs, and what needs a look.\n\n"
    "Without a QUEUE: the queues that workers take, and those of the task modules.",
    examples="""
leveret info
leveret info mail --watch
leveret info --json
""",
)
@click.argument("queue_names", metavar="[QUEUE]...", nargs=-1, callback=split_commas)
@tasks_option("Module that defines queues; may be repeated")
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often, with --watch.",
)
@json_option
def verb(queue_names: Sequence[str], tasks: Sequence[str], watch: bool, every: float, as_json: bool) -> int:
    """Look once, or again and again."""
    configured = settings.load()
    task_modules.load(task_modules.named(tasks, configured))
    names = (work_queue_of(name) for name in queue_names)
    only = tuple(dict.fromkeys(queue.name if (queue := queues.with_level(name)) else name for name in names))
    configured = default_broker.resolve(configured)
    asyncio.run(_show(configured, only, every if watch else None, as_json))
    return 0


async def _show(configured: settings.Settings, only: Sequence[str], every: float | None, as_json: bool) -> None:
    """Look once, or with `every` so often for ever; raises what the first look does. A lost broker is waited for."""
    is_screen = every is not None and not as_json and sys.stdout.isatty()
    is_first = True
    while True:
        try:
            async with contextlib.AsyncExitStack() as stack:
                watch = Watch(configured, queues.known(), only)
                await watch.open()
                stack.push_async_callback(watch.close)
                while True:
                    _end_if_told()
                    look = await watch.look()
                    if is_screen:
                        _redraw(_lines(look), clear=is_first)
                    elif as_json:
                        _tell_json(look)
                    else:
                        tell(*([] if is_first else [""]))
                        _tell(_lines(look))
                    if every is None:
                        return
                    is_first = False
                    await asyncio.sleep(every)
        except BrokerUnreachable as error:
            if is_first:
                raise
            note(f"leveret info: {error}; looking again in {every:g} s")
            _end_if_told()
            await asyncio.sleep(every or 0)


def _end_if_told() -> None:
    """End by Ctrl-C also where a wait has come to its end at the same moment, by which Python 3.11 can miss it."""
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError


def _lines(look: Look) -> list[str]:
    from leveret.command.info_page import page

    return page(look, max(width(), PLAIN_WIDTH))


def _tell_json(look: Look) -> None:
    from leveret.command.info_page import row

    tell_json(row(look))


def _tell(lines: Sequence[str]) -> None:
    """Print lines; those that need a look in colour, on a terminal that may have it."""
    if not may_colour():
        tell(*lines)
        return
    print("".join(f"{_coloured(line)}\n" for line in lines), end="", flush=True)


def _redraw(lines: Sequence[str], clear: bool) -> None:
    """Write over what stands on the screen, and no more lines than it has."""
    height = shutil.get_terminal_size().lines
    shown = lines if len(lines) < height else [*lines[: height - 2], f"… {len(lines) - height + 2} more lines"]
    drawn = "\n".join(f"{_coloured(line)}{_REST_OF_LINE}" for line in shown)
    print(f"{_WHOLE_SCREEN if clear else ''}{_HOME}{drawn}\n{_REST_OF_SCREEN}", end="", flush=True)


def _coloured(line: str) -> str:
    shown = printable(line)
    needs_a_look = shown.startswith("!") or shown.endswith(" !")
    return f"{_WARN}{shown}{_NORMAL}" if needs_a_look and may_colour() else shown
