"""Start a worker: fork first, connect afterwards, for no child may inherit a connection."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from leveret.consumers import log, output
from leveret.consumers.child.board import Board
from leveret.consumers.child.execute import serve
from leveret.consumers.running import untouched
from leveret.consumers.running.forkserver import Forkserver, Serve
from leveret.consumers.running.lanes import KINDS, Lane, Lanes
from leveret.consumers.taking.batches import check_batches
from leveret.consumers.tasks.kind import Kind
from leveret.consumers.worker import signals
from leveret.consumers.worker.declaring import declare_apart
from leveret.consumers.worker.plan import Plan
from leveret.consumers.worker.worker import Worker
from leveret.topology import registry
from leveret.topology.errors import SettingsError
from leveret.topology.link.parameters import host_and_pid
from leveret.topology.settings import Settings

_FILES_EACH = 3  # a socket and the two ends of a pipe
_OTHER_FILES = 64


def work(configured: Settings, plan: Plan) -> int:
    """Run a worker to its end; returns its exit status. Raises what starting, or the worker, fails with."""
    signals.take_over()
    for news in output.take_over():
        log.event(logging.WARNING, news)
    registry.prepare()
    check_batches(plan.queues, plan.prefetch, configured.consumer_timeout_seconds)
    if any(map(registry.limits_of, plan.queues)):
        from leveret.consumers.limiting.needs import check_time_limits  # most workers have nothing that is limited

        check_time_limits(plan.queues, configured.consumer_timeout_seconds)
    lanes = Lanes(plan.queues, plan.processes, plan.concurrency, plan.threads, bool(plan.recycling))
    _allow_open_files(lanes.slots)
    _warn_of_threads_option(plan)
    _warn_of_threads()
    if plan.may_declare:
        for news in declare_apart(configured, plan.queues):
            log.event(logging.WARNING, news)
    run_child, board = _children_of(lanes, configured.message_limit_bytes)
    gc.freeze()  # all processes share these pages, as long as no collector writes into them
    forkserver = Forkserver(run_child)
    untouched.put_back()  # nothing of the task modules runs in this process any more
    try:
        log.event(
            logging.INFO,
            f"worker {host_and_pid()} with {_children(lanes, plan.least_processes)}, prefetch "
            f"{plan.prefetch or 'automatic'}",
            tasks=",".join(registry.names()),
        )
        return asyncio.run(_serve(configured, plan, lanes, forkserver, board))
    finally:
        forkserver.stop()
        log.flush()


async def _serve(configured: Settings, plan: Plan, lanes: Lanes, forkserver: Forkserver, board: Board) -> int:
    if not (configured.metrics or configured.health):
        return await Worker(configured, plan, lanes, forkserver, board).run()
    from leveret.consumers.worker.pages import open_doors, serving  # most workers are asked for nothing over HTTP

    doors = open_doors(configured)
    worker = Worker(configured, plan, lanes, forkserver, board)
    with serving(doors, worker):
        return await worker.run()


def _children_of(lanes: Lanes, limit_bytes: int) -> tuple[Serve, Board]:
    """Return what a child runs, and the board for all; loads what children need, for them to share."""
    board = Board(lanes.slots, lanes.most_places)
    if Lane.BATCH in lanes.crews:
        from leveret.consumers.child.in_batches import serve_batches
    if not any(lane.is_shared for lane in lanes.crews):

        def run_serially(parent: socket.socket, tokens: int, index: int) -> None:
            run = serve_batches if lanes.crew_of(index).lane is Lane.BATCH else serve
            run(parent, tokens, board, index, limit_bytes)

        return run_serially, board
    patch_again = untouched.put_back()  # what is imported now is not to be made of what task modules have changed
    from leveret.consumers.child.side_by_side import serve_side_by_side

    new_loop = _loop_factory() if Lane.ASYNC in lanes.crews else asyncio.new_event_loop
    patch_again()

    def run_child(parent: socket.socket, tokens: int, index: int) -> None:
        crew = lanes.crew_of(index)
        if kind := KINDS.get(crew.lane):
            serve_side_by_side(parent, tokens, board, index, limit_bytes, kind, crew.places, new_loop)
        elif crew.lane is Lane.BATCH:
            serve_batches(parent, tokens, board, index, limit_bytes)
        else:
            serve(parent, tokens, board, index, limit_bytes)

    return run_child, board


def _children(lanes: Lanes, least: int | None) -> str:
    """Say what children there are."""
    what = {
        Lane.PLAIN: "",
        Lane.ASYNC: " of up to {} async tasks",
        Lane.THREADS: " of up to {} threads",
        Lane.BATCH: " of batches of up to {} calls",
    }
    crews = [crew for crew in lanes.crews.values() if crew.lane in what]
    fewest = f"{least} to " if least else ""
    return ", ".join(f"{fewest}{crew.size} process(es){what[crew.lane].format(crew.places)}" for crew in crews)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's where it is installed; it is imported here, for the children to share."""
    try:
        import uvloop  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _warn_of_threads_option(plan: Plan) -> None:
    if plan.threads > 1 and not any(
        task.kind is Kind.THREADS for queue in plan.queues for task in registry.of_queue(queue)
    ):
        log.event(
            logging.WARNING,
            f"--threads {plan.threads} changes nothing: no task of these queues allows threads; say so of those that "
            "are safe in them: @task(…, threads=True)",
        )


def _warn_of_threads() -> None:
    names = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
    if names:
        log.event(
            logging.WARNING,
            f"threads run since task modules were imported: {', '.join(names)}; they are missing in the child "
            "processes, where what waits for them, or for a lock they held, waits for ever. Start them in "
            "on_child_start, or in the task",
        )


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
