"""arq on Redis. A task stays in Redis until it has run; its result, if BENCH_RESULTS is set, is asked for each ms."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings

from benchmarks.peers.asynchronous import Sender
from benchmarks.work import COROUTINES, FUNCTIONS

QUEUE = "bench"


def _task(name: str) -> Callable[..., Awaitable[Any]]:
    """Take the context arq hands to every task, which ours do not want."""
    function = (FUNCTIONS | COROUTINES)[name]

    async def run(_context: dict[Any, Any], **kwargs: Any) -> Any:
        returned = function(**kwargs)
        return await returned if name in COROUTINES else returned

    return run


class WorkerSettings:
    """What `arq` starts a worker with."""

    functions = tuple(func(_task(name), name=name) for name in FUNCTIONS)
    redis_settings = replace(RedisSettings.from_dsn(os.environ["REDIS_URL"]), max_connections=1000)  # newer: 100
    queue_name = QUEUE
    max_jobs = int(os.environ.get("BENCH_AT_ONCE", "10"))
    poll_delay = float(os.environ.get("BENCH_POLL", "0.5"))
    keep_result = 3600 if os.environ.get("BENCH_RESULTS") else 0
    job_completion_wait = int(os.environ.get("BENCH_GRACE", "0"))


_pool: Any = None


async def _connect() -> None:
    global _pool
    _pool = await create_pool(WorkerSettings.redis_settings, default_queue_name=QUEUE)


async def _send(task: str, kwargs: dict[str, Any]) -> Any:
    return await _pool.enqueue_job(task, **kwargs)


async def _wait(job: Any) -> Any:
    return await job.result(timeout=120, poll_delay=0.001)


_sender = Sender(_send, _wait)
one_by_one, many, result, gather = _sender.one_by_one, _sender.many, _sender.result, _sender.gather


def start() -> None:
    """Connect."""
    _sender.loop.run_until_complete(_connect())
