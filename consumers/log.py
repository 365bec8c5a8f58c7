"""The worker's log: one line an event, on stderr, for people by default and as JSON on request.

Events are many thousands a second when tasks are tiny, so they do not take the long way through `logging`; what
tasks and libraries log does, and comes out in the same form.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from leveret.consumers.log_file import LogFile
from leveret.consumers.output import Output, copy_stderr, leads_to, listener_here
from leveret.consumers.tasks.attempt import attempt_here
from leveret.topology.printable import printable, printable_lines
from leveret.topology.traces import trace_here

_LEVEL_NAMES = {level: name.lower() for name, level in logging.getLevelNamesMapping().items()}
_is_plain = re.compile(r"[\w@.:/,+~-]+").fullmatch


class _Journal:
    """Where events go. What one turn of an event loop has to say is written together."""

    def __init__(self) -> None:
        self.as_json = False
        self.threshold = logging.INFO
        self.stream: Output | None = None
        """Where to, whatever became of `sys.stderr`; None where that is not an ordinary one."""
        self._lines: list[str] = []
        self._flush_soon: asyncio.Handle | None = None

    def write(self, line: str) -> None:
        self._lines.append(line)
        if self._flush_soon is None:
            try:
                self._flush_soon = asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:  # no loop runs
                self.flush()

    def flush(self) -> None:
        self._flush_soon = None
        lines, self._lines = self._lines, []
        stream = self.stream or sys.stderr
        stream.write("".join(lines))
        stream.flush()
        if self.stream and self.stream.raw.lost_bytes and (news := self.stream.settle()):
            event(logging.WARNING, news)


_journal = _Journal()


class _Formatter(logging.Formatter):
    """Gives records of `logging` the form of events."""

    def format(self, record: logging.LogRecord) -> str:
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        level, message = record.levelname.lower(), _message(record)
        here = attempt_here()
        whose = {"task": here.task, "id": here.id} if here else {}
        if trace_id := trace_here():
            whose["trace_id"] = trace_id
        if _journal.as_json:
            fields = {"logger": record.name, **whose, **({"traceback": trace} if trace else {})}
            return _as_json(record.created, level, message, fields)
        line = _as_text(record.created, printable(level), printable_lines(message), whose)
        return line + printable_lines(f"\n{trace}") if trace else line


class _Handler(logging.StreamHandler):  # type: ignore[type-arg,unused-ignore]
    """Writes records, and has who listens hear them."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if listener := listener_here():
            trace = "\n" + logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            listener.on_log(record.created, record.levelname.lower(), _message(record) + trace)
        return line


def _message(record: logging.LogRecord) -> str:
    """Return what was logged. `logging` itself would print the arguments that do not fit as they are."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - arguments are objects of user code
        why = traceback.format_exception_only(error)[-1].strip()
        text = record.msg if isinstance(record.msg, str) else f"something of type {type(record.msg).__name__}"
        return f"{text} (logged at {record.pathname}:{record.lineno} with arguments that do not fit: {why})"


def configure(as_json: bool, level: str = "INFO", directory: Path | None = None) -> None:
    """Send the log of this process, and of those it forks, to stderr, and with a directory also to a file of each.

    Raises `SettingsError` when no file can be made there.
    """
    _journal.as_json = as_json
    _journal.threshold = logging.getLevelNamesMapping()[level.upper()]
    if _journal.stream is None and leads_to(sys.stderr, 2):  # task modules may close it, or put another there
        _journal.stream = Output(os.dup(2), "the log", sys.stderr.encoding)
    if directory:
        copy_stderr(LogFile(directory, _news_line).write)
    handler = _Handler(_journal.stream or sys.stderr)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # what it reports reaches us as errors, said once
    for library in ("amqp", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)  # they tell of themselves at debug, not of tasks


def event(level: int, message: str, **fields: object) -> None:
    """Log one event with its fields, on one line whatever a client has put into them."""
    if level >= _journal.threshold:
        if _journal.as_json:
            line = _as_json(time.time(), _LEVEL_NAMES[level], message, fields)
        else:
            line = _as_text(time.time(), _LEVEL_NAMES[level], printable(message), fields)
        _journal.write(line + "\n")


def _news_line(message: str) -> bytes:
    level = _LEVEL_NAMES[logging.WARNING]
    line = _as_json if _journal.as_json else _as_text
    return f"{line(time.time(), level, printable(message), {})}\n".encode(errors="backslashreplace")


def event_with_id(level: int, before: str, value: str, after: str) -> None:
    """Log an event that is the same as others but for its id and its end; only where `writes_text` says so.

    `before` and `after` are what `text_of` has made of the rest, once for all of them.
    """
    if level >= _journal.threshold:
        shown = value if _is_plain(value) else _text(value)
        beginning = _beginning(int(time.time() * 1000), _LEVEL_NAMES[level], os.getpid())
        _journal.write(f"{beginning}{before}{shown}{after}\n")


def writes_text() -> bool:
    """Whether events are written for people, not as JSON."""
    return not _journal.as_json


def text_of(fields: Mapping[str, object]) -> str:
    """Return fields as they stand in a line."""
    return " ".join(
        f"{name}={value}"
        if type(value) is int or (type(value) is str and _is_plain(value))
        else f"{name}={_text(value)}"
        for name, value in fields.items()
        if value is not None and value != ""
    )


def is_logged(level: int) -> bool:
    """Whether events of this level are written."""
    return level >= _journal.threshold


def flush() -> None:
    """Write what is still to be written, before the process ends."""
    _journal.flush()


def _as_text(created: float, level: str, message: str, fields: Mapping[str, object]) -> str:
    shown = text_of(fields)
    line = _beginning(int(created * 1000), level, os.getpid()) + message
    return f"{line}  {shown}" if shown else line


def _as_json(created: float, level: str, message: str, fields: Mapping[str, object]) -> str:
    moment = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    document = {"time": moment, "level": level, "pid": os.getpid(), "message": message, **fields}
    return json.dumps(document, default=str)


@functools.lru_cache(maxsize=4)
def _beginning(millisecond: int, level: str, pid: int) -> str:
    return f"{_clock(millisecond // 1000)}.{millisecond % 1000:03d} {level:<7} [{pid}] "


@functools.lru_cache(maxsize=2)
def _clock(second: int) -> str:
    return datetime.fromtimestamp(second).strftime("%H:%M:%S")


def _text(value: object) -> str:
    if type(value) is float:
        return f"{value:.3f}"
    text = str(value)
    if _is_plain(text):
        return text
    if text.isprintable() and not any(character in text for character in ' "='):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
