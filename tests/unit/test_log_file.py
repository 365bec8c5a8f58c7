"""Log files: one a process, whole lines, followed by another when moved away, and no disk fails anybody."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from leveret.consumers.log_file import LogFile
from leveret.consumers.output import Output, copy_stderr
from leveret.topology.errors import SettingsError


def news_line(text: str) -> bytes:
    return f"news: {text}\n".encode()


@pytest.fixture
def file(tmp_path: Path) -> LogFile:
    return LogFile(tmp_path / "logs", news_line)


def write(file: LogFile, text: str) -> str:
    """Write, and return the news."""
    return file.write(memoryview(text.encode())).decode()


def files(tmp_path: Path) -> dict[str, str]:
    """What stands in each file, by its name."""
    return {path.name: path.read_text() for path in sorted((tmp_path / "logs").iterdir())}


def test_each_process_has_a_file_of_its_own(file: LogFile, tmp_path: Path) -> None:
    """Named by what it is, its process and when it began."""
    write(file, "the worker's\n")
    pid = os.fork()
    if pid == 0:
        os._exit(bool(write(file, "the child's\n")))

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    write(file, "again\n")
    child, worker = files(tmp_path).items()
    assert child[0].startswith(f"child-{pid}-")
    assert worker[0].startswith(f"worker-{os.getpid()}-")
    assert (child[1], worker[1]) == ("the child's\n", "the worker's\nagain\n")


@pytest.mark.parametrize("removed", [False, True], ids=["moved", "removed"])
def test_one_that_was_moved_away_is_followed_by_another(removed: bool, file: LogFile, tmp_path: Path) -> None:
    """As log rotation does it."""
    write(file, "one\n")
    (path,) = (tmp_path / "logs").iterdir()
    if removed:
        path.unlink()
    else:
        path.rename(tmp_path / "rotated")
    news = write(file, "two\n")

    assert news == ""
    assert files(tmp_path) == {path.name: "two\n"}
    assert removed or (tmp_path / "rotated").read_text() == "one\n"


def test_what_cannot_be_written_is_told_once_and_counted(file: LogFile, tmp_path: Path) -> None:
    """And how much it was when it can be written again."""
    folder = tmp_path / "logs"
    (path,) = folder.iterdir()
    path.unlink()
    path.symlink_to("/dev/full")
    first, silent = write(file, "lost\n"), write(file, "lost, too\n")
    path.unlink()
    again = write(file, "kept\n")

    assert first.startswith(f"news: {path} cannot be written: No space left on device; ")
    assert silent == ""
    assert again == f"news: {path} can be written again; it lacks 15 bytes\n"
    assert files(tmp_path) == {path.name: "kept\n"}


def test_a_directory_that_is_taken_away_is_told_once(file: LogFile, tmp_path: Path) -> None:
    """And is used again when it is back."""
    shutil.rmtree(tmp_path / "logs")
    assert "No such file or directory" in write(file, "lost\n")
    assert write(file, "lost\n") == ""
    (tmp_path / "logs").mkdir()

    assert "it lacks 10 bytes" in write(file, "kept\n")
    assert list(files(tmp_path).values()) == ["kept\n"]


def test_a_descriptor_that_a_task_has_closed_is_not_taken_from_whoever_has_its_number(
    file: LogFile, tmp_path: Path
) -> None:
    """The file is opened again, and the other one is left alone."""
    descriptor = file._descriptor
    os.close(descriptor)
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    if other != descriptor:
        os.dup2(other, descriptor)
        os.close(other)

    assert write(file, "mine\n") == ""
    assert list(files(tmp_path).values()) == ["mine\n"]
    os.write(descriptor, b"its own\n")
    os.close(descriptor)
    assert (tmp_path / "other").read_text() == "its own\n"


@pytest.mark.parametrize("name", ["file/below", "file", "/proc/none", "x" * 300], ids=["below", "file", "proc", "long"])
def test_a_directory_that_cannot_be_used_is_one_clear_error(name: str, tmp_path: Path) -> None:
    """At the start, for then somebody is there who can name another."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="name a directory in which this user may write"):
        LogFile(tmp_path / name, news_line)


@pytest.fixture(autouse=True)
def no_copy() -> Iterator[None]:
    """Nothing is copied afterwards."""
    yield
    copy_stderr(None)


def test_a_file_has_the_lines_of_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whole ones, of the log and of what is printed there, with news behind them; none of stdout, wherever it goes."""
    copy_stderr(LogFile(tmp_path / "logs", news_line).write)
    log, printed, other = Output(2, "the log", "utf-8"), Output(2, "<stderr>", "utf-8"), Output(2, "<stdout>", "utf-8")
    print("logged", file=log)
    print("half", end="", file=printed, flush=True)
    print(" a line", file=printed)
    print("stdout", file=other)
    assert list(files(tmp_path).values()) == ["logged\nhalf a line\n"]
    shutil.rmtree(tmp_path / "logs")
    print("not in the file", file=log)

    lines = capfd.readouterr().err.splitlines()
    assert lines[:4] == ["logged", "half a line", "stdout", "not in the file"]
    assert lines[4].startswith("news: ")
