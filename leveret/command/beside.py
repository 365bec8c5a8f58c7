"""A recorder beside a worker: a process of its own, which ends after the worker and never outlives it."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

from leveret.consumers import log

_ENDING_SECONDS = 30.0


@contextlib.contextmanager
def recorder(log_format: str, log_level: str) -> Iterator[None]:
    """Run a recorder meanwhile. A terminal's signals do not reach it: it has to write what the worker still tells."""
    command = [sys.executable, "-m", "leveret", "recorder", "--parent", str(os.getpid())]
    process = subprocess.Popen(
        [*command, "--log-format", log_format, "--log-level", log_level], stdin=subprocess.DEVNULL, process_group=0
    )
    try:
        yield
    finally:
        status = process.poll()
        if status is not None:
            log.event(logging.WARNING, f"the recorder of this worker had ended before it, with exit status {status}")
        else:
            process.terminate()
            try:
                process.wait(_ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
