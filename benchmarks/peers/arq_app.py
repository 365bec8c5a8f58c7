"""arq on Redis, without results. A task stays in Redis until it has run."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings

from benchmarks.peers.asynchronous import Sender
from benchmarks.work import COROUTINES, FUNCTIONS

QUEUE = "bench"


def _task(name: str) -> Callable[..., Awaitable[None]]:
    """Take the context arq hands to every task, which ours do not want."""
    function = (FUNCTIONS | COROUTINES)[name]

    async def run(_context: dict[Any, Any], **kwargs: Any) -> None:
        waiting = function(**kwargs)
        if waiting is not None:
            await waiting

    return run


class WorkerSettings:
    """What `arq` starts a worker with."""

    functions = tuple(func(_task(name), name=name) for name in FUNCTIONS)
    redis_settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
    queue_name = QUEUE
    max_jobs = int(os.environ.get("BENCH_AT_ONCE", "10"))
    poll_delay = float(os.environ.get("BENCH_POLL", "0.5"))
    keep_result = 0
    job_completion_wait = int(os.environ.get("BENCH_GRACE", "0"))


_pool: Any = None


async def _connect() -> None:
    global _pool
    _pool = await create_pool(WorkerSettings.redis_settings, default_queue_name=QUEUE)


async def _send(task: str, kwargs: dict[str, Any]) -> None:
    await _pool.enqueue_job(task, **kwargs)


_sender = Sender(_send)
one_by_one, many = _sender.one_by_one, _sender.many


def start() -> None:
    """Connect."""
    _sender.loop.run_until_complete(_connect())
