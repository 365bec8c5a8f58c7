"""How every command of the project ends: its exit status, and one clear line for each error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from topology.errors import LeveretError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130  # what shells report of a command ended by Ctrl-C


def run(name: str, command: Callable[[], int]) -> int:
    """Run a command and return its exit status; its errors become one line on stderr that begins with its name."""
    try:
        status = command()
        sys.stdout.flush()
    except LeveretError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has left; the interpreter must not write to it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    return status
