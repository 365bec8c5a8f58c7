"""Running a verb of the command `leveret` in this process, as a shell runs it in one of its own."""

from __future__ import annotations

import os
from typing import NoReturn
from unittest import mock

from leveret.command import main


def leveret(*arguments: str) -> int:
    """Run `leveret …` and return its exit status; capsys has what it says."""

    def end(status: int) -> NoReturn:
        raise AssertionError(f"leveret {' '.join(arguments)} would have ended this process with status {status}")

    with mock.patch.object(os, "_exit", end):
        return main(arguments)
