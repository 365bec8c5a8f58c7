"""Queues and a worker in the process of a test, under a clock that jumps.

What is submitted waits until the test, or who waits for a result, has it run. It is not run within `submit`: what comes
behind that in the code would find it done, which in production it never does.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from leveret.consumers.child.board import Progress
from leveret.consumers.child.outcome import Ending, Failure, Outcome
from leveret.consumers.child.protocol import Order
from leveret.consumers.settling.closing import delayed_event, event_of
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.later import bounded
from leveret.consumers.settling.products import dead_copy, later_copy, way_back
from leveret.consumers.settling.verdict import Verdict, decide
from leveret.consumers.tasks import attempt as attempts_of_process
from leveret.consumers.tasks import progress as progress_of_process
from leveret.consumers.tasks.batch import Batch
from leveret.producers.calls import reached_queues
from leveret.testing.attempts import Attempts
from leveret.testing.messages import Dead, Message, Ran
from leveret.topology import registry
from leveret.topology.control import Command, is_older, read_cancel
from leveret.topology.errors import LeveretError, TaskFailed
from leveret.topology.events import Event, Kind
from leveret.topology.ladder import ENTRANCES, seconds_of
from leveret.topology.link import publish_errors
from leveret.topology.link.outbox import OnPublished, Outgoing
from leveret.topology.names import (
    CANCEL_KEY,
    DIRECT_EXCHANGE,
    EVENTS_EXCHANGE,
    FANOUT_EXCHANGE,
    LATER_TO,
    LEVELS,
    NORMAL,
    PRIORITY_HEADER,
    TOPIC_EXCHANGE,
    Route,
    dlq_name,
)

WORKER = "inline"
"""What stands for host and process of the worker."""
_EXCHANGES = (DIRECT_EXCHANGE, TOPIC_EXCHANGE, FANOUT_EXCHANGE)
_MOST_ATTEMPTS = 10_000  # in one run; where tasks submit tasks there may be no end

Tell = Callable[[str, Kind, str, Event], None]
"""Is told what happens to a followed task: id, kind, task and event."""


class EndlessWork(LeveretError):
    """Tasks submit tasks without an end."""


class Inline:
    """The work queues of this program, and a worker for all of them.

    `now` is the test's clock, in seconds from its beginning; only `run` moves it.
    """

    def __init__(self, limit_bytes: int, tell: Tell) -> None:
        self.now = 0.0
        self.submitted: list[Message] = []
        """What the queues have taken, in order."""
        self.attempts: list[Ran] = []
        """What has run, in order."""
        self.dead: list[Dead] = []
        """What has failed for good."""
        self._tell = tell
        self._attempts = Attempts(limit_bytes)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._line: list[_Waiting] = []  # a heap
        self._cancels: dict[str, Command] = {}
        self._keys: dict[str, tuple[str, float | None]] = {}  # of unique tasks: who holds each, and until when
        self._ended: dict[str, Verdict] = {}
        self._told: dict[attempts_of_process.Attempt, Progress] = {}
        self._former_teller = progress_of_process.tell_by(self._note_progress)

    @property
    def waiting(self) -> list[Message]:
        """What has yet to run, in that order; what is to be tried again is due later than `now`."""
        return [message for *_, message in sorted(self._line)]

    def run(self, seconds: float | None = None, *, check: bool = True) -> list[Ran]:
        """Run what waits until nothing does, with retries and with what tasks submit; returns the attempts.

        The clock jumps to each retry. With `seconds` it moves on by so much, and what is due later stays; 0 is what can
        run now. Raises `TaskFailed`, from what the task raised, for the first message that was dead in the end, unless
        `check=False`; and `EndlessWork` after 10,000 attempts.
        """
        began, dead = len(self.attempts), len(self.dead)
        self._work(math.inf if seconds is None else self.now + seconds)
        if check and (died := self.dead[dead:]):
            raise _failed(died)
        return self.attempts[began:]

    async def run_async(self, seconds: float | None = None, *, check: bool = True) -> list[Ran]:
        """Do as `run` does, in a thread, while the loop of the test goes on."""
        return await asyncio.to_thread(self.run, seconds, check=check)

    def run_until(self, is_over: Callable[[], bool], seconds: float | None = None) -> None:
        """Run what waits until something is so, or until there is nothing more to run within so many seconds."""
        self._work(math.inf if seconds is None else self.now + seconds, is_over)

    def send(self, outgoing: Outgoing, on_published: OnPublished, _timeout_seconds: float | None = None) -> None:
        """Take a message in as the broker does."""
        if outgoing.route.exchange == EVENTS_EXCHANGE:  # nobody listens
            on_published(None)
            return
        task_id, route = outgoing.id, outgoing.route
        due = self.now
        if route.exchange in ENTRANCES:
            headers = outgoing.properties.headers
            due, route = due + seconds_of(headers), Route(headers[LATER_TO], route.routing_key)
        if route.exchange not in _EXCHANGES:
            on_published(publish_errors.channel_closed(task_id, route, 404, ""))
        elif found := reached_queues(route):
            for queue in found:
                method = _Method(1, route.exchange, route.routing_key, redelivered=False)
                self._put(Delivery(cast(Any, None), queue, method, outgoing.properties, outgoing.body), due)
            on_published(None)
        else:
            on_published(publish_errors.not_routed(task_id, route))

    def command(self, key: str, bodies: Sequence[bytes]) -> None:
        """Take in what is said to all workers. Raises `LeveretError` for a pause: no other worker is there to pause."""
        if key != CANCEL_KEY:
            raise LeveretError("a queue in the process of a test cannot be paused; leveret_broker has real ones")
        for body in bodies:
            ids, command = read_cancel(body)
            self._cancels.update(dict.fromkeys(ids, command))

    def reserve(self, task_id: str, key: str, seconds: float | None) -> str:
        """Reserve a key for a task, by the test's clock, unless another holds it; returns the one that does then."""
        holder, until = self._keys.get(key, (task_id, None))
        ended = self._ended.get(holder)
        is_over = ended is Verdict.DONE if until is None else self.now >= until
        if holder == task_id or is_over or ended in (Verdict.BURY, Verdict.CANCEL):
            holder = task_id
            self._keys[key] = task_id, None if seconds is None else self.now + seconds
        return holder

    def release(self, key: str) -> None:
        """Free a key whose task was not submitted."""
        self._keys.pop(key, None)

    def close(self) -> None:
        """Leave the process as it was."""
        progress_of_process.tell_by(self._former_teller)
        self._attempts.close()

    def _put(self, delivery: Delivery, due: float, is_new: bool = True) -> None:
        message = Message(delivery, due)
        with self._lock:
            heapq.heappush(self._line, _Waiting(due, _level(delivery), next(self._numbers), message))
            if delivery.attempt == 1 and is_new:
                self.submitted.append(message)

    def _work(self, until: float, is_over: Callable[[], bool] = lambda: False) -> None:
        began = len(self.attempts)
        while not is_over():
            with self._lock:
                if not self._line or self._line[0][0] > until:
                    break
                taken = heapq.heappop(self._line)
                together = self._gather(taken)
            due, *_, message = taken
            if not together:
                continue
            if len(self.attempts) - began >= _MOST_ATTEMPTS:
                raise EndlessWork(
                    f"{_MOST_ATTEMPTS:,} attempts have run and more wait, the next of task {message.task!r}; where "
                    "tasks submit tasks without an end, give run the seconds after which to stop"
                )
            self.now = max(self.now, due)
            if _batch_of(message):
                self._run_together([one.delivery for one in together])
            else:
                self._run(message.delivery)
        else:
            return
        if until < math.inf:
            self.now = max(self.now, until)

    def _gather(self, taken: _Waiting) -> list[Message]:
        """Return what runs together with one that was taken off the line; nothing while it waits for others."""
        due, _, _, message = taken
        if not (batch := _batch_of(message)):
            return [message]
        task = message.task
        others = sorted(
            one for one in self._line if one.message.due <= due and _batch_of(one.message) and one.message.task == task
        )
        others = others[: batch.size - 1]
        if len(others) < batch.size - 1 and due == message.due:
            heapq.heappush(self._line, taken._replace(due=due + batch.within_seconds))
            return []
        gone = {one.number for one in others}
        self._line = [one for one in self._line if one.number not in gone]
        heapq.heapify(self._line)
        return sorted([message, *(one.message for one in others)], key=lambda one: one.due)

    def _run(self, delivery: Delivery) -> None:
        if not self._is_cancelled(delivery):
            at = self.now
            self._note(delivery, at, *self._attempts.run(Order._make(delivery.order(0))))

    def _run_together(self, deliveries: Sequence[Delivery]) -> None:
        wanted = [delivery for delivery in deliveries if not self._is_cancelled(delivery)]
        at = self.now
        orders = [Order._make(delivery.order(number)) for number, delivery in enumerate(wanted)]
        for delivery, ended in zip(wanted, self._attempts.run_together(orders), strict=True):
            self._note(delivery, at, *ended)

    def _is_cancelled(self, delivery: Delivery) -> bool:
        """Settle one that is cancelled; returns whether it is."""
        if not (command := self._cancels.get(delivery.id)) or not is_older(delivery.properties, command):
            return False
        delivery.cancel = command
        self._settle(delivery, Outcome(Ending.CANCELLED, delivery.task_name(), 0.0), None, Verdict.CANCEL)
        return True

    def _note(self, delivery: Delivery, at: float, outcome: Outcome, error: BaseException | None) -> None:
        verdict = decide(outcome.ending, delivery.attempt, delivery.queue.attempts)
        if verdict is Verdict.LATER:
            outcome, verdict = bounded(delivery, outcome)
        known = registry.get(outcome.task)
        result = outcome.result if verdict is Verdict.DONE else None
        told = attempts_of_process.Attempt(delivery.id, delivery.attempt, delivery.queue.name, outcome.task)
        self.attempts.append(
            Ran(
                delivery.id,
                outcome.task,
                delivery.queue.name,
                delivery.attempt,
                delivery.queue.attempts,
                at,
                outcome.duration_seconds,
                verdict,
                outcome.failure,
                error,
                known.result.read(result) if known and result is not None else None,
                self._told.pop(told, None),
            )
        )
        self._settle(delivery, outcome, error, verdict)

    def _settle(self, delivery: Delivery, outcome: Outcome, error: BaseException | None, verdict: Verdict) -> None:
        if verdict is Verdict.RETRY:
            route = Route.again(delivery.queue.name, delivery.attempt + 1)
            method = _Method(1, *route, redelivered=False)
            again = Delivery(cast(Any, None), delivery.queue, method, delivery.properties, delivery.body)
            self._put(again, self.now + delivery.queue.retry_delays[delivery.attempt - 1])
            kind = Kind.RETRYING
        elif verdict is Verdict.LATER:
            copy = later_copy(delivery, outcome)
            method = _Method(1, *way_back(delivery), redelivered=False)
            again = Delivery(cast(Any, None), delivery.queue, method, copy.properties, delivery.body)
            self._put(again, self.now + seconds_of(copy.properties.headers), is_new=False)
            kind = Kind.DELAYED
        elif verdict is Verdict.BURY:
            self.dead.append(_dead(delivery, outcome, error))
            kind = Kind.FAILED
        else:
            kind = Kind.CANCELLED if verdict is Verdict.CANCEL else Kind.SUCCEEDED
        self._ended[delivery.id] = verdict
        if delivery.reply_to:
            event = delayed_event(delivery, outcome) if kind is Kind.DELAYED else event_of(delivery, outcome, kind)
            if kind is Kind.RETRYING:
                event["next_at"] = event["at"] + delivery.queue.retry_delays[delivery.attempt - 1]
            self._tell(delivery.id, kind, outcome.task, event)

    def _note_progress(self, attempt: attempts_of_process.Attempt, done: float, total: float | None, note: str) -> None:
        for one in attempts_of_process.each_of(attempt):
            self._told[one] = Progress(done, total, note)


