"""The word count: the right numbers, only from DATA_DIR, into exactly one file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import nltk
import pytest
from nltk.corpus.reader import WordListCorpusReader
from nltk.corpus.util import LazyCorpusLoader

from leveret.consumers.samples import counting, words
from leveret.consumers.tasks import attempt
from leveret.consumers.tasks.attempt import Attempt
from leveret.consumers.tasks.errors import Reject
from leveret.topology import settings

SHARED = settings.CHECKOUT.parent / "shared"
TOP_20 = SHARED / "books" / "top20-split.json"
BOOKS = ["dracula.txt", "frankenstein.txt", "heart-of-darkness.txt", "pride-and-prejudice.txt"]
STOP_WORDS = "nltk_data/corpora/stopwords/english"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """DATA_DIR and OUTPUT_DIR below a folder of this test; nothing was read of settings and stop words."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("OUTPUT_DIR", "output")
    monkeypatch.setattr(nltk.data, "path", [])
    fresh = LazyCorpusLoader("stopwords", WordListCorpusReader, r"(?!README|\.).*")
    monkeypatch.setattr(counting, "stopwords", fresh)
    monkeypatch.setattr(attempt, "_current", ContextVar("attempt"))
    for cached in (counting.stop_words, settings.current):
        cached.cache_clear()
    yield tmp_path
    for cached in (counting.stop_words, settings.current):
        cached.cache_clear()


def saved() -> dict[str, Any]:
    """What is in the one file that was saved."""
    [file] = Path("output").iterdir()
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def count(text: str, **options: Any) -> dict[str, int]:
    """The counts that counting this text saves."""
    Path("data/book.txt").write_text(text, encoding="utf-8")
    words.count("book.txt", **options)
    counts: dict[str, int] = saved()["words"]
    return counts


def test_words_are_folded_and_stop_words_left_out() -> None:
    """The default tokenizer counts words whatever their case, without punctuation, numbers and stop words."""
    text = "The Hare, the hare; HARE! and 42 other_things don't rabbit’s rabbit's Straße STRASSE"

    assert count(text) == {"hare": 3, "rabbit's": 2, "strasse": 2, "things": 1}


def test_split_leaves_words_as_they_stand() -> None:
    """The plain tokenizer splits at white space and knows stop words in lower case only."""

    assert count("The hare, the hare; Hare hare,", tokenizer="split") == {"hare,": 2, "The": 1, "hare;": 1, "Hare": 1}


def test_the_most_common_come_first() -> None:
    """The file holds the `top` most common words in falling order."""

    assert list(count("b b c x x x", top=2).items()) == [("x", 3), ("b", 2)]


def test_a_byte_order_mark_is_no_part_of_a_word() -> None:
    """A text saved by an editor that marks it is counted the same."""

    assert count("\N{ZERO WIDTH NO-BREAK SPACE}hare hare", tokenizer="split") == {"hare": 2}


@pytest.mark.skipif(not TOP_20.exists(), reason=f"{TOP_20} is not there")
@pytest.mark.parametrize("book", BOOKS)
def test_split_counts_the_real_books_exactly(book: str) -> None:
    """With nltk's own stop words in DATA_DIR the counts of four novels are the known ones, in order."""
    shutil.copy(SHARED / "books" / book, "data")
    Path("data/fetched", STOP_WORDS).parent.mkdir(parents=True)
    shutil.copy(SHARED / STOP_WORDS, Path("data/fetched", STOP_WORDS))
    words.count(book, tokenizer="split")
    expected = json.loads(TOP_20.read_text(encoding="utf-8"))[book]

    assert list(saved()["words"].items()) == list(expected.items())


def test_fetched_stop_words_win_over_the_shipped_ones() -> None:
    """Stop words that were fetched into DATA_DIR are the ones that count."""
    install(Path("data/fetched/nltk_data"), "hare")

    assert count("the hare") == {"the": 1}


def install(folder: Path, *stop_words: str) -> None:
    """Make a folder of nltk's data with these stop words."""
    file = folder / "corpora" / "stopwords" / "english"
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"{word}\n" for word in stop_words), encoding="utf-8")


def test_stop_words_of_this_machine_win_over_all_others(folder: Path) -> None:
    """Where nltk looks comes first, in its own order; then what was fetched; then the shipped list."""
    install(folder / "first", "hare")
    install(folder / "second", "fox")
    install(Path("data/fetched/nltk_data"), "the")
    nltk.data.path[:] = [str(folder / "none"), str(folder / "first"), str(folder / "second")]

    assert count("the hare, the fox") == {"the": 2, "fox": 1}
    assert saved()["stop_words"] == str(folder / "first/corpora/stopwords")


