"""Faults amid tasks that somebody waits for: every handle comes to an end, and says nothing that is not so."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from leveret import (
    LeveretError,
    NobodyAnswers,
    Publisher,
    ResultMissed,
    ResultTimeout,
    State,
    Submitted,
    TaskMessage,
    as_completed,
)
from leveret.topology.names import REPLY_PREFIX
from tests.broker.support import Worker, await_value
from tests.faults import records
from tests.faults.killed_producer import CONFIRMED, PUBLISHED
from tests.faults.proxy import Proxy
from tests.faults.row import Need, Row
from tests.faults.rows.confirms import run_producer
from tests.faults.rows.link import publisher_at
from tests.faults.rows.nodes import SETTLED_SECONDS
from tests.faults.rows.processes import family_of
from tests.faults.settling import held
from tests.faults.stage import Stage

JOBS = "tests.faults.followed_jobs"
_MANY = 2000
_KILLS = 5
_SHORT, _CHILD_KILLS = 6000, 20
_WAITERS = 50
_CUT_SECONDS = 3.0
_DELETIONS, _BUSY = 5, 4
_LEFT_BEHIND = 150
_EXPIRES_MILLISECONDS = 60_000
PATIENCE_SECONDS = 120.0
PREFETCH = 64

Handles = dict[Submitted[Any], TaskMessage]


def kill_workers(stage: Stage) -> None:
    """Kill whole workers amid two thousand, at any moment, and some just when the ends of tasks are confirmed."""
    messages = followed_messages(stage, _MANY, 0.0, 0.01)
    with _collecting(stage, submit_many(stage, messages)):
        for number in range(_KILLS):
            doomed = _start_doomed(stage, is_exact=number % 2 == 0)
            stage.leaving[doomed] = -signal.SIGKILL
            if number % 2:
                stage.wait_a_moment(0.2, 1.0)
                for pid in family_of(doomed):
                    with contextlib.suppress(ProcessLookupError):  # it has followed its parent
                        os.kill(pid, signal.SIGKILL)
            doomed.wait()
            stage.blow()
        worker_of(stage)


def _start_doomed(stage: Stage, is_exact: bool) -> Worker:
    """Start a worker that is about to be killed; when exact, between the confirm of an event and its acks."""
    if not is_exact:
        return worker_of(stage)
    confirms = str(stage.random.randint(5, 60))
    return worker_of(stage, may_end=True, module="tests.faults.killed_worker", KILL_AT_CONFIRM=confirms)


def kill_children(stage: Stage) -> None:
    """Kill a child, again and again, that has run some short tasks of which it has not told yet."""
    handles = submit_many(stage, followed_messages(stage, _SHORT, 0.0, 0.0003))
    with _collecting(stage, handles):
        worker = worker_of(stage)
        for _ in range(_CHILD_KILLS):
            stage.wait_a_moment(0.02, 0.1)
            children = await_value(lambda: family_of(worker)[2:], "a child")
            stage.blow()
            with contextlib.suppress(ProcessLookupError):
                os.kill(stage.random.choice(children), signal.SIGKILL)


def kill_node(stage: Stage) -> None:
    """Kill the node while half of them wait in threads and half on a loop, each for one task after the other."""
    stage.place.has_fast_statistics = False
    publisher = stage.publisher  # one for all of them
    worker_of(stage)
    time.sleep(SETTLED_SECONDS)
    over, check = stage.folder / "over", functools.partial(_check_error, stage)

    async def wait_on_loop() -> None:
        await asyncio.gather(*(_wait_async(stage, publisher, over) for _ in range(_WAITERS // 2)))

    with ThreadPoolExecutor(_WAITERS // 2 + 1) as executor:
        waiting = [executor.submit(keep_waiting, stage, publisher, over, check) for _ in range(_WAITERS // 2)]
        waiting.append(executor.submit(asyncio.run, wait_on_loop()))
        stage.wait_a_moment(1.0, 2.5)
        with stage.fault():
            stage.nodes.kill(1)
            stage.nodes.start(1)
        stage.breaks = 1
        stage.wait_a_moment(1.0, 2.0)
        over.touch()
        for one in waiting:
            one.result()


def keep_waiting(stage: Stage, publisher: Publisher, over: Path, on_error: Callable[[LeveretError], None]) -> None:
    """Submit and wait for the result, over and over; what is raised instead of one is told."""
    while not over.exists():
        message = followed_message(stage, 0.01, 0.1)
        try:
            check_result(stage, submit_one(stage, message, publisher).result(PATIENCE_SECONDS), message)
        except LeveretError as error:
            on_error(error)


async def _wait_async(stage: Stage, publisher: Publisher, over: Path) -> None:
    while not over.exists():
        message = followed_message(stage, 0.01, 0.1)
        try:
            submitted = await publisher.publish_async(message)
            records.append(stage.submissions_log, message.id, records.CONFIRMED, "")
            check_result(stage, await submitted.result_async(PATIENCE_SECONDS), message)
        except LeveretError as error:
            _check_error(stage, error)


def cut_link(stage: Stage) -> None:
    """Cut the link of the producer alone; what it waits for ends meanwhile, and some of it is still submitted."""
    worker_of(stage)
    with (
        Proxy.before(stage.vhost.amqp_url) as proxy,
        publisher_at(stage, proxy.url(stage.vhost.amqp_url)) as far,
    ):
        at_once, later = followed_messages(stage, _MANY - 200, 0.0, 0.008), followed_messages(stage, 200, 0.0, 0.008)
        handles = submit_many(stage, at_once, far)
        with _collecting(stage, handles), ThreadPoolExecutor(1) as executor:
            submitting = executor.submit(lambda: {submit_one(stage, one, far): one for one in later})
            stage.wait_a_moment(0.1, 1.0)
            with stage.fault():
                proxy.refuse()
                proxy.reset()
                time.sleep(_CUT_SECONDS)
                proxy.heal()
            collect(stage, submitting.result())


def memory_alarm(stage: Stage) -> None:
    """Raise the memory alarm before the ends of followed tasks can be told, and others wait behind them."""
    worker = worker_of(stage, PUBLISH_TIMEOUT_SECONDS="1")
    go = stage.folder / "go"
    followed = [waiting_for(stage, go) for _ in range(2)]
    handles = submit_many(stage, followed)
    stage.await_running(followed[0].id)
    followed += (more := followed_messages(stage, 6, 0.0, 0.01))
    handles |= submit_many(stage, more)
    others = stage.submit(*followed_messages(stage, 60, 0.0, 0.01, follow=False))
    with stage.fault():
        try:
            stage.nodes.ctl(1, "set_vm_memory_high_watermark", "0.0000001")
            await_value(lambda: stage.vhost.api("GET", "nodes")[0].get("mem_alarm"), "the node's alarm")
            go.touch()
            stage.await_finished(*others, *(message.id for message in followed))
            worker.await_event("keeping")  # an end that was not confirmed in time
            over = [handle for handle in handles if handle.status().state.is_final]
            stage.expect(not over, f"during the alarm no end can be told, but some were: {over[:5]}")
        finally:
            stage.nodes.ctl(1, "set_vm_memory_high_watermark", "0.4")
    collect(stage, handles)
    for message in followed_messages(stage, 20, 0.0, 0.01):
        check_result(stage, submit_one(stage, message).result(PATIENCE_SECONDS), message)


def kill_producer(stage: Stage) -> None:
    """Kill a producer amid submitting; nobody takes the results, and work goes on all the same."""
    worker_of(stage)
    messages = followed_messages(stage, _LEFT_BEHIND, 0.0, 0.01)
    moment, at = stage.random.choice((PUBLISHED, CONFIRMED)), stage.random.randint(2, _LEFT_BEHIND)
    killed = run_producer(stage, messages, "--follow", "--kill", moment, "--at", str(at))
    stage.blow()
    stage.expect(killed.returncode == -signal.SIGKILL, f"the producer was not killed: {killed.stderr[-300:]}")
    stage.submit(*followed_messages(stage, 20, 0.0, 0.01, follow=False))
    stage.await_finished(*stage.account().confirmed)

    def look() -> list[dict[str, Any]] | None:
        found = [one for one in stage.vhost.api("GET", f"queues/{stage.vhost.name}") if is_reply_queue(one["name"])]
        return found if all(one.get("consumers") == 0 for one in found) else None

    left = await_value(look, "the end of the killed producer's consumer")
    stage.expect(len(left) == 1, f"it left {len(left)} queues behind")
    for queue in left:
        expires = queue["arguments"].get("x-expires")
        stage.expect(expires == _EXPIRES_MILLISECONDS, f"{queue['name']} goes by itself after {expires} ms")
    # the results lie there, and nothing else is held
    await_value(lambda: all(is_reply_queue(name) for name in held(stage)), "the end of everything else")
    for queue in left:
        stage.vhost.api("DELETE", f"queues/{stage.vhost.name}/{queue['name']}")


def delete_reply_queue(stage: Stage) -> None:
    """Delete the queue of who waits, again and again, while one submits and waits, and others wait for something."""
    worker_of(stage)
    with ThreadPoolExecutor(_BUSY + 2) as executor:
        for number in range(_DELETIONS):
            _delete_reply_queue(stage, executor, number)


def _delete_reply_queue(stage: Stage, executor: ThreadPoolExecutor, number: int) -> None:
    publisher, over = stage.publisher, stage.folder / f"over-{number}"
    go, check = stage.folder / f"go-{number}", functools.partial(_check_error, stage)
    handles = submit_many(stage, [waiting_for(stage, go)])
    (handle,) = handles
    missing = [
        executor.submit(handle.result, PATIENCE_SECONDS),
        executor.submit(asyncio.run, handle.result_async(PATIENCE_SECONDS)),
    ]
    busy = [executor.submit(keep_waiting, stage, publisher, over, check) for _ in range(_BUSY)]
    stage.wait_a_moment(0.1, 0.5)
    (queue,) = await_value(lambda: _reply_queues(stage), "the queue of who waits")
    with stage.fault():
        stage.vhost.api("DELETE", f"queues/{stage.vhost.name}/{queue}")
        for one in missing:
            error = one.exception(PATIENCE_SECONDS)
            stage.expect(isinstance(error, ResultMissed), f"without its queue one that waits hears {error!r}")
    await_value(lambda: _reply_queues(stage), "the queue of who waits, made again")
    over.touch()
    for submitting in busy:
        submitting.result()
    collect(stage, submit_many(stage, followed_messages(stage, 20, 0.0, 0.01)))
    go.touch()
    await_value(lambda: _is_told(handle), "what was missed, told after all")
    collect(stage, handles)


def _is_told(handle: Submitted[Any]) -> bool:
    """Whether how it ended has come here after all; as long as it is missed, a record is asked, and there is none."""
    try:
        return handle.status().state.is_final
    except NobodyAnswers:
        return False


def worker_of(stage: Stage, **more: Any) -> Worker:
    return stage.worker("--prefetch", str(PREFETCH), tasks=JOBS, **more)


def followed_message(stage: Stage, least: float, most: float, follow: bool = True) -> TaskMessage:
    """Make a followed message that takes between so many seconds."""
    made = stage.message(
        "faults.double", number=stage.random.randrange(10**9), seconds=stage.random.uniform(least, most)
    )
    return replace(made, follow=follow)


def followed_messages(stage: Stage, count: int, least: float, most: float, follow: bool = True) -> list[TaskMessage]:
    return [followed_message(stage, least, most, follow) for _ in range(count)]


def waiting_for(stage: Stage, until: Path) -> TaskMessage:
    """Make a followed message that waits for a file."""
    made = stage.message("faults.double_when", number=stage.random.randrange(10**9), exists=str(until))
    return replace(made, follow=True)


def submit_many(stage: Stage, messages: Sequence[TaskMessage], by: Publisher | None = None) -> Handles:
    """Submit, and note what is confirmed."""
    publisher, handles = by or stage.publisher, {}
    for message, error in publisher.publish_many(messages):
        what = records.UNKNOWN if error else records.CONFIRMED
        records.append(stage.submissions_log, message.id, what, error or "", synced=False)
        if not error:
            handles[publisher.handle_of(message)] = message
    return handles


def submit_one(stage: Stage, message: TaskMessage, by: Publisher | None = None) -> Submitted[Any]:
    """Submit, and note that it is confirmed."""
    try:
        submitted = (by or stage.publisher).publish(message)
    except LeveretError as error:
        records.append(stage.submissions_log, message.id, records.UNKNOWN, f"{type(error).__name__}: {error}")
        raise
    records.append(stage.submissions_log, message.id, records.CONFIRMED, "")
    return submitted


@contextlib.contextmanager
def _collecting(stage: Stage, handles: Handles) -> Iterator[None]:
    """Collect in a thread while the block runs."""
    with ThreadPoolExecutor(1) as executor:
        collecting = executor.submit(collect, stage, handles)
        yield
        collecting.result()


def collect(stage: Stage, handles: Handles) -> None:
    """Wait for all of these, and see that each has ended well, with its result, and says the same when asked again."""
    for handle in as_completed(handles, timeout=PATIENCE_SECONDS):
        check_result(stage, handle.result(0), handles[handle])
    for handle, message in handles.items():
        check_result(stage, handle.result(0), message)
        state = handle.status().state
        stage.expect(state is State.SUCCEEDED, f"{handle} has a result and is {state}")


def check_result(stage: Stage, result: object, message: TaskMessage) -> None:
    number = json.loads(message.body)["kwargs"]["number"]
    stage.expect(result == 2 * number, f"{message.id} has the result {result!r} instead of {2 * number}")


def _check_error(stage: Stage, error: LeveretError) -> None:
    """See that what who waits is told is the fault, and not that time is over."""
    stage.expect(not isinstance(error, ResultTimeout), f"one that waits has heard nothing: {error}")


def _reply_queues(stage: Stage) -> list[str]:
    return [name for name in stage.vhost.queues() if name.startswith(REPLY_PREFIX)]


def is_reply_queue(name: str) -> bool:
    return name.startswith(REPLY_PREFIX)


def _most_held(stage: Stage) -> int:
    return _KILLS * PREFETCH


def _most_held_at_node(stage: Stage) -> int:
    return stage.breaks * (PREFETCH + _WAITERS)


ROWS = [
    Row(
        48,
        "followed-kill-workers",
        f"kill -9 of whole workers, {_KILLS} times, amid {_MANY} tasks whose results a producer gathers",
        f"for each kill what the worker held: its prefetch, {PREFETCH}",
        kill_workers,
        _most_held,
        patience_seconds=PATIENCE_SECONDS,
    ),
    Row(
        49,
        "followed-kill-node",
        f"kill -9 of the broker, and a restart, while {_WAITERS} threads and coroutines wait for results",
        f"what the worker held: its prefetch, {PREFETCH}, and {_WAITERS} publishes that had no confirm yet",
        kill_node,
        _most_held_at_node,
        needs=frozenset({Need.NODES}),
        patience_seconds=PATIENCE_SECONDS,
    ),
    Row(
        50,
        "followed-cut-link",
        f"the link of a producer cut for {_CUT_SECONDS:g} s amid {_MANY} tasks whose results it gathers",
        "1, a publish that had no confirm yet",
        cut_link,
        lambda _stage: 1,
        patience_seconds=PATIENCE_SECONDS,
    ),
    Row(
        51,
        "followed-memory-alarm",
        "a memory alarm while tasks end whose results somebody waits for",
        "0",
        memory_alarm,
        needs=frozenset({Need.NODES}),
        patience_seconds=PATIENCE_SECONDS,
    ),
    Row(
        52,
        "followed-kill-producer",
        "kill -9 of a producer that submits and would wait for results",
        "0",
        kill_producer,
        patience_seconds=PATIENCE_SECONDS,
    ),
    Row(
        53,
        "followed-delete-queue",
        f"the queue in which a producer waits for results deleted, {_DELETIONS} times",
        "0",
        delete_reply_queue,
        patience_seconds=PATIENCE_SECONDS,
    ),
    Row(
        91,
        "followed-kill-children",
        f"kill -9 of a child, {_CHILD_KILLS} times, amid {_SHORT} short tasks whose results a producer gathers",
        "1 for each kill: the task that had just ended",
        kill_children,
        lambda _stage: _CHILD_KILLS,
        patience_seconds=PATIENCE_SECONDS,
    ),
]
