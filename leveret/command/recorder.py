"""Run a recorder."""

from __future__ import annotations

import os

import click

from leveret.command import streams
from leveret.command.address import ADDRESS
from leveret.command.verb import Verb
from leveret.consumers import log
from leveret.consumers.child.process import die_with_parent
from leveret.consumers.recorder.recorder import record
from leveret.consumers.worker import signals
from leveret.topology import settings
from leveret.topology.errors import SettingsError
from leveret.topology.link import default_broker
from leveret.topology.settings.addresses import CannotListen


@click.command(
    "recorder",
    cls=Verb,
    help="Keep what becomes of followed tasks, and answer who asks for it: leveret status, result and list.\n\n"
    "It is kept in a file of SQLite, or in the PostgreSQL of RECORD_URL. Several may run on one record: one works, "
    "the others wait for it to end.",
    examples="""
leveret recorder
RECORD_URL=postgresql://leveret:secret@db.example/leveret leveret recorder
""",
    statuses="Exit status: 0 stopped; 1 could not record; 2 wrong usage",
)
@click.option("--metrics", type=ADDRESS, metavar="[HOST]:PORT", help="Serve numbers to Prometheus, as :9090.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--parent", type=int, hidden=True, help="End when this process does, which has started it.")
def verb(metrics: str | None, log_format: str, log_level: str, parent: int | None) -> int:
    """Record until told to stop."""
    streams.open_closed()
    signals.take_over()
    if parent is not None:
        die_with_parent()
        if os.getppid() != parent:  # it ended before that
            return 0
    log.configure(log_format == "json", log_level)
    if parent is not None:
        metrics = ""  # the address of the settings is that of the worker
    configured = settings.load(None, **({} if metrics is None else {"metrics": metrics}))
    if configured.record == "off":
        raise SettingsError(
            "RECORD is off, so there is nothing to record; set it to followed or all, or leave it unset"
        )
    try:
        return record(default_broker.resolve(configured))
    except CannotListen as error:
        raise click.UsageError(str(error), click.get_current_context()) from error
    finally:
        log.flush()
