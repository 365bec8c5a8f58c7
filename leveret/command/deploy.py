"""Write what systemd, Compose or Kubernetes need to run the workers of a project."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from leveret.command import task_modules
from leveret.command.ending import EXIT_ERROR, tell
from leveret.command.verb import Verb, note, quiet_option, split_commas, tasks_option
from leveret.producers.scheduling import definition
from leveret.producers.scheduling.from_file import merge, read_schedules
from leveret.topology import queues, settings
from leveret.topology.deploy.deployment import TARGETS, Deployment
from leveret.topology.deploy.writing import differing, write_files
from leveret.topology.errors import SettingsError
from leveret.topology.names import work_queue_of

_LONGEST_NAME = 20


@click.command(
    "deploy",
    cls=Verb,
    help="Write what systemd, Compose or Kubernetes need to run workers: one for each QUEUE, by default for all queues "
    "of the task modules, with a scheduler where there are schedules, and a recorder unless RECORD is off.\n\n"
    "It goes to stdout, or with --out into files. No password is in it: where AMQP_URL comes from is.",
    examples="""
leveret deploy systemd -a my_app
leveret deploy systemd -a my_app --out units
leveret deploy compose -a my_app --broker --out .
leveret deploy kubernetes mail -a my_app --image registry.example/my-app:1.2
""",
)
@click.argument("target", type=click.Choice(TARGETS), metavar="|".join(TARGETS))
@click.argument("queue_names", metavar="[QUEUE]...", nargs=-1, callback=split_commas)
@tasks_option("Module that defines tasks and queues; may be repeated")
@click.option("--together", is_flag=True, help="One worker for all queues.")
@click.option("--name", metavar="NAME", help="What all of it is called by (default: after the first module).")
@click.option("--image", default="", metavar="IMAGE", help="The image with the project; Compose can build it, too.")
@click.option("--broker", is_flag=True, help="With a RabbitMQ beside the workers; for compose.")
@click.option("--no-declare", is_flag=True, help="Workers declare nothing, for an account without that right.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write files there. What is there already is replaced when you say so.",
)
@click.option("--yes", is_flag=True, help="Replace files without asking.")
@quiet_option
def verb(
    target: str,
    queue_names: Sequence[str],
    tasks: Sequence[str],
    together: bool,
    name: str | None,
    image: str,
    broker: bool,
    no_declare: bool,
    out: Path | None,
    yes: bool,
    quiet: bool,
) -> int:
    """Write the files."""
    if broker and target != "compose":
        raise click.UsageError(f"--broker goes with compose, and not with {target}")
    configured = settings.load()
    modules = task_modules.named(tasks, configured)
    if not modules:
        raise SettingsError(
            f"no task module is named: leveret deploy {target} -a my_app, LEVERET_TASKS=my_app, or tasks = ['my_app'] "
            "in leveret.toml"
        )
    task_modules.load(modules)
    named = tuple(dict.fromkeys(queues.find(work_queue_of(one)) for one in queue_names)) or queues.known()
    task_modules.check_has_queue(modules, named)
    of_file, errors = read_schedules()
    for error in errors:
        note(f"leveret deploy: {error}")
    deployment = Deployment(
        name=name or _name_after(modules[0]),
        modules=modules,
        queues=named,
        together=together,
        grace_seconds=configured.shutdown_timeout_seconds,
        has_schedules=bool(merge(definition.known(), of_file)),
        has_record=configured.record != "off",
        has_broker=broker,
        may_declare=not no_declare,
        image=image,
        program=_program(),
    )
    files = deployment.files(target)
    if out is None:
        between = ["---"] if target == "kubernetes" else [""]
        for number, (file, text) in enumerate(files.items()):
            tell(*(between if number else []), f"# {file}", *text.splitlines())
        return 0
    status = _write(files, out, yes, quiet)
    if status == 0:
        note(f"next: {_next(target, deployment, out)}", quiet)
    return status


def _next(target: str, deployment: Deployment, out: Path) -> str:
    """Say what makes it run."""
    name = deployment.name
    if target == "systemd":
        return (
            f"write AMQP_URL=… into /etc/{name}/leveret.env, copy the files to /etc/systemd/system, "
            f"and systemctl enable --now {name}.target"
        )
    if target == "compose":
        what = "RABBITMQ_USER=… and RABBITMQ_PASSWORD=…" if deployment.has_broker else "AMQP_URL=…"
        return f"write {what} into {out / '.env'}, and docker compose up -d there"
    return f"make the secret {name}-broker, as {name}.yaml says, and kubectl apply -f {out}"


def _name_after(module: str) -> str:
    """Return a name for what runs a module, made of what names can be made of."""
    plain = re.sub(r"[^a-z0-9]+", "-", module.partition(".")[0].lower()).strip("-0123456789")
    return plain[:_LONGEST_NAME].rstrip("-") or "leveret"


def _program() -> Sequence[str]:
    """Return how this command is run: by the script beside this Python, where there is one."""
    script = Path(sys.executable).with_name("leveret")
    return (str(script),) if script.exists() else (sys.executable, "-m", "leveret")


def _write(files: dict[str, str], folder: Path, yes: bool, quiet: bool) -> int:
    changed = differing(files, folder)
    if changed and not yes:
        there = f"{', '.join(changed)} in {folder}"
        if not sys.stdin or not sys.stdin.isatty():
            raise SettingsError(f"{there} would be replaced, and nothing was written; add --yes, or name another --out")
        if not click.confirm(f"replace {there}?", err=True):
            note("nothing was written", quiet)
            return EXIT_ERROR
    write_files(files, folder)
    tell(*(str(folder / name) for name in files))
    return 0
