"""The books to count: four from a folder, or made of the sample texts, repeated until they are as long as novels."""

from __future__ import annotations

from pathlib import Path

from benchmarks.environment import CHECKOUT
from benchmarks.processes import Failed

BOOKS = 4
_NOVEL_BYTES = 500_000


def books_in(folder: Path | None, made: Path) -> list[Path]:
    """Return four books; those that have to be made are put into `made`. Raises `Failed`."""
    shared = CHECKOUT.parent / "shared" / "books"
    if folder is None and not shared.is_dir():
        return [_repeated(text, made) for text in sorted((CHECKOUT / "data").glob("*.txt"))[:BOOKS]]
    found = sorted((folder or shared).resolve().glob("*.txt"))[:BOOKS]
    if len(found) < BOOKS:
        raise Failed(f"there are {len(found)} *.txt in {folder or shared}, {BOOKS} are needed")
    return found


def _repeated(text: Path, folder: Path) -> Path:
    content = text.read_text(encoding="utf-8")
    book = folder / text.name
    book.write_text(content * (_NOVEL_BYTES // len(content) + 1), encoding="utf-8")
    return book
