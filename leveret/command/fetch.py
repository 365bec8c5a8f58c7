"""Fetch four real books and nltk's own stop word list."""

from __future__ import annotations

from pathlib import Path

import click

from leveret.command.ending import EXIT_ERROR
from leveret.command.verb import Verb, note
from leveret.data.fetch import Source, fetch_all
from leveret.topology import settings


@click.command(
    "fetch",
    cls=Verb,
    help="Fetch four real books and nltk's English stop words into DATA_DIR. What is there already stays.",
    examples="""
leveret fetch                     fetch what is not there yet
leveret fetch --force             fetch everything again
leveret fetch --to ~/books        into another folder
DATA_DIR=~/books leveret fetch    the same, by a setting
""",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder to fetch into (default: DATA_DIR).",
)
@click.option("--force", is_flag=True, help="Fetch again what is already there.")
def verb(to: Path | None, force: bool) -> int:
    """Fetch what is missing."""
    folder = to.expanduser() if to else settings.load().data_dir
    try:
        failures = fetch_all(folder, force, Source(), say)
    except OSError as error:
        say(f"cannot write {error.filename}: {error.strerror}; make room there, or name another with --to")
        return EXIT_ERROR
    return EXIT_ERROR if failures else 0


def say(text: str) -> None:
    """Write one line on stderr, whatever a server's words contain."""
    note(f"leveret fetch: {text}")
