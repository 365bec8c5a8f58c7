"""A producer that submits the messages of a file and is killed when one of them was published, or confirmed.

It goes on where an earlier one was killed: what is not in the log of submissions is submitted, under the same id.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import sys
from pathlib import Path

from leveret import Publisher, TaskMessage
from leveret.topology.link.outbox import Outbox
from tests.faults import records
from tests.faults.producing import submit_each

PUBLISHED, CONFIRMED = "published", "confirmed"


def _kill_after_publish(last: int) -> None:
    """Be killed when so many were handed to the network, before any answer to the last was read."""
    honest = Outbox._pump
    published = itertools.count(1)

    def pump(outbox: Outbox) -> None:
        before = len(outbox._unconfirmed)
        honest(outbox)
        if len(outbox._unconfirmed) > before and next(published) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    Outbox._pump = pump  # type: ignore[method-assign, assignment]


def _kill_at_confirm(last: int) -> None:
    """Be killed when the broker's word on so many has arrived, before it is heeded."""
    honest = Outbox.on_confirm
    confirms = itertools.count(1)

    def on_confirm(outbox: Outbox, last_tag: int, multiple: bool, refused: bool) -> None:
        if next(confirms) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        honest(outbox, last_tag, multiple, refused)

    Outbox.on_confirm = on_confirm  # type: ignore[method-assign, assignment]


def main() -> int:
    """Submit; returns 0 when all are in the log."""
    parser = argparse.ArgumentParser()
    parser.add_argument("messages", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--kill", choices=(PUBLISHED, CONFIRMED))
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--follow", action="store_true")
    options = parser.parse_args()
    if options.kill == PUBLISHED:
        _kill_after_publish(options.at)
    elif options.kill == CONFIRMED:
        _kill_at_confirm(options.at)
    known = {one.id for one in records.submissions(options.log)}
    lines = (json.loads(line) for line in options.messages.read_text().splitlines())
    left = [
        TaskMessage(task, body.encode(), task_id, follow=options.follow)
        for task, body, task_id in lines
        if task_id not in known
    ]
    with Publisher() as publisher:
        submit_each(publisher, options.log, left)
    return 0


if __name__ == "__main__":
    sys.exit(main())
