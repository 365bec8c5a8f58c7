"""Run a worker."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from leveret.command import streams, task_modules
from leveret.command.address import ADDRESS
from leveret.command.samples import QUEUE_NAMES, SAMPLES
from leveret.command.verb import Verb, split_commas, tasks_option
from leveret.consumers import log, output
from leveret.consumers.child.process import die_with_parent
from leveret.consumers.running import untouched
from leveret.consumers.running.crew import Recycling
from leveret.consumers.worker import signals
from leveret.consumers.worker.plan import Plan
from leveret.consumers.worker.start import work
from leveret.topology import queues, registry, settings
from leveret.topology.errors import SettingsError
from leveret.topology.link import default_broker
from leveret.topology.names import work_queue_of
from leveret.topology.printable import printable
from leveret.topology.queues import WorkQueue
from leveret.topology.settings.addresses import CannotListen

_MOST_PROCESSES = 1024
_MOST_PREFETCH = 65_535
_MOST_PLACES = 10_000
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_LEAST_MEMORY = 1024 * 1024
_GIVEN = f"{__name__}.given"
"""Where a context has the command line as it was given."""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number of bytes, as people write it."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
        if not match:
            self.fail(f"{printable(str(value))!r} is no size; write it as 300M or 1.5G", param, ctx)
        size = int(float(match[1]) * _UNITS[match[2].upper()])
        if size < _LEAST_MEMORY:
            self.fail(f"{printable(str(value))} is less than any process holds; write it as 300M or 1.5G", param, ctx)
        return size


class _Processes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number of processes, or the fewest and the most."""

    name = "processes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}))?", str(value).strip(), re.ASCII)
        if not match:
            text = f"{printable(str(value))!r} is no number of processes; write it as 4, or 1:8 for one to eight"
            self.fail(text, param, ctx)
        least, most = int(match[1]), int(match[2] or match[1])
        for number in (least, most):
            if not 1 <= number <= _MOST_PROCESSES:
                self.fail(f"{number} is not in the range 1<=x<={_MOST_PROCESSES}", param, ctx)
        if least > most:
            self.fail(f"{value} names more as the fewest than as the most; write {most}:{least}", param, ctx)
        return least, most


class _Run(Verb):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_GIVEN] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> int:
        return _leave(super().invoke(ctx))


@click.command(
    "run",
    cls=_Run,
    help="Take tasks from work queues, run them in child processes, acknowledge each when it is finished.\n\n"
    "Without a QUEUE: from all queues of the task modules.",
    examples="""
leveret run words
leveret run -a my_app
leveret run mail,reports -a my_app --processes 4 --log-format json
leveret run hooks -a my_app --concurrency 500
leveret run -a my_app --reload       start anew when code changes
leveret run words --until-empty      end when nothing is left to do
""",
    statuses="Exit status: 0 stopped, or nothing is left to do; 1 could not work; 2 wrong usage; 3 stopped, and handed "
    "back what had not finished in time",
)
@click.argument("queue_names", metavar="[QUEUE]...", nargs=-1, callback=split_commas)
@click.option("--queue", "more_names", multiple=True, metavar="QUEUE", callback=split_commas, help="The same as QUEUE.")
@tasks_option("Module that defines tasks and queues; may be repeated")
@click.option(
    "--processes",
    type=_Processes(),
    default=lambda: (_cores(), _cores()),
    metavar="N|MIN:MAX",
    help="Child processes for each kind of task there is (default: one a core). MIN:MAX are as many as the work takes.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, _MOST_PLACES),
    default=100,
    show_default=True,
    metavar="N",
    help="Tasks that are async def a process runs side by side.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, _MOST_PLACES),
    default=1,
    metavar="N",
    help="Tasks with threads=True a process runs side by side, each in a thread (default: one, and no thread).",
)
@click.option(
    "--tasks-per-child",
    type=click.IntRange(1),
    metavar="N",
    help="Replace a child process after so many tasks.",
)
@click.option(
    "--memory-per-child",
    type=_Size(),
    metavar="SIZE",
    help="Replace a child process that holds so much memory, as 300M or 1.5G.",
)
@click.option(
    "--prefetch",
    type=click.IntRange(1, _MOST_PREFETCH),
    metavar="N",
    help="Unacknowledged messages to hold per queue (default: few while tasks are slow, many while they are tiny).",
)
@click.option(
    "--until-empty", is_flag=True, help="End when the queues and their retry tiers are empty and nothing runs."
)
@click.option("--drain", is_flag=True, hidden=True, help="The former name of --until-empty.")
@click.option("--reload", is_flag=True, help="Start anew when a .py file below this folder or leveret.toml changes.")
@click.option("--parent", type=int, hidden=True, help="End when this process does, which has started it.")
@click.option("--no-declare", is_flag=True, help="Declare nothing, for an account without the configure right.")
@click.option("--record", is_flag=True, help="Run a recorder beside it, as leveret recorder does, on one machine.")
@click.option("--metrics", type=ADDRESS, metavar="[HOST]:PORT", help="Serve numbers to Prometheus, as :9090.")
@click.option("--health", type=ADDRESS, metavar="[HOST]:PORT", help="Serve /healthz and /readyz, as :8080.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option(
    "--log-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the log into a file for each process, too; one that is moved away is followed by another.",
)
def verb(
    queue_names: Sequence[str],
    more_names: Sequence[str],
    tasks: Sequence[str],
    processes: tuple[int, int],
    concurrency: int,
    threads: int,
    tasks_per_child: int | None,
    memory_per_child: int | None,
    prefetch: int | None,
    until_empty: bool,
    drain: bool,
    reload: bool,
    parent: int | None,
    no_declare: bool,
    record: bool,
    metrics: str | None,
    health: str | None,
    log_format: str,
    log_level: str,
    log_dir: Path | None,
) -> int:
    """Work until told to stop."""
    streams.open_closed()
    output.take_over()
    signals.take_over()
    if parent is not None:
        die_with_parent()
        if os.getppid() != parent:  # it ended before that
            return 0
    log.configure(log_format == "json", log_level, log_dir)
    if reload:
        if until_empty or drain:
            raise click.UsageError("--reload goes on until it is told to stop; leave --until-empty out")
        return _reloading()
    given = {"metrics": metrics, "health": health}
    configured = settings.load(None, **{name: value for name, value in given.items() if value is not None})
    plan = Plan(
        queues=_load(
            [work_queue_of(name) for name in (*queue_names, *more_names)], task_modules.named(tasks, configured)
        ),
        processes=processes[1],
        least_processes=processes[0] if processes[0] < processes[1] else None,
        prefetch=prefetch,
        until_empty=until_empty or drain,
        may_declare=not no_declare,
        concurrency=concurrency,
        threads=threads,
        recycling=Recycling(tasks_per_child, memory_per_child),
    )
    resolved = default_broker.resolve(configured)
    try:
        if not record:
            return work(resolved, plan)
        from leveret.command import beside  # only who asks for it pays for it

        with beside.recorder(log_format, log_level):
            return work(resolved, plan)
    except CannotListen as error:
        raise click.UsageError(str(error), click.get_current_context()) from error


