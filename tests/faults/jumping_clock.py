"""A worker whose wall clock jumps: it is off by up to an hour, by another amount every moment."""

from __future__ import annotations

import os
import random
import sys
import time

from leveret.__main__ import main

_EVERY_SECONDS = 0.2
_FARTHEST_SECONDS = 3600.0


def _jump() -> None:
    honest = time.time
    seed = os.environ["JUMPING_CLOCK_SEED"]

    def jumping() -> float:
        now = honest()
        dice = random.Random(f"{seed} {int(now / _EVERY_SECONDS)}")
        return now + dice.uniform(-_FARTHEST_SECONDS, _FARTHEST_SECONDS)

    time.time = jumping
    time.time_ns = lambda: int(jumping() * 1e9)


if __name__ == "__main__":
    _jump()
    sys.exit(main(["run", *sys.argv[1:]]))
