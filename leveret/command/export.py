"""Write what the loaded tasks and queues are for others: definitions, AsyncAPI, JSON Schemas, a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from leveret.command import task_modules
from leveret.command.ending import EXIT_PARTLY, tell
from leveret.command.verb import Verb, filled, note, quiet_option, split_commas, tasks_option
from leveret.topology import queues, registry, settings
from leveret.topology.errors import LeveretError, SettingsError
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings
from leveret.topology.settings.urls import vhost_of
from leveret.topology.whole_file import write_whole

_KINDS = ("definitions", "asyncapi", "schemas", "svg")


class NotWritten(LeveretError):
    """A file could not be written."""


@click.command(
    "export",
    cls=Verb,
    help="Write what the loaded tasks and queues are, for others: definitions to import into RabbitMQ, an AsyncAPI 3.0 "
    "document, a JSON Schema of each task's message, or a picture. It asks no broker.\n\n"
    "Without FILE, or with -, it goes to stdout. `schemas` with a folder that is there writes a file for each task.",
    examples="""
leveret export definitions rabbit.json -a my_app
leveret export asyncapi -a my_app > asyncapi.json
leveret export schemas schemas/ -a my_app
leveret export svg queues.svg --queue mail -a my_app
""",
    statuses="Exit status: 0 done; 1 not done, and stderr says why; 2 wrong usage; 3 partly, for a type has no schema",
)
@click.argument("kind", type=click.Choice(_KINDS), metavar=f"[{'|'.join(_KINDS)}]")
@click.argument("file", default="-", metavar="[FILE]")
@tasks_option("Module that defines tasks and queues; may be repeated")
@click.option("--queue", "chosen", multiple=True, metavar="QUEUE", callback=split_commas, help="This one only.")
@click.option(
    "--vhost", callback=filled, metavar="NAME", help="The virtual host they are for (default: that of AMQP_URL)."
)
@click.option("--delays", is_flag=True, help="definitions: also what delayed tasks go through.")
@quiet_option
def verb(
    kind: str, file: str, tasks: Sequence[str], chosen: Sequence[str], vhost: str | None, delays: bool, quiet: bool
) -> int:
    """Make it, then write it."""
    if delays and kind != "definitions":
        raise click.UsageError(f"--delays goes with definitions, and not with {kind}")
    if vhost is not None and kind not in ("definitions", "asyncapi"):
        raise click.UsageError(f"--vhost goes with definitions and asyncapi, and not with {kind}")
    configured = settings.load()
    modules = task_modules.named(tasks, configured)
    if not modules:
        raise click.UsageError("no task module is named; name yours: -a my_app, or LEVERET_TASKS")
    task_modules.load(modules)
    task_modules.check_has_queue(modules, queues.known())
    of_queues = [queues.find(name) for name in chosen] or list(queues.known())
    if kind in ("asyncapi", "schemas") and not any(registry.of_queue(queue) for queue in of_queues):
        named = ", ".join(queue.name for queue in of_queues)
        raise SettingsError(f"no loaded module defines a task of {named}; name the module that does: -a MODULE")
    content, problems = _make(kind, list(dict.fromkeys(of_queues)), configured, vhost, delays)
    _write(kind, content, file, quiet)
    for problem in problems:
        note(f"leveret export: {problem}")
    return EXIT_PARTLY if problems else 0


def _make(
    kind: str, of_queues: list[WorkQueue], configured: Settings, vhost: str | None, delays: bool
) -> tuple[Any, Sequence[str]]:
    if kind == "definitions":
        from leveret.topology.export.definitions import definitions_of

        place = vhost_of(configured.amqp_urls[0]) if vhost is None else vhost
        return definitions_of(of_queues, place, delays), ()
    if kind == "svg":
        from leveret.topology.export.picture import svg_of

        return svg_of(of_queues), ()
    if kind == "asyncapi":
        from leveret.consumers.describing.asyncapi import asyncapi_of

        return asyncapi_of(of_queues, configured, vhost)
    from leveret.consumers.describing.schemas import schemas_of

    return schemas_of(of_queues)


def _write(kind: str, content: Any, file: str, quiet: bool) -> None:
    if file == "-":
        tell(*_text(content).splitlines())
        return
    target = Path(file)
    if target.is_dir():
        if kind != "schemas":
            raise NotWritten(f"{file} is a folder; name a file in it, as {target / _name(kind)}")
        for task, schema in content.items():
            _replace(target / f"{_file_name(task)}.schema.json", _text(schema))
        note(f"{len(content)} schemas are in {file}", quiet)
        return
    _replace(target, _text(content))
    note(f"{file} is written", quiet)


def _name(kind: str) -> str:
    return "queues.svg" if kind == "svg" else f"{kind}.json"


def _file_name(task: str) -> str:
    """Return a name that no file system refuses, and that no other task has: what is odd in it is its code."""
    return re.sub(r"[^A-Za-z0-9_.-]|^[.-]", lambda odd: "".join(f"%{one:02X}" for one in odd[0].encode()), task)


def _text(content: Any) -> str:
    """Return it as text: JSON in ASCII, for that every program reads."""
    return content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"


def _replace(target: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all. Raises `NotWritten`."""
    try:
        write_whole(target, text)
    except OSError as error:
        raise NotWritten(f"{target} cannot be written: {error.strerror or error}; name another file") from error
