"""Addresses to listen at, as they are written in settings: `:9090` on all interfaces, or `127.0.0.1:9090`."""

from __future__ import annotations

import re
from typing import NamedTuple

from leveret.topology.errors import SettingsError

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[\w.-]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_HIGHEST_PORT = 65_535


class CannotListen(SettingsError):
    """An address to listen at is taken, or is not of this machine."""


class Address(NamedTuple):
    """Where to listen; an empty host is every interface, port 0 one that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str, name: str) -> Address:
    """Read an address. Raises `SettingsError`, which calls it by its name, for what is none."""
    match = _ADDRESS.fullmatch(text)
    if not match or int(match["port"]) > _HIGHEST_PORT:
        raise SettingsError(
            f"{name} is {text!r}, which is no address to listen at; write it as :9090, which is every interface, or "
            "127.0.0.1:9090, which is this machine alone"
        )
    return Address(match["v6"] or match["host"] or "", int(match["port"]))
