"""The ports at which pages are served: each is taken before the work begins, and two names may share one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping

from leveret.consumers.log import event
from leveret.consumers.measuring.server import Door, Pages, Server
from leveret.topology.settings.addresses import read_address


class Doors:
    """Takes a port for each name that has an address. Raises `CannotListen` where one cannot be had."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = {name: read_address(text, name) for name, text in addresses.items() if text}
        self._doors = {address: Door(address) for address in dict.fromkeys(self._addresses.values())}

    @contextlib.contextmanager
    def serving(self, pages: Mapping[str, Pages]) -> Iterator[None]:
        """Serve the pages of each name meanwhile."""
        of_doors = [
            (
                door,
                {
                    path: page
                    for name, at in self._addresses.items()
                    if at == address
                    for path, page in pages[name].items()
                },
            )
            for address, door in self._doors.items()
        ]
        server = Server(of_doors)
        server.start()
        ports = {name: self._doors[address].port for name, address in self._addresses.items()}
        event(logging.INFO, "pages are served", **{f"{name}_port": port for name, port in ports.items()})
        try:
            yield
        finally:
            server.stop()
