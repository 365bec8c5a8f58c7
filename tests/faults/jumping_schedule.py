"""A scheduler whose wall clock is as wrong as a file says: by how many seconds, none while there is no file."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

OFFSET_FILE = "JUMPING_SCHEDULE_OFFSET"


def _jump() -> None:
    honest, file = time.time, Path(os.environ[OFFSET_FILE])

    def jumping() -> float:
        return honest() + (float(file.read_text() or 0) if file.exists() else 0.0)

    time.time = jumping
    time.time_ns = lambda: int(jumping() * 1e9)


if __name__ == "__main__":
    _jump()
    from leveret.__main__ import main

    sys.exit(main(sys.argv[1:]))
