"""Saying in our own words why a connection, or a channel, failed: which broker, what happened, what to do next."""

from __future__ import annotations

import re
import shlex
import ssl
from urllib.parse import unquote, urlsplit

from pika import exceptions as pika_errors
from pika.adapters.utils import connection_workflow

from leveret.topology.errors import AccessRefused, BrokerError, BrokerUnreachable, LeveretError, TopologyError
from leveret.topology.printable import printable
from leveret.topology.settings import mask, tls, vhost_of

AMQPError = pika_errors.AMQPError
"""What `explain` turns into ours, for who uses a connection and need not know the client library otherwise."""

NOT_FOUND, REFUSED = 404, 403
_INTERNAL_ERROR = 541
# pika takes every end of a handshake for a refusal. A limit that was reached is none, for others will leave.
_REFUSAL = re.compile(r"ACCESS_REFUSED|NOT_ALLOWED(?!.* limit \(\d+\) is reached)")


def explain(error: BaseException, url: str) -> BrokerError:
    """Turn a client library's connection error into ours: which broker, what happened, what to do next."""
    where = f"the broker at {mask(url)}"
    cause = _innermost(error)
    text = printable(cause) or type(cause).__name__
    user, vhost = unquote(urlsplit(url).username or "guest"), vhost_of(url)
    was_refused = _REFUSAL.search(text) is not None
    if isinstance(cause, pika_errors.AuthenticationError) or (
        isinstance(cause, pika_errors.ProbableAuthenticationError) and was_refused
    ):
        return AccessRefused(
            f"{where} refused user {user!r} or its password; check AMQP_URL (guest may log in from localhost only)"
        )
    if isinstance(cause, pika_errors.ProbableAccessDeniedError) and was_refused:
        cure = f"rabbitmqctl set_permissions -p {shlex.quote(vhost)} {shlex.quote(user)} '.*' '.*' '.*'"
        return AccessRefused(
            f"{where} has no virtual host {vhost!r} for user {user!r}: {text}; create it, or give the right: "
            f"{printable(cure)}"
        )
    if isinstance(cause, (pika_errors.ProbableAuthenticationError, pika_errors.ProbableAccessDeniedError)):
        return BrokerUnreachable(
            f"the connection to {where} ended during the handshake: {text}; try again, and look into the broker's log "
            "if that does not help"
        )
    if isinstance(cause, (pika_errors.IncompatibleProtocolError, pika_errors.ProtocolVersionMismatch)):
        if urlsplit(url).scheme == "amqps":
            return BrokerUnreachable(tls.explain_alert(text, where))
        return BrokerUnreachable(
            f"{where} does not speak AMQP 0-9-1 ({text}); check host and port in AMQP_URL, and "
            "use amqps:// if this is its TLS port"
        )
    if isinstance(cause, ssl.SSLError):
        return BrokerUnreachable(tls.explain(cause, where))
    if isinstance(cause, (connection_workflow.AMQPConnectorStackTimeout, pika_errors.ConnectionOpenAborted)):
        return BrokerUnreachable(
            f"{where} accepted the connection and then did not answer in time; look into its log, for it may be "
            "starting or overloaded, and check host and port in AMQP_URL"
        )
    return BrokerUnreachable(
        f"{where} does not answer: {_reply(cause)}; start one (leveret node start), or set AMQP_URL"
    )


def _innermost(error: BaseException) -> BaseException:
    """Dig out the error that started it from under pika's layers of workflow errors."""
    if isinstance(error, connection_workflow.AMQPConnectionWorkflowFailed) and error.exceptions:
        return _innermost(error.exceptions[-1])
    if isinstance(error, connection_workflow.AMQPConnectorPhaseErrorBase):
        return _innermost(error.exception)
    if isinstance(error, pika_errors.AMQPConnectionError) and type(error) is pika_errors.AMQPConnectionError:
        inner = error.args[0] if error.args else error.__cause__
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error


def _reply(error: BaseException) -> str:
    if isinstance(error, (pika_errors.ConnectionClosed, pika_errors.ChannelClosed)):
        return printable(f"{error.reply_code} {error.reply_text}")
    return printable(error) or type(error).__name__


def is_internal_error(reason: BaseException) -> bool:
    """Whether the broker has ended a connection because something broke within it."""
    return isinstance(reason, pika_errors.ConnectionClosedByBroker) and reason.reply_code == _INTERNAL_ERROR


def explain_closed(reason: BaseException, what: str, url: str) -> LeveretError | None:
    """Turn what ended a channel into ours, see `explain_channel`; None where it was closed from here."""
    return None if isinstance(reason, pika_errors.ChannelClosedByClient) else explain_channel(reason, what, url)


def explain_channel(reason: BaseException, what: str, url: str) -> LeveretError:
    """Turn what ended a channel into ours; `what` is what it was used for, such as "queue 'mail'"."""
    if not isinstance(reason, pika_errors.ChannelClosedByBroker):
        return BrokerUnreachable(
            f"the link to the broker at {mask(url)} was lost ({_reply(_innermost(reason))}); try again once it answers"
        )
    code, text = reason.reply_code, printable(reason.reply_text)
    if code == NOT_FOUND:
        return TopologyError(f"{what} cannot be used: {text}; declare it: leveret declare -a MODULE")
    if code == REFUSED:
        return AccessRefused(f"the broker refused {what}: {text}; give this user the read right on it")
    if "inequivalent arg" in text:
        return TopologyError(f"{what} is there with other arguments: {text}; leveret plan says which, and what to do")
    return BrokerUnreachable(f"the broker closed the channel of {what}: {code} {text}")
