"""The shipped texts and stop words are fit for the sample task, and fetching more of them is safe."""

from __future__ import annotations

import io
import re
import socket
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations
from pathlib import Path

import pytest

from leveret.command import fetch as command
from leveret.data import fetch
from leveret.topology.settings import CHECKOUT
from tests.unit.commands import leveret

FOLDER = CHECKOUT / "data"
SHIPPED = [
    "bakers-letters.txt",
    "dry-dock-nine-manual.txt",
    "hares-of-long-barrow.txt",
    "lighthouse-log.txt",
    "the-clock-at-vellacott-street.txt",
]
BOOKS = [f"{title}.txt" for title in fetch.BOOKS]
STOP_WORDS = "fetched/nltk_data/corpora/stopwords/english"
CUT_OFF = b"<cut off>"


def shipped_stop_words() -> list[str]:
    """The stop word list in git, one entry for each line."""
    return (FOLDER / "nltk_data/corpora/stopwords/english").read_text(encoding="utf-8").splitlines()


def top_20(name: str) -> list[str]:
    """The 20 most common words of a shipped text, without stop words."""
    words = re.findall(r"\w+", (FOLDER / name).read_text(encoding="utf-8").casefold())
    stop_words = set(shipped_stop_words())
    return [word for word, _ in Counter(word for word in words if word not in stop_words).most_common(20)]


def zipped(member: str, content: bytes) -> bytes:
    """A zip file with one member, and one that tries to leave the folder."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(member, content)
        opened.writestr("../escaped.txt", "outside")
    return archive.getvalue()


def files_below(folder: Path) -> list[str]:
    """Every file below a folder, hidden and temporary ones included."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@dataclass
