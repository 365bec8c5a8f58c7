"""Load the modules that define tasks and work queues as they are imported."""

from __future__ import annotations

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

import leveret
from leveret.command import streams
from leveret.topology import queues
from leveret.topology.errors import LeveretError, SettingsError, TaskModuleError
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings

_MOST_FRAMES = 5
_LIBRARIES = tuple(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib"))
_OURS = str(Path(leveret.__file__).parent)


def named(given: Sequence[str], configured: Settings) -> tuple[str, ...]:
    """Return the modules to load: those given with --tasks, or else those that are set."""
    return tuple(given) or configured.tasks


def load(names: Iterable[str]) -> None:
    """Import each module, looking in the current folder too.

    Raises `TaskModuleError` naming the module, what it raised, and the lines of its own that led there.
    """
    try:
        here = str(Path.cwd())
    except FileNotFoundError as error:
        raise TaskModuleError("the current folder was deleted; cd into one that is there") from error
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    for name in names:
        _check(name)
        try:
            with streams.kept():
                importlib.import_module(name)
        except KeyboardInterrupt:
            raise
        except LeveretError as error:
            raise TaskModuleError(f"--tasks {name}: {_said(error)}{_own_lines(error)}") from error
        except BaseException as error:  # whatever user code may raise
            raise TaskModuleError(f"--tasks {name} cannot be imported: {_explain(name, error)}") from error


def load_own(given: Sequence[str], configured: Settings, verb: str) -> None:
    """Load the modules of a project, which have to bring a queue. Raises `click.UsageError` where none is named."""
    names = named(given, configured)
    if not names:
        raise click.UsageError(f"no task module is named; name yours: leveret {verb} -a my_app")
    load(names)
    check_has_queue(names, queues.known())


def check_has_queue(names: Iterable[str], found: Sequence[WorkQueue]) -> None:
    """Raise `SettingsError` if these modules brought no queue."""
    if not found:
        raise SettingsError(f"{', '.join(names)} defines no work queue; make one: mail = WorkQueue('mail')")


def _check(name: str) -> None:
    """Refuse what no import statement could name, above all a file's name."""
    if all(part.isidentifier() for part in name.split(".")) and not name.endswith(".py"):
        return
    module = name.removeprefix("./").removesuffix(".py").strip("/").replace("/", ".")
    is_name = all(part.isidentifier() for part in module.split("."))
    hint = f"did you mean {module!r}?" if is_name else "write it as an import statement does"
    raise TaskModuleError(f"--tasks takes the name of a module, and {name!r} is none; {hint}")


def _explain(name: str, error: BaseException) -> str:
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if missing and (name == missing or name.startswith(f"{missing}.")):
        return f"there is no module {missing!r} on the path or in {Path.cwd()}"
    said = " ".join(_said(error).split()) or "no message"
    return f"{type(error).__name__}: {said}; fix the module, or name another{_own_lines(error)}"


def _own_lines(error: BaseException) -> str:
    """Return the traceback as far as it is the user's: without ours, and without Python's own importing."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not (
            "importlib" in frame.filename or frame.filename.startswith(("<string>", "<frozen ", f"{_OURS}/command"))
        )
    ]
    while frames and frames[-1].filename.startswith(_OURS):
        frames.pop()  # it is raised in here, of what the module says
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)] or frames
    lines = "".join(traceback.format_list(own[-_MOST_FRAMES:])).splitlines()
    return "".join(f"\n  {line.rstrip()}" for line in lines)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except (Exception, SystemExit) as broken:  # noqa: BLE001 - user code may be broken there, too
        return f"(its message cannot be shown: {type(broken).__name__})"
