"""Standard streams of a worker: writing to them never fails, whatever they lead to, and what was lost is told."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from leveret.consumers import output
from leveret.consumers.output import Output


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """A descriptor to write to, which leads to a file `written`."""
    number = os.open(tmp_path / "written", os.O_WRONLY | os.O_CREAT)
    yield number
    os.close(number)


def lead(descriptor: int, path: Path) -> None:
    """Have the descriptor lead elsewhere."""
    other = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.dup2(other, descriptor)
    os.close(other)


def test_what_a_full_disk_did_not_take_is_counted_and_told_once(descriptor: int, tmp_path: Path) -> None:
    """It is told when it begins, and how much it was when something can be written again."""
    stream = Output(descriptor, "<stdout>", "utf-8")
    lead(descriptor, Path("/dev/full"))
    print("lost", file=stream)
    failing = stream.settle()
    print("lost, too", file=stream, flush=True)
    silent = stream.settle()
    lead(descriptor, tmp_path / "written")
    print("kept", file=stream)
    again = stream.settle()

    assert failing == "<stdout> cannot be written: No space left on device; what is meant for it is lost until it can"
    assert silent == ""
    assert again == "<stdout> can be written again; 15 bytes were lost"
    assert stream.settle() == ""
    assert (tmp_path / "written").read_text() == "kept\n"


@pytest.mark.parametrize("is_buffered", [True, False])
def test_a_reader_that_has_left_is_no_error(is_buffered: bool) -> None:
    """Text and bytes go nowhere."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = Output(writing, "<stdout>", "utf-8", is_buffered)
    print("hello", file=stream)
    stream.buffer.write(b"hello" * 10_000)
    stream.flush()

    assert "Broken pipe" in stream.settle()
    os.close(writing)


@pytest.mark.parametrize("is_buffered", [True, False])
def test_a_pipe_that_somebody_made_non_blocking_is_waited_for(is_buffered: bool) -> None:
    """As it would be without that; nothing of it is missing."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = "hello\n" * 50_000
    stream = Output(writing, "<stdout>", "utf-8", is_buffered)

    def write() -> None:
        stream.write(text)
        stream.flush()
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    with open(reading, encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        assert file.read() == text
    writer.join()


def test_what_the_encoding_has_no_character_for_is_escaped(descriptor: int, tmp_path: Path) -> None:
    """As stderr does it anywhere."""
    print("é \ud800", file=Output(descriptor, "<stdout>", "ascii"))

    assert (tmp_path / "written").read_text() == "\\xe9 \\ud800\n"


def test_a_line_is_kept_until_it_is_complete_where_the_log_goes_too(capfd: pytest.CaptureFixture[str]) -> None:
    """Or until it is ended for whoever left it open, once; so no line of the log comes amid it."""
    stream = Output(2, "<stderr>", "utf-8")
    print("begun", end=", ", file=stream, flush=True)
    os.write(2, b"log\n")
    print("ended", file=stream, flush=True)
    print("open", end="", file=stream, flush=True)
    os.write(2, b"log\n")
    stream.settle()
    stream.settle()

    assert capfd.readouterr().err == "log\nbegun, ended\nlog\nopen\n"


def test_a_copy_of_the_process_does_not_repeat_an_open_line(capfd: pytest.CaptureFixture[str]) -> None:
    """The original writes it."""
    stream = Output(2, "<stderr>", "utf-8")
    print("begun", end=", ", file=stream, flush=True)
    copy = os.fork()
    if copy == 0:
        print("copy", file=stream, flush=True)
        os._exit(0)
    os.waitpid(copy, 0)
    print("ended", file=stream, flush=True)

    assert capfd.readouterr().err == "copy\nbegun, ended\n"


def test_a_file_of_its_own_gets_no_line_ends(descriptor: int, tmp_path: Path) -> None:
    """What tasks print there is theirs, byte for byte."""
    stream = Output(descriptor, "<stdout>", "utf-8")
    for text in ("one, ", "two"):
        stream.write(text)
        stream.settle()

    assert (tmp_path / "written").read_text() == "one, two"


def test_it_looks_like_the_interpreter_s_own(descriptor: int) -> None:
    """Programs ask standard streams for these."""
    stream = Output(descriptor, "<stdout>", "utf-8")

    assert isinstance(stream, io.TextIOWrapper)
    assert (stream.name, stream.mode, stream.fileno(), stream.isatty()) == ("<stdout>", "w", descriptor, False)
    assert repr(stream) == "<_io.TextIOWrapper name='<stdout>' mode='w' encoding='utf-8'>"


def test_others_are_left_alone() -> None:
    """Such as those that pytest has put there."""
    assert [output.leads_to(other, 1) for other in (None, 5, io.StringIO(), io.TextIOWrapper(io.BytesIO()))] == [
        False
    ] * 4
