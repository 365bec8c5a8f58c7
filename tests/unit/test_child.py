"""A child process, when its parent is gone."""

from __future__ import annotations

import multiprocessing
import os
import select
import socket

import pytest

from consumers.child import serve
from consumers.slots import Slots
from consumers.wire import pack_orders


@pytest.mark.parametrize("is_read", [True, False])
def test_leaves_quietly_when_its_parent_is_gone(is_read: bool) -> None:
    """Whether the parent left before or after reading the last report, the child ends without an error."""
    ours, theirs = socket.socketpair()
    tokens, writing = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=_serve, args=(theirs, ours, tokens))
    child.start()
    theirs.close()
    os.write(writing, b".")
    ours.sendall(pack_orders([(1, "mail", 1, "the-id", None, None, b"no JSON")]))
    select.select([ours], [], [])
    if is_read:
        ours.recv(65536)

    ours.close()

    child.join(30)
    assert child.exitcode == 0
    os.close(tokens)
    os.close(writing)


def _serve(parent: socket.socket, other_end: socket.socket, tokens: int) -> None:
    other_end.close()
    serve(parent, tokens, Slots(1), 0, 1000)
