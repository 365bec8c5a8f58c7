"""How a delivery ended, as facts; `verdict` says what follows from them."""

from __future__ import annotations

import enum
import inspect
import os
import sysconfig
import traceback
from types import TracebackType
from typing import Any, NamedTuple

_LONGEST_MESSAGE_BYTES = 1024
_LONGEST_TRACEBACK_BYTES = 4096  # message headers must fit into one AMQP frame (128 KiB)
_ELLIPSIS_BYTES = len("…".encode())
LONGEST_CUT_BYTES = _LONGEST_MESSAGE_BYTES + _ELLIPSIS_BYTES
"""No text but a traceback is longer once it was cut, nor the name of a task, even one that no task has."""
_QUALNAME: Any = vars(type)["__qualname__"]
_TRACEBACK: Any = vars(BaseException)["__traceback__"]
_LIBRARIES = (*(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")), "<")


class Ending(enum.IntEnum):
    """The ways a delivery can end, as far as the worker can tell."""

    RETURNED = 0
    RAISED = 1
    REJECTED = 2
    UNKNOWN_TASK = 3
    WRONG_ARGUMENTS = 4
    UNREADABLE = 5
    OVERRAN_TIME_LIMIT = 6
    PROCESS_DIED = 7
    DELIVERED_TOO_OFTEN = 8
    UNUSABLE_RESULT = 9
    CANCELLED = 10
    LATER = 11


class Failure(NamedTuple):
    """The reason of a failure. Equal failures share a `fingerprint`: the type and the innermost own frame."""

    type: str
    message: str
    traceback: str = ""
    fingerprint: str = ""


class Outcome(NamedTuple):
    """What happened to one delivery; `task` is empty when no name could be read."""

    ending: Ending
    task: str
    duration_seconds: float
    failure: Failure | None = None
    result: str | None = None
    """What it returned, as JSON, where the task is followed; of one that is to run later, the seconds until then."""


def overran(task: str, seconds: float, what: str) -> Outcome:
    """Return the outcome of an attempt that was ended for its time limit: it was killed, or cancelled."""
    text = f"the task overran its time limit and was {what} after {seconds:.1f} s"
    failure = Failure("TimeLimitExceeded", text, "", f"TimeLimitExceeded@{task}")
    return Outcome(Ending.OVERRAN_TIME_LIMIT, task, seconds, failure)


def failure_of(error: BaseException, skip_frames: int = 0) -> Failure:
    """Describe an exception; the outermost `skip_frames` of its traceback are the worker's own.

    Its class may be broken in any way: what it is called and where it was raised is read past what the class defines.
    """
    name = cut(_name_of(error))
    trace: TracebackType | None = _TRACEBACK.__get__(error)
    for _ in range(skip_frames):
        trace = trace.tb_next if trace else None
    try:
        message = cut(str(error))
    except BaseException as broken:  # noqa: BLE001 - a task's exception class may be broken in any way
        message = f"(its message cannot be shown: {_name_of(broken)})"
    return Failure(
        name,
        message,
        cut(_traceback(error, trace, message), _LONGEST_TRACEBACK_BYTES, keep_end=True) if trace else "",
        cut(f"{name}@{_own_place(traceback.extract_tb(trace))}"),
    )


def fitting(failure: Failure) -> Failure:
    """Return a failure that a child reported, cut like those that `failure_of` makes, which stay as they are."""
    kind, message, trace, fingerprint = failure
    return Failure(
        cut(kind, LONGEST_CUT_BYTES),
        cut(message, LONGEST_CUT_BYTES),
        cut(trace, _LONGEST_TRACEBACK_BYTES + _ELLIPSIS_BYTES, keep_end=True),
        cut(fingerprint, LONGEST_CUT_BYTES),
    )


def _name_of(error: BaseException) -> str:
    name: str = _QUALNAME.__get__(type(error))
    return name


def _traceback(error: BaseException, trace: TracebackType, message: str) -> str:
    try:
        shown = _stand_in(error, message) if inspect.isfunction(type(error).__str__) else error
        return "".join(traceback.format_exception(type(shown), shown, trace))
    except BaseException as broken:  # noqa: BLE001 - notes, a cause or a SyntaxError's text may be broken, too
        place = "".join(traceback.format_tb(trace))
        return f"{place}{_name_of(error)}: (it cannot be shown: {_name_of(broken)})\n"


def _stand_in(error: BaseException, message: str) -> BaseException:
    """Return an exception that is shown like this one, without asking this one again for its text."""
    kind = type(error)
    names = {"__module__": kind.__module__, "__qualname__": _name_of(error), "__str__": lambda _: message}
    shown: BaseException = type("StandIn", (Exception,), names)()
    shown.__cause__, shown.__context__ = error.__cause__, error.__context__
    shown.__suppress_context__ = error.__suppress_context__
    for note in getattr(error, "__notes__", ()):
        shown.add_note(note)
    return shown


def _own_place(frames: traceback.StackSummary) -> str:
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)] or list(frames)
    if not own:
        return "unknown"
    return f"{os.path.basename(own[-1].filename)}:{own[-1].name}"  # noqa: PTH119 - a code name, not a path


def cut(text: str, limit_bytes: int = _LONGEST_MESSAGE_BYTES, keep_end: bool = False) -> str:
    """Return the text cut to a size, and with everything in it that UTF-8 cannot carry escaped."""
    raw = str.encode(text, "utf-8", "backslashreplace")  # not by a method of a subclass of str
    if len(raw) <= limit_bytes:
        return raw.decode()
    if keep_end:
        return "…" + raw[-limit_bytes:].decode(errors="ignore")
    return raw[:limit_bytes].decode(errors="ignore") + "…"
