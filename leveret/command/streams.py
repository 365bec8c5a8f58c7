"""The standard streams of a command, which a parent may have closed, and task modules may spoil."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_closed() -> None:
    """Lead standard streams that were closed nowhere, or a connection would get the number of one, and its text."""
    for descriptor, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            if not _is_open(descriptor):
                _put(os.open(os.devnull, os.O_RDWR), descriptor)
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115 - as long as the process


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Put back, afterwards, what task modules have closed, or replaced by what nothing can be written to."""
    copies = {descriptor: os.dup(descriptor) for descriptor in range(len(_STREAMS)) if _is_open(descriptor)}
    before = {name: getattr(sys, name) for name, _ in _STREAMS}
    try:
        yield
    finally:
        for descriptor, copy in copies.items():
            if _is_open(descriptor):
                os.close(copy)
            else:
                _put(copy, descriptor)
        for descriptor, (name, mode) in enumerate(_STREAMS):
            if mode == "w" and before[name] is not None and not _can_write(getattr(sys, name)):
                again = open(descriptor, mode, buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
                setattr(sys, name, before[name] if _can_write(before[name]) else again)


def _can_write(stream: object) -> bool:
    try:
        stream.write("")  # type: ignore[attr-defined]
        return callable(stream.flush)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - it may be anything
        return False


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _put(source: int, descriptor: int) -> None:
    """Give a descriptor another number, under which programs that are started inherit it."""
    if source != descriptor:
        os.dup2(source, descriptor)
        os.close(source)
    os.set_inheritable(descriptor, True)
