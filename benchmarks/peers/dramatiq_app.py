"""Dramatiq with its default middleware; its queues are quorum queues by the default of the virtual host."""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.work import FUNCTIONS, Calls

broker = RabbitmqBroker(url=os.environ["AMQP_URL"], confirm_delivery=os.environ.get("BENCH_CONFIRM") != "0")
dramatiq.set_broker(broker)
TASKS = {
    name: dramatiq.actor(function, actor_name=f"bench_{name}", queue_name="bench")
    for name, function in FUNCTIONS.items()
}


def start() -> None:
    """Declare the queue."""
    broker.declare_queue("bench", ensure=True)


def one_by_one(calls: Calls) -> None:
    """Send each; it waits for its confirm if confirms are on."""
    for task, kwargs in calls:
        TASKS[task].send(**kwargs)
