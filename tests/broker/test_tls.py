"""TLS: everything works over amqps with a client certificate, and nothing connects where it must not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from leveret import BrokerUnreachable, Publisher, Settings, declare
from leveret.topology.link.connection import check
from leveret.topology.local.finding import Broker
from leveret.topology.names import dlq_name
from leveret.topology.settings import load
from tests.broker.control import BrokerControl
from tests.broker.jobs import jobs
from tests.broker.support import JOBS, Vhost, Workers, await_value, run
from tests.certificates import Authority
from tests.shared import FOLDER, folder_of


class Tls(NamedTuple):
    """The files of a session, and a port that asks for a client certificate."""

    folder: Path
    ours: Authority
    control: BrokerControl
    port: int

    def environment(self, vhost: Vhost, **changes: str) -> dict[str, str]:
        """The settings of a client that is let in, with these changed."""
        return {
            "AMQP_URL": url_at(vhost, self.port),
            "TLS_CA_FILE": str(self.ours.file),
            "TLS_CERT_FILE": str(self.folder / "client.pem"),
            "TLS_KEY_FILE": str(self.folder / "client.key"),
            **changes,
        }

    def settings(self, vhost: Vhost, **changes: str) -> Settings:
        """The same as `environment`, as settings."""
        return load({"MANAGEMENT_URL": vhost.broker.management_url, **self.environment(vhost, **changes)})


def url_at(vhost: Vhost, port: int, scheme: str = "amqps", host: str = "localhost") -> str:
    place = urlsplit(vhost.amqp_url)
    return f"{scheme}://{place.username}:{place.password}@{host}:{port}{place.path}"


@pytest.fixture(scope="module")
def tls(
    broker_of_module: Broker, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Tls]:
    control = BrokerControl(broker_of_module, folder_of(broker_of_module, pytestconfig.stash[FOLDER]))
    folder = tmp_path_factory.mktemp("tls")
    ours = Authority(folder, "ours")
    ours.issue("client")
    with control.listener(ours.file, *ours.issue("server", "localhost", "127.0.0.1")) as port:
        yield Tls(folder, ours, control, port)


def test_a_task_runs_from_end_to_end(tls: Tls, vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Declaring, submitting, running, a retry, the DLQ and redriving all work over TLS with a client certificate."""
    environment, settings = tls.environment(vhost), tls.settings(vhost)
    declare(settings, [jobs])
    ran = tmp_path / "ran"
    submitted = run(
        "producers.submit", "jobs.write", "--tasks", JOBS, "--kwargs", f'{{"path": "{ran}"}}', **environment
    )

    assert (submitted.returncode, len(submitted.stdout.split())) == (0, 1), submitted.stderr
    with Publisher(settings) as publisher:
        failing = publisher.submit("jobs.reject")
        retried = publisher.submit("jobs.fail_once")
    worker = workers.drain(**environment)
    assert worker.find("done", id=retried, attempt=2, of=3)
    assert ran.read_text().split()[0] == submitted.stdout.strip()
    assert vhost.counts(jobs) == {dlq_name("jobs"): 1}
    redriven = run("producers.redrive", "jobs", "--quiet", **environment)
    assert redriven.stdout.split() == [failing], redriven.stderr
    assert vhost.ids_in("jobs") == [failing]


def test_the_broker_sees_our_certificate(tls: Tls, vhost: Vhost, workers: Workers) -> None:
    """What a worker opens is encrypted, and the broker knows whose certificate it was."""
    declare(tls.settings(vhost), [jobs])
    workers.start(**tls.environment(vhost))

    def subject() -> str:
        """What the management API knows of the worker's connection, once it knows all of it."""
        connections = vhost.api("GET", f"vhosts/{vhost.name}/connections")
        return str(connections[0].get("peer_cert_subject") or "") if connections else ""

    assert await_value(subject, "the worker's connection") == "CN=client"


def test_a_broker_that_asks_for_no_certificate(tls: Tls, vhost: Vhost) -> None:
    """The authority's certificate is enough where the broker asks for no other."""
    with tls.control.listener(tls.ours.file, *tls.ours.issue("open", "localhost"), asks_client=False) as port:
        settings = replace(vhost.settings, amqp_url=url_at(vhost, port), tls_ca_file=str(tls.ours.file))
        declare(settings, [jobs])
        with Publisher(settings) as publisher:
            publisher.submit("jobs.fail")

    assert vhost.count("jobs") == 1


