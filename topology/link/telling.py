"""The AMQP side of events: the message that carries them, and who gets a copy of it."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import pika

from leveret.topology import events
from leveret.topology.events import CLOSING, Kind
from leveret.topology.link.outbox import Outgoing
from leveret.topology.message import CONTENT_ENCODING, CONTENT_TYPE, PERSISTENT, new_id
from leveret.topology.names import EVENTS_EXCHANGE, REPLY_PREFIX, Route

_TRANSIENT = 1


def new_reply_key() -> str:
    """Return a key by which events, and answers, come to nobody else; and the name of the queue that it leads to."""
    return f"{REPLY_PREFIX}{uuid.uuid4().hex}"


def event_message(kind: Kind, task: str, reply_to: str, body: bytes) -> Outgoing:
    """Return a message of events. The broker routes it to who listens, and by CC also to the queue of who waits."""
    headers: dict[str, Any] | None = {"CC": [reply_to]} if reply_to.startswith(REPLY_PREFIX) else None
    properties = pika.BasicProperties(
        message_id=new_id(),
        content_type=CONTENT_TYPE,
        content_encoding=CONTENT_ENCODING,
        delivery_mode=PERSISTENT if kind in CLOSING else _TRANSIENT,
        timestamp=int(events.now()),
        headers=headers,
    )
    return Outgoing(Route(EVENTS_EXCHANGE, events.key(kind, task)), body, properties)


def waits_for(message: Outgoing) -> bool:
    """Whether a message of events goes to the queue of who waits, too."""
    return message.route.exchange == EVENTS_EXCHANGE and bool(message.properties.headers)


def for_others(message: Outgoing) -> Outgoing:
    """Return a message of events for all but who waits."""
    properties = copy.copy(message.properties)
    properties.message_id, properties.headers = new_id(), None
    return message._replace(properties=properties)
