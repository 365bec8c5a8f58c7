"""Declaring what a worker consumes, in a process that ends afterwards: kombu would be a tenth of a worker's memory."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import NoReturn

from leveret.consumers.child.process import die_with_parent
from leveret.consumers.running import untouched
from leveret.consumers.worker import signals
from leveret.topology import errors
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings

_DONE = b"done"


def declare_apart(settings: Settings, queues: Sequence[WorkQueue]) -> list[str]:
    """Declare the queues with the standard library as it was before task modules were loaded.

    Returns and raises what declaring does, and raises `TopologyError` also when the process dies that declares.
    """
    if threading.active_count() > 1:  # a lock that one of them holds just now would stay locked in a fork
        patch_again = untouched.put_back()
        notes = _declare(settings, queues)
        patch_again()
        return notes
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals.stopping())  # it is the parent that speaks of them
    pid = untouched.fork()
    if pid == 0:
        _declare_and_exit(settings, queues, writing, mask)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    untouched.close(writing)
    with open(reading, "rb") as answer:  # noqa: PTH123 - it has no path
        said = answer.read()
    with contextlib.suppress(ChildProcessError):  # a task module waits for processes that are not its own
        untouched.waitpid(pid, 0)
    if said.startswith(_DONE):
        notes = json.loads(said.removeprefix(_DONE))
        return list(notes)
    if said:
        name, text = json.loads(said)
        raise getattr(errors, name)(text)
    raise errors.TopologyError(
        "the process that declares the queues died before it was done; what it said stands above. Start the worker "
        "again, or declare them with leveret declare and start it with --no-declare"
    )


def _declare_and_exit(
    settings: Settings, queues: Sequence[WorkQueue], writing: int, mask: set[signal.Signals | int]
) -> NoReturn:
    status = 1
    try:
        for number in signals.stopping():
            untouched.set_handler(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        die_with_parent()
        untouched.put_back()
        gc.disable()  # it would write into all pages that both processes share, and they would be copied
        try:
            said = _DONE + json.dumps(_declare(settings, queues)).encode()
        except errors.LeveretError as error:
            said = json.dumps([type(error).__name__, str(error)]).encode()
        os.write(writing, said)
        status = 0
    except BaseException:  # noqa: BLE001 - nobody above would print it
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(status)


def _declare(settings: Settings, queues: Sequence[WorkQueue]) -> list[str]:
    from leveret.topology.apply.declare import declare  # kombu

    return declare(settings, queues)
