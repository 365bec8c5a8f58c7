"""What stdout is, for who shows something on it."""

from __future__ import annotations

import os
import shutil
import sys

PLAIN_WIDTH = 80
"""Columns that a table has where stdout is no terminal, and that every terminal is taken to have."""


def width() -> int:
    """Return how many columns there are."""
    return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if sys.stdout.isatty() else PLAIN_WIDTH


def may_colour() -> bool:
    """Whether it shows colours, and nobody has said that it must not."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
