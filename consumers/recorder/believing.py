"""What of an event is believed and kept: values that can be, and texts of bounded length."""

from __future__ import annotations

from typing import Any

from leveret.topology.events import Event, Kind, Told
from leveret.topology.names import LONGEST_NAME_BYTES

_LATEST = 1e11
"""Seconds of the epoch, some thousands of years ahead; larger numbers overflow here and there."""
_MOST_ATTEMPTS = 1_000_000
_MOST_DROPPED = 2**53
_LONGEST = {"message": 16 * 1024, "traceback": 64 * 1024}
_LONGEST_TEXT = 1024
_BARE = frozenset({Kind.SUBMITTED, Kind.STARTED, Kind.SUCCEEDED, Kind.LOG})
"""Kinds without texts that are to be cut."""


def can_be_stored(body: bytes, told: Told) -> bool:
    """Whether a database takes the texts of a message: neither NUL nor half of a surrogate pair stands in them."""
    if b"\\u" not in body:
        return True
    texts = [told.task, *(text for event in told.events for text in (event.get("queue"), event.get("result")))]
    return all(map(_is_text, (text for text in texts if text)))


def _is_text(text: str) -> bool:
    try:
        return "\0" not in text and bool(text.encode())
    except UnicodeEncodeError:
        return False


def is_plausible(event: Event) -> bool:
    """Whether the numbers and names of an event can be true."""
    return (
        0 <= event["at"] < _LATEST
        and 0 <= event.get("attempt", 0) <= _MOST_ATTEMPTS
        and 0 <= event.get("of", 0) <= _MOST_ATTEMPTS
        and 0 <= event.get("dropped", 0) <= _MOST_DROPPED
        and len(event.get("queue", "")) <= LONGEST_NAME_BYTES
    )


def bounded(kind: Kind, event: Event) -> Event:
    """Return the event with its long texts cut; a traceback loses its beginning, for its end says what happened."""
    if kind in _BARE:
        return event
    return {name: _cut(name, value) for name, value in event.items()}


def _cut(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {inner: _cut(inner, text) for inner, text in value.items()}
    if not isinstance(value, str):
        return value
    longest = _LONGEST.get(name, _LONGEST_TEXT)
    return value[-longest:] if name == "traceback" else value[:longest]
