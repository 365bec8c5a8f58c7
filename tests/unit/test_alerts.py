"""The dashboard, the alerts and the page on metrics name what is served, and nothing else; and the alerts fire."""

from __future__ import annotations

import json
import re
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from leveret.consumers.measuring.numbers import Numbers
from leveret.consumers.recorder import numbers as of_recorder
from leveret.consumers.recorder.recorder import Counts
from leveret.topology.settings import CHECKOUT
from tests.broker.served import promtool

DOCS = CHECKOUT / "docs"
_NAME = re.compile(r'(?<!["\w])(?:leveret|process)_\w+')
_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def worker_metrics() -> list[Any]:
    """The metrics of a worker that has no queue, and so of most no samples."""
    nothing: Any = SimpleNamespace(seen=[], children=[], tell_queues=lambda _seen: [])
    counting: Any = SimpleNamespace(series={}, confirms=Counter())
    return Numbers(counting, nothing, nothing, [], dict, lambda: False).collect()  # type: ignore[arg-type]


def recorder_metrics() -> list[Any]:
    recorder: Any = SimpleNamespace(counts=Counts(), intake=SimpleNamespace(waiting=0), writing_since=0.0)
    return of_recorder.collect(recorder)


def served() -> set[str]:
    """The names under which Prometheus has all that is served."""
    own = CollectorRegistry()
    ProcessCollector(registry=own)
    found = [*worker_metrics(), *recorder_metrics(), *own.collect()]
    return {f"{metric.name}{ending}" for metric in found for ending in _ENDINGS[metric.type]}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "grafana.json").read_text(encoding="utf-8"))
    return found


def test_the_dashboard_asks_for_what_is_served() -> None:
    asked = {name for panel in dashboard()["panels"] for one in panel["targets"] for name in _NAME.findall(one["expr"])}

    assert asked - served() == set()
    assert {name for name in served() if name.startswith("leveret_")} - asked <= {
        "leveret_worker_info",
        "leveret_recorder_connected",
        "leveret_attempt_duration_seconds_count",
    }


def test_the_dashboard_fits_the_screen() -> None:
    """Panels have numbers of their own, and none lies on another or beside the screen, which has 24 columns."""
    panels = dashboard()["panels"]
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (column, row)
        for at in places
        for column in range(at["x"], at["x"] + at["w"])
        for row in range(at["y"], at["y"] + at["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) == 23
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}


def test_alerts_name_what_is_served() -> None:
    text = (DOCS / "alerts.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(Leveret\w+)` \|", (DOCS / "metrics.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert set(_NAME.findall(text)) - served() == set()
    assert re.findall(r"- alert: (\w+)", text) == listed


@pytest.mark.parametrize(
    ("heading", "metrics"),
    [("Of a worker", worker_metrics), ("Of a recorder", recorder_metrics)],
    ids=["worker", "recorder"],
)
def test_metrics_are_listed(heading: str, metrics: Any) -> None:
    """The page has each with its type."""
    section = (DOCS / "metrics.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE))

    assert listed == {(metric.name + "_total" * (metric.type == "counter"), metric.type) for metric in metrics()}


def test_alerts_fire() -> None:
    """promtool takes the rules; on a bad night all fire, on a quiet one none."""
    assert promtool("check", "rules", str(DOCS / "alerts.yml")) == ""
    assert promtool("test", "rules", str(CHECKOUT / "tests/unit/alerts_test.yml")) == ""
