"""Dead messages in files: written whole or not at all, checked whole before anything of them is published."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from leveret.producers.dead import written
from leveret.producers.dead.letters import DeadMessage, holding, publish
from leveret.producers.dead.reading import Read, read
from leveret.producers.dead.wanted import Wanted
from leveret.producers.dead.written import Line
from leveret.topology.errors import LeveretError, MessageError, SettingsError, Unwritable
from leveret.topology.link.outbox import Outbox, Outgoing
from leveret.topology.message import PERSISTENT, own_headers
from leveret.topology.names import LATER_LOST, Route
from leveret.topology.settings import Settings

_AT_ONCE = 500


@dataclass(frozen=True)
class Exported:
    """How many messages were written, and how many of the DLQ others held meanwhile, which were not."""

    count: int
    held_by_others: int


@dataclass(frozen=True)
class Imported:
    """What became of the lines of a file."""

    count: int
    already_there: int
    set_aside: Sequence[LeveretError]
    """Why these cannot be published."""
    held_by_others: int
    """Messages of the DLQs that could not be looked at: some of the lines may lie there, too."""


async def export(configured: Settings, queues: Sequence[str], out: BinaryIO, wanted: Wanted | None = None) -> Exported:
    """Write the dead messages of work queues to a file that is open, a line each; they stay where they are.

    Raises as `read` does, and `OSError` where it cannot be written.
    """
    chosen, count, held = wanted or Wanted(), 0, 0
    for queue in queues:

        def look(dead: DeadMessage, queue: str = queue) -> None:
            nonlocal count
            if chosen.takes(dead):
                out.write(written.write(queue, dead))
                count += 1

        seen: Read = await read(configured, queue, look)
        held += seen.held_by_others
    return Exported(count, held)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears when the block ends, in the place of a former one, and is on the disk by then.

    Raises `SettingsError` where it cannot be written; then a former one is as it was.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open_new(beside) as out:
            yield out
            sync(out)
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def open_new(path: Path) -> BinaryIO:
    """Create a file that only its user may read: bodies are for nobody else. Raises `OSError`, also if it is there."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def creating(path: Path) -> BinaryIO:
    """Create a file that is to hold what is discarded. Raises `SettingsError` where it cannot be, or is there."""
    try:
        return open_new(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be made: {error.strerror or error}; name another") from error


def keep_in(out: BinaryIO, path: Path, queue: str) -> Callable[[Sequence[DeadMessage]], None]:
    """Return what writes messages to this file, and returns when they are on the disk."""

    def keep(some: Sequence[DeadMessage]) -> None:
        try:
            out.write(b"".join(written.write(queue, dead) for dead in some))
            sync(out)  # in one piece, so that who is killed leaves whole lines
        except OSError as error:
            raise SettingsError(
                f"{path} cannot be written: {error.strerror or error}; what is discarded is in it, and the others lie "
                f"in {holding(queue)} still"
            ) from error

    return keep


def sync(out: BinaryIO) -> None:
    """See that what was written is on the disk."""
    out.flush()
    os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def lines_of(path: Path) -> Iterator[Line]:
    """Yield the messages of a file. Raises `MessageError` naming the first line that holds none."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield written.read(line)
            except MessageError as error:
                raise MessageError(
                    f"line {number} of {path} is no dead message: {error}; nothing was imported"
                ) from error


async def put_back(
    configured: Settings, path: Path, to: str = "", tell_of: Callable[[Line], None] = lambda _line: None
) -> Imported:
    """Publish the messages of a file to the DLQs in which they lay, or to that of the work queue `to`.

    The whole file is read before. What lies there already, with the same id and body, is left out, so that who was
    interrupted can do it again. `tell_of` is called with each that the broker has confirmed. Headers that only a broker
    may write are left out, too. Raises `MessageError` for a line that holds no message, `OSError` where the file cannot
    be read, and what publishing raises.
    """
    queues = sorted({to or line.queue for line in lines_of(path)})
    if LATER_LOST in queues:
        raise MessageError(
            f"{path} has messages of {LATER_LOST}, to which only the broker publishes; name a work queue, whose DLQ "
            "takes all of the file"
        )
    there: Counter[bytes] = Counter()
    held = 0
    for queue in queues:
        seen = await read(
            configured,
            queue,
            lambda dead, queue=queue: there.update([_mark(queue, dead.id, dead.body)]),  # type: ignore[misc]
        )
        held += seen.held_by_others
    outbox = Outbox(configured, "leveret dead import")
    count = left_out = 0
    set_aside: list[LeveretError] = []
    try:
        lines = lines_of(path)
        while some := list(islice(lines, _AT_ONCE)):
            going = []
            for line in some:
                mark = _mark(to or line.queue, line.properties.message_id, line.body)
                if there[mark]:
                    there[mark] -= 1
                    left_out += 1
                else:
                    going.append(line)
            outcomes = await asyncio.gather(*(publish(outbox, _outgoing(line, to)) for line in going))
            for line, error in zip(going, outcomes, strict=True):
                if error is None:
                    count += 1
                    tell_of(line)
                elif isinstance(error, Unwritable):
                    set_aside.append(error)
            for error in outcomes:
                if error and not isinstance(error, Unwritable):
                    raise error
    finally:
        await outbox.close()
    return Imported(count, left_out, set_aside, held)


def _outgoing(line: Line, to: str) -> Outgoing:
    properties = line.properties
    if properties.headers is not None:
        properties.headers = own_headers(properties.headers)
    properties.delivery_mode = PERSISTENT
    return Outgoing(Route.dead(to or line.queue), line.body, properties)


def _mark(queue: str, task_id: object, body: bytes) -> bytes:
    return hashlib.blake2b(f"{queue}\0{task_id or ''}\0".encode(errors="replace") + body, digest_size=16).digest()