def _reloading() -> int:
    """Run workers with the options that this one was given, one after the other."""
    try:
        from leveret.command.reloading import Reloading
    except ImportError as error:
        raise SettingsError(
            "--reload needs watchfiles, which is not installed: pip install 'leveret[reload]'"
        ) from error
    given = click.get_current_context().meta[_GIVEN]
    try:
        return Reloading([one for one in given if one != "--reload"]).run()
    finally:
        log.flush()


def _load(names: Sequence[str], modules: Sequence[str]) -> tuple[WorkQueue, ...]:
    """Load the task modules, or the samples if it is their queues that are asked for; returns the queues."""
    task_modules.load(modules)
    asks_for_samples = bool(names) and set(names) <= set(QUEUE_NAMES)
    if asks_for_samples and not any(registry.of_queue(queue) for queue in queues.known() if queue.name in names):
        task_modules.load([SAMPLES])
        importlib.import_module(f"{SAMPLES}.counting")  # nltk, once for all children
    elif not (modules or asks_for_samples):
        raise SettingsError(
            f"{_nearest_sample(names)}no task module is named: leveret run -a my_app, LEVERET_TASKS=my_app, or "
            "tasks = ['my_app'] in "
            f"leveret.toml; the samples are in leveret run {' '.join(QUEUE_NAMES)}"
        )
    found = tuple(dict.fromkeys(map(queues.find, names))) if names else queues.known()
    task_modules.check_has_queue(modules, found)
    return found


def _nearest_sample(names: Sequence[str]) -> str:
    """Say which queue of the samples is meant by the first name that is none, if it is like one."""
    other = next((name for name in names if name not in QUEUE_NAMES), "")
    near = difflib.get_close_matches(other, QUEUE_NAMES, n=1)
    return f"there is no sample queue {other!r}, did you mean {near[0]!r}? For others " if near else ""


def _leave(status: int) -> int:
    """Do not wait for threads that task modules have started, for all work is done; returns the exit status."""
    threads = [one.name for one in threading.enumerate() if not (one.daemon or one is threading.main_thread())]
    if threads:
        log.event(logging.WARNING, f"ending without waiting for threads of task modules: {', '.join(threads)}")
    if threads or untouched.was_changed:
        log.flush()
        sys.stdout.flush()
        os._exit(status)
    return status
