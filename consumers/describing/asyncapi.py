"""The tasks of work queues as an AsyncAPI document: where their messages go, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from leveret.consumers.describing.schemas import Described, message_schema, tasks_of
from leveret.consumers.describing.types import Types, draft_7
from leveret.consumers.tasks.task import AnyTask
from leveret.topology import names, settings
from leveret.topology import queues as work_queues
from leveret.topology.errors import TaskModuleError
from leveret.topology.message.envelope import VERSION
from leveret.topology.message.properties import CONTENT_TYPE, PERSISTENT
from leveret.topology.names import Route
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings
from leveret.topology.settings.urls import vhost_of

_BINDING = "0.3.0"
_LIVES = {"durable": True, "autoDelete": False}
_TO_SUBMIT = {"deliveryMode": PERSISTENT, "mandatory": True, "ack": True, "bindingVersion": _BINDING}


def asyncapi_of(
    queues: Sequence[WorkQueue] | None = None, configured: Settings | None = None, vhost: str | None = None
) -> Described:
    """Return an AsyncAPI 3.0 document of these work queues, by default of all, seen from the workers, who receive.

    The servers are those of the settings, without users and passwords; `vhost` is theirs by default. What a schema
    cannot say is said as in `schemas_of`.
    """
    configured = configured or settings.load()
    chosen = work_queues.known() if queues is None else queues
    place = vhost_of(configured.amqp_urls[0]) if vhost is None else vhost
    messages, schemas, problems = _messages(tasks_of(chosen))
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    keys = _keys(queue.name for queue in chosen)
    for queue in chosen:
        key = keys[queue.name]
        received = {messages[task.name]["key"]: task for task in tasks_of([queue]) if task.name in messages}
        channels[f"queue.{key}"] = _queue_channel(queue, received, place)
        operations[f"run.{key}"] = {
            "action": "receive",
            "title": f"Workers take tasks from {queue.name}",
            "channel": {"$ref": f"#/channels/queue.{key}"},
            "bindings": {"amqp": {"ack": True, "bindingVersion": _BINDING}},
        }
        for message, task in received.items():
            channels[f"submit.{message}"] = _exchange_channel(task, message, place)
            operations[f"submit.{message}"] = {
                "action": "receive",
                "title": f"Submit {task.name}",
                "channel": {"$ref": f"#/channels/submit.{message}"},
                "bindings": {"amqp": _TO_SUBMIT},
            }
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"Tasks of {', '.join(queue.name for queue in chosen)}",
            "version": f"{VERSION}.0.0",
            "description": "Task messages on RabbitMQ. A client sends to the channels submit.…, with publisher "
            "confirms, and sets message_id to a unique id. The version is that of the message.",
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": _servers(configured, place),
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {one["key"]: one["message"] for one in messages.values()},
            "schemas": schemas,
        },
    }
    return Described(document, tuple(problems))


def _messages(tasks: Iterable[AnyTask]) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Return the message of each task with its key, the schemas of all of them, and what has no schema."""
    tasks = list(tasks)
    keys = _keys(task.name for task in tasks)
    messages: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    problems: list[str] = []
    for task in tasks:
        key = keys[task.name]
        types = Types(f"#/components/schemas/{key}.")
        try:
            payload = draft_7(message_schema(task, types, problems))
        except TaskModuleError as error:
            problems.append(f"{error}; it is left out")
            continue
        schemas |= {key: payload, **{f"{key}.{name}": draft_7(schema) for name, schema in types.defined.items()}}
        message = {
            "name": task.name,
            "title": task.name,
            "contentType": CONTENT_TYPE,
            "headers": _headers(task.queue),
            "payload": {"$ref": f"#/components/schemas/{key}"},
            "bindings": {"amqp": {"bindingVersion": _BINDING}},
        }
        messages[task.name] = {"key": key, "message": message}
    return messages, schemas, problems


def _headers(queue: WorkQueue) -> dict[str, Any]:
    levels = {names.PRIORITY_HEADER: {"enum": list(names.LEVELS), "default": names.NORMAL}} if queue.priorities else {}
    return {"type": "object", "properties": levels}


def _queue_channel(queue: WorkQueue, messages: Iterable[str], vhost: str) -> dict[str, Any]:
    return {
        "address": queue.name,
        "title": f"Work queue {queue.name}",
        "description": f"Tried at most {queue.attempts} times; what has failed for good lies in "
        f"{names.dlq_name(queue.name)}.",
        "messages": _references(messages),
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {"name": queue.name, "exclusive": False, "vhost": vhost, **_LIVES},
                "bindingVersion": _BINDING,
            }
        },
    }


def _exchange_channel(task: AnyTask, message: str, vhost: str) -> dict[str, Any]:
    """Describe the way a task goes if nothing else is said."""
    route = Route.topic(task.name)
    return {
        "address": route.routing_key,
        "title": f"Routing key {route.routing_key} of {route.exchange}",
        "messages": _references([message]),
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": route.exchange,
                    "type": "topic",
                    "vhost": vhost,
                    **_LIVES,
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _references(messages: Iterable[str]) -> dict[str, Any]:
    return {key: {"$ref": f"#/components/messages/{key}"} for key in messages}


def _servers(configured: Settings, vhost: str) -> dict[str, Any]:
    servers = {}
    for number, url in enumerate(configured.amqp_urls, 1):
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        servers[f"broker{number if number > 1 else ''}"] = {
            "host": host,
            "protocol": parts.scheme.lower(),
            "protocolVersion": "0-9-1",
            "description": f"RabbitMQ, virtual host {vhost}",
        }
    return servers


def _keys(texts: Iterable[str]) -> dict[str, str]:
    """Return a key for each name, of the characters that keys may have, and no two the same."""
    keys: dict[str, str] = {}
    for text in texts:
        key = base = re.sub(r"[^A-Za-z0-9_.-]", "_", text)
        number = 1
        while key in keys.values():
            number += 1
            key = f"{base}_{number}"
        keys[text] = key
    return keys
