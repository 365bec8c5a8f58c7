"""Options that take an address to listen at."""

from __future__ import annotations

from typing import Any

import click

from leveret.topology.errors import SettingsError
from leveret.topology.settings.addresses import read_address


class _Address(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A port on all interfaces, or on one."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            read_address(str(value), "it")
        except SettingsError as error:
            self.fail(str(error), param, ctx)
        return str(value)


ADDRESS = _Address()
