"""The sample job: the most common words of a book, without stop words, saved to a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import quote

from leveret.consumers.samples.save import save
from leveret.consumers.tasks.attempt import current_attempt
from leveret.consumers.tasks.defining import task
from leveret.consumers.tasks.errors import OutsideTask, Reject
from leveret.producers.examples import samples
from leveret.topology import settings

_MOST_WORDS = 100_000
_LONGEST_ID_IN_NAME = 100


@task("words.count", queue=samples.words, time_limit=300)
def count(book: str, top: int = 20, tokenizer: str = "words") -> None:
    """Count the words of a text in DATA_DIR and save the `top` most common ones to OUTPUT_DIR.

    `tokenizer` is "words" (nltk's, case folded) or "split" (plain whitespace splitting). The file is named
    after the book and the task's id and written atomically, so running twice leaves the same single file. It also
    says which list of stop words was used.
    """
    from leveret.consumers.samples import counting  # nltk; who only submits does without

    configured = settings.current()
    text = _read(configured.data_dir, book)
    used = counting.stop_words(configured.data_dir)
    try:
        counts = counting.count_words(text, tokenizer, used.words)
    except ValueError as error:
        raise Reject(str(error)) from error
    document = {"book": book, "stop_words": used.source, "words": dict(counts.most_common(_checked(top)))}
    name = f"{Path(book).name}_{_file_name(_task_id())}.json"
    save(configured.output_dir, name, json.dumps(document, ensure_ascii=False, indent=1))


def _task_id() -> str:
    try:
        return current_attempt().id
    except OutsideTask:  # it is called directly
        return "direct"


def _file_name(task_id: str) -> str:
    """Return the id as part of a file name; whoever publishes may choose any id."""
    name = quote(task_id, safe="")
    return name if len(name) <= _LONGEST_ID_IN_NAME else hashlib.sha256(task_id.encode()).hexdigest()


def _checked(top: int) -> int:
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= _MOST_WORDS:
        raise Reject(f"top is {top!r}; give a number from 1 to {_MOST_WORDS}")
    return top


def _read(data_dir: Path, book: str) -> str:
    if not isinstance(book, str) or not book or "\0" in book:
        raise Reject(f"book is {book!r}; name a text in {data_dir}")
    path = (data_dir / book).resolve()
    if not path.is_relative_to(data_dir.resolve()):
        raise Reject(f"book {book!r} lies outside {data_dir}; only texts in it are read")
    return path.read_text(encoding="utf-8-sig")
