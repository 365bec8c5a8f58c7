"""The systems set up to give results to who has submitted.

README.md says how each was set, and why.
"""

from __future__ import annotations

from typing import ClassVar

from benchmarks import side_by_side
from benchmarks.delayed import DELAYED
from benchmarks.following import FOLLOWING
from benchmarks.side_by_side import Arq
from benchmarks.systems import Celery, Dramatiq, Huey, Pika, Rq, System, Taskiq

_UNCONFIRMED = {"BENCH_CONFIRM": "0"}


class CeleryRpc(Celery):
    """Results by a queue of the sender's."""

    name = "Celery, rpc"
    takes_part = frozenset(FOLLOWING)
    results = "rpc"
    notes = "as Celery, but results by rpc://, not persistent, which is its default"


class CeleryRpcUnconfirmed(CeleryRpc):
    """The same with its default for confirms."""

    name = "Celery, rpc, unconfirmed"
    confirms = False
    variables: ClassVar[dict[str, str]] = _UNCONFIRMED
    notes = "the same without confirm_publish, which is its default"


class CeleryRedis(Celery):
    """Results in Redis."""

    name = "Celery, Redis results"
    takes_part = frozenset(FOLLOWING)
    requirements: ClassVar[tuple[str, ...]] = ("celery", "redis")
    results = "redis"
    notes = "as Celery, but results by redis://"


class CeleryRedisUnconfirmed(CeleryRedis):
    """The same with its default for confirms."""

    name = "Celery, Redis results, unconfirmed"
    confirms = False
    variables: ClassVar[dict[str, str]] = _UNCONFIRMED
    notes = "the same without confirm_publish, which is its default"


class DramatiqRedis(Dramatiq):
    """Results in Redis."""

    name = "Dramatiq, Redis results"
    takes_part = frozenset(FOLLOWING)
    requirements: ClassVar[tuple[str, ...]] = ("dramatiq[rabbitmq]", "redis")
    results = "redis"
    notes = "as Dramatiq, but the results middleware on Redis, and groups"


class DramatiqRedisUnconfirmed(DramatiqRedis):
    """The same with its default for confirms."""

    name = "Dramatiq, Redis results, unconfirmed"
    confirms = False
    variables: ClassVar[dict[str, str]] = {**Dramatiq.variables, **_UNCONFIRMED}
    notes = "the same without confirm_delivery, which is its default"


class TaskiqRedis(Taskiq):
    """Results in Redis."""

    name = "Taskiq, Redis results"
    takes_part = frozenset(FOLLOWING)
    requirements = (*Taskiq.requirements, "taskiq-redis>=1.2")
    results = "redis"
    notes = "as Taskiq, but results by taskiq-redis, asked for each millisecond (its default: each 200)"


class HueyResults(Huey):
    """Results in Redis."""

    name = "Huey, results"
    takes_part = frozenset(FOLLOWING)
    results = "redis"
    notes = "as Huey, but with results, asked for each millisecond (its default: after 100, then more and more)"


class RqResults(Rq):
    """Results in Redis."""

    name = "RQ, results"
    takes_part = frozenset(FOLLOWING)
    results = "redis"
    notes = "as RQ, but with results, which it waits for without asking again"


class RqScheduler(Rq):
    """With the scheduler that delayed tasks need."""

    name = "RQ, with its scheduler"
    takes_part = frozenset(DELAYED)
    notes = "as RQ, but two workers of their own, with the scheduler, which looks for what is due every second"

    def worker(self) -> list[str]:  # noqa: D102
        options = "--with-scheduler --worker-class rq.worker.SimpleWorker --logging-level WARNING --quiet"
        return side_by_side.each([self._script("rq"), "worker", "bench", *options.split()])


class ArqResults(Arq):
    """Results in Redis."""

    name = "arq, results"
    takes_part = frozenset(FOLLOWING)
    results = "redis"
    notes = (
        "as arq, but with results, asked for each millisecond, and poll_delay 0.005 s in its workers (both 0.5 s by "
        "default)"
    )
    variables: ClassVar[dict[str, str]] = {**Arq.variables, "BENCH_POLL": "0.005"}


class PikaReplies(Pika):
    """A bare loop that replies."""

    name = "pika, replies"
    takes_part = frozenset({"result"})
    notes = (
        "no worker system: a bare loop in one process that takes requests off a quorum queue and replies by direct "
        "reply-to; request and reply are confirmed, and then comes the ack"
    )

    def worker(self) -> list[str]:  # noqa: D102
        return [*super().worker(), "replies"]


ALL: tuple[System, ...] = (
    *side_by_side.ALL,
    CeleryRpc(),
    CeleryRpcUnconfirmed(),
    CeleryRedis(),
    CeleryRedisUnconfirmed(),
    DramatiqRedis(),
    DramatiqRedisUnconfirmed(),
    TaskiqRedis(),
    HueyResults(),
    RqResults(),
    RqScheduler(),
    ArqResults(),
    PikaReplies(),
)
