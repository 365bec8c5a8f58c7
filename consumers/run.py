"""Run a worker: `python -m consumers.run --queue words`. See --help."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import logging
import os
import resource
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from consumers import child, log, registry
from consumers.forkserver import Forkserver
from consumers.slots import Slots
from consumers.worker import Plan, Worker
from topology import broker, modules, queues, settings
from topology.command import run
from topology.declare import declare
from topology.errors import SettingsError
from topology.settings import Settings

SAMPLES = "consumers.samples"
_MOST_PROCESSES = 1024
_MOST_PREFETCH = 65_535
_FILES_EACH = 3  # a socket and the two ends of a pipe
_OTHER_FILES = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    _open_closed_streams()
    options = _parser().parse_args(arguments)
    log.configure(options.log_format == "json", options.log_level)
    return run("consumers.run", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    modules.load(options.tasks or [SAMPLES])
    plan = Plan(
        queues=tuple(queues.find(name) for name in dict.fromkeys(options.queue)),
        processes=options.processes,
        prefetch=options.prefetch,
        drain=options.drain,
        may_declare=not options.no_declare,
    )
    return _work(broker.resolve(settings.load()), plan)


def _work(configured: Settings, plan: Plan) -> int:
    """Fork first, connect afterwards: no child may inherit a connection."""
    _allow_open_files(plan.processes)
    slots = Slots(plan.processes)
    forkserver = Forkserver(
        lambda parent, tokens, index: child.serve(parent, tokens, slots, index, configured.message_limit_bytes)
    )
    try:
        if plan.may_declare:
            declare(configured, plan.queues)
        log.event(
            logging.INFO,
            f"worker {log.worker_name()} with {plan.processes} process(es), prefetch {plan.prefetch or 'automatic'}",
            tasks=",".join(registry.names()),
        )
        return asyncio.run(_serve(configured, plan, forkserver, slots))
    finally:
        forkserver.stop()
        log.flush()


def _open_closed_streams() -> None:
    """Lead standard streams that were closed nowhere, or a connection would get the number of one, and its text."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open(mode)  # noqa: SIM115 - for as long as the process lives
            os.set_inheritable(nowhere.fileno(), True)
            setattr(sys, name, nowhere)


def _allow_open_files(processes: int) -> None:
    """See that so many children can be talked to. Raises `SettingsError` when the system does not allow it."""
    with Path(os.devnull).open() as lowest_free:
        needed = lowest_free.fileno() + _FILES_EACH * processes + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SettingsError(
            f"--processes {processes} needs {needed} open files, and this process may have {hard}; allow it more "
            "(ulimit -n), or start fewer"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _leave(status: int) -> NoReturn:
    """End the process, and do not wait for threads that task modules have started: all work is done."""
    threads = [one.name for one in threading.enumerate() if not (one.daemon or one is threading.main_thread())]
    if threads:
        log.event(logging.WARNING, f"ending without waiting for threads of task modules: {', '.join(threads)}")
        with contextlib.suppress(OSError):  # whoever read our output has left
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


async def _serve(configured: Settings, plan: Plan, forkserver: Forkserver, slots: Slots) -> int:
    return await Worker(configured, plan, forkserver, slots).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m consumers.run",
        description="Take tasks from work queues, run them in child processes, acknowledge each when it is finished.",
        epilog="examples:\n"
        "  python -m consumers.run --queue words\n"
        "  python -m consumers.run --queue words --queue treasure --processes 4\n"
        "  python -m consumers.run --queue mail --tasks my_app --log-format json\n"
        "  python -m consumers.run --queue words --drain       end when nothing is left to do\n\n"
        "exit status: 0 stopped or drained; 1 could not work; 2 wrong usage; 3 stopped, and handed back "
        "what had not finished in time",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--queue", action="append", required=True, metavar="Q", help="work queue; may be repeated")
    modules.add_option(parser, "module that defines tasks and queues; may be repeated", SAMPLES)
    parser.add_argument(
        "--processes",
        type=functools.partial(_number, most=_MOST_PROCESSES),
        default=_cores(),
        metavar="N",
        help="child processes (default: the cores, %(default)s)",
    )
    parser.add_argument(
        "--prefetch",
        type=functools.partial(_number, most=_MOST_PREFETCH),
        metavar="N",
        help="unacknowledged messages to hold per queue (default: few while tasks are slow, many while they are tiny)",
    )
    parser.add_argument("--drain", action="store_true", help="end when the queues and their retry tiers are empty")
    parser.add_argument(
        "--no-declare",
        action="store_true",
        help="declare nothing, for an account without the configure right",
    )
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


def _number(text: str, most: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {most}")
    return int(text)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    _leave(main())
