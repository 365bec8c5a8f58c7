"""Declare the topology on the broker, or show it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from leveret.command import task_modules
from leveret.command.ending import tell, tell_json
from leveret.command.samples import SAMPLE_QUEUES
from leveret.command.verb import Verb, json_option, note, quiet_option, tasks_option
from leveret.topology import queues, settings
from leveret.topology.apply.declare import declare, declare_ladder, declare_streams
from leveret.topology.apply.table import rows, show
from leveret.topology.errors import AccessRefused, TopologyError
from leveret.topology.link import default_broker


@click.command(
    "declare",
    cls=Verb,
    help="Declare exchanges, work queues, retry tiers and dead-letter queues. Doing it again is safe.\n\n"
    "A topic that a queue has no longer, or fanout=True, stays bound until leveret apply --prune.",
    examples="""
leveret declare --dry-run -a my_app
leveret declare -a my_app
leveret declare -a my_app --delays
AMQP_URL=amqp://user:password@host/vhost leveret declare -a my_app
""",
)
@tasks_option("Module whose queues to declare; may be repeated")
@click.option("--dry-run", is_flag=True, help="Show what would be declared, and stop.")
@click.option(
    "--delays",
    is_flag=True,
    help="Also what delayed tasks go through: 58 queues; where producers may not declare them.",
)
@json_option
@quiet_option
def verb(tasks: Sequence[str], dry_run: bool, delays: bool, as_json: bool, quiet: bool) -> int:
    """Declare, then show what is there now."""
    configured = settings.load()
    names = task_modules.named(tasks, configured)
    task_modules.load(names or (SAMPLE_QUEUES,))
    if not names:
        note("no task module is named, so these are the sample queues; name yours: leveret declare -a my_app", quiet)
    task_modules.check_has_queue(names, queues.known())
    if not dry_run:
        configured = default_broker.resolve(configured)
        for news in declare(configured, queues.known()):
            note(f"leveret declare: {news}")
        if delays:
            declare_ladder(configured)
        try:
            declare_streams(configured)
        except (AccessRefused, TopologyError) as error:
            note(f"leveret declare: cancels and pauses are not kept for workers that start later: {error}")
    if as_json:
        for row in rows(queues.known(), delays):
            tell_json(row)
    else:
        tell(*show(queues.known(), delays).splitlines())
    if not dry_run:
        note(f"declared on {settings.mask(configured.amqp_url)}", quiet)
    return 0
