"""The settings: one frozen object, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from leveret.topology.errors import SettingsError
from leveret.topology.settings.addresses import read_address
from leveret.topology.settings.tls import TlsFiles
from leveret.topology.settings.urls import (
    NEXT_URL,
    check_amqp_url,
    check_management_url,
    check_record_url,
    mask,
)

RECORDED = ("followed", "all", "off")
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """Everything that can be set from outside; raises `SettingsError` when a value is unusable."""

    amqp_url: str = ""
    """Broker, `amqp://user:password@host:port/vhost` or `amqps://`; several, separated by `;`, are tried in
    turn. Empty: the broker of this machine, see `leveret node find`."""
    management_url: str = ""
    """RabbitMQ's management UI and API. Empty: port 15672 of the broker's host, 15671 with TLS for `amqps://`."""
    data_dir: Path = CHECKOUT / "data"
    """Where tasks read their input; nothing outside it is read."""
    output_dir: Path = Path("output")
    """Where tasks write what they produce; made when missing."""
    message_limit_bytes: int = 1024 * 1024
    """Largest message body that is published or run. RabbitMQ 4 itself closes the channel over 16 MiB."""
    publish_timeout_seconds: float = 30.0
    """How long a publish may wait for the broker's confirm, reconnecting included."""
    shutdown_timeout_seconds: float = 30.0
    """How long a worker that was told to stop lets running tasks finish before it hands them back."""
    heartbeat_seconds: int = 10
    """AMQP heartbeat. A dead link is noticed by both sides within three of them."""
    tls_ca_file: str = ""
    """Certificate authorities to trust for `amqps://` and `https://`, PEM. Empty: those of this machine."""
    tls_cert_file: str = ""
    """Client certificate, PEM, for a broker that asks for one."""
    tls_key_file: str = ""
    """Its private key, PEM, without a passphrase. Empty: it stands in `tls_cert_file`."""

    consumer_timeout_seconds: float = 1800.0
    """The broker's `consumer_timeout`, which no client can ask for: what is not acknowledged by then it takes back."""

    record: str = "followed"
    """What goes into the record of tasks: what is `followed`, `all`, or nothing with `off`."""
    record_url: str = ""
    """Where a recorder keeps it: `sqlite:///path`, or `postgresql://user:password@host/database`. Empty: the file
    record/tasks.sqlite3 in `output_dir`."""
    record_success_seconds: float = 86_400.0
    """How long it keeps what has succeeded or was cancelled, results included."""
    record_failure_seconds: float = 604_800.0
    """How long it keeps what has failed, and what has not been heard of again."""

    tasks: tuple[str, ...] = ()
    """The modules that define tasks and queues, where a command names no others. The variable is LEVERET_TASKS, with
    commas between them."""

    metrics: str = ""
    """Where workers and recorders serve their numbers to Prometheus, as `:9090`. The variable is LEVERET_METRICS."""
    health: str = ""
    """Where workers say whether they live and are ready, as `:8080`. The variable is LEVERET_HEALTH."""

    def __post_init__(self) -> None:
        for url in NEXT_URL.split(self.amqp_url) if self.amqp_url else ():
            check_amqp_url(url)
        if len({url.lower().startswith("amqps:") for url in self.amqp_urls}) > 1:
            raise SettingsError(
                f"AMQP_URL {mask(self.amqp_url)!r} mixes amqps:// with amqp://, which sends the password in the clear; "
                "write amqps:// for all of them"
            )
        if self.management_url:
            check_management_url(self.management_url)
        if self.record_url:
            check_record_url(self.record_url)
        for name in ("metrics", "health"):
            if text := getattr(self, name):
                read_address(text, f"setting {name}")
        if self.record not in RECORDED:
            raise SettingsError(f"setting record is {self.record!r}; it must be one of {', '.join(RECORDED)}")
        for name, low, high in (
            ("message_limit_bytes", 1, 128 * 1024 * 1024),
            ("publish_timeout_seconds", 0.001, 86_400),
            ("shutdown_timeout_seconds", 0, 86_400),
            ("heartbeat_seconds", 1, 3_600),
            ("consumer_timeout_seconds", 1, 31_536_000),
            ("record_success_seconds", 1, 315_360_000),
            ("record_failure_seconds", 1, 315_360_000),
        ):
            if not low <= getattr(self, name) <= high:
                raise SettingsError(f"setting {name} is {getattr(self, name)}; it must be from {low} to {high}")

    @property
    def tls_files(self) -> TlsFiles:
        """Whom to trust, and who we are, in TLS."""
        return TlsFiles(self.tls_ca_file, self.tls_cert_file, self.tls_key_file)

    @property
    def amqp_urls(self) -> list[str]:
        """The brokers, to be tried in turn: nodes of one cluster, with the same users and virtual hosts."""
        return self.amqp_url.split(";")

    @property
    def first_amqp_url(self) -> str:
        """The first of the brokers."""
        return self.amqp_urls[0]

    def __repr__(self) -> str:
        shown = (f"{field.name}={mask(str(getattr(self, field.name)))!r}" for field in fields(self))
        return f"Settings({', '.join(shown)})"
