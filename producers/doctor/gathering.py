"""Gathering the facts: the management API all at once, meanwhile one connection, then one question to the workers.

Each step has a time limit, and one that fails is a fact, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from leveret.producers.doctor.asking_management import ask_management
from leveret.producers.doctor.facts import Facts, ManagementFacts, TimeLimit
from leveret.producers.watching.counts import Counts, ready_messages
from leveret.topology import names, registry
from leveret.topology.errors import LeveretError, NobodyAnswers, UnreadableMessage
from leveret.topology.link.connection import certificate_ends, close, connect, server_version
from leveret.topology.link.explaining import AMQPError, explain
from leveret.topology.link.question import WORKERS, Questions
from leveret.topology.printable import printable
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings, mask, vhost_of
from leveret.topology.workers import WorkerInfo, read

_CONNECT_SECONDS = 5.0
_COUNT_SECONDS = 5.0
_ANSWER_SECONDS = 2.0
_SILENCE_SECONDS = 0.3
_CLOSE_SECONDS = 0.5
"""In an alarm the broker reads nothing more, not even that somebody leaves."""
_AROUND = (names.LATER_LOST, names.RECORD_QUEUE, names.SCHEDULES_QUEUE)


@dataclass
class _Linked:
    """What the connection has told; the texts are empty where all went well."""

    cannot_connect: str = ""
    url: str = ""
    version: tuple[int, ...] = ()
    seconds: float = 0.0
    certificate_ends: float | None = None


@dataclass
class _Asked:
    workers: list[WorkerInfo] | None = None
    why: str = ""
    unreadable: int = 0
    is_blocked: bool = False


async def gather(configured: Settings, known: Sequence[WorkQueue], only: Sequence[str]) -> Facts:
    """Gather what the checks look at; with `only`, of these work queues. Raises `SettingsError` alone."""
    first = configured.first_amqp_url
    user, vhost = unquote(urlsplit(first).username or "guest"), vhost_of(first)
    asking = asyncio.create_task(ask_management(configured, user, vhost))
    linked, connection = await _connect(configured)
    management = await asking
    asked, counts, cannot_count = _Asked(), None, ""
    looked_at: list[str] = []
    counted: list[str] = []
    try:
        if connection is not None:
            asked = await _ask_workers(configured, _asked_count(management))
        looked_at = sorted(
            {_whole(name, management) for name in only} or _names(known, asked.workers or (), management)
        )
        if connection is not None:
            counted = [*(one for name in looked_at for one in _counted_of(name)), *_AROUND]
            counts, cannot_count = await _count(connection, counted)
    finally:
        if connection is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await close(connection)
    return Facts(
        broker=mask(linked.url or first).partition("://")[2].rpartition("@")[2],
        user=user,
        vhost=vhost,
        at=time.time(),
        consumer_timeout_seconds=configured.consumer_timeout_seconds,
        known=[queue for queue in known if queue.name in looked_at],
        names=looked_at,
        time_limits=[
            TimeLimit(task.name, queue.name, task.time_limit)
            for queue in known
            if queue.name in looked_at
            for task in registry.of_queue(queue)
        ],
        cannot_connect=linked.cannot_connect,
        version=linked.version,
        connect_seconds=linked.seconds,
        certificate_ends=linked.certificate_ends,
        counts=counts,
        counted=frozenset(counted),
        cannot_count=cannot_count,
        workers=asked.workers,
        cannot_ask=asked.why,
        unreadable=asked.unreadable,
        is_blocked=asked.is_blocked,
        management=management,
    )


async def _connect(configured: Settings) -> tuple[_Linked, Any]:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            connection = await connect(configured, "leveret doctor", lambda *_: None)
    except TimeoutError:
        where = mask(configured.amqp_url)
        why = f"the broker at {where} has not let us in within {_CONNECT_SECONDS:g} s; look into its log"
        return _Linked(why), None
    except LeveretError as error:
        return _Linked(printable(error)), None
    took = time.monotonic() - began
    return _Linked("", connection.url, server_version(connection), took, certificate_ends(connection)), connection


def _asked_count(management: ManagementFacts) -> int | None:
    """Return how many workers a question reaches, so that nobody waits for more; None where that is not known."""
    if management.bindings is None:
        return None
    to_workers = (names.CONTROL_EXCHANGE, names.ASK_WORKERS_KEY)
    return max(1, sum(one[1:3] == to_workers for one in management.bindings))


async def _ask_workers(configured: Settings, count: int | None) -> _Asked:
    questions = Questions(configured, "leveret doctor, asking")
    asked = _Asked()
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await questions.open()
        question = {"ask": "info"}
        answers = await questions.ask(WORKERS, question, count, _ANSWER_SECONDS, silence_seconds=_SILENCE_SECONDS)
    except NobodyAnswers:
        asked.workers = None if questions.is_blocked else []
        asked.why = "the broker takes no question in an alarm" if questions.is_blocked else ""
    except TimeoutError:
        asked.why = f"no connection to ask them over within {_CONNECT_SECONDS:g} s"
    except LeveretError as error:
        asked.why = printable(error)
    else:
        asked.workers, asked.unreadable = _read(answers)
    finally:
        asked.is_blocked = questions.is_blocked
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await questions.close()
    return asked


def _read(answers: Iterable[object]) -> tuple[list[WorkerInfo], int]:
    told, unreadable = [], 0
    for answer in answers:
        try:
            told.append(read(answer))
        except UnreadableMessage:
            unreadable += 1
    return told, unreadable


def _names(known: Sequence[WorkQueue], workers: Iterable[WorkerInfo], management: ManagementFacts) -> set[str]:
    """Return the work queues of the task modules, those that workers take, and those that are on the broker."""
    found = {queue.name for queue in known} | {at.name for info in workers for at in info.queues}
    return found | management.work_queues


def _whole(name: str, management: ManagementFacts) -> str:
    """Return the work queue of which this is a level, if it is one on the broker, also where no task module says so."""
    whole = names.without_level(name)
    return whole if whole in management.work_queues else name


def _counted_of(name: str) -> Iterable[str]:
    return (*names.level_queues(name).values(), names.dlq_name(name))


async def _count(connection: Any, wanted: Sequence[str]) -> tuple[Counts | None, str]:
    try:
        async with asyncio.timeout(_COUNT_SECONDS):
            return await ready_messages(connection, wanted), ""
    except TimeoutError:
        return None, f"the broker has not counted {len(wanted)} queues within {_COUNT_SECONDS:g} s"
    except AMQPError as error:  # the broker left between two steps
        return None, printable(explain(error, connection.url))
    except LeveretError as error:
        return None, printable(error)
