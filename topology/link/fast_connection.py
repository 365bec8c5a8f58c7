"""pika's connection on an asyncio loop, with a short way for the frames that come by the thousand.

pika takes each frame through a dozen calls and sends each by itself. Here deliveries, confirms and publishes of the
common shape (frames.py) go straight to who waits for them, what one turn of the loop has written leaves as one
piece, and the socket is read in larger pieces. Everything else goes pika's own way. What this relies on inside pika
is held by tests/unit/test_fast_connection.py.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pika
from pika import exceptions as pika_errors
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.frame import Header, Method, decode_frame

from leveret.topology.link import frames, header_values
from leveret.topology.link.bodies import LARGE_BYTES, BodyAssembler, MayKeep

_READ_BYTES = 64 * 1024

OnConfirm = Callable[[int, bool, bool], None]
"""Called with the delivery tag, whether it stands for all up to it, and whether they were refused."""


class FastConnection(AsyncioConnection):  # type: ignore[misc]  # pika has no types
    """Opened as pika's own. `publish` and `on_confirms` are the short way for publishers; consumers need nothing."""

    url = ""
    """Of the broker, for errors to name it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        header_values.install()
        self._written: list[bytes] = []
        self._frame_buffer: bytes
        self._socket: Any = None
        self._on_confirm: dict[int, OnConfirm] = {}  # by channel number
        super().__init__(*arguments, **options)

    def on_confirms(self, channel: Any, on_confirm: OnConfirm) -> None:
        """Put a channel into confirm mode and tell every confirm and every refusal."""

        def on_frame(frame: Any) -> None:
            method = frame.method
            on_confirm(method.delivery_tag, method.multiple, isinstance(method, pika.spec.Basic.Nack))

        channel.confirm_delivery(on_frame)
        self._on_confirm[channel.channel_number] = on_confirm
        channel.add_on_close_callback(lambda closed, _reason: self._on_confirm.pop(closed.channel_number, None))

    def publish(self, channel: Any, exchange: str, key: str, body: bytes, properties: pika.BasicProperties) -> None:
        """Publish mandatory. Raises as the channel's `basic_publish` does, and `ValueError` for too large headers."""
        written = None
        if channel.is_open:
            limit = self._body_max_length
            written = frames.write_publish(channel.channel_number, exchange, key, properties, body, limit)
        if written is None:
            self._check_header(properties)
            if len(body) > LARGE_BYTES and channel.is_open and self._transport is not None:
                self._publish_large(channel.channel_number, exchange, key, body, properties)
            else:
                channel.basic_publish(exchange, key, body, properties, mandatory=True)
        else:
            self.bytes_sent += len(written)
            self._adapter_emit_data(written)

    def judge_bodies(self, channel: Any, may_keep: MayKeep) -> None:
        """Have the channel's consumers get `LEFT_OUT` in place of the bodies that are not to be kept.

        Bodies that are as small as most are not asked about: they are here already.
        """
        channel._content_assembler = BodyAssembler(may_keep)

    def give_up(self) -> None:
        """End it without a goodbye, which a broker that reads nothing would not answer."""
        if not self.is_closed:
            self._terminate_stream(pika_errors.StreamLostError("given up, for no confirm came"))

    def send_written(self) -> None:
        """Send what was written so far, without waiting for more."""
        written, self._written = self._written, []
        if not written or self._transport is None:  # without one the connection has ended, and its callback says so
            return
        data = b"".join(written)
        sent = self._send_at_once(data)
        if sent < len(data):
            self._transport.write(data[sent:] if sent else data)

    def _check_header(self, properties: pika.BasicProperties) -> None:
        """Refuse what does not fit into one frame, for which the broker would close the connection."""
        size, limit = frames.CONTENT_FRAME_BYTES + sum(map(len, properties.encode())), self.params.frame_max
        if size > limit:
            raise ValueError(f"its headers and properties take {size:,} bytes, and a frame {limit:,} at most")

    def _send_at_once(self, data: bytes) -> int:
        """Send what the socket takes now; returns how many bytes. What goes wrong is for pika to meet again."""
        if self._transport.get_write_buffer_size() or type(self._socket) is not socket.socket:
            return 0
        try:
            return self._socket.send(data)
        except OSError:
            return 0

    def _publish_large(
        self, channel_number: int, exchange: str, key: str, body: bytes, properties: pika.BasicProperties
    ) -> None:
        """Write a large body piece by piece, where pika would make two copies of it, and joining them a third."""
        method = Method(channel_number, pika.spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True))
        head = method.marshal() + Header(channel_number, len(body), properties).marshal()
        self._adapter_emit_data(head)
        self.send_written()
        self.bytes_sent += len(head) + len(body)
        for piece in frames.body_frames(channel_number, body, self._body_max_length):
            self._transport.write(piece)

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._written:
            asyncio.get_running_loop().call_soon(self.send_written)
        self._written.append(data)

    def peer_certificate(self) -> dict[str, Any]:
        """Return the broker's certificate, as Python's `ssl` does; empty without TLS."""
        return (self._socket.getpeercert() or {}) if isinstance(self._socket, ssl.SSLSocket) else {}

    def _proto_connection_made(self, transport: Any) -> None:
        self._socket = transport._sock
        if type(self._socket) is socket.socket:  # TLS keeps what it has read in a buffer of its own: left to pika
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._on_readable)
        super()._proto_connection_made(transport)

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._transport._initiate_abort(error)
            return
        if not data:
            self._transport._on_socket_readable()  # meets the same end, and knows what to do
            return
        try:
            self._on_data_available(data)
        except Exception as error:  # noqa: BLE001 - as pika does: the connection ends, and its callback says why
            if self._transport is not None:
                self._transport._initiate_abort(error)

    def _on_data_available(self, data_in: bytes) -> None:
        self.bytes_received += len(data_in)  # what the heartbeat goes by
        buffer = self._frame_buffer + data_in if self._frame_buffer else data_in
        at, end = 0, len(buffer)
        while at < end:
            channel_number, method = frames.method_at(buffer, at)
            after = 0
            if method == frames.DELIVER:
                after = self._deliver(channel_number, buffer, at)
            elif method == frames.ACK:
                after = self._confirm(channel_number, buffer, at)
            if not after:
                self._check_frame(buffer, at)
                size, frame = decode_frame(buffer[at:])
                if frame is None:
                    break
                after = at + size
                self._process_frame(frame)
            at = after
        self._frame_buffer = buffer[at:]

    def _check_frame(self, buffer: bytes, at: int) -> None:
        """Refuse a frame that is announced larger than was agreed on, before it is waited for."""
        size, limit = frames.size_at(buffer, at), self.params.frame_max
        if size > limit:
            raise pika_errors.InvalidFrameError(
                f"the broker sends a frame of {size:,} bytes, over the agreed {limit:,}"
            )

    def _deliver(self, channel_number: int, buffer: bytes, at: int) -> int:
        """Pass a delivery to its consumer; returns where the next frame begins, 0 when it is left to pika."""
        channel = self._channels.get(channel_number)
        content = frames.read_delivery(buffer, at) if channel else None
        if content is None:
            return 0
        # Also what arrives between a cancel and its confirmation, which pika would send back to the queue.
        consumer = channel._consumers.get(content.method.consumer_tag)
        if consumer is None:
            return 0
        consumer(channel, content.method, content.properties, content.body)
        return content.end

    def _confirm(self, channel_number: int, buffer: bytes, at: int) -> int:
        on_confirm = self._on_confirm.get(channel_number)
        confirm = frames.read_confirm(buffer, at) if on_confirm else None
        if on_confirm is None or confirm is None:
            return 0
        on_confirm(confirm.tag, confirm.multiple, False)
        return confirm.end
