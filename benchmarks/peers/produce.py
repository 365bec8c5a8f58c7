"""Send tasks with one system and say how long it took: python -m benchmarks.peers.produce APP < JOB.

APP is a module of this folder with `start()`, `one_by_one(calls)` and, where the system has a way of sending many,
`many(calls)`; with results also `result(task, kwargs)`, which sends and waits, and `gather(calls)`, which sends all and
returns all results in order. A call is a pair of task name and keyword arguments. JOB is a JSON object:

    way        one_by_one, many, or delayed, where one task goes ahead that counts for nothing
    numbers    with the way result or gather: the task is `echo`, of so many numbers, each of which has to come back
    calls      [[task, kwargs], …], or instead of it:
    task       this one without arguments, `count` times, or for about `seconds`
    interval   seconds between two calls; their argument `sent` becomes the time
    stay       seconds to stay afterwards: a program that submits goes on, and does not spend its end on the same cores

or, to send while things break:

    steps      a log of steps: the task is `step`, and each call that returned is noted there
    work       seconds each task takes
    until      a file; sends until it exists, one call each `interval`, whatever calls raise

Prints {"began": …, "seconds": …, "count": …}, and with the way result `times`, the seconds each call took.
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.work import CONFIRMED, Calls, log_step

LEAST_SECONDS = 0.25


def main() -> None:
    """Run one job."""
    app = importlib.import_module(f"benchmarks.peers.{sys.argv[1]}")
    job = json.load(sys.stdin)
    app.start()
    if "until" in job:
        _send_until(app.one_by_one, job)
        return
    if "numbers" in job:
        print(json.dumps(_wait_for_results(app, job["way"], job["numbers"])), flush=True)
        return
    send = getattr(app, job["way"])
    count = job.get("count") or len(job.get("calls", ()))
    if "seconds" in job:
        count = max(count, int(_rate(send, job["task"]) * job["seconds"]))
    calls: Calls = job["calls"] if "calls" in job else itertools.repeat((job["task"], {}), count)
    if job["way"] == "delayed":
        send([("noop", {})])  # opens, and declares, all that it takes to delay
    if "interval" in job:
        calls = _paced(calls, job["interval"])
    began, clock = time.time(), time.perf_counter()
    send(calls)
    seconds = time.perf_counter() - clock
    print(json.dumps({"began": began, "seconds": seconds, "count": count}), flush=True)
    time.sleep(job.get("stay", 0.0))


def _wait_for_results(app: Any, way: str, numbers: int) -> dict[str, Any]:
    app.result("echo", {"number": 0})  # opens all that it takes to wait
    calls = [("echo", {"number": number}) for number in range(numbers)]
    times: list[float] = []
    began, clock = time.time(), time.perf_counter()
    if way == "gather":
        results = app.gather(calls)
    else:
        results = []
        for task, kwargs in calls:
            sent = time.perf_counter()
            results.append(app.result(task, kwargs))
            times.append(time.perf_counter() - sent)
    seconds = time.perf_counter() - clock
    if list(results) != list(range(numbers)):
        raise RuntimeError("the results are not those of the calls")
    return {"began": began, "seconds": seconds, "count": numbers, "times": times}


def _send_until(send: Callable[[Calls], None], job: dict[str, Any]) -> None:
    for number in itertools.count():
        if Path(job["until"]).exists():
            return
        try:
            send([("step", {"number": number, "path": job["steps"], "seconds": job["work"]})])
        except Exception as error:  # noqa: BLE001 - what a system raises for a broker that is away is its own affair
            print(f"task {number}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        else:
            log_step(job["steps"], number, CONFIRMED)
        time.sleep(job["interval"])


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
