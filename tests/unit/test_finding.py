"""Which broker is used, as far as that can be decided without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from leveret.topology.errors import AccessRefused, BrokerUnreachable
from leveret.topology.link import default_broker
from leveret.topology.local import finding, node
from leveret.topology.settings import Settings


def answers(monkeypatch: pytest.MonkeyPatch, **brokers: Exception | None) -> list[str]:
    """Have each broker, by its host, answer or fail so; returns the URLs that are asked, as they are."""
    asked: list[str] = []

    def check(url: str, settings: Settings | None = None) -> None:
        asked.append(url)
        host = url.removeprefix("amqp://").partition("/")[0]
        if error := brokers[host]:
            raise error

    for module in (finding, default_broker):
        monkeypatch.setattr(module, "check", check)
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
    monkeypatch.setattr(default_broker, "private_node", lambda: None)
    resolved = default_broker.resolve(Settings(amqp_url, heartbeat_seconds=7))

    assert resolved == Settings(amqp_url, management_url, heartbeat_seconds=7)
    assert asked == []


def test_a_configured_management_url_is_kept() -> None:
    """What was set is not guessed."""
    configured = Settings("amqp://rabbit/", "http://proxy/rabbit/")

    assert default_broker.resolve(configured) == configured


def test_the_first_of_several_that_answers_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers are asked in their order until one answers, and all of them stay configured."""
    asked = answers(monkeypatch, one=BrokerUnreachable("one is down"), two=None, three=None)
    urls = "amqp://one/;amqp://two/;amqp://three/"
    found = finding.find(configured=Settings(urls))

    assert found.amqp_url == urls
    assert asked == ["amqp://one/", "amqp://two/"]


@pytest.mark.parametrize("error", [BrokerUnreachable("two is down"), AccessRefused("two refused")])
def test_a_configured_broker_is_never_replaced(
    error: BrokerUnreachable | AccessRefused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When none of the configured ones can be used, that is the error, of its own kind, and nothing is started."""
    answers(monkeypatch, one=BrokerUnreachable("one is down"), two=error)

    with pytest.raises(type(error), match=f"AMQP_URL decides; unset it to use a broker of this machine: {error}"):
        finding.find(start=True, configured=Settings("amqp://one/;amqp://two/"))


GUEST_HERE = "guest:guest@localhost:5672"
GUEST_OF_NODE = "guest:guest@localhost:5673"
NODE = default_broker.LocalBroker(f"amqp://{GUEST_OF_NODE}/", "http://localhost:15673/")


def test_where_no_broker_is_the_choices_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a broker on this machine the error says what can be done about it, whoever asks."""
    answers(monkeypatch, **{GUEST_HERE: BrokerUnreachable("refused")})
    monkeypatch.setattr(default_broker, "private_node", lambda: None)
    monkeypatch.setattr(node, "status", lambda: None)
    choices = "install rabbitmq-server and run leveret node start; or run docker compose up -d --wait; or set AMQP_URL"

    with pytest.raises(
        BrokerUnreachable, match=rf"no broker answers on localhost:5672, and no private node runs in .*; {choices}"
    ):
        default_broker.resolve(Settings())
    with pytest.raises(
        BrokerUnreachable, match=rf"no broker answers on localhost:5672, and the private node .* not run; {choices}"
    ):
        finding.find(configured=Settings())


@pytest.mark.parametrize("error", [BrokerUnreachable("refused"), AccessRefused("not guest")])
def test_a_private_node_is_taken_where_nothing_else_lets_us_in(
    error: BrokerUnreachable | AccessRefused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the broker on the standard port; a management URL that was set is kept."""
    asked = answers(monkeypatch, **{GUEST_HERE: error, GUEST_OF_NODE: None})
    monkeypatch.setattr(default_broker, "private_node", lambda: NODE)

    assert default_broker.resolve(Settings()) == Settings(*NODE)
    assert asked == [default_broker.STANDARD_URL, NODE.amqp_url]
    assert default_broker.resolve(Settings("", "http://proxy/")) == Settings(NODE.amqp_url, "http://proxy/")


def test_a_private_node_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file may have outlived it, so both that were asked are in the error."""
    answers(monkeypatch, **{GUEST_HERE: AccessRefused("not guest"), GUEST_OF_NODE: BrokerUnreachable("it is gone")})
    monkeypatch.setattr(default_broker, "private_node", lambda: NODE)

    with pytest.raises(
        BrokerUnreachable, match=r"5672 does not let guest in, nor does the private node of .*: it is gone; install "
    ):
        default_broker.resolve(Settings())


@pytest.mark.parametrize("amqp_url", [NODE.amqp_url, "amqp://localhost:5673/team"])
def test_the_management_api_of_a_private_node_is_where_it_says(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port is its own, also for who has set its URL."""
    monkeypatch.setattr(default_broker, "private_node", lambda: NODE)

    assert default_broker.management_url_of(amqp_url) == NODE.management_url
    assert default_broker.management_url_of("amqp://elsewhere:5673/") == "http://elsewhere:15672/"


@pytest.mark.parametrize(
    "written", [None, "", "{", "[]", "null", '{"amqp_port": 5673}', '{"amqp_port": "x", "management_port": 1}']
)
def test_a_file_that_names_no_node_is_none(
    written: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None was started, or its file is for its owner to mend; a whole one is read."""
    monkeypatch.setattr(default_broker, "CHECKOUT", tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".rabbitmq" / "node.json"
    file.parent.mkdir()
    if written is not None:
        file.write_text(written)

    assert default_broker.private_node() is None
    file.write_text('{"amqp_port": 5673, "management_port": 15673, "pid": 1}')
    assert default_broker.private_node() == NODE
    (file.parent / "password").write_text("s3cret")
    assert default_broker.private_node() == NODE._replace(amqp_url="amqp://guest:s3cret@localhost:5673/")
