"""Settings: one frozen object, read from the environment and one TOML file, checked before anything starts.

The environment wins over the file. The file is `leveret.toml` in the current folder, or the one that
`LEVERET_CONFIG` names; its keys are the field names below, the variables are the same in capitals.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from topology.errors import SettingsError
from topology.tls import TlsFiles

CHECKOUT = Path(__file__).resolve().parent.parent
_MOST_BITS = 64
_LONGEST_VHOST_BYTES = 255
_NEXT_URL = re.compile(r";(?=(?:amqp|http)s?://)", re.IGNORECASE)
"""What separates URLs. Any other `;` stands in a password, and has to be written as %3B."""
_IPV6_ADDRESS = re.compile(r"\[[\da-f:.]+(%\w+)?\]", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """Everything that can be set from outside; raises `SettingsError` when a value is unusable."""

    amqp_url: str = ""
    """Broker, `amqp://user:password@host:port/vhost` or `amqps://`; several, separated by `;`, are tried in
    turn. Empty: the broker of this machine, see `topology.broker`."""
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

    def __post_init__(self) -> None:
        for url in _NEXT_URL.split(self.amqp_url) if self.amqp_url else ():
            check_amqp_url(url)
        if self.management_url and not _is_http_url(self.management_url):
            raise SettingsError(
                f"MANAGEMENT_URL {mask(self.management_url)!r} is no URL; write it as http://host:15672/"
            )
        for name, low, high in (
            ("message_limit_bytes", 1, 128 * 1024 * 1024),
            ("publish_timeout_seconds", 0.001, 86_400),
            ("shutdown_timeout_seconds", 0, 86_400),
            ("heartbeat_seconds", 1, 3_600),
            ("consumer_timeout_seconds", 1, 31_536_000),
        ):
            if not low <= getattr(self, name) <= high:
                raise SettingsError(f"setting {name} is {getattr(self, name)}; it must be from {low} to {high}")
        if any(self.tls_files):
            self.tls_files.context()

    @property
    def tls_files(self) -> TlsFiles:
        """Whom to trust, and who we are, in TLS."""
        return TlsFiles(self.tls_ca_file, self.tls_cert_file, self.tls_key_file)

    @property
    def first_amqp_url(self) -> str:
        """The first of the brokers; all of them are nodes of one cluster, with the same users and virtual hosts."""
        return self.amqp_url.split(";")[0]

    def __repr__(self) -> str:
        shown = (f"{field.name}={mask(str(getattr(self, field.name)))!r}" for field in fields(self))
        return f"Settings({', '.join(shown)})"


def load(environment: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Read the settings. Keyword arguments win over the environment, which wins over the file.

    Raises `SettingsError` naming the setting and where the bad value came from.
    """
    environment = os.environ if environment is None else environment
    known = {field.name: field.default for field in fields(Settings)}
    values: dict[str, object] = {}
    for name, value, source in (*_from_file(environment), *_from_environment(environment, known)):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
            raise SettingsError(f"{source}: there is no setting {name!r}; {hint}")
        values[name] = _convert(name, value, known[name], source)
    return Settings(**{**values, **overrides})  # type: ignore[arg-type]


def _is_http_url(url: str) -> bool:
    try:
        place = urlsplit(url)
        return place.scheme in ("http", "https") and _can_be_host(place.hostname) and place.port != 0
    except ValueError:
        return False


def _can_be_host(name: str | None) -> bool:
    """Whether a name can be looked up: no part of it is empty or longer than 63 characters."""
    try:
        return bool(name and name.encode("idna"))
    except UnicodeError:
        return False


def _from_file(environment: Mapping[str, str]) -> list[tuple[str, object, str]]:
    named = environment.get("LEVERET_CONFIG")
    path = Path(named or "leveret.toml")
    try:
        text = path.read_text(encoding="utf-8")
        import tomllib  # only who has a file pays for it

        return [(name, value, f"settings file {path}") for name, value in tomllib.loads(text).items()]
    except FileNotFoundError as error:
        if named:
            raise SettingsError(f"settings file {path}, named by LEVERET_CONFIG, does not exist") from error
        return []
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no TOML, or a number without end
        raise SettingsError(f"settings file {path} cannot be read: {error}") from error


