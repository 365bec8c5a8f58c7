"""What a task tells of its progress, on its way to the board.

A thread or a process that an attempt has started, or left behind, does not tell of the one that runs in its place now.
"""

from __future__ import annotations

from collections.abc import Callable

from leveret.consumers.child.board import Board, Progress
from leveret.consumers.child.copies import copies
from leveret.consumers.tasks import progress
from leveret.consumers.tasks.attempt import Attempt

Where = tuple[int, int]
"""A place, and the number of the order that ran there when this was asked."""


def tell_on(board: Board, index: int, where: Callable[[Attempt], Where | None]) -> None:
    """Have the progress of this process told on the board; None is where an attempt is over."""

    def tell(attempt: Attempt, done: float, total: float | None, note: str) -> None:
        if copies.is_copy or not (found := where(attempt)):
            return
        place, number = found
        if board.number_in(index, place) == number:
            board.write_progress(index, number, Progress(done, total, note), place)

    progress.tell_by(tell)
