"""Text of others on its way to a terminal, a log or a page: what all of it goes through."""

from __future__ import annotations


def printable(text: object) -> str:
    """Return the text with line ends, terminal sequences and all else that is not printable escaped."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def printable_lines(text: object) -> str:
    """Return the text with its line ends, each line printable and all but the first indented.

    So no line of it can be taken for the beginning of another error or of another event of the log.
    """
    first, *rest = map(printable, str(text).split("\n"))
    indent = "" if all(line[:1] in ("", " ") for line in rest) else "  "
    return "\n".join([first, *(f"{indent}{line}" if line else "" for line in rest)])