def _batch_of(message: Message) -> Batch | None:
    """Return how the task of a message takes many calls at once; None where it does not, or cannot be read."""
    known = registry.get(message.delivery.task_name())
    batch: Batch | None = known.batch if known else None
    return batch


def _level(delivery: Delivery) -> int:
    """Return before or behind which others it runs that can run at the same time."""
    said = (delivery.properties.headers or {}).get(PRIORITY_HEADER)
    return LEVELS.index(said if delivery.queue.priorities and said in LEVELS else NORMAL)


class _Waiting(NamedTuple):
    """What waits until it is due, in the order in which it runs."""

    due: float
    level: int
    number: int
    message: Message


class _Method(NamedTuple):
    """What a delivery reads of AMQP's method."""

    delivery_tag: int
    exchange: str
    routing_key: str
    redelivered: bool


def _dead(delivery: Delivery, outcome: Outcome, error: BaseException | None) -> Dead:
    copy = dead_copy(delivery, outcome, WORKER)
    failure = outcome.failure or Failure(Ending(outcome.ending).name, "")
    headers = dict(copy.properties.headers or {})
    return Dead(
        delivery.id, outcome.task, delivery.queue.name, delivery.attempt, failure, error, headers, delivery.body
    )


def _failed(died: list[Dead]) -> TaskFailed:
    first = died[0]
    more = f", and {len(died) - 1} more have failed" if died[1:] else ""
    text = (
        f"task {first.task!r} failed for good, in attempt {first.attempts}: {first.reason}{more}; where that is what "
        "the test is about, run with check=False and look at dead"
    )
    failed = TaskFailed(text, first.id, first.failure._asdict(), dlq_name(first.queue))
    failed.__cause__ = first.error
    return failed
