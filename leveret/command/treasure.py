"""Hide a treasure in one of many files and have workers search them, one task a file."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import click
from tqdm import tqdm

from leveret.command.ending import tell
from leveret.command.verb import Verb, note
from leveret.producers.examples import samples
from leveret.producers.examples.treasure import hide, searches
from leveret.producers.publisher import Publisher
from leveret.topology import settings
from leveret.topology.errors import SettingsError
from leveret.topology.link import default_broker
from leveret.topology.message import new_id

_EXIT_NOT_FOUND = 4
_MOST_FILES = 1_000_000
_LOOK_SECONDS = 0.05


class _Seconds(click.ParamType[float]):
    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


@click.command(
    "treasure",
    cls=Verb,
    help="Hide a treasure in one of many files under OUTPUT_DIR, submit one search task a file, and wait until a "
    "worker has found it. Prints the file. Searches stop early once it is found.",
    examples="""
leveret run treasure &
leveret treasure --files 10000
""",
    statuses="Exit status: 0 found; 1 could not submit; 2 wrong usage; 4 not found in time",
)
@click.option("--files", type=click.IntRange(1, _MOST_FILES), default=1000, show_default=True, help="How many files.")
@click.option(
    "--timeout", type=_Seconds(), default=60.0, metavar="SECONDS", show_default=True, help="How long to wait."
)
def verb(files: int, timeout: float) -> int:
    """Hunt."""
    configured = default_broker.resolve(settings.load())
    hunt = new_id()
    folder = samples.hunt_folder(configured.output_dir, hunt)
    try:
        hide(folder, files)
    except OSError as error:
        raise SettingsError(f"cannot make files in OUTPUT_DIR {configured.output_dir}: {error}") from error
    note(f"hid a treasure in one of {files} files in {folder}")
    with Publisher(configured) as publisher:
        submitted = _submit(publisher, hunt, files, folder / samples.FOUND_FILE)
    note(f"submitted {submitted} searches")
    return _wait(folder / samples.FOUND_FILE, timeout)


def _submit(publisher: Publisher, hunt: str, files: int, found: Path) -> int:
    submitted = 0
    with tqdm(total=files, unit=" files", disable=None, leave=False) as progress:
        for _, error in publisher.publish_many(searches(hunt, files, found)):
            if error:
                raise error
            submitted += 1
            progress.update()
    return submitted


def _wait(found: Path, timeout_seconds: float) -> int:
    deadline = time.monotonic() + timeout_seconds
    while not found.exists():
        if time.monotonic() > deadline:
            note(f"not found within {timeout_seconds:g} s; is a worker running? leveret run treasure")
            return _EXIT_NOT_FOUND
        time.sleep(_LOOK_SECONDS)
    tell(str(found.parent / json.loads(found.read_text(encoding="utf-8"))["file"]))
    return 0
