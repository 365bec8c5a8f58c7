"""A second queue for the fanout exchange, whose worker knows the same tasks."""

from __future__ import annotations

from leveret import WorkQueue

others = WorkQueue("others", retry_delays=(0.3,), fanout=True)