def _from_environment(environment: Mapping[str, str], known: Mapping[str, object]) -> list[tuple[str, object, str]]:
    return [
        (name, environment[name.upper()], f"variable {name.upper()}") for name in known if environment.get(name.upper())
    ]


def _convert(name: str, value: object, default: Any, source: str) -> object:
    wanted: type = Path if isinstance(default, Path) else type(default)
    article = "an" if wanted is int else "a"
    try:
        if isinstance(value, (dict, list, bool)) or (wanted is int and isinstance(value, float)):
            given = type(value).__name__
            raise SettingsError(f"{source}: {name} is {article} {wanted.__name__}; a {given} does not fit")
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise SettingsError(f"{source}: {name} is a number of {value.bit_length():,} bits; none is that large")
        return wanted(value)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{source}: {name} is {mask(str(value))!r}, not {article} {wanted.__name__}") from error


def check_amqp_url(url: str) -> None:
    """Raise `SettingsError` unless this is a URL of one broker."""
    example = "write it as amqp://user:password@host:5672/vhost (amqps:// for TLS, %2F for a slash in a name)"
    if ";" in url:
        raise SettingsError(
            f"AMQP_URL {mask(url)!r} has a ; after which no URL begins; write one in a password as %3B, and leave none "
            "at the end"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
        url.encode()  # as it is sent
    except ValueError as error:  # its text may hold a piece of the password
        raise SettingsError(f"AMQP_URL {mask(url)!r} is no URL; {example}") from error
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise SettingsError(f"AMQP_URL {mask(url)!r} is no AMQP URL; {example}")
    if port == 0 or "/" in parts.path[1:] or not _can_be_host(parts.hostname):
        raise SettingsError(f"AMQP_URL {mask(url)!r} has a host, port or virtual host that cannot be; {example}")
    if len(vhost_of(url).encode()) > _LONGEST_VHOST_BYTES:
        raise SettingsError(
            f"AMQP_URL {mask(url)!r} names a virtual host of more than {_LONGEST_VHOST_BYTES} bytes; no broker has one"
        )
    if "@" in parts.netloc and not (parts.username and parts.password):  # kombu would take guest for what is missing
        missing = "password" if parts.username else "user"
        raise SettingsError(f"AMQP_URL {mask(url)!r} has no {missing} before the @; {example}")
    if "ssl_options" in parts.query:
        raise SettingsError(
            f"AMQP_URL {mask(url)!r} carries ssl_options; set TLS_CA_FILE, TLS_CERT_FILE and TLS_KEY_FILE instead"
        )


def vhost_of(url: str) -> str:
    """Return the virtual host a broker URL names: `/` when it names none."""
    return unquote(urlsplit(url).path[1:]) or "/"


def mask(url: str) -> str:
    """Return the URL, or several separated by `;`, with every password as ***, and all that may be a piece of one."""
    return ";".join(_mask_one(part) for part in _NEXT_URL.split(url))


def _mask_one(url: str) -> str:
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    rest, question, query = rest.partition("?")
    if "@" in query:  # the ? may stand in the password
        return f"{scheme}{separator}***"
    credentials, at, place = rest.rpartition("@")
    user, colon, _password = credentials.partition(":")
    place, semicolon, _ = place.partition(";")  # no URL begins there, so it may stand in a password
    if at and not separator:  # what looks like the user may be the rest of a password
        user, colon = "***", ""
    if not at:  # what stands for the port may be a password that was cut off
        address = _IPV6_ADDRESS.match(place)
        host, port_colon, port = place[address.end() if address else 0 :].partition(":")
        if port_colon and (semicolon or not port.split("/")[0].isdecimal()):
            place = f"{address[0] if address else ''}{host}:***"
    return f"{scheme}{separator}{user}{colon and ':***'}{at}{place}{semicolon and ';***'}{question and '?***'}"
