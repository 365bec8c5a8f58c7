"""What `options(unique=…)` refuses, before anybody is asked."""

from __future__ import annotations

from typing import Any

import pytest

from leveret import MessageError, WorkQueue, task
from leveret.consumers.tasks.task import AnyTask
from leveret.topology import queues, registry


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> AnyTask:
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})

    @task("mail.send", queue=WorkQueue("mail"))
    def send() -> None: ...

    return send


@pytest.mark.parametrize("key", ["", "a\nb", "\x1b[31m", "ä" * 128, 5, b"a", "\ud800"])
def test_a_key_has_to_be_possible(send: AnyTask, key: Any) -> None:
    """Text that can be shown, of up to 255 bytes."""
    with pytest.raises(MessageError, match="cannot be the key of a unique task: 1 to 255 bytes of printable text"):
        send.options(unique=key)
    send.options(unique="ä" * 127)


@pytest.mark.parametrize("seconds", [0, -1, True, float("nan"), float("inf"), "60", 366 * 86_400 + 1, 10**400])
def test_its_seconds_have_to_be_possible(send: AnyTask, seconds: Any) -> None:
    """More than none, and no more than a year."""
    with pytest.raises(MessageError, match=r"a key cannot be reserved for .* seconds; give more than 0"):
        send.options(unique="a", for_seconds=seconds)
    send.options(unique="a", for_seconds=366 * 86_400)


def test_what_contradicts_it_is_refused(send: AnyTask) -> None:
    """Each with what to do instead."""
    with pytest.raises(MessageError, match=r"give the key: unique=…"):
        send.options(for_seconds=60)
    with pytest.raises(MessageError, match="its end frees its key; leave follow=False out"):
        send.options(unique="a", follow=False)
    with pytest.raises(MessageError, match=r"a message keeps no key to be unique by.*submit each by options"):
        send.options(unique="a").message()


def test_it_is_followed(send: AnyTask) -> None:
    """By who records at least."""
    assert send.options(unique="a")._message().follow == "record"
    assert send.options(unique="a", follow=True)._message().follow is True
