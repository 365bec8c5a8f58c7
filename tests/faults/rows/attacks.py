"""What somebody who may publish does on purpose."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from leveret import Route
from leveret.topology.names import dlq_name
from leveret.topology.settings import CHECKOUT
from tests.broker.support import await_value, run
from tests.faults import records
from tests.faults.logged import faults
from tests.faults.row import Row
from tests.faults.rows.messages import see_reasons
from tests.faults.stage import Stage

_MEBIBYTE = 1024 * 1024
_BAD = "bad-"
_FAILS = json.dumps({"task": "faults.fail", "kwargs": {"times": faults.attempts}}).encode()
_FORGED: tuple[Any, ...] = ([1], ["rejected"], 7, {"queue": "faults"}, [{"count": "many", "queue": "faults"}])
_MOST_MEBIBYTES = 128


def large_bodies(stage: Stage) -> None:
    """Publish bodies far over the limit to a worker that holds hundreds of messages and is busy."""
    stage.worker("--prefetch", "512")
    body = b"x" * (60 if stage.vhost.takes(60 * _MEBIBYTE) else 15) * _MEBIBYTE
    with stage.load():
        stage.wait_a_moment()
        with stage.fault():
            for number in range(4):
                stage.publish_raw(f"{_BAD}{number}", body)


def see_memory(stage: Stage) -> None:
    """The parent has stayed small; what was too large is dead with its reason, and whole."""
    see_reasons(stage)
    for worker in stage.alive:
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker.process.pid}/status").read_text())
        assert peak
        stage.expect(int(peak[1]) < _MOST_MEBIBYTES * 1024, f"the worker has taken {int(peak[1]) / 1024:.0f} MiB")


def forged_history(stage: Stage) -> None:
    """Send failing tasks with a history that no broker writes, by keys of later attempts: with and without rights."""
    stage.worker()
    honest = [stage.message("faults.fail", times=2) for _ in range(10)]
    with stage.load(among=honest):
        stage.wait_a_moment()
        stage.blow()
        with stage.vhost.limited_user(write=r"^tasks\.(direct|topic|fanout)$") as url:
            for number, forged in enumerate(_FORGED):
                headers = {"x-death": forged, "CC": [f"{faults.name}@3"]}
                _publish(stage, url, Route.fanout(f"{faults.name}@2"), f"{_BAD}fanout-{number}", headers)
                _publish(stage, url, Route.direct(faults.name), f"{_BAD}direct-{number}", headers)
        for number, forged in enumerate(_FORGED):
            _publish(
                stage, stage.vhost.amqp_url, Route.again(faults.name, 2), f"{_BAD}again-{number}", {"x-death": forged}
            )


def see_attempts(stage: Stage) -> None:
    """Each had every attempt that was left to it, and then was parked, once; the honest ones were tried again."""
    see_reasons(stage)
    account = stage.account()
    for task_id in account.parked:
        left = faults.attempts - (1 if task_id.startswith(f"{_BAD}again") else 0)
        stage.expect(account.starts[task_id] == left, f"{task_id} ran {account.starts[task_id]} times, not {left}")


def redrive_what_was_planted(stage: Stage) -> None:
    """Redrive a dead task from behind dozens of planted messages that cannot be written again."""
    stage.worker()
    planted = [f"{_BAD}{number}" for number in range(40)]
    command = [sys.executable, "-m", "tests.faults.planting", stage.vhost.amqp_url, *planted]
    subprocess.run(command, cwd=CHECKOUT, check=True, timeout=60)
    for task_id in planted:
        records.append(stage.submissions_log, task_id, records.CONFIRMED, "")
    body = json.dumps({"task": "faults.work", "kwargs": {"seconds": 0.001}}).encode()
    stage.vhost.publish(Route.dead(faults.name), body, message_id="good")
    records.append(stage.submissions_log, "good", records.CONFIRMED, "")
    with stage.load():
        stage.wait_a_moment()
        stage.blow()
        ended = run("producers.redrive", faults.name, AMQP_URL=stage.vhost.amqp_url)
        stage.expect(ended.returncode == 3, f"redrive left with {ended.returncode}: {ended.stderr[-500:]}")
        stage.expect(ended.stdout.startswith("good  "), f"redriven: {ended.stdout[:200]}")
        unnamed = [task_id for task_id in planted if f"message {task_id} cannot be written" not in ended.stderr]
        stage.expect(not unnamed, f"left in the DLQ and not named: {unnamed}")
        await_value(lambda: stage.vhost.count(dlq_name(faults.name)) == len(planted), "the planted ones in the DLQ")


def flood_of_reports(stage: Stage) -> None:
    """Submit tasks that write reports to their worker without an end, themselves or by a process they leave behind."""
    stage.worker()
    reports = ("[1,[],false]", "[1,[],true]", '[999,[[0,"odd",0.5,null]],false]')
    floods = [
        stage.message("faults.flood_parent", report=report, leaves=leaves)
        for report in reports
        for leaves in (False, True)
    ]
    stage.hit = [message.id for message in floods]
    with stage.load(among=floods):
        stage.await_running(*stage.hit)
        stage.blow()


def _publish(stage: Stage, url: str, route: Route, task_id: str, headers: dict[str, Any]) -> None:
    stage.vhost.publish(route, _FAILS, url=url, message_id=task_id, headers=headers)
    records.append(stage.submissions_log, task_id, records.CONFIRMED, "")


ROWS = [
    Row(
        36,
        "large-bodies",
        "bodies of 60 MB (15 MB from RabbitMQ 4.0 on) for a worker with a prefetch of 512",
        "0",
        large_bodies,
        afterwards=see_memory,
    ),
    Row(
        37,
        "forged-history",
        "an `x-death` that no broker writes, keys of later attempts; with the right to `tasks.again`, and without",
        "0",
        forged_history,
        afterwards=see_attempts,
    ),
    Row(
        38,
        "redrive-planted",
        "40 messages in the DLQ whose headers cannot be written again, before a good one",
        "0",
        redrive_what_was_planted,
    ),
    Row(
        39,
        "flood-of-reports",
        "tasks, and processes they leave behind, that write reports to their worker without an end",
        "1, a neighbour, for each run of one",
        flood_of_reports,
        lambda _stage: 6 * faults.attempts,
    ),
]
