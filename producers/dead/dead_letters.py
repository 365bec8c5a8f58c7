"""The dead letters of a work queue, for programs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import TypedDict, Unpack

from leveret.producers.dead.discard import Discarded, discard
from leveret.producers.dead.files import Exported, Imported, creating, export, keep_in, put_back, whole
from leveret.producers.dead.groups import Groups, top
from leveret.producers.dead.redrive import Redriven, redrive
from leveret.producers.dead.wanted import Wanted
from leveret.topology import settings
from leveret.topology.link import default_broker
from leveret.topology.settings import Settings


class Filters(TypedDict, total=False):
    """Which messages are meant: all that is said here has to hold; see `Wanted`."""

    ids: Collection[str]
    tasks: Collection[str]
    kinds: Collection[str]
    group: str
    older_seconds: float
    newer_seconds: float
    text: str


class DeadLetters:
    """The messages in the DLQ of a work queue, worked from a program that runs no event loop.

    All methods take filters: `ids`, `tasks` and `kinds` (names, or patterns with `*`), `group`, `older_seconds`,
    `newer_seconds`, `text`. They raise `TopologyError` when the queue has no DLQ, and `BrokerError` or `PublishError`
    when the broker fails. Without settings those of the environment hold.
    """

    def __init__(self, queue: str, configured: Settings | None = None) -> None:
        self.queue = queue
        self._settings = default_broker.resolve(configured or settings.load())

    def groups(self, **filters: Unpack[Filters]) -> Groups:
        """Count them by task, exception and place; they stay as they are."""
        return asyncio.run(top(self._settings, self.queue, Wanted(**filters)))

    def redrive(
        self,
        *,
        most: int | None = None,
        per_second: float | None = None,
        to: str = "",
        dry_run: bool = False,
        **filters: Unpack[Filters],
    ) -> Redriven:
        """Send them round again, at most so many and no more per second, to another work queue where `to` names one."""
        wanted = Wanted(**filters)
        return asyncio.run(
            redrive(
                self._settings,
                self.queue,
                dry_run=dry_run,
                wanted=wanted,
                most=most,
                per_second=per_second,
                to=to,
            )
        )

    def discard(self, file: Path | str, **filters: Unpack[Filters]) -> Discarded:
        """Take them out of the DLQ, each into a new file first. Raises `SettingsError` where that cannot be written."""
        path = Path(file)
        with creating(path) as out:
            keep = keep_in(out, path, self.queue)
            return asyncio.run(discard(self._settings, self.queue, Wanted(**filters), keep))

    def export(self, file: Path | str, **filters: Unpack[Filters]) -> Exported:
        """Write them to a file; they stay where they are. Raises `SettingsError` where that cannot be written."""
        with whole(Path(file)) as out:
            return asyncio.run(export(self._settings, [self.queue], out, Wanted(**filters)))

    def put_back(self, file: Path | str) -> Imported:
        """Publish the messages of a file to this DLQ, but for those that lie there already.

        Raises `MessageError` for a file that holds anything else, and `OSError` where it cannot be read.
        """
        return asyncio.run(put_back(self._settings, Path(file), self.queue))
