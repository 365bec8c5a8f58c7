"""Send tasks with one system and say how long it took: python -m benchmarks.peers.produce APP < JOB.

APP is a module of this folder with `start()`, `one_by_one(calls)` and, where the system has a way of sending many,
`many(calls)`; a call is a pair of task name and keyword arguments. JOB is a JSON object:

    way        one_by_one or many
    calls      [[task, kwargs], …], or instead of it:
    task       this one without arguments, `count` times, or for about `seconds`
    interval   seconds between two calls; their argument `sent` becomes the time

Prints {"began": …, "seconds": …, "count": …}.
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
from collections.abc import Callable

from benchmarks.work import Calls

LEAST_SECONDS = 0.25


def main() -> None:
    """Run one job."""
    app = importlib.import_module(f"benchmarks.peers.{sys.argv[1]}")
    job = json.load(sys.stdin)
    app.start()
    send = getattr(app, job["way"])
    count = job.get("count") or len(job.get("calls", ()))
    if "seconds" in job:
        count = max(count, int(_rate(send, job["task"]) * job["seconds"]))
    calls: Calls = job["calls"] if "calls" in job else itertools.repeat((job["task"], {}), count)
    if "interval" in job:
        calls = _paced(calls, job["interval"])
    began, clock = time.time(), time.perf_counter()
    send(calls)
    seconds = time.perf_counter() - clock
    print(json.dumps({"began": began, "seconds": seconds, "count": count}), flush=True)


def _rate(send: Callable[[Calls], None], task: str) -> float:
    """Send more and more until it takes long enough to tell the rate; this also opens the connection."""
    count = 100
    while True:
        clock = time.perf_counter()
        send(itertools.repeat((task, {}), count))
        seconds = time.perf_counter() - clock
        if seconds >= LEAST_SECONDS:
            return count / seconds
        count *= 2


def _paced(calls: Calls, interval: float) -> Calls:
    """Yield a call when its time has come. The system asks for the next only after the last was sent."""
    due = time.perf_counter()
    for task, kwargs in calls:
        due += interval
        time.sleep(max(0.0, due - time.perf_counter()))
        yield task, {**kwargs, "sent": time.time()}


if __name__ == "__main__":
    main()
