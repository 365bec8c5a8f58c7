"""Celery on quorum queues: late acks unless BENCH_LATE is 0, and confirms unless BENCH_CONFIRM is.

Results, if BENCH_RESULTS is set: rpc, or redis.
"""

import os
from typing import Any

from celery import Celery
from celery.result import ResultSet

from benchmarks.work import DELAY_SECONDS, FUNCTIONS, Calls

late = os.environ.get("BENCH_LATE") != "0"
results = {"": None, "rpc": "rpc://", "redis": os.environ["REDIS_URL"]}[os.environ.get("BENCH_RESULTS", "")]
TIMEOUT_SECONDS = 120
app = Celery("bench", broker=os.environ["AMQP_URL"], backend=results)
app.conf.update(
    task_default_queue="bench",
    task_default_queue_type="quorum",
    task_default_exchange_type="topic",
    task_acks_late=late,
    task_reject_on_worker_lost=late,
    task_ignore_result=results is None,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "64")),
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    broker_transport_options={"confirm_publish": os.environ.get("BENCH_CONFIRM") != "0"},
    broker_connection_retry_on_startup=True,
)
TASKS = {name: app.task(function, name=f"bench.{name}") for name, function in FUNCTIONS.items()}


def start() -> None:
    """Declare the queue by connecting."""
    with app.connection_for_write() as connection:
        app.amqp.queues["bench"](connection.default_channel).declare()


def one_by_one(calls: Calls) -> None:
    """Send with one producer, kept over all calls; each waits for its confirm if confirms are on."""
    with app.producer_or_acquire() as producer:
        for task, kwargs in calls:
            TASKS[task].apply_async(kwargs=kwargs, producer=producer)


def delayed(calls: Calls) -> None:
    """Send each with a countdown; on quorum queues the broker keeps it, by Celery's native delayed delivery."""
    with app.producer_or_acquire() as producer:
        for task, kwargs in calls:
            TASKS[task].apply_async(kwargs=kwargs, countdown=DELAY_SECONDS, producer=producer)


def result(task: str, kwargs: dict[str, Any]) -> Any:
    """Send and wait."""
    with app.producer_or_acquire() as producer:
        return TASKS[task].apply_async(kwargs=kwargs, producer=producer).get(timeout=TIMEOUT_SECONDS)


def gather(calls: Calls) -> list[Any]:
    """Send each with one producer, and wait for them as a set."""
    with app.producer_or_acquire() as producer:
        sent = [TASKS[task].apply_async(kwargs=kwargs, producer=producer) for task, kwargs in calls]
    return ResultSet(sent, app=app).get(timeout=TIMEOUT_SECONDS)
