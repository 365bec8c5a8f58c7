"""The sample job: the most common words of a book, without stop words, saved to a file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import nltk
from nltk.corpus import stopwords
from nltk.tokenize import RegexpTokenizer

from consumers.attempt import current_attempt
from consumers.errors import Reject
from consumers.samples.save import save
from consumers.task import task
from topology import samples, settings

_MOST_WORDS = 100_000
_LONGEST_ID_IN_NAME = 100
_WORDS = RegexpTokenizer(r"[^\W\d_]+(?:'[^\W\d_]+)*")


@task("words.count", queue=samples.words, time_limit=300)
def count(book: str, top: int = 20, tokenizer: str = "words") -> None:
    """Count the words of a text in DATA_DIR and save the `top` most common ones to OUTPUT_DIR.

    `tokenizer` is "words" (nltk's, case folded) or "split" (plain whitespace splitting). The file is named
    after the book and the task's id and written atomically, so running twice leaves the same single file.
    """
    configured = settings.load()
    text = _read(configured.data_dir, book)
    counts = Counter(_words(text, tokenizer))
    attempt = current_attempt()
    name = f"{Path(book).name}_{_file_name(attempt.id) if attempt else 'direct'}.json"
    top_words = dict(counts.most_common(_checked(top)))
    save(configured.output_dir / name, json.dumps(top_words, ensure_ascii=False, indent=1))


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


def _words(text: str, tokenizer: str) -> Iterable[str]:
    stop_words = _stop_words()
    if tokenizer == "split":
        return (word for word in text.split() if word not in stop_words)
    if tokenizer == "words":
        plain = text.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        return (word for word in _WORDS.tokenize(plain) if word not in stop_words)
    raise Reject(f"tokenizer is {tokenizer!r}; there are 'words' and 'split'")


@lru_cache(maxsize=1)
def _stop_words() -> frozenset[str]:
    folders = (settings.load().data_dir / "fetched", settings.CHECKOUT / "data")
    nltk.data.path[:0] = [str((folder / "nltk_data").resolve()) for folder in folders]
    return frozenset(stopwords.words("english"))