class Site:
    """A web server's pages by path, and the paths that were asked for."""

    pages: dict[str, bytes]
    asked: list[str]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server on this machine with all that is wanted, which the command fetches from; tests change its pages."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    pages = {
        f"/epub/{n}/pg{n}.txt": f"The eBook of {title.replace('-', ' ').title()}\n".encode()
        for title, n in fetch.BOOKS.items()
    }
    pages["/stopwords.zip"] = zipped("stopwords/english", b"i\nme\nourselves\n")
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path in pages else 404)
            page = pages.get(self.path, b"")
            promised_bytes = len(page) + page.count(CUT_OFF)  # one byte too many, for such a page
            self.send_header("Content-Length", str(promised_bytes))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            """Keeps quiet, as stderr is what the tests read."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        source = fetch.Source(f"{address}/epub", f"{address}/stopwords.zip", 5, max_bytes=10_000)
        monkeypatch.setattr(command, "Source", lambda: source)
        yield Site(pages=pages, asked=asked)
        server.shutdown()
        thread.join()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """What went to stderr since the last call, by line."""
    return lambda: capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_text_is_long_enough_to_count(name: str) -> None:
    """Each shipped text is UTF-8, has at least 2,000 words, a title and its permission."""
    title, permission, *rest = (FOLDER / name).read_text(encoding="utf-8").splitlines()

    assert title
    assert permission == "Written for this project; free to use."
    assert sum(len(line.split()) for line in rest) >= 2_000
    assert max(len(line) for line in rest) <= 80


def test_no_two_shipped_texts_have_the_same_table() -> None:
    """Any two texts share less than half of their 20 most common words."""
    shared = {(a, b): len(set(top_20(a)) & set(top_20(b))) for a, b in combinations(SHIPPED, 2)}

    assert {pair: count for pair, count in shared.items() if count >= 10} == {}


def test_nltk_finds_the_shipped_stop_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """nltk reads the list from the data folder, with no other place to look for it."""
    import nltk  # and with it numpy, which only the process that runs this test pays for
    from nltk.corpus.reader import WordListCorpusReader

    monkeypatch.setattr(nltk.data, "path", [str(FOLDER / "nltk_data")])
    reader = WordListCorpusReader(nltk.data.find("corpora/stopwords"), ["english"])

    assert reader.words("english") == shipped_stop_words()


def test_the_stop_words_are_in_order() -> None:
    """The list is lower case, sorted and free of duplicates, so that a change to it reads well."""
    words = shipped_stop_words()

    assert words == sorted({word.strip().lower() for word in words})
    assert {"the", "don't", "s", "t", "ll", "ve"} <= set(words)


def test_fetch_brings_everything(site: Site, tmp_path: Path, lines: Callable[[], list[str]]) -> None:
    """Four books and one member of the zip file arrive, and nothing else."""
    status = leveret("fetch", "--to", str(tmp_path))

    assert status == 0
    assert files_below(tmp_path) == sorted([*BOOKS, STOP_WORDS])
    assert (tmp_path / STOP_WORDS).read_bytes() == b"i\nme\nourselves\n"
    assert (tmp_path / "dracula.txt").read_bytes() == site.pages["/epub/345/pg345.txt"]
    assert len(lines()) == 5


def test_fetch_goes_where_the_setting_says(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DATA_DIR is the folder if --to names none."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))

    assert leveret("fetch") == 0
    assert (tmp_path / "dracula.txt").exists()


def test_fetch_skips_what_is_there(site: Site, tmp_path: Path) -> None:
    """A file that exists is neither asked for nor changed."""
    (tmp_path / "dracula.txt").write_text("my own copy", encoding="utf-8")

    assert leveret("fetch", "--to", str(tmp_path)) == 0
    assert (tmp_path / "dracula.txt").read_text(encoding="utf-8") == "my own copy"
    assert "/epub/345/pg345.txt" not in site.asked


def test_force_replaces_what_is_there(site: Site, tmp_path: Path) -> None:
    """With --force an existing file is replaced by a new download."""
    (tmp_path / "dracula.txt").write_text("my own copy", encoding="utf-8")

    assert leveret("fetch", "--to", str(tmp_path), "--force") == 0
    assert (tmp_path / "dracula.txt").read_bytes() == site.pages["/epub/345/pg345.txt"]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (None, "the server answered 404 Not Found"),
        (b"<title>Please log in</title>", 'without the word "dracula"'),
        (b"Dracula, by Bram Stoker \xe9", "the answer is not UTF-8 text"),
        (b"Dracula " * 2_000, "larger than 10,000 bytes"),
        (b"Dracula " + CUT_OFF, "the answer is cut off"),
    ],
    ids=["missing", "login page", "latin-1", "oversized", "cut off"],
)
def test_a_wrong_answer_is_refused(
    page: bytes | None, reason: str, site: Site, tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    """An answer that is not the book leaves no file, not even a part, and the other files still come."""
    del site.pages["/epub/345/pg345.txt"]
    if page is not None:
        site.pages["/epub/345/pg345.txt"] = page

    status = leveret("fetch", "--to", str(tmp_path))
    [line] = [line for line in lines() if "could not fetch" in line]

    assert status == 1
    assert files_below(tmp_path) == sorted({*BOOKS, STOP_WORDS} - {"dracula.txt"})
    assert "dracula.txt from http://127.0.0.1" in line
    assert reason in line
    assert "try again later, or put your own .txt files into" in line


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"ourselves", "not a zip file"),
        (zipped("stopwords/german", b"wir"), "not a zip file with stopwords/english in it"),
        (zipped("stopwords/english", b"der\ndie\n"), 'without the word "ourselves"'),
    ],
    ids=["no zip", "no such member", "other words"],
)
def test_a_wrong_zip_file_is_refused(
    archive: bytes, reason: str, site: Site, tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    """A zip file without the English list is refused, and nothing of it reaches the disk."""
    site.pages["/stopwords.zip"] = archive

    status = leveret("fetch", "--to", str(tmp_path))

    assert status == 1
    assert files_below(tmp_path) == sorted(BOOKS)
    assert reason in lines()[-1]


def test_a_zip_member_that_swells_is_refused() -> None:
    """The size limit holds for what comes out of a zip file, not only for the download."""
    swelling = io.BytesIO()
    with zipfile.ZipFile(swelling, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("stopwords/english", b"ourselves\n" * 100_000)

    with pytest.raises(fetch.FetchError, match="larger than 10,000 bytes"):
        fetch.unzip(swelling.getvalue(), "stopwords/english", max_bytes=10_000)


def test_a_failed_forced_fetch_keeps_the_old_file(site: Site, tmp_path: Path) -> None:
    """What was there stays when its replacement turns out to be wrong."""
    (tmp_path / "dracula.txt").write_text("my own copy", encoding="utf-8")
    site.pages["/epub/345/pg345.txt"] = b"<title>Please log in</title>"

    assert leveret("fetch", "--to", str(tmp_path), "--force") == 1
    assert (tmp_path / "dracula.txt").read_text(encoding="utf-8") == "my own copy"


def test_no_network_is_one_line_a_file(
    tmp_path: Path, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nothing answers, each file gets a line with its name, its address and what to do; status 1."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as bound:  # bound and not listening: a port at which connections are refused
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setattr(command, "Source", lambda: fetch.Source(f"{address}/epub", f"{address}/s.zip", 5))
        status = leveret("fetch", "--to", str(tmp_path))
    told = lines()

    assert status == 1
    assert files_below(tmp_path) == []
    assert len(told) == 5
    for name, line in zip([*BOOKS, STOP_WORDS], told, strict=True):
        assert line.startswith(f"leveret fetch: could not fetch {name} from {address}/")
        assert "connect to a network, or " in line
    assert "refused" in told[0]
    assert all("did not answer before" in line for line in told[1:])


@pytest.mark.usefixtures("site")
def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in place of the folder ends the command with one line that names it."""
    blocked = tmp_path / "blocked"
    blocked.touch()
    monkeypatch.setenv("DATA_DIR", str(blocked))

    assert leveret("fetch") == 1
    assert lines() == [
        f"leveret fetch: cannot write {blocked}: File exists; make room there, or name another with --to"
    ]
    assert leveret("fetch", "--to", str(blocked)) == 2
    assert lines() == [
        f"leveret fetch: invalid value for '--to': Directory '{blocked}' is a file; see leveret fetch --help"
    ]


def test_help_ends_in_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """The last lines of --help can be pasted."""
    assert leveret("fetch", "--help") == 0
    *_, examples, statuses = capsys.readouterr().out.rstrip().split("\n\n")

    assert examples.splitlines()[0] == "Examples:"
    assert [line.split("  ")[1] for line in examples.splitlines()[1:]] == [
        "leveret fetch",
        "leveret fetch --force",
        "leveret fetch --to ~/books",
        "DATA_DIR=~/books leveret fetch",
    ]
    assert statuses.startswith("Exit status: ")


def test_a_tilde_is_the_users_folder(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example holds where no shell has put the folder in its place."""
    monkeypatch.setenv("HOME", str(tmp_path))

    assert leveret("fetch", "--to", "~/books") == 0
    assert "/epub/345/pg345.txt" in site.asked
    assert (tmp_path / "books" / "dracula.txt").exists()
