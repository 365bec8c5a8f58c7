"""Declare the topology on the broker, or show it: `python -m topology.declare [--tasks MODULE] [--dry-run]`.

Declaring is idempotent. A queue that exists with other arguments is an error that says what to do; a changed
retry plan is not: new tiers are declared, and messages in the old ones still come back by themselves.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from amqp import exceptions as amqp_errors

from topology import broker, modules, names, queues, settings
from topology.command import run, tell
from topology.connection import declaring
from topology.errors import AccessRefused, TopologyError, TopologyMismatch
from topology.objects import Table, objects_of, shared_exchanges
from topology.settings import Settings, vhost_of

SAMPLES = "topology.samples"
_TRIES = 10
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>\w+) '(?P<name>[^']+)' in vhost .*?: "
    r"received (?:the value )?(?P<wanted>.+?) but current is (?:the value )?(?P<current>.+)"
)


def declare(settings: Settings, work_queues: Iterable[queues.WorkQueue]) -> None:
    """Declare the shared exchanges and everything the work queues consist of.

    Raises `TopologyMismatch` when an object exists with other arguments, `AccessRefused` without the right to
    configure, `BrokerUnreachable` when nothing answers, `TopologyError` for anything else that goes wrong.
    """
    tables = [shared_exchanges(), *map(objects_of, work_queues)]
    for tries_left in reversed(range(_TRIES)):
        try:
            with declaring(settings) as connection:
                for table in tables:
                    _declare_table(connection, table, vhost_of(settings.first_amqp_url))
            return
        except amqp_errors.NotFound as error:  # somebody else replaces an exchange this moment
            if not tries_left:
                raise _failed(error) from error
        except (amqp_errors.AMQPError, OSError) as error:
            raise _failed(error) from error


def _declare_table(connection: Any, table: Table, vhost: str) -> None:
    replaced = ""
    for exchange in table.exchanges:
        try:
            _apply(connection, vhost, lambda channel, e=exchange: e.declare(channel=channel))
        except TopologyMismatch as error:
            replaced = _former_retry_plan(error)
            if not replaced:
                raise
            _apply(connection, vhost, lambda channel, e=exchange: _replace(channel, e))
    for queue in table.queues:
        _apply(connection, vhost, lambda channel, q=queue: q.queue_declare(channel=channel))
    by_name = {queue.name: queue for queue in table.queues}
    last = len(table.bindings) - 1

    def bind(channel: Any) -> None:
        """Bind without waiting for each answer; the answer to the last one brings a refusal of any."""
        for number, (queue, exchange, key) in enumerate(table.bindings):
            by_name[queue].bind_to(exchange, key, nowait=number < last, channel=channel)

    _apply(connection, vhost, bind)
    if replaced:
        _apply(connection, vhost, lambda channel: channel.exchange_delete(replaced))


def _former_retry_plan(error: TopologyMismatch) -> str:
    """Return the alternate exchange of the former retry plan, if a changed plan is what the error is about."""
    match = _INEQUIVALENT.search(str(error.__cause__))
    if not match or match["argument"] != "alternate-exchange":
        return ""
    former = match["current"].split("'")[1] if "'" in match["current"] else ""
    queue = match["name"].removesuffix(".failed")
    return former if former.startswith(names.failed_exchange(queue) + ".first.") else ""


def _replace(channel: Any, exchange: Any) -> None:
    """Delete the exchange with its bindings to the former tiers and declare it anew.

    Without this a failed message would go to the old tier and to the new one. Messages nacked in between stay
    in their queue: at-least-once dead-lettering tries again (within 180 s) once the exchange is back.
    """
    channel.exchange_delete(exchange.name)
    exchange.declare(channel=channel)


def _failed(error: Exception) -> TopologyError:
    said = str(error) or type(error).__name__
    return TopologyError(f"the broker could not declare the topology: {said}; try again")


def _apply(connection: Any, vhost: str, operation: Any) -> None:
    """Run one operation on a channel of its own, for an error closes the channel, and translate the error."""
    channel = connection.default_channel
    try:
        operation(channel)
    except amqp_errors.PreconditionFailed as error:
        connection.close()
        connection.connect()
        raise _mismatch(error) from error
    except (amqp_errors.AccessRefused, amqp_errors.NotAllowed) as error:
        raise AccessRefused(
            f"the broker refused to declare: {error.reply_text}; give this user the configure right in virtual host "
            f"{vhost!r}, or let another account run python -m topology.declare and use --no-declare"
        ) from error


def _mismatch(error: amqp_errors.PreconditionFailed) -> TopologyMismatch:
    match = _INEQUIVALENT.search(error.reply_text)
    if not match:
        return TopologyMismatch(f"the broker refused a declaration: {error.reply_text}")
    kind, name = match["kind"], match["name"]
    return TopologyMismatch(
        f"{kind} {name!r} exists with another {match['argument']}: it is {match['current']}, wanted is "
        f"{match['wanted']}. Arguments cannot change in place: let its consumers drain it, delete it "
        f"(rabbitmqctl delete_queue {name}, or the management UI) and declare again, or use another name"
        if kind == "queue"
        else f"{kind} {name!r} exists with another {match['argument']}: it is {match['current']}, wanted is "
        f"{match['wanted']}. Delete the exchange in the management UI and declare again"
    )


def show(work_queues: Sequence[queues.WorkQueue]) -> str:
    """Return everything that would be declared, short enough for one screen."""
    lines = [
        "exchanges  " + ", ".join(f"{exchange.name} ({exchange.type})" for exchange in shared_exchanges().exchanges)
    ]
    for work_queue in work_queues:
        table = objects_of(work_queue)
        first, failed = table.exchanges
        width = max(len(queue.name) for queue in table.queues)
        lines.append(f"{work_queue.name}: at most {work_queue.attempts} attempts")
        lines.append(f"  {failed.name} ({failed.type}), for any other key {first.name} ({first.type})")
        for queue in table.queues:
            line = f"  {queue.name:<{width}} ← {_sources(table, queue.name)}"
            if "x-message-ttl" in queue.queue_arguments:
                delay = names.spell_delay(queue.queue_arguments["x-message-ttl"] / 1000)
                line += f"; after {delay} → {queue.queue_arguments['x-dead-letter-routing-key']}"
            lines.append(line)
    return "\n".join(lines)


def _sources(table: Table, queue: str) -> str:
    """Return what is bound to a queue: exchanges, each with its keys."""
    keys: dict[str, list[str]] = {}
    for binding in table.bindings:
        if binding.queue == queue:
            keys.setdefault(binding.exchange, []).append(binding.routing_key)
    return ", ".join(" ".join([exchange, *_shortened(bound)]) for exchange, bound in keys.items())


def _shortened(keys: list[str]) -> list[str]:
    """Leave the middle out of a run of attempt keys, and what is empty."""
    attempts = [key for key in keys if "@" in key]
    if len(attempts) > 2:
        keys = [*(key for key in keys if key not in attempts), f"{attempts[0]}…{attempts[-1].rpartition('@')[2]}"]
    return [key for key in keys if key]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m topology.declare",
        description="Declare exchanges, work queues, retry tiers and dead-letter queues. Doing it again is safe. "
        "Nothing is unbound: a topic that a queue has no longer, or fanout=True, stays bound until you unbind it on "
        "the queue's page in the management UI.",
        epilog="examples:\n"
        "  python -m topology.declare --dry-run\n"
        "  python -m topology.declare --tasks my_app\n"
        "  AMQP_URL=amqp://user:password@host/vhost python -m topology.declare --tasks my_app",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    modules.add_option(parser, "module whose queues to declare; may be repeated", SAMPLES)
    parser.add_argument("--dry-run", action="store_true", help="show what would be declared, and stop")
    options = parser.parse_args(arguments)
    return run("topology.declare", lambda: _run(options.tasks or [SAMPLES], options.dry_run))


def _run(tasks: Sequence[str], dry_run: bool) -> int:
    modules.load(tasks)
    tell(show(queues.known()))
    if not dry_run:
        configured = broker.resolve(settings.load())
        declare(configured, queues.known())
        print(f"declared on {settings.mask(configured.amqp_url)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
