"""APScheduler with as many schedules as it is told, of one second each, whose jobs publish with pika, confirmed."""

import os
import threading

import pika
from apscheduler.schedulers.blocking import BlockingScheduler

_local = threading.local()


def publish(number: int) -> None:
    """Publish by the connection of this thread."""
    if not hasattr(_local, "channel"):
        _local.channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()
        _local.channel.confirm_delivery()
    properties = pika.BasicProperties(delivery_mode=2)
    _local.channel.basic_publish("", os.environ["BENCH_QUEUE"], f"number-{number}".encode(), properties)


scheduler = BlockingScheduler()
for each in range(int(os.environ["BENCH_SCHEDULES"])):
    scheduler.add_job(publish, "interval", seconds=1, args=[each], coalesce=False, max_instances=10)
scheduler.start()
