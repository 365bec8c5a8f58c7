"""The worker command: what it refuses before it looks for a broker."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from consumers.run import _allow_open_files, main
from topology import broker
from topology.errors import SettingsError
from topology.settings import Settings


@pytest.fixture(autouse=True)
def no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Asking for a broker fails the test; logging is as before afterwards."""

    def asked(_configured: Settings) -> NoReturn:
        raise AssertionError("a broker was asked for")

    monkeypatch.setattr(broker, "resolve", asked)
    monkeypatch.chdir(tmp_path)
    root, pika = logging.getLogger(), logging.getLogger("pika")
    before = (root.handlers[:], root.level, pika.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    pika.setLevel(before[2])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required: --queue"),
        (["--queue", "words", "--processes", "0"], "'0' is not a number from 1 to 1024"),
        (["--queue", "words", "--processes", "1025"], "'1025' is not a number from 1 to 1024"),
        (["--queue", "words", "--processes", "two"], "'two' is not a number"),
        (["--queue", "words", "--processes", "-1"], "--processes"),
        (["--queue", "words", "--prefetch", "0"], "'0' is not a number from 1 to 65535"),
        (["--queue", "words", "--prefetch", "65536"], "'65536' is not a number from 1 to 65535"),
        (["--queue", "words", "--log-format", "xml"], "invalid choice: 'xml'"),
        (["--queue", "words", "--log-level", "loud"], "invalid choice: 'loud'"),
        (["--queue", "words", "more"], "unrecognized arguments: more"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Options that are none, or out of range, are refused with the range."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--queue", "wrods"], "no loaded module defines a queue 'wrods'; did you mean 'words'?"),
        (["--queue", "words", "--tasks", "not_there"], "--tasks not_there cannot be imported: there is no module"),
    ],
)
def test_a_name_that_is_none_ends_with_status_1(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown queue or module is one line that begins with the command's name."""
    status = main(arguments)
    said = capsys.readouterr().err

    assert status == 1
    assert said.startswith(f"consumers.run: {reason}")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("hard", "allowed"), [(500, []), (5000, [5000]), (resource.RLIM_INFINITY, [-1])])
def test_open_files_are_allowed_or_the_limit_is_named(
    hard: int, allowed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of processes need more of them than many systems allow by default."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (256, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _what, limits: asked.append(limits))
    _allow_open_files(1)
    if not allowed:
        with pytest.raises(SettingsError, match=r"--processes 300 needs 9[0-9][0-9] open files.* may have 500"):
            _allow_open_files(300)
    else:
        _allow_open_files(300)

    assert [limits[1] for limits in asked] == allowed
    assert all(soft > 900 for soft, _ in asked)
