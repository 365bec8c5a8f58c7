"""The task of `benchmarks.traces`; its children make spans where the environment says so."""

from __future__ import annotations

import os
from pathlib import Path

from leveret import WorkQueue, on_child_start, task

MODE = "TRACES_MODE"
"""The environment variable that names one of `MODES`."""
MODES = ("off", "imported", "on")
traced = WorkQueue("traces", retry_delays=())


def set_up() -> None:
    """Do in this process what the mode says: nothing, import the library, or make spans that go nowhere."""
    mode = os.environ.get(MODE)
    if mode in MODES[1:]:
        from opentelemetry import trace

        if mode == "on":
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
            provider = TracerProvider()
            provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(out=nowhere, formatter=lambda _: "")))
            trace.set_tracer_provider(provider)


on_child_start(set_up)


@task("traces.noop", queue=traced)
def noop() -> None:
    """Do nothing."""
