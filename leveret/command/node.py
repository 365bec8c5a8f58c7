"""Start, stop or show the private RabbitMQ node of this checkout."""

from __future__ import annotations

import click

from leveret.command.ending import tell
from leveret.command.verb import Verb, note
from leveret.topology.local import finding, node
from leveret.topology.settings import mask

_EXIT_NOT_RUNNING = 3


@click.command(
    "node",
    cls=Verb,
    help="Start, stop or show a RabbitMQ of this machine: the private node of this checkout, or of the current folder "
    "where there is none. `find` shows which broker every command uses; with --start it starts one where there is "
    "none, and installs what that takes.",
    examples="""
leveret node start
leveret node status
leveret node find --start
leveret node stop
""",
    statuses="Exit status: 0 done; 1 not done, and stderr says why; 2 wrong usage; 3 no node runs (status)",
)
@click.argument("action", type=click.Choice(["start", "stop", "status", "find"]))
@click.option("--start", "may_start", is_flag=True, help="Start a broker where there is none; with find.")
def verb(action: str, may_start: bool) -> int:
    """Do one of these."""
    if may_start and action != "find":
        raise click.UsageError("--start goes with find; to start the private node say: leveret node start")
    if action == "stop":
        tell("stopped" if node.stop() else "not running")
        return 0
    if action == "find":
        return _show_broker(finding.find(may_start, note))
    found = node.start() if action == "start" else node.status()
    if found is None:
        tell("not running")
        return _EXIT_NOT_RUNNING
    tell(f"{found.name} runs as process {found.pid}", f"AMQP        {mask(found.amqp_url)}")
    tell(f"management  {found.management_url}", f"log in      {found.login}", f"data        {found.folder / 'data'}")
    return 0


def _show_broker(broker: finding.Broker) -> int:
    tell(broker.how, f"AMQP        {mask(broker.amqp_url)}", f"management  {mask(broker.management_url)}")
    return 0
