"""Running rows: each run on a stage of its own, judged when it has come to rest."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.faults.brokers import Place, clustered
from tests.faults.row import Result, Row
from tests.faults.settling import settle
from tests.faults.stage import Stage

Say = Callable[[Result], None]


def run_once(row: Row, place: Place, seed: int) -> Result:
    """Run a row once. The folder of a run that was not good is kept."""
    folder = Path(tempfile.mkdtemp(prefix=f"fault-{row.name}-"))
    result = Result(row.name, place.version, seed, folder)
    began = time.monotonic()
    try:
        with Stage(row, place, seed, folder) as stage:
            try:
                row.run(stage)
                settle(stage, row.patience_seconds)
                row.afterwards(stage)
                _judge(stage, result)
            finally:
                _keep_logs(stage)
    except Exception as error:  # noqa: BLE001 - whatever it is, the run is not good and the others go on
        (folder / "traceback.txt").write_text(traceback.format_exc())
        result.problems.append(f"{type(error).__name__}: {error}"[:1000])
    result.seconds = time.monotonic() - began
    if result.is_good:
        shutil.rmtree(folder)
    return result


def run_all(
    rows: Sequence[Row], place: Place, seed: int, repeat: int, jobs: int, say: Say, stop: threading.Event | None = None
) -> list[Result]:
    """Run rows so many times: those that may side by side, then those that need the node for themselves, or three.

    Once `stop` is set no further run begins.
    """
    stop = stop or threading.Event()
    results: list[Result] = []

    def run(row: Row, where: Place, one: int) -> None:
        if not stop.is_set():
            result = run_once(row, where, one)
            results.append(result)
            say(result)

    runs = [(row, seed + number) for number in range(repeat) for row in rows]
    with ThreadPoolExecutor(jobs) as executor:
        beside = [executor.submit(run, row, place, one) for row, one in runs if not row.is_alone]
        try:
            for future in as_completed(beside):
                future.result()
        except BaseException:  # told to stop: end what runs, and begin nothing more
            stop.set()
            raise
    for row, one in runs:
        if row.is_alone and not row.is_clustered:
            run(row, place, one)
    in_cluster = [(row, one) for row, one in runs if row.is_clustered]
    if in_cluster and not stop.is_set():
        with clustered(place) as nodes:
            for row, one in in_cluster:
                run(row, nodes, one)
    return results


def run_side_by_side(
    groups: Sequence[tuple[Sequence[Row], Place]], seed: int, repeat: int, jobs: int, say: Say
) -> list[Result]:
    """Run groups of rows at the same time, each in a place of its own.

    Who ends this early waits for the runs that have begun: a cluster that is left in pieces does not start again.
    """
    stop = threading.Event()
    executor = ThreadPoolExecutor(len(groups))
    running = [executor.submit(run_all, rows, place, seed, repeat, jobs, say, stop) for rows, place in groups]
    try:
        return [result for group in running for result in group.result()]
    finally:
        stop.set()
        executor.shutdown()


def _judge(stage: Stage, result: Result) -> None:
    account = stage.account()
    result.confirmed, result.unknown = len(account.confirmed), len(account.unknown)
    result.parked = sum(account.parked.values())
    result.lost = sorted(account.missing)
    result.duplicates, result.bound = account.duplicates, stage.row.most_duplicates(stage)
    if stage.recovery_seconds is not None:
        result.recovery_seconds = stage.recovery_seconds
    elif stage.ended:
        result.recovery_seconds = account.recovery_seconds(stage.began, stage.ended, stage.hit)
    result.problems += stage.problems
    if result.duplicates > result.bound:
        result.problems.append(f"{result.duplicates} duplicates, but at most {result.bound}: {stage.row.bound}")
    if not result.confirmed:
        result.problems.append("nothing was confirmed, so the run proves nothing")


def _keep_logs(stage: Stage) -> None:
    try:
        queues = json.dumps(stage.vhost.api("GET", f"queues/{stage.vhost.name}"), indent=1)
    except OSError as error:  # a node that is down is one of the ways in which a run ends
        queues = f"{type(error).__name__}: {error}"
    (stage.folder / "queues.json").write_text(queues)
    (stage.folder / "workers.log").write_text(
        "".join(f"{event}\n" for worker in stage.started for event in worker.events)
        + "".join(worker.text for worker in stage.started)
    )
