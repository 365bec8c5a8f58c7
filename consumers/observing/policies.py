"""Warning of policies that take messages away, where the worker's account may ask the management API.

Nothing waits for it: it runs in a thread that ends with the process, once for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence

from leveret.consumers.log import event
from leveret.topology.errors import LeveretError
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings, vhost_of

_TIMEOUT_SECONDS = 2.0
_SECOND_LOOK_SECONDS = 12.0  # RabbitMQ tells of a new policy or queue 5 to 8 s later; and what was on its way is gone


def warn_of_policies(settings: Settings, queues: Sequence[WorkQueue]) -> None:
    """Look at the policies of these queues in the background, and log what a user should know."""
    loop = asyncio.get_running_loop()

    def warn(text: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the worker with it
            loop.call_soon_threadsafe(event, logging.WARNING, text)

    threading.Thread(target=_look, args=(settings, queues, warn), name="leveret looks at policies", daemon=True).start()


def _look(settings: Settings, queues: Sequence[WorkQueue], warn: Callable[[str], None]) -> None:
    from leveret.topology.access.management import Management  # in the thread, for the worker does not wait for it
    from leveret.topology.access.policies import look_at

    api, vhost = Management(settings, _TIMEOUT_SECONDS), vhost_of(settings.first_amqp_url)
    said: set[str] = set()
    before: dict[str, int] = {}
    with contextlib.suppress(LeveretError):  # it is not there, or not for this account
        for _ in range(2):
            stranded: dict[str, int] = {}
            for queue in queues:
                look = look_at(api, vhost, queue)
                for text in [text for text in look.warnings if text not in said]:
                    said.add(text)
                    warn(text)
                for tier, count in look.stranded.items():
                    stranded[tier] = count
                    if remaining := min(count, before.get(tier, 0)):
                        warn(
                            f"{remaining} message(s) are stranded in {tier}: they left {queue.name} without having "
                            f"run; leveret redrive {queue.name} --stranded sends them round again"
                        )
            before = stranded
            time.sleep(_SECOND_LOOK_SECONDS)
