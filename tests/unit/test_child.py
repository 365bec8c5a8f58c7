"""A child process at the end of its parent: it leaves without a word."""

from __future__ import annotations

import os
import select
import socket

import pytest

from consumers import child
from consumers.slots import Slots
from consumers.wire import pack_orders


def test_a_parent_that_left_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    """A child whose last report nobody reads any more ends quietly, whether it is writing or reading then."""
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()
            child.serve(theirs, reading, Slots(1), 0, 1000)
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    os.write(writing, b".")
    ours.sendall(pack_orders([(1, "mail", 1, "id", None, None, b"{}")]))
    assert select.select([ours], [], [], 30)[0]
    ours.close()  # with its report unread, which makes it a reset connection for the child
    for descriptor in (reading, writing):
        os.close(descriptor)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert capfd.readouterr().err == ""
