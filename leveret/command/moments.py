"""Moments as people read and write them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import click

from leveret.topology.printable import printable

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Span(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """How long, as people write it: 90s, 15m, 1h, 2d. Bare numbers are seconds where `may_be_bare` says so."""

    name = "time"

    def __init__(self, may_be_bare: bool = False) -> None:
        self._may_be_bare = may_be_bare

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", str(value).strip())
        if not match or not (match[2] or self._may_be_bare):
            self.fail(f"{printable(str(value))!r} is no time; write it as 90s, 15m, 1h or 2d", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "s"]


class Moment(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A time of a calendar with its zone, as ISO 8601 writes it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return it."""
        try:
            moment = datetime.fromisoformat(str(value).strip())
        except ValueError:
            self.fail(f"{printable(str(value))!r} is no time; write it as 2026-12-01T09:00+01:00", param, ctx)
        if moment.utcoffset() is None:
            self.fail(f"{value!r} has no time zone; write it as {moment.isoformat()}+01:00, or with Z", param, ctx)
        return moment


def clock(at: float) -> str:
    """Return a moment, in seconds of the epoch, as the time of this place; dashes for one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(at):%H:%M:%S.%f}"[:-3]
    except (OverflowError, ValueError, OSError):  # whoever may publish events may write any number
        return "--:--:--.---"
