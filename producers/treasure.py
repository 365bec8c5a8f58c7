"""Hide a treasure in one of many files and have workers search them, one task a file: see --help."""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from producers.publisher import Publisher
from topology import broker, samples, settings
from topology.command import run, tell
from topology.declare import declare
from topology.errors import SettingsError
from topology.message import TaskMessage, new_id

TASK = "treasure.search"
_EXIT_NOT_FOUND = 4
_MOST_FILES = 1_000_000
_LOOK_SECONDS = 0.05
_SAND = "sand " * 50 + "\n"


def hide(folder: Path, files: int) -> str:
    """Make the files, hide the treasure in one of them, and return that one's name."""
    folder.mkdir(parents=True)
    chosen = random.randrange(files)  # noqa: S311 - a game
    for number in range(files):
        text = _SAND + (f"{samples.TREASURE}\n" if number == chosen else "") + _SAND
        (folder / _name(number)).write_text(text, encoding="utf-8")
    return _name(chosen)


def _name(number: int) -> str:
    return f"{number:06d}.txt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    return run("producers.treasure", lambda: _hunt(options.files, options.timeout, options.no_declare))


def _hunt(files: int, timeout_seconds: float, no_declare: bool) -> int:
    configured = broker.resolve(settings.load())
    if not no_declare:
        declare(configured, [samples.treasure])
    hunt = new_id()
    folder = samples.hunt_folder(configured.output_dir, hunt)
    try:
        hide(folder, files)
    except OSError as error:
        raise SettingsError(f"cannot make files in OUTPUT_DIR {configured.output_dir}: {error}") from error
    print(f"hid a treasure in one of {files} files in {folder}", file=sys.stderr)
    with Publisher(configured) as publisher:
        submitted = _submit(publisher, hunt, files, folder / samples.FOUND_FILE)
    print(f"submitted {submitted} searches", file=sys.stderr)
    return _wait(folder / samples.FOUND_FILE, timeout_seconds)


def _submit(publisher: Publisher, hunt: str, files: int, found: Path) -> int:
    def messages() -> Iterator[TaskMessage]:
        for number in range(files):
            if number % 100 == 0 and found.exists():
                return  # stop early: the rest need not be searched
            yield TaskMessage.create(TASK, kwargs={"hunt": hunt, "file": _name(number)})

    submitted = 0
    with tqdm(total=files, unit=" files", disable=None, leave=False) as progress:
        for _, error in publisher.publish_many(messages()):
            if error:
                raise error
            submitted += 1
            progress.update()
    return submitted


def _wait(found: Path, timeout_seconds: float) -> int:
    deadline = time.monotonic() + timeout_seconds
    while not found.exists():
        if time.monotonic() > deadline:
            print(
                f"not found within {timeout_seconds:g} s; is a worker running? "
                "python -m consumers.run --queue treasure",
                file=sys.stderr,
            )
            return _EXIT_NOT_FOUND
        time.sleep(_LOOK_SECONDS)
    tell(str(found.parent / json.loads(found.read_text(encoding="utf-8"))["file"]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m producers.treasure",
        description="Hide a treasure in one of many files under OUTPUT_DIR, submit one search task a file, and wait "
        "until a worker has found it. Prints the file. Searches stop early once it is found.",
        epilog="examples:\n"
        "  python -m consumers.run --queue treasure &\n"
        "  python -m producers.treasure --files 10000\n\n"
        "exit status: 0 found; 1 could not submit; 2 wrong usage; 4 not found in time",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--files", type=_files, default=1000, metavar="N", help="how many files (default: 1000)")
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="how long to wait (default: 60)"
    )
    parser.add_argument(
        "--no-declare",
        action="store_true",
        help="declare nothing, for an account without the configure right",
    )
    return parser


def _files(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_FILES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MOST_FILES}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
