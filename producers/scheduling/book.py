"""The schedules of a scheduler: those of its modules, and those of the settings file as it is now."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from leveret.producers.scheduling import definition
from leveret.producers.scheduling.definition import Schedule
from leveret.producers.scheduling.from_file import merge, read_schedules
from leveret.topology.errors import SettingsError
from leveret.topology.settings.loading import file_path

_NO_SCHEDULES = (
    "there are no schedules; write one into leveret.toml ([schedules.digest], with task and cron), or define one in a "
    'task module: Schedule("digest", send.message(…), cron="0 7 * * *")'
)


class Book:
    """Reads the settings file when it is made, and again when the file has changed.

    Raises `SettingsError` when that cannot be read, one of its schedules cannot be, or there are none at all.
    """

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say
        self._seen = self._stamp()
        self.schedules: dict[str, Schedule] = _read()
        """By name."""
        if not self.schedules:
            raise SettingsError(_NO_SCHEDULES)

    def look(self) -> bool:
        """Read the file again if it has changed; whether the schedules have. A broken one is said once."""
        if (stamp := self._stamp()) == self._seen:
            return False
        self._seen = stamp
        try:
            schedules = _read()
        except SettingsError as error:
            self._say(logging.ERROR, f"{error}; the schedules go on as they were")
            return False
        former, self.schedules = self.schedules, schedules
        changed = sorted(
            {*schedules} ^ {*former}
            | {name for name, one in schedules.items() if name in former and not one.is_like(former[name])}
        )
        if not changed:
            return False
        self._say(logging.INFO, "the settings file has changed", schedules=len(schedules), changed=",".join(changed))
        return True

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = file_path(os.environ).stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino


def _read() -> dict[str, Schedule]:
    of_file, errors = read_schedules()
    if errors:
        more = f" (and {len(errors) - 1} more: leveret schedule check)" if len(errors) > 1 else ""
        raise SettingsError(f"{errors[0]}{more}")
    return merge(definition.known(), of_file)
