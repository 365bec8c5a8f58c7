"""The short way reads and writes the very bytes that pika reads and writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from leveret.topology.link import frames

_short = st.text(max_size=60).filter(lambda text: len(text.encode()) <= 255)
_header_values = st.one_of(st.integers(-(2**31), 2**31 - 1), st.booleans(), st.text(max_size=20))
_copies = st.lists(_short, min_size=1, max_size=1).map(lambda keys: {"CC": keys})
_texts = st.dictionaries(
    _short.filter(lambda name: name not in ("", "CC")), st.text(max_size=8), min_size=1, max_size=3
)
_properties = st.builds(
    spec.BasicProperties,
    content_type=st.none() | _short,
    content_encoding=st.none() | _short,
    headers=st.none() | st.dictionaries(_short.filter(bool), _header_values, max_size=3) | _copies | _texts,
    delivery_mode=st.none() | st.integers(1, 2),
    priority=st.none() | st.integers(0, 255),
    reply_to=st.none() | _short,
    message_id=st.none() | _short,
    timestamp=st.none() | st.integers(0, 2**40),
    app_id=st.none() | _short,
)
_common = st.builds(
    spec.BasicProperties,
    content_type=_short,
    content_encoding=_short,
    headers=st.none() | _copies | _texts.filter(lambda texts: len(repr(texts).encode()) < 150),
    delivery_mode=st.integers(1, 2),
    reply_to=st.none() | _short,
    message_id=_short,
    timestamp=st.integers(0, 2**63 - 1),
)
_bodies = st.binary(max_size=300)
_channels = st.integers(1, 65_535)


def delivered(channel: int, method: spec.Basic.Deliver, properties: spec.BasicProperties, body: bytes) -> bytes:
    """A delivery as the broker sends it, by pika's own hand."""
    pieces = [frame.Method(channel, method).marshal(), frame.Header(channel, len(body), properties).marshal()]
    return b"".join(pieces + ([frame.Body(channel, body).marshal()] if body else []))


PLAIN = delivered(
    3,
    spec.Basic.Deliver("tag", 7, False, "tasks.topic", "words.count"),
    spec.BasicProperties(content_type="application/json", message_id="an-id"),
    b"{}",
)


@given(
    _channels,
    st.builds(spec.Basic.Deliver, _short, st.integers(1, 2**63), st.booleans(), _short, _short),
    _properties,
    _bodies,
    st.binary(max_size=20),
    st.binary(max_size=20),
)
def test_a_delivery_reads_as_pika_wrote_it(
    channel: int,
    method: spec.Basic.Deliver,
    properties: spec.BasicProperties,
    body: bytes,
    before: bytes,
    behind: bytes,
) -> None:
    """Every field, wherever in the buffer it lies."""
    written = delivered(channel, method, properties, body)

    content = frames.read_delivery(before + written + behind, len(before))

    assert frames.method_at(before + written + behind, len(before)) == (channel, frames.DELIVER)
    assert content is not None
    assert vars(content.method) == vars(method)
    assert vars(content.properties) == vars(properties)
    assert (content.body, content.end) == (body, len(before) + len(written))


@pytest.mark.parametrize("length", range(len(PLAIN)))
def test_a_delivery_that_is_not_there_as_a_whole_is_left_to_pika(length: int) -> None:
    """Cut anywhere."""
    assert frames.read_delivery(PLAIN[:length], 0) is None


@pytest.mark.parametrize("at", [position for position, byte in enumerate(PLAIN) if byte == spec.FRAME_END])
def test_a_frame_without_its_end_is_left_to_pika(at: int) -> None:
    """Which then refuses it."""
    assert frames.read_delivery(PLAIN[:at] + b"\0" + PLAIN[at + 1 :], 0) is None


def test_a_body_in_several_frames_is_left_to_pika() -> None:
    """It puts the parts together."""
    method = frame.Method(3, spec.Basic.Deliver("tag", 7, False, "", "key")).marshal()
    header = frame.Header(3, 4, spec.BasicProperties()).marshal()
    parts = frame.Body(3, b"ab").marshal() + frame.Body(3, b"cd").marshal()

    assert frames.read_delivery(method + header + parts, 0) is None


def test_frames_of_another_channel_between_are_left_to_pika() -> None:
    """Channels share the connection."""
    method = frame.Method(3, spec.Basic.Deliver("tag", 7, False, "", "key")).marshal()
    of_another = frame.Header(4, 0, spec.BasicProperties()).marshal()
    body_of_another = frame.Header(3, 1, spec.BasicProperties()).marshal() + frame.Body(4, b"x").marshal()

    assert frames.read_delivery(method + of_another, 0) is None
    assert frames.read_delivery(method + body_of_another, 0) is None


