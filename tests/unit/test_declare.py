"""The declare command without a broker: it shows on one screen what it would declare."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

import pytest

from topology import broker, queues, samples
from topology.declare import main, show
from topology.queues import WorkQueue
from topology.settings import Settings


@pytest.fixture(autouse=True)
def no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for a broker fails the test."""

    def asked(_configured: Settings) -> NoReturn:
        raise AssertionError("a broker was asked for")

    monkeypatch.setattr(broker, "resolve", asked)
    monkeypatch.chdir(tmp_path)


def test_a_dry_run_shows_and_asks_no_broker(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample queues are shown on one screen, and that is all."""
    monkeypatch.setattr(queues, "_known", {queue.name: queue for queue in (samples.treasure, samples.words)})
    status = main(["--dry-run"])
    shown, said = capsys.readouterr()

    assert (status, said) == (0, "")
    assert re.findall(r"^(\w+): at most 4 attempts$", shown, re.MULTILINE) == ["treasure", "words"]
    assert max(map(len, shown.splitlines())) <= 100
    assert len(shown.splitlines()) <= 24


def test_the_whole_life_of_a_failure_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each queue stands with where its messages come from, and where they go when."""
    monkeypatch.setattr(queues, "_known", {})
    shown = show([WorkQueue("mail", retry_delays=(30,))])

    assert shown.splitlines() == [
        "exchanges  tasks.direct (direct), tasks.topic (topic), tasks.fanout (fanout)",
        "mail: at most 2 attempts",
        "  mail.failed (direct), for any other key mail.failed.first.30s (fanout)",
        "  mail             ← tasks.direct mail mail@2, tasks.topic mail.#",
        "  mail.retry.1.30s ← mail.failed.first.30s; after 30s → mail@2",
        "  mail.dlq         ← mail.failed mail@2, tasks.direct mail.dlq",
    ]


def test_a_module_that_cannot_be_loaded_ends_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown module is one line that begins with the command's name."""
    status = main(["--dry-run", "--tasks", "not_there"])
    shown, said = capsys.readouterr()

    assert (status, shown) == (1, "")
    assert said.startswith("topology.declare: --tasks not_there cannot be imported: there is no module 'not_there'")
    assert len(said.splitlines()) == 1
