"""A task of the fault matrix that goes on telling how far it has come, side by side with others of its process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from leveret import current_attempt, progress, task
from tests.faults.logged import faults, logged

_STEP_SECONDS = 0.05
_STEPS_A_LOOK = 5


@task("faults.tell", queue=faults)
async def tell(until: str) -> None:
    """Tell of each step, with the task's own id as the note, until a file is there."""
    with logged(synced=False):
        step = 0
        while step % _STEPS_A_LOOK or not Path(until).exists():
            step += 1
            progress(step, None, current_attempt().id)
            await asyncio.sleep(_STEP_SECONDS)
