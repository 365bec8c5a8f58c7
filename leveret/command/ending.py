"""How every command of the project ends and speaks: its exit status, its result, one clear line for each error."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from leveret.topology.errors import LeveretError
from leveret.topology.printable import printable, printable_lines

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_PARTLY = 3
EXIT_FAILED = 4
"""The task that was waited for has failed."""
EXIT_NOT_YET = 5
"""It has not ended in the time that was given."""
EXIT_INTERRUPTED = 130  # what shells report of a command ended by Ctrl-C

_has_failed = False  # whether stdout could not take something


def run(name: str, command: Callable[[], int]) -> int:
    """Run a command and return its exit status; its errors become one line on stderr that begins with its name."""
    global _has_failed
    _has_failed = False
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does with what its encoding has no character for
    try:
        if callable(signal.getsignal(signal.SIGINT)):
            signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on it is told, and cleared up after
        status = command()
        _write("")  # with what others have printed
    except LeveretError as error:
        print(printable_lines(f"{name}: {error}"), file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has left
        _discard_stdout()
        return EXIT_ERROR
    return status or (EXIT_ERROR if _has_failed else 0)


def tell(*lines: str) -> None:
    """Print lines of the command's result on stdout, at once. What is not printable in them is escaped.

    Where stdout is closed or full this and all that follows goes to stderr, and the command ends with `EXIT_ERROR`.
    """
    if sys.stdout is None:
        _use_stderr("it is closed")
    _write("".join(f"{printable(line)}\n" for line in lines))


def tell_json(row: Mapping[str, Any]) -> None:
    """Print an object of the command's result on stdout, as one line of JSON."""
    text = json.dumps(row, ensure_ascii=False, default=str)
    tell(text if text.isprintable() else json.dumps(row, default=str))  # escaped as JSON does it


def _write(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_stdout()
        _use_stderr(error.strerror or str(error))
        print(text, end="", flush=True)


def _use_stderr(reason: str) -> None:
    global _has_failed
    _has_failed = True
    print(f"standard output cannot be written: {reason}; what was meant for it follows here", file=sys.stderr)
    sys.stdout = sys.stderr


def _discard_stdout() -> None:
    """Lead stdout nowhere, for the interpreter writes what it still holds when it ends, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
