"""Load the modules that --tasks names, which define tasks and work queues as they are imported."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from topology.errors import LeveretError, TaskModuleError


def add_option(parser: argparse.ArgumentParser, what: str, default: str) -> None:
    """Add the option `--tasks MODULE` to a command; what it gives, or else the default, is for `load`."""
    parser.add_argument("--tasks", action="append", metavar="MODULE", help=f"{what} (default: {default})")


def load(names: Iterable[str]) -> None:
    """Import each module, looking in the current folder too.

    Raises `TaskModuleError` naming the module, what it raised and where, in one line.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    for name in names:
        try:
            importlib.import_module(name)
        except KeyboardInterrupt:
            raise
        except LeveretError as error:
            raise TaskModuleError(f"--tasks {name}: {_said(error)}") from error
        except BaseException as error:  # whatever user code may raise
            raise TaskModuleError(f"--tasks {name} cannot be imported: {_explain(name, error)}") from error


def _explain(name: str, error: BaseException) -> str:
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if missing and (name == missing or name.startswith(f"{missing}.")):
        return f"there is no module {missing!r} on the path or in {Path.cwd()}"
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is ours
    in_module = [frame for frame in frames if "importlib" not in frame.filename]
    where = f" ({in_module[-1].filename}:{in_module[-1].lineno})" if in_module else ""
    said = " ".join(_said(error).split()) or "no message"
    return f"{type(error).__name__}: {said}{where}; fix the module, or name another"


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except (Exception, SystemExit) as broken:  # noqa: BLE001 - user code may be broken there, too
        return f"(its message cannot be shown: {type(broken).__name__})"
