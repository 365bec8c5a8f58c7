"""The short way leads where pika's own way leads, wherever the stream is cut; and pika still is as it expects."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pika
import pytest
from pika import frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils import io_services_utils
from pika.channel import ContentFrameAssembler

from leveret.topology.link import bodies, frames
from leveret.topology.link.bodies import LEFT_OUT, BodyAssembler
from leveret.topology.link.fast_connection import FastConnection
from tests.unit.test_frames import delivered

FRAME_MAX = 4096


class Stream:
    """A connection that never connects: bytes go in, and what reaches the consumers and pika is noted."""

    def __init__(self) -> None:
        self.deliveries: list[tuple[int, int, str | None, bytes]] = []
        self.confirms: list[tuple[int, bool, bool]] = []
        self.by_pika: list[str] = []
        self.connection: Any = FastConnection.__new__(FastConnection)
        self.connection.__dict__ |= {
            "bytes_received": 0,
            "params": SimpleNamespace(frame_max=FRAME_MAX),
            "_frame_buffer": b"",
            "_channels": {number: Channel(self, number) for number in (1, 2)},
            "_on_confirm": {1: lambda *confirm: self.confirms.append(confirm)},
            "_process_frame": self._process_frame,
        }

    def _process_frame(self, value: Any) -> None:
        self.by_pika.append(value.NAME)
        channel = self.connection._channels.get(value.channel_number)
        if isinstance(value, frame.Method) and isinstance(value.method, spec.Basic.Ack):
            self.confirms.append((value.method.delivery_tag, value.method.multiple, False))
        elif channel and (content := channel.assembler.process(value)):
            method, header, body = content
            channel._consumers["tag"](channel, method.method, header.properties, body)


class Channel:
    """As much of a channel as the short way looks at."""

    def __init__(self, stream: Stream, number: int) -> None:
        self.assembler = ContentFrameAssembler()

        def consume(_channel: object, method: Any, properties: Any, body: bytes) -> None:
            stream.deliveries.append((number, method.delivery_tag, properties.message_id, body))

        self._consumers = {"tag": consume}


def traffic() -> tuple[bytes, Stream]:
    """Frames of all kinds, and a stream that was given them at once."""
    plain = spec.BasicProperties(content_type="application/json", message_id="plain")
    rich = spec.BasicProperties(headers={"x-delivery-count": 3}, message_id="rich", priority=4)
    pieces = [
        delivered(1, spec.Basic.Deliver("tag", 1, False, "", "key"), plain, b"{}"),
        frame.Heartbeat().marshal(),
        delivered(2, spec.Basic.Deliver("tag", 2, True, "exchange", "key"), rich, b"x" * 40),
        frame.Method(1, spec.Basic.Ack(5, True)).marshal(),
        frame.Method(2, spec.Basic.Ack(6, False)).marshal(),  # nobody waits for confirms of channel 2
        delivered(1, spec.Basic.Deliver("tag", 3, False, "", "key"), plain, b""),
        frame.Method(1, spec.Basic.Deliver("tag", 4, False, "", "key")).marshal(),
        frame.Header(1, 4, plain).marshal() + frame.Body(1, b"ab").marshal() + frame.Body(1, b"cd").marshal(),
    ]
    data = b"".join(pieces)
    stream = Stream()
    stream.connection._on_data_available(data)
    return data, stream


def test_the_common_goes_the_short_way_and_the_rest_to_pika() -> None:
    """What takes the short way is never seen by pika."""
    data, stream = traffic()

    assert stream.deliveries == [
        (1, 1, "plain", b"{}"),
        (2, 2, "rich", b"x" * 40),
        (1, 3, "plain", b""),
        (1, 4, "plain", b"abcd"),
    ]
    assert stream.confirms == [(5, True, False), (6, False, False)]
    assert stream.by_pika == ["Heartbeat", "METHOD", "METHOD", "Header", "Body", "Body"]
    assert stream.connection.bytes_received == len(data)


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 8, 9, 20, 21, 22, 40, 64])
def test_it_does_not_matter_how_the_stream_is_cut(piece: int) -> None:
    """TCP may cut it anywhere."""
    data, whole = traffic()
    stream = Stream()

    for start in range(0, len(data), piece):
        stream.connection._on_data_available(data[start : start + piece])

    assert stream.deliveries == whole.deliveries
    assert stream.confirms == whole.confirms
    assert stream.connection._frame_buffer == b""


def test_two_pieces_cut_at_every_place() -> None:
    """Each byte once the last of the first piece."""
    data, whole = traffic()

    for cut in range(1, len(data)):
        stream = Stream()
        stream.connection._on_data_available(data[:cut])
        stream.connection._on_data_available(data[cut:])
        assert (stream.deliveries, stream.confirms) == (whole.deliveries, whole.confirms), cut


def test_a_delivery_to_nobody_is_for_pika_to_judge() -> None:
    """Neither a consumer nor a channel that is not known is ours."""
    data = delivered(1, spec.Basic.Deliver("tag", 1, False, "", "key"), spec.BasicProperties(), b"{}")
    no_consumer, no_channel = Stream(), Stream()
    no_consumer.connection._channels[1]._consumers = {"other": lambda *_: None}
    no_channel.connection._channels.clear()

    no_channel.connection._on_data_available(data)
    with pytest.raises(KeyError):  # what this test has in pika's place looks for the consumer and finds none
        no_consumer.connection._on_data_available(data)

    assert no_channel.by_pika == no_consumer.by_pika == ["METHOD", "Header", "Body"]


def test_garbage_is_refused_as_pika_refuses_it() -> None:
    """The connection ends."""
    with pytest.raises(pika.exceptions.InvalidFrameError):
        Stream().connection._on_data_available(b"\x09\0\0\0\0\0\0\xce")


def test_pika_is_as_the_short_way_expects() -> None:
    """Names inside pika that it relies on; whatever else they do is tested against a broker."""
    transport = io_services_utils._AsyncPlaintextTransport
    for name in ("get_write_buffer_size", "write", "_on_socket_readable", "_initiate_abort"):
        assert callable(getattr(transport, name))
    for name in ("_on_data_available", "_process_frame", "_adapter_emit_data", "_proto_connection_made"):
        assert callable(getattr(AsyncioConnection, name))
    assert {"_sock"} <= set(io_services_utils._AsyncTransportBase.__init__.__code__.co_names)
    assert {"_consumers"} <= set(pika.channel.Channel.__init__.__code__.co_names)
    connection = pika.connection.Connection
    initial = {*connection.__init__.__code__.co_names, *connection._init_connection_state.__code__.co_names}
    assert {"_frame_buffer", "_channels", "_body_max_length", "bytes_received", "bytes_sent"} <= initial


@pytest.mark.parametrize("kind", [spec.FRAME_METHOD, spec.FRAME_HEADER, spec.FRAME_BODY, spec.FRAME_HEARTBEAT])
def test_a_frame_that_is_announced_too_large_is_not_waited_for(kind: int) -> None:
    """Its first seven bytes are enough to end the connection, before anything of the rest is kept."""
    stream = Stream()
    announced = bytes([kind, 0, 1]) + (2**31).to_bytes(4)

    stream.connection._on_data_available(announced[:6])
    with pytest.raises(pika.exceptions.InvalidFrameError, match="2,147,483,656 bytes, over the agreed 4,096"):
        stream.connection._on_data_available(announced[6:])


def test_a_frame_of_the_largest_size_is_taken() -> None:
    """The limit counts the whole frame, and one that fills it passes."""
    stream = Stream()
    body = b"x" * (FRAME_MAX - 8)
    plain = pika.BasicProperties()

    stream.connection._on_data_available(delivered(1, spec.Basic.Deliver("tag", 1, False, "", "key"), plain, body))

    assert stream.deliveries == [(1, 1, None, body)]


def test_a_header_that_fits_no_frame_is_not_sent() -> None:
    """The broker would close the connection for it, and with it lose what others have sent."""
    connection: Any = FastConnection.__new__(FastConnection)
    sent: list[Any] = []
    connection.__dict__ |= {"params": SimpleNamespace(frame_max=FRAME_MAX), "_body_max_length": FRAME_MAX - 8}
    channel = SimpleNamespace(
        is_open=True, channel_number=1, basic_publish=lambda *given, mandatory: sent.append((*given, mandatory))
    )

    for size in range(3_900, 4_100):
        properties = pika.BasicProperties(headers={"n": "x" * size})
        header = frame.Header(1, 2, properties).marshal()
        if len(header) <= FRAME_MAX:
            connection.publish(channel, "", "key", b"{}", properties)
            assert sent.pop() == ("", "key", b"{}", properties, True)
        else:
            with pytest.raises(ValueError, match="a frame 4,096 at most"):
                connection.publish(channel, "", "key", b"{}", properties)
    assert not sent


def parts(body: bytes) -> list[Any]:
    """A delivery as pika's frames, its body in pieces of ten bytes."""
    header = frame.Header(1, len(body), pika.BasicProperties())
    pieces = [frame.Body(1, body[start : start + 10]) for start in range(0, len(body), 10)]
    return [frame.Method(1, spec.Basic.Deliver("tag", 1, False, "", "key")), header, *pieces]


