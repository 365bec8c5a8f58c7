"""Testing your tasks: submits that run in the test's process, and a virtual host of the test's own on a real broker.

With pytest they are the fixtures `leveret_inline` and `leveret_broker`; elsewhere there is `with inline() as here:`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # without typing, as in leveret itself: pytest loads this in every run

if TYPE_CHECKING:
    from leveret.testing.broker import OwnBroker, RunningWorker
    from leveret.testing.in_process import EndlessWork, Inline
    from leveret.testing.messages import Dead, Message, Ran
    from leveret.testing.publishing import inline

__all__ = ["Dead", "EndlessWork", "Inline", "Message", "OwnBroker", "Ran", "RunningWorker", "inline"]

_HOMES = {
    "broker": ("OwnBroker", "RunningWorker"),
    "in_process": ("EndlessWork", "Inline"),
    "messages": ("Dead", "Message", "Ran"),
    "publishing": ("inline",),
}


def __getattr__(name: str) -> object:
    import importlib

    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
