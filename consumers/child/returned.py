"""What a followed task returned, for who waits for it."""

from __future__ import annotations

import time
from typing import Any

from leveret.consumers.child.outcome import Ending, Outcome, failure_of
from leveret.consumers.tasks.result import UnusableResult
from leveret.consumers.tasks.task import AnyTask

LARGEST_RESULT_BYTES = 1024 * 1024
"""Of a followed task's result. A report of one has room for it, however it has to be escaped."""


def succeeded(task: AnyTask, returned: Any, started: float) -> Outcome:
    """Return the outcome of a followed task that returned this; one that cannot be told has failed.

    Nothing is told of None, which who waits gets where no result is told.
    """
    seconds = time.monotonic() - started
    try:
        result = task.result.text(returned)
        if (size := len(result.encode())) > LARGEST_RESULT_BYTES:
            raise UnusableResult(
                f"the result is {size:,} bytes, over the limit of {LARGEST_RESULT_BYTES:,}; put large data into a "
                "file or a store and return its name"
            )
    except BaseException as error:  # noqa: BLE001 - also what a class of the result raises when it is read
        failure = failure_of(error, skip_frames=99)
        if isinstance(error, UnusableResult):
            failure = failure._replace(type="UnusableResult")
        return Outcome(Ending.UNUSABLE_RESULT, task.name, seconds, failure._replace(traceback=""))
    return Outcome(Ending.RETURNED, task.name, seconds, None, None if returned is None else result)
