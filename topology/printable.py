"""Text of others on its way to a terminal, a log or a page: the one function that all of it goes through."""

from __future__ import annotations


def printable(text: object) -> str:
    """Return the text with line ends, terminal sequences and all else that is not printable escaped."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
