"""How many seconds the tasks of each queue take of late."""

from __future__ import annotations

_PACE_STEP = 1.25
_SHORTEST_PACE_SECONDS = 1e-6
_UNKNOWN_PACE_SECONDS = 1.0


class Paces:
    """How many seconds the tasks of each queue take of late."""

    def __init__(self) -> None:
        self._paces: dict[str, float] = {}

    def of(self, queue: str) -> float:
        """Return the pace of a queue; a long time while nothing is known."""
        return self._paces.get(queue, _UNKNOWN_PACE_SECONDS)

    def note(self, queue: str, seconds: float) -> None:
        """Follow the median: each outcome moves the pace one step, so a few slow tasks among many do not count."""
        pace = self._paces.get(queue)
        if pace is None:
            self._paces[queue] = max(seconds, _SHORTEST_PACE_SECONDS)
        else:
            self._paces[queue] = max(pace * _PACE_STEP if seconds > pace else pace / _PACE_STEP, _SHORTEST_PACE_SECONDS)
