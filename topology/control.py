"""What is said to all workers at once, as it travels: cancels of tasks and pauses of queues.

They are messages on the exchange of control, and are kept by two streams: whoever reads these from the start knows all
that was said, also while no worker ran. What is broken or forged is refused here with the reason.

    {"version": 1, "cancel": ["0198…", …], "at": 1785585600.123, "by": "ops@desk", "reason": "wrong list"}
    {"version": 1, "pause": "mail", "at": 1785585600.123, "by": "ops@desk", "reason": "the relay is down"}
    {"version": 1, "resume": "mail", "at": 1785585600.123, "by": "ops@desk", "reason": ""}

So are pauses of schedules, but for where they are kept: in the queue of the schedules, until whoever fires takes them.

    {"version": 1, "pause_schedule": "digest", "at": 1785585600.123, "by": "ops@desk", "reason": "holidays"}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from leveret.topology.errors import MessageError, UnreadableMessage
from leveret.topology.message import check_id, check_name, read_json
from leveret.topology.message.bounds import excess
from leveret.topology.names import LONGEST_NAME_BYTES
from leveret.topology.printable import printable

VERSION = 1
MOST_IDS = 500
"""In one message."""
LONGEST_REASON_BYTES = 1000
REDRIVEN_AT = "redriven-at"
"""The header that says when a dead message was sent round again, in milliseconds of the epoch."""
_LARGEST_BODY_BYTES = 1024 * 1024
_CLOCKS_DIFFER_SECONDS = 5.0
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Command(NamedTuple):
    """Who said something to all workers, when (in seconds of the epoch), and why."""

    at: float
    by: str
    reason: str

    def __str__(self) -> str:
        return printable(f"by {self.by}: {self.reason}" if self.reason else f"by {self.by}")


def check_reason(reason: str) -> str:
    """Return the reason. Raises `MessageError` unless it is text of at most 1000 bytes."""
    if not isinstance(reason, str):
        raise MessageError(f"the reason {reason!r:.60} is no text")
    if (size := len(reason.encode(errors="replace"))) > LONGEST_REASON_BYTES:
        raise MessageError(f"the reason has {size:,} bytes, over the limit of {LONGEST_REASON_BYTES:,}; shorten it")
    return reason.encode(errors="replace").decode()


def write_cancels(ids: Sequence[str], command: Command) -> Iterator[bytes]:
    """Yield the bodies of the messages that cancel these tasks."""
    for first in range(0, len(ids), MOST_IDS):
        yield _write("cancel", ids[first : first + MOST_IDS], command)


def write_pause(queue: str, is_paused: bool, command: Command) -> bytes:
    """Return the body of the message that pauses a work queue, or has it go on."""
    return _write("pause" if is_paused else "resume", queue, command)


def read_cancel(body: bytes) -> tuple[list[str], Command]:
    """Return the ids that are cancelled. Raises `UnreadableMessage` saying what is wrong with the message."""
    match _read(body, "a cancel"):
        case {"cancel": list(ids)} as document if 0 < len(ids) <= MOST_IDS:
            try:
                return [check_id(one) for one in ids], _command_of(document)
            except MessageError as error:
                raise UnreadableMessage(f"a cancel: {error}") from error
    raise UnreadableMessage(f"a cancel needs version 1 and 1 to {MOST_IDS} ids")


def read_pause(body: bytes) -> tuple[str, bool, Command]:
    """Return the queue, and whether it is paused. Raises `UnreadableMessage` saying what is wrong with the message."""
    return _read_pause(body, "pause", "resume", "queue")


def write_schedule_pause(schedule: str, is_paused: bool, command: Command) -> bytes:
    """Return the body of the message that pauses a schedule, or has it go on."""
    return _write("pause_schedule" if is_paused else "resume_schedule", schedule, command)


def read_schedule_pause(body: bytes) -> tuple[str, bool, Command]:
    """Return the schedule, and whether it is paused. Raises `UnreadableMessage` saying what is wrong."""
    return _read_pause(body, "pause_schedule", "resume_schedule", "schedule")


def _read_pause(body: bytes, pause: str, resume: str, what: str) -> tuple[str, bool, Command]:
    document = _read(body, "a pause")
    whom = document.get(pause, document.get(resume))
    if not isinstance(whom, str) or not whom or (pause in document) == (resume in document):
        raise UnreadableMessage(f"a pause needs version 1 and either {pause} or {resume} with the name of a {what}")
    try:
        return check_name(whom, what), pause in document, _command_of(document)
    except MessageError as error:
        raise UnreadableMessage(f"a pause: {error}") from error


def is_older(properties: Any, command: Command) -> bool:
    """Whether a message was submitted, and redriven if it was, before a command: one that came later is a new wish.

    AMQP counts seconds and a publisher's clock may differ, so a message that is five seconds younger counts as older.
    """
    redriven = (properties.headers or {}).get(REDRIVEN_AT)
    if isinstance(redriven, int) and redriven > command.at * 1000:
        return False
    submitted = properties.timestamp
    return not (isinstance(submitted, int) and submitted > command.at + _CLOCKS_DIFFER_SECONDS)


def _write(what: str, whom: object, command: Command) -> bytes:
    return _encode({"version": VERSION, what: whom, **command._asdict()}).encode(errors="replace")


def _read(body: bytes, what: str) -> dict[str, Any]:
    if len(body) > _LARGEST_BODY_BYTES:
        raise UnreadableMessage(f"{what} has {len(body):,} bytes, over {_LARGEST_BODY_BYTES:,}")
    if too_much := excess(body):
        raise UnreadableMessage(f"{what}: {too_much}")
    try:
        document = read_json(body.decode())
    except (ValueError, RecursionError) as error:
        raise UnreadableMessage(f"{what} is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise UnreadableMessage(f"{what} is no object of version {VERSION}")
    return document


def _command_of(document: dict[str, Any]) -> Command:
    at, by, reason = document.get("at"), document.get("by", ""), document.get("reason", "")
    if type(at) not in (int, float) or not math.isfinite(at):  # type: ignore[arg-type]
        raise MessageError("it has no time")
    if type(by) is not str or len(by.encode(errors="replace")) > LONGEST_NAME_BYTES:
        raise MessageError("who said it is no text of a possible length")
    return Command(float(at), by, check_reason(reason))  # type: ignore[arg-type]
