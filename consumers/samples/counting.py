"""Counting the words of a text with nltk, without its stop words. Loads nltk, so it is imported by who counts."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from nltk.corpus import stopwords
from nltk.tokenize import RegexpTokenizer

from leveret.topology.settings import CHECKOUT

_STOP_WORDS = "nltk_data/corpora/stopwords/english"
_WORDS = RegexpTokenizer(r"[^\W\d_]+(?:'[^\W\d_]+)*")


class StopWords(NamedTuple):
    """A list of stop words, and the folder or archive it was found in."""

    words: frozenset[str]
    source: str


def count_words(text: str, tokenizer: str, stop_words: frozenset[str]) -> Counter[str]:
    """Count the words. Raises `ValueError` for a tokenizer that is neither "words" nor "split"."""
    if tokenizer == "split":
        return Counter(word for word in text.split() if word not in stop_words)
    if tokenizer == "words":
        plain = text.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        return Counter(word for word in _WORDS.tokenize(plain) if word not in stop_words)
    raise ValueError(f"tokenizer is {tokenizer!r}; there are 'words' and 'split'")


@lru_cache(maxsize=1)
def stop_words(data_dir: Path) -> StopWords:
    """Return nltk's English stop words: those of this machine, else those that were fetched, else the shipped list.

    nltk looks in NLTK_DATA first, and then in the folders of the user and the system. Raises `OSError` when there are
    none at all.
    """
    try:
        return StopWords(frozenset(stopwords.words("english")), str(stopwords.root))
    except LookupError:
        fetched, shipped = (folder / _STOP_WORDS for folder in (data_dir / "fetched", CHECKOUT / "data"))
        # Read here, for nltk refuses folders that a group may write to, as they are in some clones.
        found = fetched if fetched.is_file() else shipped
        return StopWords(frozenset(found.read_text(encoding="utf-8").split()), str(found))
