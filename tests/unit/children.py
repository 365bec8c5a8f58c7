"""A child process to run tasks in, without a worker around it."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

from pika import BasicProperties, spec

from leveret.consumers.child.board import Board
from leveret.consumers.child.execute import serve
from leveret.consumers.child.outcome import Outcome
from leveret.consumers.child.protocol import Report, pack_orders, unpack_reports
from leveret.consumers.settling.delivery import Delivery
from leveret.topology.queues import WorkQueue


def delivery_of(id: str, queue: str = "mail") -> Delivery:
    """A first delivery of a message with this id, which nobody settles."""
    nobody: Any = None
    method = spec.Basic.Deliver("", 1, False, "tasks.direct", queue)
    return Delivery(nobody, WorkQueue(queue), method, BasicProperties(message_id=id), b"{}")


def fork_child(board: Board | None = None) -> tuple[int, socket.socket, int]:
    """Start a child; returns its process, the parent's end of its socket, and the pipe for its tokens."""
    shared = board or Board(1)
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()
            serve(theirs, reading, shared, 0, 1000)
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    os.close(reading)
    return pid, ours, writing


def run_in_child(*names: str) -> list[Outcome]:
    """Run tasks in one child, and return everything that was reported on its socket until nobody held it any more."""
    return [outcome for report in reports_of_child(*names) for outcome in report.outcomes]


def reports_of_child(
    *names: str, is_followed: bool = False, board: Board | None = None, exit_status: int = 0
) -> list[Report]:
    """Run tasks in one child that ends like this, and return its reports."""
    pid, ours, tokens = fork_child(board)
    os.write(tokens, b"." * len(names))
    bodies = enumerate((b'{"task": "%s"}' % name.encode() for name in names), start=1)
    ours.sendall(
        pack_orders([(number, "mail", 1, "id", None, None, body, is_followed, None) for number, body in bodies])
    )
    ours.shutdown(socket.SHUT_WR)
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):  # it ended without reading all
        while data := ours.recv(65536):
            received += data
    ours.close()
    os.close(tokens)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == exit_status
    return [report for report in unpack_reports(received) if isinstance(report, Report)]
