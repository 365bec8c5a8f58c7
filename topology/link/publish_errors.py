"""What is said of a message that was not confirmed: which one, what happened to it, what to do next."""

from __future__ import annotations

from leveret.topology.errors import (
    AccessRefused,
    BrokerBlocked,
    BrokerError,
    BrokerUnreachable,
    ConfirmTimeout,
    LeveretError,
    Nacked,
    NotRouted,
    PublishError,
    SettingsError,
)
from leveret.topology.names import Route

_MAYBE_STORED = "it may be stored or not. Submit it again under the same id if running it twice does no harm"


def not_routed(task_id: str, route: Route) -> NotRouted:
    """It came back."""
    return NotRouted(f"exchange {route.exchange!r} has no queue bound for routing key {route.routing_key!r}", task_id)


def nacked(task_id: str, route: Route) -> Nacked:
    """A queue refused it."""
    return Nacked(
        f"the broker refused message {task_id} (exchange {route.exchange!r}, key {route.routing_key!r}): a queue it "
        "goes to is full or has lost its majority of nodes; let consumers catch up, and submit it again",
        task_id,
    )


def channel_closed(task_id: str, route: Route, code: int, text: str) -> LeveretError:
    """It made the broker close the channel."""
    if code == 404:
        return NotRouted(f"there is no exchange {route.exchange!r} on the broker", task_id)
    if code == 403:
        return AccessRefused(
            f"the broker refused to publish to exchange {route.exchange!r} with key {route.routing_key!r}: "
            f"{text}; give this user the write right on it"
        )
    return PublishError(f"the broker refused message {task_id}: {code} {text}", task_id)


def blocked(task_id: str, where: str, alarm: str, seconds: float, was_sent: bool) -> BrokerBlocked:
    """An alarm keeps the broker from reading what publishers send."""
    may_arrive = ", and may arrive once that ends" if was_sent else ""
    return BrokerBlocked(
        f"the broker at {where} blocks publishers ({alarm}); message {task_id} was not confirmed within {seconds:g} s"
        f"{may_arrive}. Free memory or disk on the broker, then submit it again",
        task_id,
    )


def not_confirmed(task_id: str, where: str, seconds: float) -> ConfirmTimeout:
    """The link is there, and no answer came."""
    return ConfirmTimeout(
        f"the broker at {where} did not confirm message {task_id} within {seconds:g} s; {_MAYBE_STORED}", task_id
    )


def not_sent(task_id: str, where: str, seconds: float, is_connected: bool) -> LeveretError:
    """Its time was over before its turn came."""
    if is_connected:
        return ConfirmTimeout(
            f"the broker at {where} did not confirm what goes before message {task_id} within {seconds:g} s, so that "
            "was not sent; submit it again",
            task_id,
        )
    return BrokerUnreachable(
        f"no connection to the broker at {where} was open within {seconds:g} s, so message {task_id} was not sent; "
        "submit it again, with a longer timeout if the broker is well"
    )


def without_link(task_id: str, error: BrokerError | SettingsError, effort: str, was_sent: bool) -> LeveretError:
    """The broker can't be reached, or not any more: the error itself where the message was not even sent."""
    if was_sent:
        return ConfirmTimeout(
            f"the link was lost before message {task_id} was confirmed; {_MAYBE_STORED}. And now: {error} ({effort})",
            task_id,
        )
    return type(error)(f"{error} (message {task_id} was not sent; {effort})")