def test_an_archive_will_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nltk reads what was downloaded and not unpacked, where there is no other list."""
    monkeypatch.setattr(counting, "CHECKOUT", folder / "elsewhere")
    (folder / "usual/corpora").mkdir(parents=True)
    with zipfile.ZipFile(folder / "usual/corpora/stopwords.zip", "w") as archive:
        archive.writestr("stopwords/english", "hare\n")
    nltk.data.path[:] = [str(folder / "usual")]

    assert count("the hare") == {"the": 1}
    assert saved()["stop_words"].startswith(str(folder / "usual/corpora/stopwords.zip"))


def test_the_environment_says_where_nltk_looks_first(folder: Path) -> None:
    """NLTK_DATA holds for a worker as for every program that uses nltk."""
    install(folder / "own", "hare")
    install(Path("data/fetched/nltk_data"), "the")
    code = "from leveret.consumers.samples.words import count; count('book.txt')"
    Path("data/book.txt").write_text("the hare", encoding="utf-8")
    environment = {**os.environ, "NLTK_DATA": str(folder / "own"), "PYTHONPATH": str(settings.CHECKOUT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)

    assert saved()["words"] == {"the": 1}
    assert saved()["stop_words"] == str(folder / "own/corpora/stopwords")


@pytest.mark.parametrize("fetched", [True, False])
def test_the_result_says_what_was_counted_and_without_which_words(fetched: bool, folder: Path) -> None:
    """Book, list of stop words and counts, so that two results that differ explain themselves."""
    data = folder / "data" / "fetched" if fetched else settings.CHECKOUT / "data"
    if fetched:
        install(data / "nltk_data", "the")
    count("the hare")

    assert saved() == {
        "book": "book.txt",
        "stop_words": str(data / "nltk_data/corpora/stopwords/english"),
        "words": {"hare": 1},
    }


def test_without_any_stop_words_the_attempt_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting every word is not what was asked for; somebody may bring the list until the next attempt."""
    monkeypatch.setattr(counting, "CHECKOUT", folder / "elsewhere")

    with pytest.raises(FileNotFoundError, match="stopwords"):
        count("the hare")
    assert not Path("output").exists()
    install(Path("data/fetched/nltk_data"), "the")
    assert count("the hare") == {"hare": 1}


def test_the_file_is_named_after_book_and_task() -> None:
    """Running the same attempt twice leaves the same single file, readable by all, and no partial one."""
    attempt.begin(Attempt("id/1 é", 1, "words", "words.count"))
    count("hare")
    assert count("hare hare") == {"hare": 2}
    [file] = Path("output").iterdir()

    assert file.name == "book.txt_id%2F1%20%C3%A9.json"
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_text_in_a_folder_of_data_dir_is_fine() -> None:
    """Texts may lie deeper, and a link within DATA_DIR may lead to them."""
    Path("data/deep").mkdir()
    Path("data/deep/a.txt").write_text("hare", encoding="utf-8")
    Path("data/link.txt").symlink_to(Path("data/deep/a.txt").resolve())
    words.count("deep/a.txt")
    words.count("link.txt")

    assert sorted(path.name for path in Path("output").iterdir()) == ["a.txt_direct.json", "link.txt_direct.json"]


@pytest.mark.parametrize("book", ["../secret.txt", "deep/../../secret.txt", "@/secret.txt", "/etc/passwd", "link.txt"])
def test_a_path_out_of_data_dir_is_refused(book: str, folder: Path) -> None:
    """Neither `..`, nor an absolute path, nor a link leads outside; trying again could not help."""
    Path("secret.txt").write_text("secret", encoding="utf-8")
    Path("data/link.txt").symlink_to(folder / "secret.txt")

    with pytest.raises(Reject, match=r"lies outside .*/data; only texts in it are read"):
        words.count(book.replace("@", str(folder)))
    assert not Path("output").exists()


@pytest.mark.parametrize("task_id", ["../../escaped", "/escaped", "..", "a/../../../escaped", "x" * 255, "a\\b\n"])
def test_an_id_cannot_lead_out_of_output_dir(task_id: str, folder: Path) -> None:
    """Whoever publishes chooses the id, which is part of the file's name: the file stays in OUTPUT_DIR."""
    before = {path for path in folder.rglob("*") if not path.is_relative_to(folder / "output")}
    attempt.begin(Attempt(task_id, 1, "words", "words.count"))
    count("hare")
    after = {path for path in folder.rglob("*") if path.parent != folder / "output"}

    assert len(list(Path("output").iterdir())) == 1
    assert after - before <= {folder / "output", folder / "data" / "book.txt"}


def test_a_link_in_place_of_the_result_is_replaced(folder: Path) -> None:
    """Saving never writes through a link that lies where the result goes."""
    Path("precious.txt").write_text("precious", encoding="utf-8")
    Path("output").mkdir()
    Path("output/book.txt_direct.json").symlink_to(folder / "precious.txt")
    count("hare")

    assert Path("precious.txt").read_text(encoding="utf-8") == "precious"
    assert not Path("output/book.txt_direct.json").is_symlink()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"book": ""}, "book is ''; name a text in .*/data"),
        ({"book": None}, "book is None"),
        ({"book": 5}, "book is 5"),
        ({"book": ["a"]}, "book is"),
        ({"book": "a\0b"}, "book is 'a"),
        ({"top": 0}, "top is 0; give a number from 1 to 100000"),
        ({"top": -1}, "top is -1"),
        ({"top": 100_001}, "top is 100001"),
        ({"top": True}, "top is True"),
        ({"top": "5"}, "top is '5'"),
        ({"top": 1.5}, "top is 1.5"),
        ({"tokenizer": "magic"}, "tokenizer is 'magic'; there are 'words' and 'split'"),
        ({"tokenizer": None}, "tokenizer is None"),
    ],
)
def test_an_impossible_argument_is_rejected(arguments: dict[str, Any], reason: str) -> None:
    """What no retry could mend is rejected with what may be given."""
    Path("data/book.txt").write_text("hare", encoding="utf-8")

    with pytest.raises(Reject, match=reason):
        words.count(**{"book": "book.txt", **arguments})

    assert not Path("output").exists()


def test_a_missing_text_is_worth_a_retry() -> None:
    """A text that is not there yet may come; the attempt fails with its path."""
    with pytest.raises(FileNotFoundError, match=r"later\.txt"):
        words.count("later.txt")


def test_an_output_that_cannot_be_written_fails_the_attempt() -> None:
    """A file in place of the output folder is an ordinary failure, and the text is untouched."""
    Path("output").write_text("in the way", encoding="utf-8")
    Path("data/book.txt").write_text("hare", encoding="utf-8")

    with pytest.raises(OSError, match="output"):
        words.count("book.txt")
    assert Path("output").read_text(encoding="utf-8") == "in the way"
