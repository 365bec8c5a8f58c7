"""Fetches four real books and nltk's own stop word list: `leveret fetch`, and in a checkout `python -m data.fetch`.

The texts and stop words in git do for a first try, and fetching never replaces them: the books have
names of their own, and the fetched stop words go to `fetched/`.
"""

from __future__ import annotations

import http.client
import io
import os
import sys
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from tqdm import tqdm

BOOKS = {"pride-and-prejudice": 1342, "heart-of-darkness": 219, "frankenstein": 84, "dracula": 345}
NLTK_PACKAGES_URL = "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages"


@dataclass(frozen=True)
class Source:
    """Where the files come from and how much is taken from there; a test names a server of its own."""

    books_url: str = "https://www.gutenberg.org/cache/epub"
    stop_words_url: str = f"{NLTK_PACKAGES_URL}/corpora/stopwords.zip"
    timeout_seconds: float = 10.0
    max_bytes: int = 20_000_000


@dataclass(frozen=True)
class Wanted:
    """One file to fetch: its path below the folder, a word that must be in it, and what to do without it."""

    name: str
    url: str
    expected_word: str
    instead: str
    zip_member: str = ""


class FetchError(Exception):
    """One file could not be fetched; the text is the reason."""


class HostUnreachable(FetchError):
    """Nothing answers there, so asking the same host for the next file would only cost time."""


def wanted_files(source: Source, folder: Path) -> list[Wanted]:
    """Everything there is to fetch, the books first."""
    instead = f"put your own .txt files into {folder}"
    books = [
        Wanted(f"{title}.txt", f"{source.books_url}/{n}/pg{n}.txt", title.split("-")[-1], instead)
        for title, n in BOOKS.items()
    ]
    name, instead = "fetched/nltk_data/corpora/stopwords/english", "use the list in data/nltk_data"
    return [*books, Wanted(name, source.stop_words_url, "ourselves", instead, "stopwords/english")]


def download(wanted: Wanted, source: Source) -> bytes:
    """The whole answer, in memory: a download that breaks off leaves nothing on the disk."""
    request = urllib.request.Request(wanted.url, headers={"User-Agent": "leveret-data-fetch"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=source.timeout_seconds) as answer:  # noqa: S310
            return read_answer(answer, wanted.name, source.max_bytes)
    except HTTPError as error:
        with error:
            raise FetchError(f"the server answered {error.code} {error.reason}") from error
    except OSError as error:
        raise HostUnreachable(f"no answer ({getattr(error, 'reason', error)})") from error
    except http.client.HTTPException as error:
        raise FetchError(f"the answer is cut off or is not HTTP ({error!r})") from error


def read_answer(answer: http.client.HTTPResponse, name: str, max_bytes: int) -> bytes:
    """Reads piece by piece, so that an answer without an end is noticed while it comes."""
    if answer.status != http.client.OK:
        raise FetchError(f"the server answered {answer.status} {answer.reason}")
    promised_bytes = answer.length  # None if the server does not say; counts down as we read
    content, quiet = bytearray(), not sys.stderr.isatty()
    with tqdm(total=promised_bytes, desc=name, unit="B", unit_scale=True, disable=quiet) as bar:
        while chunk := answer.read(64 * 1024):
            content += chunk
            bar.update(len(chunk))
            if len(content) > max_bytes:
                raise FetchError(f"the answer is larger than {max_bytes:,} bytes, which this file is not")
    if promised_bytes is not None and len(content) < promised_bytes:  # http.client may keep quiet about it
        raise FetchError(f"the answer is cut off after {len(content):,} of {promised_bytes:,} bytes")
    return bytes(content)


def unzip(archive: bytes, member: str, max_bytes: int) -> bytes:
    """One member, by its exact name: no path from inside the archive ever reaches the disk."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened, opened.open(member) as file:
            content = file.read(max_bytes + 1)
    except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, EOFError) as error:
        raise FetchError(f"the answer is not a zip file with {member} in it ({error!r})") from error
    if len(content) > max_bytes:
        raise FetchError(f"{member} in the zip file is larger than {max_bytes:,} bytes")
    return content


def fetch(wanted: Wanted, target: Path, source: Source) -> None:
    """Downloads, checks and stores one file. A login page has status 200 too, hence the expected word."""
    content = download(wanted, source)
    if wanted.zip_member:
        content = unzip(content, wanted.zip_member, source.max_bytes)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FetchError(f"the answer is not UTF-8 text ({error})") from error
    if wanted.expected_word not in text.casefold():
        raise FetchError(f'the answer is some other text, without the word "{wanted.expected_word}"')
    store(content, target)


def store(content: bytes, target: Path) -> None:
    """The file appears complete or not at all, as a worker may be reading the folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def fetch_all(folder: Path, force: bool, source: Source, say: Callable[[str], None]) -> int:
    """Fetches what is missing, with a line for each file; the answer is the number of failures."""
    silent_hosts: set[str] = set()
    failures = 0
    for wanted in wanted_files(source, folder):
        target, host = folder / wanted.name, urlsplit(wanted.url).netloc
        if target.exists() and not force:
            say(f"{wanted.name} is already there; --force fetches it again")
            continue
        try:
            if host in silent_hosts:
                raise HostUnreachable(f"{host} did not answer before")
            fetch(wanted, target, source)
            say(f"fetched {wanted.name}, {target.stat().st_size:,} bytes")
        except FetchError as error:
            failures += 1
            step = "try again later"
            if isinstance(error, HostUnreachable):
                silent_hosts.add(host)
                step = "connect to a network"
            say(f"could not fetch {wanted.name} from {wanted.url}: {error}; {step}, or {wanted.instead}")
    return failures


if __name__ == "__main__":
    from leveret.__main__ import main

    sys.exit(main(["fetch", *sys.argv[1:]]))
