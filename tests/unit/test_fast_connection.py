"""The short way leads where pika's own way leads, wherever the stream is cut; and pika still is as it expects."""

from __future__ import annotations

from typing import Any

import pika
import pytest
from pika import frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils import io_services_utils
from pika.channel import ContentFrameAssembler

from leveret.topology.link.fast_connection import FastConnection
from tests.unit.test_frames import delivered


class Stream:
    """A connection that never connects: bytes go in, and what reaches the consumers and pika is noted."""

    def __init__(self) -> None:
        self.deliveries: list[tuple[int, int, str | None, bytes]] = []
        self.confirms: list[tuple[int, bool, bool]] = []
        self.by_pika: list[str] = []
        self.connection: Any = FastConnection.__new__(FastConnection)
        self.connection.__dict__ |= {
            "bytes_received": 0,
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
