"""Celery beat with as many schedules as it is told, of one second each."""

import os

from celery import Celery

app = Celery(broker=os.environ["AMQP_URL"])
app.conf.update(
    task_default_queue=os.environ["BENCH_QUEUE"],
    task_default_queue_type="quorum",
    task_create_missing_queue_type="quorum",
    broker_transport_options={"confirm_publish": True},
    beat_schedule={
        f"number-{number}": {"task": "bench", "schedule": 1.0, "args": [f"number-{number}"]}
        for number in range(int(os.environ["BENCH_SCHEDULES"]))
    },
)
