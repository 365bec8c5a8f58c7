"""`rq cron` with as many schedules as it is told, of one second each; run by itself, what takes its jobs."""

import os
import re
import sys
import time

from redis import Redis


def take(url: str, warm: float, seconds: float) -> None:
    """Print which schedule each job is of, and when it came, but for the first seconds."""
    redis = Redis.from_url(url)
    begin = time.time() + warm
    while time.time() < begin + seconds + 1.0:
        found = redis.blpop(["rq:queue:bench"], timeout=1)
        now = time.time()
        if found and begin <= now < begin + seconds:
            said = redis.hget(f"rq:job:{found[1].decode()}", "description") or b""
            if number := re.search(rb"number-(\d+)", said):
                print(int(number[1]), now)


def bench(_number: str) -> None:
    """Nobody runs it."""


if __name__ == "__main__":
    take(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
elif "BENCH_SCHEDULES" in os.environ:
    from rq import cron

    for each in range(int(os.environ["BENCH_SCHEDULES"])):
        cron.register(bench, queue_name="bench", args=(f"number-{each}",), interval=1)
