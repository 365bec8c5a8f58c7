"""A worker that is killed right after the broker confirmed its copy for the dead-letter queue, before it knows."""

from __future__ import annotations

import itertools
import os
import signal
import sys

from leveret import LeveretError
from leveret.__main__ import main
from leveret.topology.link.outbox import OnPublished, Outbox, Outgoing


def _arm() -> None:
    honest = Outbox.send
    confirms = itertools.count(1)
    last = int(os.environ["KILL_AT_CONFIRM"])

    def send(
        outbox: Outbox, outgoing: Outgoing, on_published: OnPublished, timeout_seconds: float | None = None
    ) -> None:
        def killed_or_told(error: LeveretError | None) -> None:
            if error is None and next(confirms) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            on_published(error)

        honest(outbox, outgoing, killed_or_told, timeout_seconds)

    Outbox.send = send  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    _arm()
    sys.exit(main(["run", *sys.argv[1:]]))
