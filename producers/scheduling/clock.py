"""The clock that schedules go by: the machine's, but for jumps that have not lasted yet."""

from __future__ import annotations

import time
from collections.abc import Callable

_JUMP_SECONDS = 1.0
LASTING_SECONDS = 30.0


def _steady() -> float:
    """Return seconds that no jump changes, and that go on while the machine sleeps where it can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """Goes with the wall clock; where that jumps, with the steady one until the jump has lasted for 30 s.

    So a clock that is set wrong for a moment fires nothing. `say` is told of a jump, in words.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = _steady,
    ) -> None:
        self._say = say
        self._wall = wall
        self._steady = steady
        self._difference = wall() - steady()
        self._jumped: tuple[float, float] | None = None  # to which difference, and when

    def now(self) -> int:
        """Return the time in milliseconds of the epoch."""
        steady = self._steady()
        difference = self._wall() - steady
        if abs(difference - self._difference) <= _JUMP_SECONDS:
            self._difference, self._jumped = difference, None
        elif self._jumped is None or abs(difference - self._jumped[0]) > _JUMP_SECONDS:
            if self._jumped is None:
                self._say(
                    f"this machine's clock has jumped by {difference - self._difference:+.0f} s; schedules go on by "
                    f"the time before that, until it has lasted for {LASTING_SECONDS:g} s"
                )
            self._jumped = difference, steady
        elif steady - self._jumped[1] >= LASTING_SECONDS:
            self._say(f"the clock's jump by {difference - self._difference:+.0f} s has lasted; schedules go by it now")
            self._difference, self._jumped = difference, None
        return round((steady + self._difference) * 1000)
