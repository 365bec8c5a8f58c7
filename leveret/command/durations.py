"""Durations as people write them."""

from __future__ import annotations

import re
from typing import Any

import click

from leveret.topology.printable import printable

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number and its unit, as seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it in seconds."""
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])", str(value).strip())
        if not match:
            self.fail(f"{printable(str(value))!r} is no time; write it as 90s, 15m, 1h or 2d", param, ctx)
        return float(match[1]) * _UNITS[match[2]]
