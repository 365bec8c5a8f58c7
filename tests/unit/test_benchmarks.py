"""The parts of the benchmarks that could be wrong without anybody seeing it in a table."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.environment import CHECKOUT
from benchmarks.measure import METRICS, NAMES
from benchmarks.processes import Process, wait_until
from benchmarks.side_by_side import each
from benchmarks.systems import PROCESSES
from benchmarks.with_results import ALL

_TIMEOUT_SECONDS = 30.0


def test_every_metric_stands_in_a_table_and_belongs_to_a_measurement() -> None:
    in_tables = {metric for _, metrics in report.TABLES for metric in metrics}
    measured = {metric for metrics in report.MEASURED_BY.values() for metric in metrics}
    assert in_tables == measured == set(METRICS)


def test_every_measurement_of_a_system_is_known_and_every_one_has_a_system() -> None:
    assert set(NAMES) == {name for system in ALL for name in system.takes_part}


def test_a_run_that_was_stopped_says_so() -> None:
    """Else a cell without a number would pass for one that does not apply."""
    known = {"cores": 2, "memory_gib": 4, "python": "3", "brokers": {}, "taken": "2026-11-29", "ours": {}, "peers": {}}
    about = {**known, "commit": "", "quick": False, "rounds": 2}
    whole, stopped = (report.markdown(report.Results(), [], {**about, "stopped": one}) for one in (False, True))

    assert "The run was stopped" in stopped
    assert "stopped" not in whole


def test_a_worker_of_several_commands_has_stopped_when_all_of_them_have(tmp_path: Path) -> None:
    code = "import os, pathlib, signal; pathlib.Path(str(os.getpid())).touch(); signal.pause()"
    worker = Process(each([sys.executable, "-c", code]), os.environ, tmp_path)
    try:
        wait_until(lambda: len(list(tmp_path.glob("[0-9]*"))) == PROCESSES, _TIMEOUT_SECONDS, "all to run")
        worker.seconds_to_stop(_TIMEOUT_SECONDS)
        assert [path.name for path in tmp_path.glob("[0-9]*") if Path("/proc", path.name).exists()] == []
    finally:
        worker.kill()


def test_the_http_server_answers_each_request_however_it_comes(tmp_path: Path) -> None:
    told = tmp_path / "port"
    command = [sys.executable, "-m", "benchmarks.server", "1", str(told)]
    server = Process(command, {**os.environ, "PYTHONPATH": str(CHECKOUT)}, tmp_path)
    try:
        wait_until(told.exists, _TIMEOUT_SECONDS, "its port")
        with socket.create_connection(("127.0.0.1", int(told.read_text())), timeout=_TIMEOUT_SECONDS) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\nGET / HTT")
            answers = connection.makefile("rb")
            first = [answers.readline() for _ in range(4)] + [answers.read(2)]
            connection.sendall(b"P/1.1\r\nHost: here\r\n\r\n")
            second = [answers.readline() for _ in range(4)] + [answers.read(2)]
    finally:
        server.kill()
    assert first == second
    assert first[0] == b"HTTP/1.1 200 OK\r\n"
    assert first[-1] == b"ok"
