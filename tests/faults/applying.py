"""Applies the queues of the fault matrix; at a stage that is named it says so on stdout, and stands still.

It gives the stages on stderr, and in the end on stdout what it has moved.
"""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any

from leveret import LeveretError, apply
from leveret.topology.settings import load
from tests.faults.logged import faults

AT = "at the stage"


def main() -> int:
    """Apply; returns 0 when it is done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop-at", default="")
    options = parser.parse_args()

    def tell(stage: str, figures: dict[str, Any]) -> None:
        print(stage, figures, file=sys.stderr, flush=True)
        if stage == options.stop_at:
            print(AT, stage, flush=True)
            signal.pause()

    try:
        applied = apply(load(), [faults], tell=tell)
    except LeveretError as error:
        print(type(error).__name__, error, flush=True)
        return 1
    print([tuple(one) for one in applied.moved], [tuple(one) for one in applied.left], flush=True)
    return 1 if applied.left else 0


if __name__ == "__main__":
    sys.exit(main())