def assert_refused(settings: Settings, text: str) -> None:
    """Checking, declaring and publishing are all refused, for this reason."""
    with pytest.raises(BrokerUnreachable, match=text):
        check(settings.amqp_url, settings=settings)
    with pytest.raises(BrokerUnreachable, match=text):
        declare(settings, [jobs])
    for patience in (0.5, 5.0, 30.0):  # a busy machine may shake hands for longer than the shortest
        impatient = replace(settings, publish_timeout_seconds=patience)
        with pytest.raises(BrokerUnreachable) as refused, Publisher(impatient) as publisher:
            publisher.submit("jobs.fail")
        if "was open within" not in str(refused.value):
            break
    assert re.search(text, str(refused.value))


def test_an_unknown_authority(tls: Tls, vhost: Vhost) -> None:
    """A broker is not trusted because it has a certificate, neither by default nor with another authority."""
    other = Authority(tls.folder, "other")

    for file in ("", str(other.file)):
        assert_refused(tls.settings(vhost, TLS_CA_FILE=file), "not signed by an authority trusted here.*set TLS_CA_FI")


@pytest.mark.parametrize(("host", "name"), [("localhost", "rabbit.example"), ("127.0.0.1", "localhost")])
def test_a_certificate_for_another_host(tls: Tls, vhost: Vhost, host: str, name: str) -> None:
    """The hostname of the URL, or the address, has to be in the certificate."""
    with tls.control.listener(tls.ours.file, *tls.ours.issue("elsewhere", name)) as port:
        assert_refused(tls.settings(vhost, AMQP_URL=url_at(vhost, port, host=host)), f"is not valid for '{host}'")


def test_an_expired_certificate(tls: Tls, vhost: Vhost) -> None:
    """A certificate that is over is none."""
    with tls.control.listener(tls.ours.file, *tls.ours.issue("old", "localhost", days=0)) as port:
        assert_refused(tls.settings(vhost, AMQP_URL=url_at(vhost, port)), "certificate has expired; renew it")


def test_no_client_certificate(tls: Tls, vhost: Vhost) -> None:
    """A broker that asks for a certificate lets nobody in without one, and the error names the settings."""
    assert_refused(tls.settings(vhost, TLS_CERT_FILE="", TLS_KEY_FILE=""), "set TLS_CERT_FILE and TLS_KEY_FILE")


def test_a_client_certificate_of_another_authority(tls: Tls, vhost: Vhost) -> None:
    """Nor with one that it does not trust."""
    certificate, key = Authority(tls.folder, "stranger").issue("stranger-client")
    settings = tls.settings(vhost, TLS_CERT_FILE=str(certificate), TLS_KEY_FILE=str(key))

    assert_refused(settings, "set TLS_CERT_FILE and TLS_KEY_FILE")


def test_ports_that_speak_the_other_language(tls: Tls, vhost: Vhost) -> None:
    """TLS spoken to the plain port and plain AMQP spoken to the TLS port say which of the two it is."""
    plain_port = urlsplit(vhost.amqp_url).port or 5672
    to_plain = tls.settings(vhost, AMQP_URL=url_at(vhost, plain_port, host="127.0.0.1"))
    to_tls = tls.settings(vhost, AMQP_URL=url_at(vhost, tls.port, scheme="amqp"))

    assert_refused(to_plain, "does not speak TLS on this port")
    assert_refused(to_tls, "use amqps:// if this is its TLS port")


@pytest.mark.parametrize(
    "command",
    [
        ("consumers.run", "--queue", "jobs", "--tasks", JOBS),
        ("producers.submit", "jobs.fail", "--tasks", JOBS),
        ("topology.declare", "--tasks", JOBS),
        ("leveret", "node", "find"),
    ],
    ids=" ".join,
)
def test_a_command_that_is_refused(tls: Tls, vhost: Vhost, command: tuple[str, ...]) -> None:
    """Every command ends with one line that names the cause, without the password and without a traceback."""
    environment = tls.environment(vhost, TLS_CA_FILE="", MANAGEMENT_URL=vhost.broker.management_url)
    ended = run(*command, **environment)

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "is not signed by an authority trusted here" in line
    assert f"{vhost.user}:***@localhost" in line


def test_of_several_brokers_the_trusted_one_is_used(tls: Tls, vhost: Vhost) -> None:
    """One that cannot prove who it is is passed over, like one that is down."""
    with tls.control.listener(tls.ours.file, *tls.ours.issue("elsewhere", "rabbit.example")) as port:
        settings = tls.settings(vhost, AMQP_URL=f"{url_at(vhost, port)};{url_at(vhost, tls.port)}")
        declare(settings, [jobs])
        with Publisher(settings) as publisher:
            publisher.submit("jobs.fail")

    assert vhost.count("jobs") == 1
