"""The AMQP frames that come by the thousand, read and written in one go: deliveries, confirms, publishes.

Each function knows one common shape and says so when what it meets is anything else; that is left to pika. The
layouts are those of the AMQP 0-9-1 specification, sections 2.3.5 (frames) and 4.2 (grammar).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from pika import spec

from leveret.topology.names import LONGEST_NAME_BYTES

_METHOD, _HEADER, _BODY = spec.FRAME_METHOD, spec.FRAME_HEADER, spec.FRAME_BODY
_BASIC = spec.Basic.INDEX
DELIVER, ACK, _PUBLISH = (method.INDEX & 0xFFFF for method in (spec.Basic.Deliver, spec.Basic.Ack, spec.Basic.Publish))
_KINDS = (_METHOD, _HEADER, _BODY, spec.FRAME_HEARTBEAT)
_END = spec.FRAME_END
_END_BYTE = bytes([_END])
_OVERHEAD = spec.FRAME_HEADER_SIZE + spec.FRAME_END_SIZE

_METHOD_FRAME = struct.Struct(">BHIHH")  # type, channel, size, class, method
_CONTENT_FRAME = struct.Struct(">BHIHHQH")  # type, channel, size, class, weight, size of the body, property flags
_BODY_FRAME = struct.Struct(">BHI")
CONTENT_FRAME_BYTES = _CONTENT_FRAME.size - 2 + spec.FRAME_END_SIZE
"""What the frame before a body takes beside flags and properties."""
_TAG_AND_BITS = struct.Struct(">QB")
_SECONDS = struct.Struct(">Q")
_LENGTH = struct.Struct(">I")
_COPIES = b"\2CCA"
"""The beginning of headers that name who gets a copy."""
_TEXT = b"S"
_MOST_TEXTS = 4
_LARGEST_TABLE_BYTES = len(_COPIES) + _LENGTH.size + 1 + _LENGTH.size + LONGEST_NAME_BYTES
"""Of headers that are read and written here: as much as one key of a copy can take."""
_ACK_SIZE = _OVERHEAD + 4 + _TAG_AND_BITS.size

_CONTENT_TYPE = spec.BasicProperties.FLAG_CONTENT_TYPE
_CONTENT_ENCODING = spec.BasicProperties.FLAG_CONTENT_ENCODING
_HEADERS = spec.BasicProperties.FLAG_HEADERS
_DELIVERY_MODE = spec.BasicProperties.FLAG_DELIVERY_MODE
_REPLY_TO = spec.BasicProperties.FLAG_REPLY_TO
_MESSAGE_ID = spec.BasicProperties.FLAG_MESSAGE_ID
_TIMESTAMP = spec.BasicProperties.FLAG_TIMESTAMP
_COMMON = _CONTENT_TYPE | _CONTENT_ENCODING | _DELIVERY_MODE | _MESSAGE_ID | _TIMESTAMP
_COMMON_OR_FOLLOWED = _COMMON | _REPLY_TO
_COMMON_OR_COPIED = _COMMON_OR_FOLLOWED | _HEADERS
_NO_PROPERTIES = dict(vars(spec.BasicProperties()))
_END_OF_TIME = 2**63
_LARGEST_BODY_BYTES = 32 * 1024
"""Of a larger body the parts are put together by pika, which copies each once."""


class Content(NamedTuple):
    """A delivery as pika tells it, and where the next frame begins."""

    method: spec.Basic.Deliver
    properties: spec.BasicProperties
    body: bytes
    end: int


class Confirm(NamedTuple):
    """A confirm of one message, or of all up to it, and where the next frame begins."""

    tag: int
    multiple: bool
    end: int


def method_at(buffer: bytes, start: int) -> tuple[int, int]:
    """Return the channel and the method of Basic whose frame begins there; (0, 0) when it is anything else."""
    if len(buffer) - start < _METHOD_FRAME.size:
        return 0, 0
    kind, channel, _, class_id, method_id = _METHOD_FRAME.unpack_from(buffer, start)
    return (channel, method_id) if kind == _METHOD and class_id == _BASIC else (0, 0)


def size_at(buffer: bytes, start: int) -> int:
    """Return how large the frame is that begins there, as it says itself; 0 while that is not known."""
    if len(buffer) - start < spec.FRAME_HEADER_SIZE or buffer[start] not in _KINDS:
        return 0
    return int(_OVERHEAD) + int.from_bytes(buffer[start + 3 : start + spec.FRAME_HEADER_SIZE])


def read_delivery(buffer: bytes, start: int) -> Content | None:
    """Read a delivery that lies in the buffer as a whole; None when it does not, or is of an uncommon shape."""
    try:
        return _read_delivery(buffer, start)
    except (IndexError, struct.error, UnicodeDecodeError):
        return None


def _read_delivery(buffer: bytes, start: int) -> Content | None:
    at = start + _METHOD_FRAME.size
    tag_end = at + 1 + buffer[at]
    delivery_tag, redelivered = _TAG_AND_BITS.unpack_from(buffer, tag_end)
    exchange_at = tag_end + _TAG_AND_BITS.size
    exchange_end = exchange_at + 1 + buffer[exchange_at]
    key_end = exchange_end + 1 + buffer[exchange_end]
    header = key_end + 1
    kind, channel, size, class_id, _, body_size, flags = _CONTENT_FRAME.unpack_from(buffer, header)
    header_end = header + _OVERHEAD + size
    if kind != _HEADER or class_id != _BASIC or body_size > _LARGEST_BODY_BYTES or buffer[header_end - 1] != _END:
        return None
    body = b""
    end = header_end
    if body_size:
        kind, body_channel, size = _BODY_FRAME.unpack_from(buffer, header_end)
        end = header_end + _OVERHEAD + size
        if kind != _BODY or size != body_size or body_channel != channel or buffer[end - 1] != _END:
            return None
        body = buffer[header_end + spec.FRAME_HEADER_SIZE : end - 1]
    if buffer[key_end] != _END or channel != _METHOD_FRAME.unpack_from(buffer, start)[1]:
        return None
    method = spec.Basic.Deliver(
        buffer[at + 1 : tag_end].decode(),
        delivery_tag,
        bool(redelivered),
        buffer[exchange_at + 1 : exchange_end].decode(),
        buffer[exchange_end + 1 : key_end].decode(),
    )
    return Content(method, _read_properties(buffer, header, flags, header_end), body, end)


def _read_properties(buffer: bytes, header: int, flags: int, header_end: int) -> spec.BasicProperties:
    properties = spec.BasicProperties.__new__(spec.BasicProperties)
    if flags & ~_COMMON_OR_COPIED:
        return properties.decode(buffer[header + _CONTENT_FRAME.size - 2 : header_end - 1])
    found: dict[str, Any] = _NO_PROPERTIES.copy()
    at = header + _CONTENT_FRAME.size
    if flags & _CONTENT_TYPE:
        end = at + 1 + buffer[at]
        found["content_type"], at = buffer[at + 1 : end].decode(), end
    if flags & _CONTENT_ENCODING:
        end = at + 1 + buffer[at]
        found["content_encoding"], at = buffer[at + 1 : end].decode(), end
    if flags & _HEADERS:
        end = at + _LENGTH.size + _LENGTH.unpack_from(buffer, at)[0]
        table = buffer[at + _LENGTH.size : min(end, at + _LENGTH.size + _LARGEST_TABLE_BYTES + 1)]
        if texts := _texts_in(table):
            found["headers"], at = texts.copy(), end
        elif (copy_to := _copy_in(table)) is not None:
            found["headers"], at = {"CC": [copy_to]}, end
        else:
            return properties.decode(buffer[header + _CONTENT_FRAME.size - 2 : header_end - 1])
    if flags & _DELIVERY_MODE:
        found["delivery_mode"], at = buffer[at], at + 1
    if flags & _REPLY_TO:
        end = at + 1 + buffer[at]
        found["reply_to"], at = buffer[at + 1 : end].decode(), end
    if flags & _MESSAGE_ID:
        end = at + 1 + buffer[at]
        found["message_id"], at = buffer[at + 1 : end].decode(), end
    if flags & _TIMESTAMP:
        (found["timestamp"],) = _SECONDS.unpack_from(buffer, at)
    properties.__dict__ = found
    return properties


def read_confirm(buffer: bytes, start: int) -> Confirm | None:
    """Read a confirm (`basic.ack`) that lies in the buffer as a whole; None when it does not."""
    end = start + _ACK_SIZE
    if end > len(buffer) or buffer[end - 1] != _END:
        return None
    tag, multiple = _TAG_AND_BITS.unpack_from(buffer, start + _METHOD_FRAME.size)
    return Confirm(tag, bool(multiple), end)


def write_publish(
    channel: int, exchange: str, key: str, properties: spec.BasicProperties, body: bytes, frame_limit_bytes: int
) -> bytes | None:
    """Return the frames of a mandatory publish; None for properties or a size that are left to pika."""
    if len(body) > frame_limit_bytes or type(properties.message_id) is not str or not _has_common_only(properties):
        return None  # an id may be bytes, if they are no UTF-8
    message_id = properties.message_id.encode()
    timestamp = properties.timestamp
    reply_to = properties.reply_to
    table = None
    if (headers := properties.headers) is not None and (table := _table_of(headers)) is None:
        return None
    lead = _common_lead(properties.content_type, properties.content_encoding, properties.delivery_mode, reply_to, table)
    if (
        len(message_id) > LONGEST_NAME_BYTES
        or lead is None
        or type(timestamp) is not int
        or not 0 <= timestamp < _END_OF_TIME
    ):
        return None
    size = _CONTENT_FRAME.size - spec.FRAME_HEADER_SIZE + len(lead) + 1 + len(message_id) + _SECONDS.size
    flags = _COMMON if reply_to is None else _COMMON_OR_FOLLOWED
    if table is not None:
        flags |= _HEADERS
    header = _CONTENT_FRAME.pack(_HEADER, channel, size, _BASIC, 0, len(body), flags)
    pieces = [_publish_method(channel, exchange, key), header, lead, bytes([len(message_id)]), message_id]
    pieces += (_SECONDS.pack(timestamp), _END_BYTE)
    if body:
        pieces += (_BODY_FRAME.pack(_BODY, channel, len(body)), body, _END_BYTE)
    return b"".join(pieces)


def body_frames(channel: int, body: bytes, most_bytes: int) -> Iterator[bytes | memoryview]:
    """Yield the frames of a body in pieces, which copy nothing of it; each frame carries at most so many bytes."""
    view = memoryview(body)
    for start in range(0, len(view), most_bytes):
        part = view[start : start + most_bytes]
        yield _BODY_FRAME.pack(_BODY, channel, len(part))
        yield part
        yield _END_BYTE


def _has_common_only(properties: spec.BasicProperties) -> bool:
    return (
        properties.priority is None
        and properties.correlation_id is None
        and properties.expiration is None
        and properties.type is None
        and properties.user_id is None
        and properties.app_id is None
        and properties.cluster_id is None
    )


def _table_of(headers: dict[str, Any]) -> bytes | None:
    """Return few and short headers encoded: the key of one copy, or texts; None for all others."""
    keys = headers.get("CC")
    if keys is None:
        return _texts(tuple(headers.items())) if 0 < len(headers) <= _MOST_TEXTS else None
    if len(headers) == 1 and type(keys) is list and len(keys) == 1 and type(keys[0]) is str:
        return _copies(keys[0])
    return None


def _texts(headers: tuple[tuple[str, object], ...]) -> bytes | None:
    if not all(type(name) is str and type(value) is str for name, value in headers):
        return None  # before it is looked up: values of other types may be equal, or have no hash
    return _encoded_texts(headers)


@functools.lru_cache(maxsize=256)
def _encoded_texts(headers: tuple[tuple[str, str], ...]) -> bytes | None:
    table = b""
    for name, value in headers:
        try:
            text = value.encode()
            table += _short(name) + _TEXT + _LENGTH.pack(len(text)) + text
        except ValueError:  # half a character, or a name that is too long: pika says which
            return None
    return table if len(table) <= _LARGEST_TABLE_BYTES else None


@functools.lru_cache(maxsize=256)
def _texts_in(table: bytes) -> dict[str, str] | None:
    """Read headers that are texts off a whole table; None for all others, also for none at all."""
    if len(table) > _LARGEST_TABLE_BYTES:
        return None
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(table):
            name_end = at + 1 + table[at]
            start = name_end + 1 + _LENGTH.size
            end = start + _LENGTH.unpack_from(table, name_end + 1)[0]
            if table[name_end : name_end + 1] != _TEXT or end > len(table):
                return None
            found[table[at + 1 : name_end].decode()] = table[start:end].decode()
            at = end
    except (IndexError, struct.error, UnicodeDecodeError):
        return None
    return found or None


@functools.lru_cache(maxsize=256)
def _copy_in(table: bytes) -> str | None:
    """Read the key of one copy off a whole table; None for all others."""
    size = len(_COPIES) + _LENGTH.size + 1 + _LENGTH.size
    if len(table) < size or len(table) > _LARGEST_TABLE_BYTES:
        return None
    try:
        key = table[size:].decode()
    except UnicodeDecodeError:
        return None
    return key if _copies(key) == table else None


@functools.lru_cache(maxsize=256)
def _copies(key: str) -> bytes | None:
    encoded = key.encode()
    if len(encoded) > LONGEST_NAME_BYTES:
        return None
    size = _LENGTH.pack(1 + _LENGTH.size + len(encoded))
    return b"".join((_COPIES, size, _TEXT, _LENGTH.pack(len(encoded)), encoded))


@functools.lru_cache(maxsize=256)
def _common_lead(
    content_type: str | bytes | None,
    content_encoding: str | bytes | None,
    delivery_mode: int | None,
    reply_to: str | bytes | None,
    headers: bytes | None,
) -> bytes | None:
    if not (isinstance(content_type, str) and isinstance(content_encoding, str)) or delivery_mode is None:
        return None
    if reply_to is not None and (not isinstance(reply_to, str) or len(reply_to.encode()) > LONGEST_NAME_BYTES):
        return None
    table = b"" if headers is None else _LENGTH.pack(len(headers)) + headers
    follows = b"" if reply_to is None else _short(reply_to)
    return _short(content_type) + _short(content_encoding) + table + bytes([delivery_mode]) + follows


@functools.lru_cache(maxsize=256)
def _publish_method(channel: int, exchange: str, key: str) -> bytes:
    mandatory = 1
    arguments = b"\0\0" + _short(exchange) + _short(key) + bytes([mandatory])
    return _METHOD_FRAME.pack(_METHOD, channel, 4 + len(arguments), _BASIC, _PUBLISH) + arguments + _END_BYTE


def _short(text: str) -> bytes:
    encoded = text.encode()
    return bytes([len(encoded)]) + encoded  # ValueError beyond 255, as pika raises one
