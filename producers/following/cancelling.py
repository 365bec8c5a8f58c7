"""Cancelling tasks, and pausing queues: commands to all workers, which the broker keeps also for those to come."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from leveret.topology.control import Command, check_reason, write_cancels, write_pause
from leveret.topology.errors import MessageError
from leveret.topology.link import daemon_thread
from leveret.topology.message import check_id, check_name
from leveret.topology.names import CANCEL_KEY, LONGEST_NAME_BYTES, PAUSE_KEY

if TYPE_CHECKING:
    from leveret.topology.settings import Settings


def cancel(*ids: str, reason: str = "", configured: Settings | None = None) -> None:
    """Cancel tasks: those that wait or are delayed will not run, those that run are told to end.

    Returns once the broker has confirmed that; what has ended by then stays as it is, and an id that nobody knows is
    remembered for seven days. A task that is sent round again from its DLQ after this runs. Without settings those of
    the environment hold. Raises `MessageError` for what is no id or no reason, and `PublishError` or `BrokerError`
    when the broker does not confirm; then call it again.
    """
    bodies = _cancels(ids, reason)
    daemon_thread.call(_send, CANCEL_KEY, bodies, configured)


async def cancel_async(*ids: str, reason: str = "", configured: Settings | None = None) -> None:
    """Do as `cancel` does, awaitable."""
    bodies = _cancels(ids, reason)
    await daemon_thread.start(_send, CANCEL_KEY, bodies, configured)


def pause(queue: str, *, reason: str = "", configured: Settings | None = None) -> None:
    """Have all workers take nothing more from a work queue, also those that start later; what runs ends.

    Raises `MessageError` for what is no name or no reason, and as `cancel` does.
    """
    body = write_pause(_checked(queue), True, command_now(reason))
    daemon_thread.call(_send, PAUSE_KEY, [body], configured)


def resume(queue: str, *, reason: str = "", configured: Settings | None = None) -> None:
    """Have workers take from a paused work queue again; raises as `pause` does."""
    body = write_pause(_checked(queue), False, command_now(reason))
    daemon_thread.call(_send, PAUSE_KEY, [body], configured)


def _cancels(ids: Iterable[str], reason: str) -> list[bytes]:
    checked = list(dict.fromkeys(check_id(one) for one in ids))
    return list(write_cancels(checked, command_now(reason)))


def _checked(queue: str) -> str:
    if not queue:
        raise MessageError("the name of the queue is empty")
    return check_name(queue, "queue")


def command_now(reason: str) -> Command:
    """Return who says something now, and why. Raises `MessageError` for what is no reason."""
    return Command(round(time.time(), 3), _who(), check_reason(reason))


def _who() -> str:
    """Return user@host, as workers log it and `info` shows it: it says who, and proves nothing."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    whole = f"{user}@{socket.gethostname()}"
    return whole.encode(errors="replace")[:LONGEST_NAME_BYTES].decode(errors="ignore")


def _send(key: str, bodies: list[bytes], configured: Settings | None) -> None:
    from leveret.producers.following.commanding import send  # pika; who never cancels need not load it

    send(key, bodies, configured)
