"""Submitting in a run: every outcome goes to the log of submissions before the next message is touched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from leveret import LeveretError, Publisher, Route, TaskMessage
from tests.faults.records import CONFIRMED, UNKNOWN, append


def submit_each(
    publisher: Publisher,
    log: Path,
    messages: Sequence[TaskMessage],
    pause_seconds: float = 0.0,
    route: Route | None = None,
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Submit one after the other. Ids whose submit returned are confirmed; the others are unknown."""
    for message in messages:
        if is_over():
            return
        try:
            publisher.publish(message, route)
        except LeveretError as error:
            append(log, message.id, UNKNOWN, f"{type(error).__name__}: {error}")
        else:
            append(log, message.id, CONFIRMED, "")
        time.sleep(pause_seconds)


class Load:
    """Messages submitted in a thread while something breaks. Leaving the block waits until all are submitted."""

    def __init__(self, publisher: Publisher, log: Path, messages: Sequence[TaskMessage], pause_seconds: float) -> None:
        self._cut = threading.Event()
        self._error: BaseException | None = None
        self._arguments = (publisher, log, messages, pause_seconds, None, self._cut.is_set)
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            self._cut.set()
        self.wait()

    def cut(self) -> None:
        """Submit nothing more."""
        self._cut.set()
        self.wait()

    def wait(self) -> None:
        """Wait until all are submitted."""
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            submit_each(*self._arguments)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
