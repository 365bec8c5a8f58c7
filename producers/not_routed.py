"""Explain why nothing took a message: ask the management API what is bound, and name the nearest binding."""

from __future__ import annotations

import difflib
from typing import Any

from topology import names, queues
from topology.errors import BrokerError, SettingsError
from topology.management import Management
from topology.names import Route
from topology.settings import Settings, vhost_of

_TIMEOUT_SECONDS = 2.0


def advice(settings: Settings, route: Route) -> str:
    """Return what to do about a message that was not routed: the binding nearest to its key, if there is any."""
    keys = _bound_keys(settings, route.exchange)
    if keys is None:  # the management API is not there or not for this user: only this program's queues are known
        keys = _keys_of_known_queues(route.exchange)
    if not keys:
        return "no queue is bound to it; declare one: python -m topology.declare --tasks MODULE"
    near = difflib.get_close_matches(route.routing_key, keys, n=1, cutoff=0.0)[0]
    return f"the nearest binding is {near!r}; correct the key, or declare the queue it should reach"


def _bound_keys(settings: Settings, exchange: str) -> list[str] | None:
    """Return the routing keys bound to an exchange, or None where the management API cannot be asked."""
    try:
        bindings: Any = Management(settings, _TIMEOUT_SECONDS).call(
            "GET", "exchanges", vhost_of(settings.first_amqp_url), exchange, "bindings", "source"
        )
    except (BrokerError, SettingsError):
        return None
    if not isinstance(bindings, list):
        return None
    keys = {str(binding.get("routing_key", "")) for binding in bindings if isinstance(binding, dict)}
    return sorted(key for key in keys if "@" not in key)


def _keys_of_known_queues(exchange: str) -> list[str]:
    return sorted(
        key
        for queue in queues.known()
        for key in {
            names.DIRECT_EXCHANGE: (queue.name,),
            names.TOPIC_EXCHANGE: queue.topics,
            names.FANOUT_EXCHANGE: ("",) if queue.fanout else (),
        }.get(exchange, ())
    )
