"""A link that is silently dead: whoever waits for an answer gets an error instead, in time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from leveret import Settings, TopologyError, declare
from leveret.topology.apply import connecting
from tests.broker.jobs import jobs
from tests.broker.support import Vhost
from tests.faults.proxy import Direction, Proxy


def test_declare_ends(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker's answer to a declaration never comes."""
    monkeypatch.setattr(connecting, "ANSWER_TIMEOUT_SECONDS", 1.0)
    with Proxy.before(vhost.settings.first_amqp_url) as proxy:

        @contextmanager
        def declaring_until_the_link_dies(configured: Settings) -> Iterator[Any]:
            with connecting.declaring(configured) as opened:
                proxy.hold(Direction.TO_CLIENT)
                yield opened

        monkeypatch.setattr("leveret.topology.apply.declare.declaring", declaring_until_the_link_dies)

        with pytest.raises(TopologyError, match=r"could not declare the topology: .+; try again"):
            declare(replace(vhost.settings, amqp_url=proxy.url(vhost.settings.first_amqp_url)), [jobs])
