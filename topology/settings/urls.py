"""A broker's URL: whether it is one, what it names, and how it is shown without its password."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from leveret.topology.errors import SettingsError

_LONGEST_VHOST_BYTES = 255
NEXT_URL = re.compile(r";(?=(?:amqp|http)s?://)", re.IGNORECASE)
"""What separates URLs. Any other `;` stands in a password, and has to be written as %3B."""
_IPV6_ADDRESS = re.compile(r"\[[\da-f:.]+(%\w+)?\]", re.IGNORECASE)
_TO_ENCODE = re.compile(r"[\0- \x7f/?#@\[\]]|%(?![\da-f]{2})", re.IGNORECASE)
"""What stands for itself in no user, no password and no virtual host."""


def check_amqp_url(url: str) -> None:
    """Raise `SettingsError` unless this is a URL of one broker."""
    example = "write it as amqp://user:password@host:5672/vhost (amqps:// for TLS, %2F for a slash in a name)"
    if ";" in url:
        raise SettingsError(
            f"AMQP_URL {mask(url)!r} has a ; after which no URL begins; write one in a password as %3B, and leave none "
            "at the end"
        )
    check_encoded("AMQP_URL", url)
    try:
        parts = urlsplit(url)
        port = parts.port
        url.encode()  # as it is sent
        unquote(url, errors="strict")  # or a password would be another one
    except ValueError as error:  # its text may hold a piece of the password
        raise SettingsError(f"AMQP_URL {mask(url)!r} is no URL; {example}") from error
    if not url.lower().startswith(("amqp://", "amqps://")) or not parts.hostname:  # urlsplit forgives spaces
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


def check_encoded(name: str, url: str) -> None:
    """Raise `SettingsError` for a character that would end a password early, and make another host of its rest."""
    credentials, _, place = url.partition("://")[2].rpartition("@")
    wrong = {*_TO_ENCODE.findall(credentials), *_TO_ENCODE.findall(_IPV6_ADDRESS.sub("", place))}
    wrong -= set("/?[]") - set(credentials)  # behind the host they have a meaning
    if wrong:
        shown = {one: f"{one!r} as %{ord(one):02X}" for one in sorted(wrong)}
        if "@" in shown:
            shown["@"] = "each @ but the one before the host as %40"
        raise SettingsError(
            f"{name} {mask(url)!r} has characters that cannot stand for themselves in a user, a password or a virtual "
            f"host: write {', '.join(shown.values())}"
        )


def vhost_of(url: str) -> str:
    """Return the virtual host a broker URL names: `/` when it names none."""
    return unquote(urlsplit(url).path[1:]) or "/"


def mask(url: str) -> str:
    """Return the URL, or several separated by `;`, with every password as ***, and all that may be a piece of one."""
    return ";".join(_mask_one(part) for part in NEXT_URL.split(url))


def _mask_one(url: str) -> str:
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    rest, question, query = rest.partition("?")
    if "@" in query:  # the ? may stand in the password
        return f"{scheme}{separator}***"
    credentials, at, place = rest.rpartition("@")
    user, colon, password = credentials.partition(":")
    place, semicolon, _ = place.partition(";")  # no URL begins there, so it may stand in a password
    if "#" in place:  # it ends no URL, so it stands in a password, and so may what is before it
        return f"{scheme}{separator}***"
    is_complete = separator and user and password
    if at and not is_complete:  # what looks like the user may be the rest of a password, or all of it
        user, colon = "***", ""
    if not at:  # what stands for the port may be a password that was cut off
        address = _IPV6_ADDRESS.match(place)
        host, port_colon, port = place[address.end() if address else 0 :].partition(":")
        if port_colon and (semicolon or not port.split("/")[0].isdecimal()):
            place = f"{address[0] if address else ''}{host}:***"
    return f"{scheme}{separator}{user}{colon and ':***'}{at}{place}{semicolon and ';***'}{question and '?***'}"


def check_management_url(url: str) -> None:
    """Raise `SettingsError` unless this is a URL of a web server, with user and password or neither."""
    check_encoded("MANAGEMENT_URL", url)
    try:
        place = urlsplit(url)
        unquote(url, errors="strict")
        is_http = url.lower().startswith(("http://", "https://"))
        is_one = is_http and _can_be_host(place.hostname) and place.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise SettingsError(f"MANAGEMENT_URL {mask(url)!r} is no URL; write it as http://host:15672/")
    if "@" in place.netloc and not (place.username and place.password):
        raise SettingsError(
            f"MANAGEMENT_URL {mask(url)!r} has a user or a password alone before the @; write both, or neither for "
            "those of AMQP_URL"
        )


def check_record_url(url: str) -> None:
    """Raise `SettingsError` unless this is a file of SQLite, or a database of PostgreSQL."""
    example = "write it as sqlite:///path, or postgresql://user:password@host/database"
    if url.startswith("sqlite:"):
        path = url.removeprefix("sqlite:///")
        if path in ("", url, ":memory:") or "?" in path:
            raise SettingsError(f"RECORD_URL {mask(url)!r} names no file; {example}")
        return
    if not url.startswith(("postgresql://", "postgresql+psycopg://")):
        raise SettingsError(f"RECORD_URL {mask(url)!r} is of no kind that is known; {example}")
    check_encoded("RECORD_URL", url)
    try:
        place = urlsplit(url)
        unquote(url, errors="strict")
        names_one = place.port != 0 and len(place.path) > 1
    except ValueError:
        names_one = False
    if not names_one:
        raise SettingsError(f"RECORD_URL {mask(url)!r} names no database; {example}")


def _can_be_host(name: str | None) -> bool:
    """Whether a name can be looked up: no part of it is empty or longer than 63 characters."""
    try:
        return bool(name and name.encode("idna"))
    except UnicodeError:
        return False
