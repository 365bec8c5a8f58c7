"""The kinds of tasks, by how many of them a process may run at once."""

from __future__ import annotations

import enum


class Kind(enum.Enum):
    """How a task shares its process with others."""

    PLAIN = enum.auto()
    """A plain function, which may compute and keep the process busy: one at a time."""
    ASYNC = enum.auto()
    """A function defined with `async def`: side by side with its like in one event loop."""
    THREADS = enum.auto()
    """A plain function whose author says that it may run in threads side by side."""
