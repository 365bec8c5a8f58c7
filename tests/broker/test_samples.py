"""The sample jobs through the broker: what lies in OUTPUT_DIR afterwards, whatever happened on the way."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leveret import Route
from leveret.producers.examples.samples import TREASURE, treasure, words
from leveret.topology.settings import CHECKOUT
from tests.broker.support import Vhost, Worker, Workers, await_value, run

SHARED = CHECKOUT.parent / "shared"
STOP_WORDS = Path("nltk_data/corpora/stopwords/english")
SAMPLES = ("leveret.consumers.samples",)


@pytest.fixture
def output(workers: Workers) -> Path:
    """Where this test's workers write."""
    return Path(workers.environment["OUTPUT_DIR"])


@pytest.fixture
def books(workers: Workers, tmp_path: Path) -> Path:
    """A DATA_DIR of the test's own, with the stop words as `leveret fetch` leaves them."""
    folder = tmp_path / "books"
    stop_words = folder / "fetched" / STOP_WORDS
    stop_words.parent.mkdir(parents=True)
    shutil.copy(CHECKOUT / "data" / STOP_WORDS, stop_words)
    workers.environment["DATA_DIR"] = str(folder)
    return folder


def names_in(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones included."""
    return sorted(path.name for path in folder.rglob("*")) if folder.is_dir() else []


def drain_words(workers: Workers) -> Worker:
    return workers.drain(queue="words", tasks=SAMPLES)


@pytest.mark.skipif(not (SHARED / "books").is_dir(), reason="the shared books are not here")
def test_main_job(vhost: Vhost, workers: Workers, books: Path, output: Path) -> None:
    """Counted by plain splitting, each book has exactly the twenty words on record, in their order."""
    expected = json.loads((SHARED / "books" / "top20-split.json").read_text())
    workers.environment["NLTK_DATA"] = str(SHARED / "nltk_data")  # comes before any other that this machine may have
    vhost.declare(words)
    for book in expected:
        shutil.copy(SHARED / "books" / book, books)
        vhost.publish_task(Route.topic("words.count"), "words.count", "the-id", book=book, top=20, tokenizer="split")

    worker = drain_words(workers)

    counted = {book: json.loads((output / f"{book}_the-id.json").read_text()) for book in expected}
    assert {book: list(saved["words"].items()) for book, saved in counted.items()} == {
        book: list(top.items()) for book, top in expected.items()
    }
    assert {book: saved["book"] for book, saved in counted.items()} == {book: book for book in expected}
    assert {saved["stop_words"] for saved in counted.values()} == {str((SHARED / STOP_WORDS).parent)}
    assert len(worker.find("done")) == len(expected)
    assert names_in(output) == sorted(f"{book}_the-id.json" for book in expected)
    assert vhost.counts(words) == {}


def test_same_message_twice(vhost: Vhost, workers: Workers, books: Path, output: Path) -> None:
    """A message that is delivered twice leaves the same single file as one that came once."""
    (books / "a.txt").write_text("hare hare tortoise")
    vhost.declare(words)
    for _ in range(2):
        vhost.publish_task(Route.direct("words"), "words.count", "the-id", book="a.txt")

    worker = drain_words(workers)

    assert len(worker.find("done", id="the-id")) == 2
    assert names_in(output) == ["a.txt_the-id.json"]
    saved = json.loads((output / "a.txt_the-id.json").read_text())
    assert "stopwords" in saved.pop("stop_words")
    assert saved == {"book": "a.txt", "words": {"hare": 2, "tortoise": 1}}


@contextlib.contextmanager
def _in_the_way(output: Path) -> Iterator[None]:
    output.write_text("a file where the folder should be")
    yield
    output.unlink()


@contextlib.contextmanager
def _read_only(output: Path) -> Iterator[None]:
    if os.geteuid() != 0:
        output.mkdir(mode=0o500)
        yield
        output.chmod(0o700)
        return
    with _tmpfs(output, "ro"):
        yield


@contextlib.contextmanager
def _disk_full(output: Path) -> Iterator[None]:
    with _tmpfs(output, "size=64k"):
        (output / "filler").touch()
        with contextlib.suppress(OSError), (output / "filler").open("wb") as filler:
            while True:
                filler.write(b"x" * 4096)
                filler.flush()
        yield


@contextlib.contextmanager
def _tmpfs(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "leveret-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a disk to fill")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (_in_the_way, "FileExistsError: [Errno 17]"),
        (_read_only, "[Errno "),
        (_disk_full, "OSError: [Errno 28] No space left on device"),
    ],
)
def test_output_cannot_be_saved(
    vhost: Vhost,
    workers: Workers,
    books: Path,
    output: Path,
    trouble: Callable[[Path], contextlib.AbstractContextManager[None]],
    reason: str,
) -> None:
    """A result that cannot be saved is a failed attempt with its reason and leaves no part; later it is saved."""
    (books / "a.txt").write_text(" ".join(f"word{'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10 % 10]}" for n in range(99)))
    vhost.declare(words)
    vhost.publish_task(Route.direct("words"), "words.count", "the-id", book="a.txt", top=1000)

    with trouble(output):
        before = names_in(output)
        worker = workers.start(queue="words", tasks=SAMPLES)
        retry = worker.await_event("retry", id="the-id", attempt=1, of=4)
        assert worker.stop() == 0
        assert reason in retry["error"]
        assert names_in(output) == before

    again = drain_words(workers)
    assert [event["id"] for event in again.find("done")] == ["the-id"]
    assert names_in(output) == ["a.txt_the-id.json"]
    assert vhost.counts(words) == {}


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_demo(vhost: Vhost, workers: Workers, output: Path, terminal: bool) -> None:
    """The demonstration ends with 0, shows each text's top words, as they were saved, and where RabbitMQ is."""
    command = [sys.executable, "-m", "leveret", "demo"]
    if terminal:
        status, shown = _run_on_a_terminal(command, workers.environment)
    else:
        ended = run("leveret", "demo", **workers.environment)
        status, shown = ended.returncode, ended.stdout

    assert status == 0, shown
    texts = sorted(path.name for path in (CHECKOUT / "data").glob("*.txt"))
    lines = shown.splitlines()
    for text in texts:
        (saved,) = output.glob(f"{text}_*.json")
        top = "  ".join(f"{word} {count}" for word, count in list(json.loads(saved.read_text())["words"].items())[:6])
        (line,) = [line for line in lines if line.startswith(f"  {text} ")]
        assert line.rstrip().endswith(top)
    assert len(names_in(output)) == len(texts)
    assert vhost.broker.management_url in shown
    assert "Traceback" not in shown
    assert vhost.counts(words) == {}


def _run_on_a_terminal(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run a command with a terminal as its stdin, stdout and stderr; returns its status and what it showed."""
    ours, its = pty.openpty()
    process = subprocess.Popen(command, env=environment, cwd=CHECKOUT, stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # Linux says EIO when the last writer has left
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    return process.wait(60), shown.decode()


def test_demo_interrupted(vhost: Vhost, workers: Workers, books: Path, output: Path) -> None:
    """Ctrl-C amid the demonstration leaves no process, and each text is either counted or still in its queue."""
    for number in range(60):
        (books / f"{number}.txt").write_text("the hare ran past the tortoise " * 200_000)
    demo = subprocess.Popen(
        [sys.executable, "-m", "leveret", "demo"],
        env=workers.environment,
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        await_value(lambda: list(output.glob("*.json")) or demo.poll() is not None, "the first book")
        os.killpg(demo.pid, signal.SIGINT)
        _, complaint = demo.communicate(timeout=60)
    finally:
        demo.kill()

    assert demo.returncode == 130, complaint
    assert "Traceback" not in complaint
    await_value(lambda: _session(demo.pid) == [], "the end of every process")
    counted = {path.name.partition("_")[0] for path in output.glob("*.json")}
    waiting = {json.loads(dead.body)["kwargs"]["book"] for dead in vhost.take(words.name)}
    assert counted
    assert waiting
    assert counted | waiting == {f"{number}.txt" for number in range(60)}
    assert vhost.counts(words) == {}


def _session(leader: int) -> list[str]:
    """Return the processes of a session that still live, as they stand in /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session, *_ = path.read_text().rpartition(")")[2].split()
            if session == str(leader) and state != "Z":
                found.append(path.parent.name)
    return found


def test_treasure(vhost: Vhost, workers: Workers, output: Path) -> None:
    """With a worker at work the treasure is found: stdout has the one file that holds it."""
    worker = workers.start(queue="treasure", tasks=SAMPLES)

    ended = run("leveret", "treasure", "--files", "200", **workers.environment)

    assert ended.returncode == 0, ended.stderr
    (found,) = ended.stdout.splitlines()
    assert TREASURE in Path(found).read_text()
    assert Path(found).is_relative_to(output)
    assert worker.stop() == 0
    assert worker.find("retry") == worker.find("bury") == []


def test_treasure_without_a_worker(vhost: Vhost, workers: Workers, output: Path) -> None:
    """Without a worker it gives up with status 4 and says what to run; a worker that comes later finds it."""
    ended = run("leveret", "treasure", "--files", "20", "--timeout", "0.5", **workers.environment)

    assert (ended.returncode, ended.stdout) == (4, "")
    assert "leveret run treasure" in ended.stderr
    assert vhost.counts(treasure) == {"treasure": 20}
    workers.drain(queue="treasure", tasks=SAMPLES)
    (found,) = output.rglob("found.json")
    assert TREASURE in (found.parent / json.loads(found.read_text())["file"]).read_text()
    assert vhost.counts(treasure) == {}
