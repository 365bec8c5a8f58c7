"""Settling: acknowledgements run together, and nothing is ever settled twice or before it is finished."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.consumers.settling.settler import Settler

Act = Callable[["Channel", Settler], object]


class Channel:
    """The part of a channel that settles, and the broker's view of what is outstanding on it."""

    def __init__(self) -> None:
        self.is_open = True
        self.freed: list[int] = []
        self.sent: list[tuple[str, int, bool]] = []
        self.outstanding: set[int] = set()
        self.acked: list[int] = []
        self.all_settled = 0

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        """Acknowledge as the broker does: it closes the channel for a tag that it does not know."""
        covered = sorted(one for one in self.outstanding if one == tag or (multiple and one <= tag))
        assert tag in covered
        self.sent.append(("ack", tag, multiple))
        self.acked += covered
        self.outstanding -= set(covered)

    def basic_nack(self, tag: int, multiple: bool, requeue: bool) -> None:
        """Reject a single outstanding tag."""
        assert tag in self.outstanding
        assert not multiple
        self.sent.append(("nack", tag, requeue))
        self.outstanding.remove(tag)


def settled(tags: int, *rounds: Act) -> Channel:
    """Deliver so many tags, act in each round of the event loop, and return the channel."""
    channel = Channel()

    def count() -> None:
        channel.all_settled += 1

    async def play() -> None:
        settler = Settler(channel, count, channel.freed.append)
        for tag in range(1, tags + 1):
            channel.outstanding.add(tag)
            settler.take(tag, tag)
        for act in rounds:
            act(channel, settler)
            await asyncio.sleep(0)

    asyncio.run(play())
    return channel


def ack(*tags: int) -> Act:
    """Finish these tags, in this order."""
    return lambda _channel, settler: [settler.ack(tag) for tag in tags]


def test_what_finishes_together_is_acked_together() -> None:
    """Tags without an unfinished one below leave as one multiple ack, in whatever order they finished."""

    assert settled(4, ack(3, 1, 2, 4)).sent == [("ack", 4, True)]


def test_a_tag_above_an_unfinished_one_is_acked_alone() -> None:
    """What finished out of order does not wait, nor take the unfinished one along."""
    channel = settled(4, ack(3, 1, 4))

    assert channel.sent == [("ack", 1, True), ("ack", 3, False), ("ack", 4, False)]
    assert channel.outstanding == {2}


def test_rounds_of_the_loop_are_separate() -> None:
    """An ack leaves in the round it was made in; later ones leave later."""

    assert settled(3, ack(1), ack(2, 3)).sent == [("ack", 1, True), ("ack", 3, True)]


def test_a_nack_leaves_at_once_and_alone() -> None:
    """A rejection is not kept, does not reach its neighbours, and closes the gap for the acks around it."""

    def nack_between(_channel: Channel, settler: Settler) -> None:
        settler.ack(1)
        settler.nack(2, requeue=False)
        settler.ack(3)

    assert settled(3, nack_between).sent == [("nack", 2, False), ("ack", 3, True)]


@pytest.mark.parametrize("requeue", [True, False])
def test_a_nack_says_where_to(requeue: bool) -> None:
    """Back into the queue or into the dead-letter side, as asked."""

    assert settled(1, lambda _, settler: settler.nack(1, requeue)).sent == [("nack", 1, requeue)]


def test_flush_sends_now_and_once() -> None:
    """Flushing does not wait for the loop, and the loop finds nothing left to send."""

    def flush(channel: Channel, settler: Settler) -> None:
        settler.ack(1)
        settler.flush()
        channel.sent.append(("flushed", len(settler), True))

    assert settled(1, flush).sent == [("ack", 1, True), ("flushed", 0, True)]


def test_all_settled_is_told_when_nothing_is_open() -> None:
    """The last ack or nack tells it, and none before."""

    assert settled(2, ack(1)).all_settled == 0
    assert settled(2, ack(1), ack(2)).all_settled == 1
    assert settled(2, ack(1), lambda _, settler: settler.nack(2, False)).all_settled == 1


def test_a_closed_channel_settles_nothing() -> None:
    """After the channel is gone acks and nacks say no, and what had not left does not leave."""
    answers: list[bool] = []

    def close_between(channel: Channel, settler: Settler) -> None:
        answers.append(settler.ack(1))
        channel.is_open = False
        answers.extend([settler.ack(2), settler.nack(3, requeue=True), settler.is_open])
        settler.flush()

    channel = settled(3, close_between)

    assert answers == [True, False, False, False]
    assert channel.sent == []
    assert channel.all_settled == 0


def test_the_settler_counts_what_is_open() -> None:
    """Its length is what has been taken and not settled; an ack counts once it was sent."""
    lengths: list[int] = []

    def note(_channel: Channel, settler: Settler) -> None:
        lengths.append(len(settler))

    settled(3, note, ack(2), note, lambda _, settler: settler.nack(1, True), note)

    assert lengths == [3, 2, 1]


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["take", "ack", "ack", "nack", "flush", "turn"]), st.integers(0, 30)), max_size=60
)


@given(actions=ACTIONS)
def test_nothing_is_settled_twice_or_unfinished(actions: list[tuple[str, int]]) -> None:
    """In whatever order deliveries come, finish and fail, the broker loses exactly those that ended."""
    channel = Channel()
    running: list[int] = []
    finished: list[int] = []
    nacked: list[int] = []

    async def play() -> None:
        settler, tag = Settler(channel, lambda: None, channel.freed.append), 0
        for action, choice in actions:
            if action == "take":
                tag += 1
                running.append(tag)
                channel.outstanding.add(tag)
                settler.take(tag, tag)
            elif action == "flush":
                settler.flush()
            elif action == "turn":
                await asyncio.sleep(0)
            elif running:
                ended = running.pop(choice % len(running))
                if action == "ack":
                    finished.append(ended)
                    settler.ack(ended)
                else:
                    nacked.append(ended)
                    settler.nack(ended, requeue=False)
            assert set(channel.acked) <= set(finished)
        await asyncio.sleep(0)

    asyncio.run(play())

    assert sorted(channel.acked) == sorted(finished)
    assert [tag for verb, tag, _ in channel.sent if verb == "nack"] == nacked
    assert channel.outstanding == set(running)
    assert sorted(channel.freed) == sorted(finished + nacked)