def test_text_that_is_not_utf_8_is_left_to_pika() -> None:
    """It hands out the bytes."""
    assert frames.read_delivery(PLAIN.replace(b"an-id", b"an\xffid"), 0) is None


def test_a_large_body_is_left_to_pika() -> None:
    """Its parts would be copied over and over while it arrives."""
    method = spec.Basic.Deliver("tag", 7, False, "", "key")

    assert frames.read_delivery(delivered(3, method, spec.BasicProperties(), b"x" * 100_000), 0) is None


@given(_channels, st.integers(1, 2**63), st.booleans(), st.binary(max_size=20))
def test_a_confirm_reads_as_pika_wrote_it(channel: int, tag: int, multiple: bool, behind: bytes) -> None:
    """And not before it is there as a whole."""
    written = frame.Method(channel, spec.Basic.Ack(tag, multiple)).marshal()

    assert frames.method_at(written + behind, 0) == (channel, frames.ACK)
    assert frames.read_confirm(written + behind, 0) == (tag, multiple, len(written))
    assert [frames.read_confirm(written[:length], 0) for length in range(len(written))] == [None] * len(written)


@given(st.binary(max_size=60))
def test_other_frames_are_no_business_of_ours(data: bytes) -> None:
    """Whatever lies there."""
    channel, method = frames.method_at(data, 0)

    assert (channel, method) == (0, 0) or data[:1] == bytes([spec.FRAME_METHOD])


@given(_channels, _short, _short, _common, _bodies)
def test_a_publish_is_written_as_pika_writes_it(
    channel: int, exchange: str, key: str, properties: spec.BasicProperties, body: bytes
) -> None:
    """Byte for byte."""
    method = spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True)
    pieces = [frame.Method(channel, method).marshal(), frame.Header(channel, len(body), properties).marshal()]
    as_pika_does = b"".join(pieces + ([frame.Body(channel, body).marshal()] if body else []))

    assert frames.write_publish(channel, exchange, key, properties, body, 1000) == as_pika_does


@pytest.mark.parametrize(
    "uncommon",
    [
        {"headers": {}},
        {"headers": {"CC": []}},
        {"headers": {"CC": ["a", "b"]}},
        {"headers": {"CC": "a"}},
        {"headers": {"CC": [7]}},
        {"headers": {"CC": ["x" * 256]}},
        {"headers": {"CC": ["a"], "more": 1}},
        {"headers": {"BCC": ["a"]}},
        {"headers": {"priority": 1}},
        {"headers": {"priority": "high", "count": True}},
        {"headers": {"x": "y" * 300}},
        {"headers": {"x" * 256: "y"}},
        {"headers": {"x": "\ud800"}},
        {"headers": {str(number): "x" for number in range(5)}},
        {"priority": 0},
        {"correlation_id": ""},
        {"reply_to": "x" * 256},
        {"reply_to": b"\xff"},
        {"expiration": ""},
        {"type": ""},
        {"user_id": ""},
        {"app_id": ""},
        {"cluster_id": ""},
        {"message_id": None},
        {"content_type": None},
        {"content_encoding": None},
        {"delivery_mode": None},
        {"timestamp": None},
        {"timestamp": -1},
        {"timestamp": 2**63},
        {"timestamp": 1.5},
        {"timestamp": True},
        {"message_id": "x" * 256},
        {"message_id": b"\xff"},
        {"content_type": b"\xff"},
        {"content_encoding": b"\xff"},
    ],
)
def test_uncommon_properties_are_left_to_pika(uncommon: dict[str, object]) -> None:
    """Nothing of them may be lost on the short way."""
    common = {"content_type": "a", "content_encoding": "b", "delivery_mode": 2, "message_id": "c", "timestamp": 0}

    assert frames.write_publish(1, "", "key", spec.BasicProperties(**common), b"", 10) is not None
    assert frames.write_publish(1, "", "key", spec.BasicProperties(**{**common, **uncommon}), b"", 10) is None


def test_a_body_beyond_one_frame_is_left_to_pika() -> None:
    """It splits it."""
    properties = spec.BasicProperties("a", "b", None, 2, message_id="c", timestamp=0)

    assert frames.write_publish(1, "", "key", properties, b"x" * 10, 10) is not None
    assert frames.write_publish(1, "", "key", properties, b"x" * 11, 10) is None