def test_a_body_without_room_is_left_out_and_the_next_is_not() -> None:
    """Who receives it is asked once, at the header."""
    asked: list[int] = []

    def may_keep(size: int) -> bool:
        asked.append(size)
        return size < 30

    assembler = BodyAssembler(may_keep)
    given_bodies = []
    for body in (b"x" * 25, b"y" * 35, b"z" * 5):
        contents = [content for part in parts(body) if (content := assembler.process(part))]
        ((_, _, given),) = contents
        given_bodies.append(given)

    assert asked == [25, 35, 5]
    assert given_bodies == [b"x" * 25, b"", b"z" * 5]
    assert given_bodies[1] is LEFT_OUT
    assert type(LEFT_OUT) is not bytes


def test_a_large_body_is_put_together_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same, and the next one is its own."""
    monkeypatch.setattr(bodies, "LARGE_BYTES", 30)
    assembler = BodyAssembler(lambda _size: True)
    sent = [bytes(range(95)), b"y" * 31, b"z" * 30, b"a" * 40]
    given = [content[2] for body in sent for part in parts(body) if (content := assembler.process(part))]

    assert given == sent
    assert [type(body) for body in given] == [bytearray, bytearray, bytes, bytearray]


@pytest.mark.parametrize("may_keep", [True, False])
def test_a_body_longer_than_announced_is_refused(may_keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pika refuses it, also where it is large or left out."""
    monkeypatch.setattr(bodies, "LARGE_BYTES", 20)
    method, header, *pieces = parts(b"x" * 25)
    assembler = BodyAssembler(lambda _size: may_keep)
    for part in (method, header, *pieces[:2]):
        assert assembler.process(part) is None
    with pytest.raises(pika.exceptions.BodyTooLongError):
        assembler.process(pieces[1])


@pytest.mark.parametrize("size", [1, 99, 100, 101, 1000])
def test_a_large_body_is_written_as_pika_writes_it(size: int) -> None:
    """Only nothing of it is copied."""
    body = bytes(number % 251 for number in range(size))
    pieces = list(frames.body_frames(3, body, 100))

    by_pika = [frame.Body(3, body[start : start + 100]).marshal() for start in range(0, size, 100)]
    assert b"".join(pieces) == b"".join(by_pika)
    assert all(piece.obj is body for piece in pieces if isinstance(piece, memoryview))
    assert sum(isinstance(piece, memoryview) for piece in pieces) == len(by_pika)
