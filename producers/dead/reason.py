"""Why a message is dead, as its headers say it; anybody may have written them, so none of it is trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from leveret.producers.dead.letters import DeadMessage
from leveret.topology.errors import LeveretError
from leveret.topology.message import FAILURE_HEADERS, decode

UNKNOWN_TASK = "unknown"
_FINGERPRINT_DIGITS = 7


class Reason(NamedTuple):
    """Why a message is dead. What is not known is empty, or None; times are seconds of the epoch."""

    task: str
    kind: str
    """The exception's type, or what else has ended it: TimeLimitExceeded, UnreadableMessage, rejected, …"""
    message: str
    place: str
    """File and line of the innermost frame that is no library's; file and function where the line is not known."""
    traceback: str
    worker: str
    attempts: int | None
    first_at: float | None
    at: float | None

    @property
    def fingerprint(self) -> str:
        """Equal for messages that are dead for the same reason: `g` and seven digits, which no id begins with."""
        whole = "\0".join((self.task, self.kind, self.place)).encode(errors="replace")
        return f"g{hashlib.blake2b(whole, digest_size=8).hexdigest()[:_FINGERPRINT_DIGITS]}"


def reason_of(dead: DeadMessage) -> Reason:
    """Return why a message is dead; of one that the broker alone has moved, what the broker says."""
    headers: Mapping[Any, Any] = dead.properties.headers or {}

    def text(name: str) -> str:
        value = headers.get(FAILURE_HEADERS + name)
        return "" if value is None else str(value)

    death = _last_death(headers)
    attempts = headers.get(FAILURE_HEADERS + "attempts")
    trace = text("traceback")
    return Reason(
        text("task") or task_in(dead),
        text("type") or str(death.get("reason", "") or "no reason"),
        text("message"),
        _place(text("fingerprint"), trace),
        trace,
        text("worker"),
        int(attempts) if isinstance(attempts, int) and not isinstance(attempts, bool) else None,
        _seconds(text("first-time")),
        _seconds(text("time")) or _seconds_of_death(death),
    )


def task_in(dead: DeadMessage) -> str:
    """Return the task that the body names, by which workers will speak of it."""
    properties = dead.properties
    try:
        return decode(dead.body, properties.content_type, properties.content_encoding, len(dead.body)).task
    except LeveretError:
        return UNKNOWN_TASK


def _last_death(headers: Mapping[Any, Any]) -> Mapping[str, Any]:
    deaths = headers.get("x-death")
    first = deaths[0] if isinstance(deaths, list) and deaths else None
    return first if isinstance(first, dict) else {}


def _seconds_of_death(death: Mapping[str, Any]) -> float | None:
    at = death.get("time")
    return at.replace(tzinfo=UTC).timestamp() if isinstance(at, datetime) else None


def _seconds(iso: str) -> float | None:
    try:
        moment = datetime.fromisoformat(iso)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _place(fingerprint: str, trace: str) -> str:
    """Find the frame that the fingerprint names in the traceback: what is last there may be a library's."""
    file, colon, function = fingerprint.partition("@")[2].rpartition(":")
    if not colon or not file:  # it names a task
        return ""
    end = len(trace)
    while (at := trace.rfind(f'{file}", line ', 0, end)) >= 0:
        line, _, called = trace[at:].partition("\n")[0].rpartition(", line ")[2].partition(", in ")
        if called == function and line.isdecimal():
            return f"{file}:{line}"
        end = at
    return f"{file}:{function}"
