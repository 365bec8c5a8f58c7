"""Reconnecting of many workers at once, over and over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.broker.support import Worker, await_value
from tests.faults.row import Need, Row
from tests.faults.stage import PREFETCH, Stage

_WORKERS = 20
_ROUNDS = 5
_MOST_GROWTH_BYTES = 8 * 1024 * 1024
_AGAIN = "consuming again"


def close_all(stage: Stage) -> None:
    """Close the connections of many workers, a few times, while they work."""
    _start(stage)
    with stage.load(count=300, seconds=6.0) as load:
        with stage.fault():
            for number in range(1, _ROUNDS + 1):
                stage.close_connections(_WORKERS)
                _await_all_again(stage, number)
                if number == 1:
                    before = _memory(stage)
        load.wait()
    growth = max(after - earlier for earlier, after in zip(before, _memory(stage), strict=True))
    stage.expect(growth <= _MOST_GROWTH_BYTES, f"a parent grew by {growth} bytes over {_ROUNDS - 1} reconnections")


def restart_node(stage: Stage) -> None:
    """Kill the node under many workers and start it again."""
    _start(stage)
    stage.wait_a_moment(3.0, 3.5)  # a quorum queue that was declared just before the kill may come back empty
    with stage.load(count=200, seconds=3.0):
        stage.wait_a_moment()
        with stage.fault():
            stage.nodes.kill(1)
            stage.place.has_fast_statistics = False
            stage.nodes.start(1)
        _await_all_again(stage, 1)


def _start(stage: Stage) -> None:
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda _: stage.worker("--prefetch", str(PREFETCH), processes=1), range(_WORKERS)))


def _await_all_again(stage: Stage, times: int) -> None:
    def all_again() -> bool:
        return all(len(worker.find(_AGAIN)) >= times for worker in stage.started)

    await_value(all_again, f"{_WORKERS} workers to consume again")


def _memory(stage: Stage) -> list[int]:
    return [_resident_bytes(worker) for worker in stage.started]


def _resident_bytes(worker: Worker) -> int:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def _in_flight_each_time(stage: Stage) -> int:
    return _ROUNDS * _WORKERS


ROWS = [
    Row(
        31,
        "storm",
        f"the connections of {_WORKERS} workers closed, {_ROUNDS} times in a row",
        "what was begun, each time",
        close_all,
        _in_flight_each_time,
        alone=True,
    ),
    Row(
        31,
        "storm-restart",
        f"kill -9 of the node under {_WORKERS} workers, and its start",
        f"what the workers held: their prefetch, {_WORKERS} × {PREFETCH}",
        restart_node,
        lambda _stage: _WORKERS * PREFETCH,
        needs=frozenset({Need.NODES}),
    ),
]
