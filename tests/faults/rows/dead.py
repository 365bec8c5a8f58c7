"""Faults of who works the dead letters: redriving, discarding and importing, killed and cut off amid it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pika

from leveret import Route
from leveret.producers.dead.letters import BATCH
from leveret.topology.names import dlq_name
from leveret.topology.settings import CHECKOUT
from tests.broker.support import await_value
from tests.faults import records
from tests.faults.logged import faults
from tests.faults.odd_dead import GOOD, UNWRITABLE
from tests.faults.row import Need, Row
from tests.faults.rows.nodes import SETTLED_SECONDS
from tests.faults.stage import PREFETCH, Stage

_DEAD = 600
_KILLS = 3
_ODD = 10_000
_END_SECONDS = 120.0
_WINDOW = 500
"""Messages that an import has on their way at once."""
_DLQ = dlq_name(faults.name)


def kill_redrive(stage: Stage) -> None:
    """Kill a redrive a few times while it moves messages to a worker, then let one come to its end."""
    _bury(stage)
    stage.worker()
    with stage.load():
        for _ in range(_KILLS):
            _kill(stage, _start(stage, "redrive", faults.name, "-q"))
        _end(stage, "redrive", faults.name, "-q")
    _see_none_dead(stage)


def kill_discard(stage: Stage) -> None:
    """Kill a discard a few times, let one come to its end, and put back what the files hold."""
    _bury(stage)
    stage.worker()
    files = [stage.folder / f"gone-{number}.jsonl" for number in range(_KILLS + 1)]
    with stage.load():
        for file in files[:-1]:
            _kill(stage, _start(stage, "discard", faults.name, "--yes", "--to", str(file)))
        _end(stage, "discard", faults.name, "--yes", "--to", str(files[-1]))
        _see_none_dead(stage)
        _put_back(stage, [file for file in files if file.exists()])


def kill_import(stage: Stage) -> None:
    """Kill an import a few times, then let one come to its end."""
    _bury(stage)
    stage.worker()
    file = stage.folder / "gone.jsonl"
    _end(stage, "discard", faults.name, "--yes", "--to", str(file))
    with stage.load():
        for _ in range(_KILLS):
            importing = _start(stage, "import", str(file))
            before = stage.vhost.count(_DLQ)
            _await_progress(stage, importing, before)
            _kill(stage, importing, waits=False)
        _end(stage, "import", str(file))
    _see_all_dead(stage)


def kill_node(stage: Stage) -> None:
    """Kill the broker amid a redrive, a discard and an import; each says so, and done again comes to its end."""
    stage.place.has_fast_statistics = False
    _bury(stage)
    stage.worker("--prefetch", str(PREFETCH))
    time.sleep(SETTLED_SECONDS)
    file = stage.folder / "gone.jsonl"
    with stage.load(seconds=4.0):
        _cut_off(stage, "redrive", faults.name, "-q", "--task", "faults.work", "--text", "a half")
        _cut_off(stage, "discard", faults.name, "--yes", "--to", str(stage.folder / "cut.jsonl"))
        _end(stage, "discard", faults.name, "--yes", "--to", str(file))
        for one in (stage.folder / "cut.jsonl", file):
            if one.exists():
                _cut_off(stage, "import", str(one))
                _end(stage, "import", str(one))
        _end(stage, "redrive", faults.name, "-q")
    stage.submit(*stage.messages(20))


def two_redrives(stage: Stage) -> None:
    """Run two redrives of the queue at once, and what is left by a third."""
    _bury(stage)
    stage.worker()
    with stage.load():
        stage.blow()
        both = [_start(stage, "redrive", faults.name, "-q") for _ in range(2)]
        for one in both:
            said = one.communicate(timeout=_END_SECONDS)[1]
            stage.expect(one.returncode in (0, 3), f"a redrive left with {one.returncode}: {said[-300:]}")
        _end(stage, "redrive", faults.name, "-q")
    _see_none_dead(stage)


def odd_messages(stage: Stage) -> None:
    """List, show, export, discard, import and redrive what a hostile client sends: all of it, and none of it raw."""
    where = stage.vhost.broker.amqp_url, stage.vhost.name, str(stage.submissions_log)
    made = subprocess.run(
        [sys.executable, "-m", "tests.faults.odd_dead", *where, str(stage.random.randrange(2**32)), str(_ODD)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = [line.split() for line in made.stdout.splitlines()]
    unwritable, good = ({task_id for kind, task_id in told if kind == wanted} for wanted in (UNWRITABLE, GOOD))
    stage.blow()
    listed = _say(stage, "list", faults.name, "--json", "--limit", str(2 * _ODD))
    stage.expect(len(listed.splitlines()) == _ODD, f"{len(listed.splitlines())} of {_ODD} were listed")
    for number in stage.random.sample(range(_ODD), 5):
        _say(stage, "show", f"o{number:05}", faults.name)
    _say(stage, "list", faults.name, "--limit", str(2 * _ODD))
    _say(stage, "top", faults.name)
    exported, gone = stage.folder / "exported.jsonl", stage.folder / "gone.jsonl"
    _say(stage, "export", str(exported), faults.name)
    _say(stage, "discard", faults.name, "--yes", "--to", str(gone))
    for file in (exported, gone):
        lines = file.read_bytes().count(b"\n")
        stage.expect(lines == _ODD, f"{lines} of {_ODD} are in {file.name}")
    importing = _start(stage, "import", str(gone))
    said = importing.communicate(timeout=_END_SECONDS)[1]
    left = said.count("left in the file, for it cannot be sent")
    stage.expect(left == len(unwritable), f"{left} of {len(unwritable)} that cannot be written were left in the file")
    stage.excused |= unwritable
    stage.worker()
    _say(stage, "redrive", faults.name)
    await_value(lambda: good <= set(stage.account().finished), "all that can run to have run")


def _say(stage: Stage, *arguments: str) -> str:
    """Run it to its end, see that it showed nothing that is not text, and return what it said."""
    process = _start(stage, *arguments)
    said, complained = process.communicate(timeout=_END_SECONDS)
    stage.expect(process.returncode == 0, f"{arguments[0]} left with {process.returncode}: {complained[-500:]}")
    raw = [line for line in (said + complained).split("\n") if not line.isprintable()]
    stage.expect(not raw, f"{arguments[0]} showed {raw[:3]!r}")
    return said


def _bury(stage: Stage) -> None:
    """Put tasks into the DLQ that would run to their end."""
    with stage.vhost.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for number in range(_DEAD):
            half = "a half" if number % 2 else "the other"
            body = json.dumps({"task": "faults.work", "kwargs": {"seconds": 0.001}, "half": half}).encode()
            properties = pika.BasicProperties(message_id=f"d{number:04}", delivery_mode=2)
            channel.basic_publish(*Route.dead(faults.name), body, properties, mandatory=True)
            records.append(stage.submissions_log, f"d{number:04}", records.CONFIRMED, "", synced=False)


def _start(stage: Stage, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "AMQP_URL": stage.vhost.amqp_url,
        "MANAGEMENT_URL": stage.vhost.broker.management_url,
        "PYTHONPATH": str(CHECKOUT),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "leveret", "dead", *arguments],
        env=environment,
        cwd=stage.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stage.undo.callback(process.communicate)
    stage.undo.callback(process.kill)
    return process


def _await_progress(stage: Stage, process: subprocess.Popen[str], before: int) -> None:
    """Wait until the DLQ has another number of messages, or the process has ended."""
    await_value(lambda: process.poll() is not None or stage.vhost.count(_DLQ) != before, "the first message to move")


def _kill(stage: Stage, process: subprocess.Popen[str], waits: bool = True) -> None:
    """Kill it at a random moment after its first word, which may be after its end."""
    if waits:
        assert process.stdout
        process.stdout.readline()
    time.sleep(stage.random.uniform(0.0, 0.3))
    stage.blow()
    process.kill()
    process.communicate()


def _end(stage: Stage, *arguments: str) -> None:
    """Run it until nothing is left of which others held some."""
    for _ in range(3):
        process = _start(stage, *arguments)
        said = process.communicate(timeout=_END_SECONDS)[1]
        if process.returncode != 3:
            break
    stage.expect(process.returncode == 0, f"{arguments[0]} left with {process.returncode}: {said[-500:]}")


def _cut_off(stage: Stage, *arguments: str) -> None:
    """Kill the node at a random moment of it, and start it again."""
    process = _start(stage, *arguments)
    time.sleep(stage.random.uniform(0.4, 1.5))
    with stage.fault():
        stage.breaks += 1
        stage.nodes.kill(1)
        stage.nodes.start(1)
    said = process.communicate(timeout=_END_SECONDS)[1]
    stage.expect(process.returncode in (0, 1, 3), f"{arguments[0]} left with {process.returncode}: {said[-500:]}")
    stage.expect("Traceback" not in said, f"{arguments[0]} showed a traceback: {said[-500:]}")
    stage.expect(process.returncode != 1 or said.startswith("leveret dead "), f"{arguments[0]} said {said[-500:]}")


def _put_back(stage: Stage, files: list[Path]) -> None:
    for file in files:
        _end(stage, "import", str(file))
    _see_all_dead(stage)


def _see_none_dead(stage: Stage) -> None:
    stage.expect(stage.vhost.count(_DLQ) == 0, f"{stage.vhost.count(_DLQ)} are dead still")


def _see_all_dead(stage: Stage) -> None:
    stage.expect(stage.vhost.count(_DLQ) == _DEAD, f"{stage.vhost.count(_DLQ)} are dead of {_DEAD}")


def _cut_off_bound(stage: Stage) -> int:
    return stage.breaks * (PREFETCH + BATCH + _WINDOW)


ROWS = [
    Row(
        81,
        "dead-redrive-killed",
        f"kill -9 of `dead redrive`, {_KILLS} times, amid {_DEAD} dead letters, while tasks are submitted and run",
        f"{BATCH} for each kill: confirmed in the queue, not yet taken out of the DLQ",
        kill_redrive,
        most_duplicates=lambda _stage: BATCH * _KILLS,
    ),
    Row(
        82,
        "dead-discard-killed",
        f"kill -9 of `dead discard`, {_KILLS} times, amid {_DEAD} dead letters; then its files are imported",
        "0: what is there already is not imported",
        kill_discard,
    ),
    Row(
        83,
        "dead-import-killed",
        f"kill -9 of `dead import`, {_KILLS} times, amid {_DEAD} messages",
        "0: what is there already is not imported",
        kill_import,
    ),
    Row(
        84,
        "dead-kill-broker",
        "kill -9 of the node amid `dead redrive`, `dead discard` and `dead import`, each of which is then done again",
        f"for each kill what the worker held ({PREFETCH}), a redrive ({BATCH}) and an import ({_WINDOW}) had under way",
        kill_node,
        most_duplicates=_cut_off_bound,
        needs=frozenset({Need.NODES}),
        patience_seconds=120,
    ),
    Row(
        85,
        "dead-two-redrives",
        f"two `dead redrive` of a queue with {_DEAD} dead letters at once, while tasks are submitted and run",
        "0",
        two_redrives,
    ),
    Row(
        90,
        "dead-odd",
        f"{_ODD:,} odd messages of a foreign client in the DLQ, listed, shown, exported, discarded, imported, redriven",
        "0",
        odd_messages,
        patience_seconds=120,
    ),
]
