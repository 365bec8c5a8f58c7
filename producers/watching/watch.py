"""Looking again and again, over one connection, at the queues that are asked for, or all that are known."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pika

from leveret.producers.watching.counts import Counts, ready_messages
from leveret.producers.watching.look import (
    Look,
    QueueLook,
    names_of_levels,
    names_of_tiers,
    queue_look,
    warnings_of,
    what_runs,
)
from leveret.producers.watching.rates import Rate, Rates
from leveret.topology.errors import AccessRefused, NobodyAnswers, TopologyError, UnreadableMessage
from leveret.topology.link.connection import close, connect, server_version
from leveret.topology.link.explaining import explain
from leveret.topology.link.question import WORKERS, Questions
from leveret.topology.message import check_name
from leveret.topology.names import LATER_LOST, dlq_name
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings, mask
from leveret.topology.workers import QueueAtWorker, WorkerInfo, read

_SILENCE_SECONDS = 0.3
"""Who has not answered for so long after the others is not there, or cannot."""
_ANSWER_SECONDS = 1.0

Plans = dict[str, Sequence[float] | None]
"""The retry delays of each queue, where they are known."""


class Watch:
    """Looks at workers and queues. Open it before anything else, and close it at the end."""

    def __init__(self, configured: Settings, known: Sequence[WorkQueue], only: Sequence[str] = ()) -> None:
        """`known` are looked at together with what workers take; with `only`, nothing but those queues.

        Raises `MessageError` for a name that no queue can have.
        """
        for name in only:
            check_name(dlq_name(name), "queue")
        self._configured = configured
        self._known = known
        self._only = only
        self._rates = Rates(configured)
        self._connection: Any = None
        self._questions: Questions | None = None
        self._cannot_ask = ""
        self._is_blocked = False
        self._counting: asyncio.Task[int | None] | None = None

    async def open(self) -> None:
        """Connect. Raises `BrokerUnreachable` or `AccessRefused`."""
        self._connection = await connect(self._configured, "leveret info", lambda *_: None)

    async def close(self) -> None:
        """Close the connections."""
        if self._questions:
            await self._questions.close()
        if self._connection:
            await close(self._connection)

    async def look(self) -> Look:
        """Look once.

        Raises `BrokerUnreachable` when the connection has ended, `TopologyError` for a queue that is asked for and
        that neither the broker nor anybody else knows.
        """
        try:
            return await self._look()
        except pika.exceptions.AMQPError as error:  # the broker left between two steps
            raise explain(error, self._connection.url) from error

    async def _look(self) -> Look:
        told, unreadable = await self._ask()
        plans = self._plans(told)
        with_levels = {at.name for info in told for at in info.queues if at.priorities}
        with_levels |= {queue.name for queue in self._known if queue.priorities}
        counts = await ready_messages(self._connection, [*_queues_of(plans, with_levels), LATER_LOST])
        counts.refused.discard(LATER_LOST)  # it is nobody's queue, and only who may see it can help
        if self._only:
            plans = self._chosen(plans, counts)
        waits_in = {name: list(names_of_levels(name, name in with_levels).values()) for name in plans}
        rates = await asyncio.to_thread(self._rates.of, itertools.chain(*waits_in.values()))
        queues = [
            self._queue(name, plans[name], counts, _rate_of(waits_in[name], rates), told, name in with_levels)
            for name in sorted(plans)
        ]
        workers = [info for info in told if not self._only or any(at.name in plans for at in info.queues)]
        running = [one for one in what_runs(workers) if not self._only or one.task.queue in plans]
        return Look(
            at=time.time(),
            broker=mask(self._connection.url).partition("://")[2].rpartition("@")[2],
            version=".".join(map(str, server_version(self._connection))),
            workers=sorted(workers, key=lambda info: info.worker),
            queues=queues,
            running=running,
            running_count=sum(queue.running for queue in queues),
            warnings=warnings_of(queues, running, unreadable, counts.get(LATER_LOST, 0)),
            notes=list(self._notes(plans, counts)),
        )

    async def _ask(self) -> tuple[list[WorkerInfo], Counter[str]]:
        """Return what workers tell, and what was wrong with answers of no worker.

        Without the right to ask there is nothing, and the queues can be seen all the same.
        """
        told: list[WorkerInfo] = []
        unreadable: Counter[str] = Counter()
        self._is_blocked = False
        if self._cannot_ask:
            return told, unreadable
        try:
            count = await self._count_bound()
            if self._questions is None:
                self._questions = Questions(self._configured, "leveret info, asking")
                await self._questions.open()
            answers = await self._questions.ask(
                WORKERS, {"ask": "info"}, count, _ANSWER_SECONDS, silence_seconds=_SILENCE_SECONDS
            )
        except NobodyAnswers:  # for lack of the exchange perhaps, and then nothing more can be asked on that link
            if self._questions:
                self._is_blocked = self._questions.is_blocked
                await self._questions.close()
            self._questions = None
            return told, unreadable
        except AccessRefused as error:
            self._cannot_ask = str(error)
            return told, unreadable
        for answer in answers:
            try:
                told.append(read(answer))
            except UnreadableMessage as error:
                unreadable[str(error)] += 1
        return told, unreadable

    async def _count_bound(self) -> int | None:
        """Return how many will be asked, unless that takes longer than to wait for silence."""
        if self._counting is None or self._counting.done():
            self._counting = asyncio.get_running_loop().create_task(asyncio.to_thread(self._rates.workers_bound))
        done, _ = await asyncio.wait([self._counting], timeout=_SILENCE_SECONDS)
        count = self._counting.result() if done else None
        return max(count, 1) if count is not None else None

    def _plans(self, workers: Iterable[WorkerInfo]) -> Plans:
        plans: Plans = dict.fromkeys(self._only)
        plans.update({at.name: at.retry_delays for info in workers for at in info.queues})
        plans.update({queue.name: queue.retry_delays for queue in self._known})
        return plans

    def _chosen(self, plans: Plans, counts: Counts) -> Plans:
        """Return the queues that are asked for."""
        for name in self._only:
            if plans[name] is None and name not in counts and name not in counts.refused:
                others = [other for other in plans if other not in self._only]
                near = difflib.get_close_matches(name, others, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(others)) or 'none'}"
                raise TopologyError(
                    f"there is no queue {name!r}; {hint} (of the queues that workers take, or that -a MODULE defines)"
                )
        return {name: plans[name] for name in self._only}

    def _queue(
        self,
        name: str,
        retry_delays: Sequence[float] | None,
        counts: Counts,
        rate: Rate | None,
        workers: Iterable[WorkerInfo],
        has_levels: bool,
    ) -> QueueLook:
        seen: list[tuple[WorkerInfo, QueueAtWorker]] = [
            (info, at) for info in workers for at in info.queues if at.name == name
        ]
        were_asked = not (self._is_blocked or self._cannot_ask)
        return queue_look(name, retry_delays, counts, rate, seen, has_levels, were_asked)

    def _notes(self, plans: Plans, counts: Counts) -> Iterable[str]:
        if not plans:
            none = "" if self._is_blocked or self._cannot_ask else "no worker is there; "
            yield f"no queue is known: {none}name the module that defines queues with -a MODULE"
        if self._is_blocked:
            yield "workers cannot be asked: the broker takes no question in an alarm; see leveret doctor"
        if self._cannot_ask:
            yield f"workers cannot be asked: {self._cannot_ask}"
        if counts.refused:
            yield f"this user may not see {len(counts.refused)} queue(s), as {min(counts.refused)}"
        if self._rates.missing:
            yield f"IN/s is not known: {self._rates.missing}"


def _queues_of(plans: Plans, with_levels: Collection[str]) -> Iterable[str]:
    for name, delays in plans.items():
        yield from names_of_levels(name, name in with_levels).values()
        yield from (*names_of_tiers(name, delays or ()), dlq_name(name))


def _rate_of(waits_in: Sequence[str], rates: Mapping[str, Rate]) -> Rate | None:
    """Return the rate of all these together, as far as it is known."""
    known = [rates[name] for name in waits_in if name in rates]
    return Rate(*map(sum, zip(*known, strict=True))) if known else None
