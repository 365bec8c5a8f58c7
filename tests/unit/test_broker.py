"""Which broker is used, as far as that can be decided without one."""

from __future__ import annotations

import pytest

from topology import broker
from topology.errors import AccessRefused, BrokerUnreachable
from topology.settings import Settings


def answers(monkeypatch: pytest.MonkeyPatch, **brokers: Exception | None) -> list[str]:
    """Have each broker, by its host, answer or fail so; returns the URLs that are asked, as they are."""
    asked: list[str] = []

    def check(url: str, settings: Settings | None = None) -> None:
        asked.append(url)
        host = url.removeprefix("amqp://").partition("/")[0]
        if error := brokers[host]:
            raise error

    monkeypatch.setattr(broker, "check", check)
    return asked


@pytest.mark.parametrize(
    ("amqp_url", "management_url"),
    [
        ("amqp://rabbit/", "http://rabbit:15672/"),
        ("amqp://user:pw@rabbit:5673/team", "http://rabbit:15672/"),
        ("amqp://[2001:db8::1]:5672/", "http://[2001:db8::1]:15672/"),
        ("amqp://one/;amqp://two/", "http://one:15672/"),
        ("amqps://user:pw@rabbit/team", "https://rabbit:15671/"),
    ],
)
def test_a_configured_broker_is_taken_unasked(
    amqp_url: str, management_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resolving asks nobody when a broker is set, and derives where its management API is."""
    asked = answers(monkeypatch)
    resolved = broker.resolve(Settings(amqp_url, heartbeat_seconds=7))

    assert resolved == Settings(amqp_url, management_url, heartbeat_seconds=7)
    assert asked == []


def test_a_configured_management_url_is_kept() -> None:
    """What was set is not guessed."""
    configured = Settings("amqp://rabbit/", "http://proxy/rabbit/")

    assert broker.resolve(configured) == configured


def test_the_first_of_several_that_answers_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers are asked in their order until one answers, and all of them stay configured."""
    asked = answers(monkeypatch, one=BrokerUnreachable("one is down"), two=None, three=None)
    urls = "amqp://one/;amqp://two/;amqp://three/"
    found = broker.find(configured=Settings(urls))

    assert found.amqp_url == urls
    assert asked == ["amqp://one/", "amqp://two/"]


@pytest.mark.parametrize("error", [BrokerUnreachable("two is down"), AccessRefused("two refused")])
def test_a_configured_broker_is_never_replaced(
    error: BrokerUnreachable | AccessRefused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When none of the configured ones can be used, that is the error, of its own kind, and nothing is started."""
    answers(monkeypatch, one=BrokerUnreachable("one is down"), two=error)

    with pytest.raises(type(error), match=f"AMQP_URL decides; unset it to use a broker of this machine: {error}"):
        broker.find(start=True, configured=Settings("amqp://one/;amqp://two/"))


def test_where_no_broker_is_the_choices_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a broker on this machine the error says what can be done about it."""
    answers(monkeypatch, **{"guest:guest@localhost:5672": BrokerUnreachable("refused")})
    monkeypatch.setattr("topology.node.status", lambda: None)

    with pytest.raises(
        BrokerUnreachable, match=r"no broker answers on localhost:5672, and the private node .* not run"
    ):
        broker.resolve(Settings())
