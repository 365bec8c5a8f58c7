"""Traces of OpenTelemetry: whether this process makes any, and the headers in which a message carries its own.

Nothing here imports opentelemetry before the program has done so itself. Who does not use it pays a look in a table.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from leveret.topology.control import REDRIVEN_AT
from leveret.topology.names import LATER_TO, RETRIED_LATER

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

P = ParamSpec("P")
R = TypeVar("R")

TRACEPARENT = "traceparent"
_LONGEST = {TRACEPARENT: 256, "tracestate": 512, "baggage": 8192}
"""The headers by which W3C has a context travel, and how many characters of each do."""
_OF_ANOTHER_ROUND = frozenset({LATER_TO, RETRIED_LATER, REDRIVEN_AT})
_loaded = sys.modules.get
_made: tuple[object, Tracer] | None = None

Carried = tuple[dict[str, str], bool]
"""The headers of a context, and whether this is a first attempt that was not delayed, and so follows its submit."""


def is_on() -> bool:
    """Whether the program has set up a tracer provider."""
    trace = _loaded("opentelemetry.trace")
    # What get_tracer_provider looks at first; without one that takes microseconds, of every task that is run.
    if trace is None or getattr(trace, "_TRACER_PROVIDER", trace) is None:
        return False
    provider = getattr(trace, "get_tracer_provider", None)  # another thread may be about to import it
    return provider is not None and not isinstance(provider(), trace.ProxyTracerProvider)


def tracer() -> Tracer:
    """Return what makes spans; only where `is_on` says so."""
    global _made
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if _made is None or _made[0] is not provider:
        _made = provider, trace.get_tracer("leveret")
    return _made[1]


def headers_of(span: Span) -> dict[str, str]:
    """Return the headers that carry a span to whoever follows it, and the baggage of here."""
    from opentelemetry import propagate, trace

    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    return _fitting(carrier)


def carried_by(headers: Mapping[str, Any], attempt: int) -> Carried:
    """Return what a delivery carries, for the child that runs it; anybody may have written it."""
    return _fitting(headers), attempt == 1 and _OF_ANOTHER_ROUND.isdisjoint(headers)


def trace_here() -> str:
    """Return the id of the trace that this code runs in, in hexadecimal; empty where it does in none."""
    if not is_on():
        return ""
    from opentelemetry import trace

    here = trace.get_current_span().get_span_context()
    return trace.format_trace_id(here.trace_id) if here.is_valid else ""


def harmless(function: Callable[P, R]) -> Callable[P, R | None]:
    """Have a function return None where it raises, and log that: processors and samplers are code of the program."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, no task must fail for it
            logging.getLogger("leveret").warning(
                "tracing has failed, and the task goes on without: %s: %s", type(error).__name__, error
            )
            return None

    return guarded


def _fitting(headers: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: value
        for name, longest in _LONGEST.items()
        if type(value := headers.get(name)) is str and len(value) <= longest
    }
