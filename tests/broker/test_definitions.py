"""Exported definitions are what declaring makes: imported into an empty virtual host, nothing is left to declare."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from leveret import WorkQueue, declare, definitions_of
from leveret.topology import queues
from leveret.topology.apply.declare import declare_ladder, declare_streams
from leveret.topology.local.finding import Broker
from tests.broker.support import Vhost


@pytest.fixture
def work_queues(monkeypatch: pytest.MonkeyPatch) -> list[WorkQueue]:
    """One of each kind."""
    monkeypatch.setattr(queues, "_known", {})
    return [
        WorkQueue("plain"),
        WorkQueue("levels", topics=["levels.#", "urgent.*"], retry_delays=(0.5, 3600), priorities=True),
        WorkQueue("once", retry_delays=(), fanout=True),
    ]


@pytest.fixture
def other_vhost(used_broker: Broker) -> Iterator[Vhost]:
    """What is declared there is what is to be exported."""
    made = Vhost.create(used_broker)
    yield made
    made.delete()


KINDS = {
    "exchanges": ("name", "type", "durable", "auto_delete", "internal", "arguments"),
    "queues": ("name", "durable", "auto_delete", "arguments"),
    "bindings": ("source", "destination", "destination_type", "routing_key", "arguments"),
}


def as_said(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """What exchanges, queues and bindings consist of, in an order of its own."""
    return {
        kind: sorted(json.dumps({name: one[name] for name in fields}, sort_keys=True) for one in found[kind])
        for kind, fields in KINDS.items()
    }


def there(vhost: Vhost) -> dict[str, list[str]]:
    """All that does not come with a virtual host; the broker's own definitions leave out some (4.3.6)."""
    found = {kind: vhost.api("GET", f"{kind}/{vhost.name}") for kind in KINDS}
    found["exchanges"] = [one for one in found["exchanges"] if not one["name"].startswith("amq.") and one["name"]]
    found["bindings"] = [one for one in found["bindings"] if one["source"]]
    return as_said(found)


@pytest.mark.parametrize("with_delays", [False, True])
def test_what_is_imported_is_what_declare_makes(
    with_delays: bool, vhost: Vhost, other_vhost: Vhost, work_queues: list[WorkQueue]
) -> None:
    """Nor does declaring change what was imported, or find anything in its way."""
    declare(other_vhost.settings, work_queues)
    declare_streams(other_vhost.settings)
    if with_delays:
        declare_ladder(other_vhost.settings)
    made = definitions_of(work_queues, vhost.name, with_delays)

    vhost.api("POST", f"definitions/{vhost.name}", made)

    assert there(vhost) == as_said(made)
    assert there(other_vhost) == as_said(made)
    declare(vhost.settings, work_queues)
    declare_streams(vhost.settings)
    assert there(vhost) == as_said(made)


def test_a_whole_broker_s_import_takes_them(vhost: Vhost, work_queues: list[WorkQueue]) -> None:
    """They name their virtual host themselves, and nothing of another one."""
    vhost.api("POST", "definitions", definitions_of(work_queues[:1], vhost.name))

    assert {"plain", "plain.dlq", "tasks.cancelled"} <= vhost.queues()
