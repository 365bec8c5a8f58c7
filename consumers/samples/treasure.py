"""The treasure hunt: one of many files holds the treasure, and each file is searched by a task of its own.

The task that finds it writes `found.json` into the hunt's folder; tasks that come later see that and end at once.
"""

from __future__ import annotations

import json
from pathlib import Path

from leveret.consumers.samples.save import save
from leveret.consumers.tasks.defining import task
from leveret.consumers.tasks.errors import Reject
from leveret.producers.examples import samples
from leveret.topology import settings


@task("treasure.search", queue=samples.treasure, time_limit=60)
def search(hunt: str, file: str) -> None:
    """Look for the treasure in one file of a hunt, unless it has been found already."""
    output_dir = settings.current().output_dir
    try:
        folder = samples.hunt_folder(output_dir, hunt)
    except ValueError as error:
        raise Reject(str(error)) from error
    if folder.resolve() != output_dir.resolve() / folder.relative_to(output_dir):
        raise Reject(f"hunt {hunt!r} is not searched: {folder} leads elsewhere by a link; remove that")
    found = folder / samples.FOUND_FILE
    if found.exists():
        return
    path = _file_of(folder, file)
    if path is None:
        raise Reject(f"{file!r} is no file of hunt {hunt!r}; name one without a folder")
    if samples.TREASURE in path.read_text(encoding="utf-8"):
        save(output_dir, found.relative_to(output_dir), json.dumps({"file": file}))


def _file_of(folder: Path, file: str) -> Path | None:
    """Return the path of a file that lies in the folder itself; None for any other name, or a link out of it."""
    if not isinstance(file, str) or "\0" in file or Path(file).name != file:
        return None
    path = (folder / file).resolve()
    return path if path.parent == folder.resolve() else None
