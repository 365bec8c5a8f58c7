"""Submit tasks from the command line.

Ids go to stdout, one a line, and everything else to stderr, so that it pipes. Lines of a file or of stdin are
published 1000 at a time, as `publish_many` takes them, so those of a slow pipe wait for that, or for its end.
"""

from __future__ import annotations

import functools
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import click

from leveret.command import task_modules
from leveret.command.ending import EXIT_ERROR, tell, tell_json
from leveret.command.moments import Moment, Span
from leveret.command.samples import SAMPLES, TASK_NAMES
from leveret.command.verb import Verb, filled, json_option, note, quiet_option, tasks_option
from leveret.producers.calls import check_priority, check_timeout, check_unique, check_way, make_message, route_of
from leveret.producers.following.handle import Submitted
from leveret.producers.later import check_delay, due_of
from leveret.producers.publisher import Publisher
from leveret.topology import registry, settings
from leveret.topology.encoding import wide_encoding
from leveret.topology.errors import LeveretError, MessageError, SettingsError
from leveret.topology.link.connection import check_any
from leveret.topology.link.default_broker import resolve
from leveret.topology.message import Follow, TaskMessage, read_json
from leveret.topology.names import LEVELS, Priority, Route

_MOST_REPORTED_LINES = 20
_SHOWN_CHARACTERS = 80

Tell = Callable[[Submitted[Any]], None]
Make = Callable[..., TaskMessage]


def _seconds(_ctx: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    try:
        return check_timeout(value)
    except MessageError as error:
        raise click.BadParameter(str(error)) from error


@click.command(
    "submit",
    cls=Verb,
    help="Submit tasks. Each id on stdout is a task the broker has confirmed and put into a queue.\n\n"
    "KEY=VALUE gives an argument: VALUE is JSON where it reads as JSON, and else text; where the task is loaded and "
    "its annotation says str, it is text.",
    examples="""
leveret submit mail.send to=a@example.org n=3 -a my_app
leveret submit words.count book=lighthouse-log.txt top=5
leveret submit mail.send --kwargs '{"to": "a@example.org"}' --queue mail
leveret submit mail.send --id order-17 to=a@example.org
leveret submit mail.send --priority high to=a@example.org
leveret submit mail.send to=a@example.org --unique mail:a --for 1h
leveret submit mail.send to=a@example.org --wait --timeout 60
leveret submit mail.send to=a@example.org --delay 15m
leveret submit mail.send to=a@example.org --at 2026-12-01T09:00+01:00
leveret submit --samples
leveret submit mail.send --file jobs.jsonl -a my_app > ids.txt
generate-jobs | leveret submit mail.send --file - --routing-key mail.urgent
""",
    statuses="Exit status: 0 everything was submitted; 1 something was not, and stderr says what; 2 wrong usage. "
    "With --wait: 0 it succeeded; 3 some of several did; 4 it failed; 5 it has not ended in time",
)
@click.argument("task", required=False, callback=filled)
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@tasks_option("Module that defines the task, to check the call against; may be repeated")
@click.option("--args", metavar="JSON", help="Positional arguments, a JSON array.")
@click.option("--kwargs", metavar="JSON", help="Keyword arguments, a JSON object.")
@click.option(
    "--file",
    metavar="FILE",
    callback=filled,
    help="Submit one task a line: each line a JSON object of kwargs. - is stdin, whose lines wait until there are "
    "1000 or it ends.",
)
@click.option("--queue", metavar="QUEUE", callback=filled, help="Put it into exactly this queue.")
@click.option("--exchange", type=click.Choice(["direct", "topic", "fanout"]), help="Exchange (default: topic).")
@click.option("--routing-key", metavar="KEY", help="Routing key (default: the task's name).")
@click.option("--id", "task_id", metavar="ID", callback=filled, help="Id of your own, by which the task is known.")
@click.option(
    "--priority",
    type=click.Choice(LEVELS),
    help="Among the tasks of its queue, where that has priorities (default: normal).",
)
@click.option(
    "--delay",
    type=Span(may_be_bare=True),
    metavar="TIME",
    help="Have it run so much later: 90s, 15m, 1h, 2d, up to a year.",
)
@click.option("--at", type=Moment(), metavar="TIME", help="Have it run then: 2026-12-01T09:00+01:00.")
@click.option(
    "--unique",
    metavar="KEY",
    callback=filled,
    help="Submit it unless a task has this key that has not ended; then say the id of that one.",
)
@click.option("--for", "for_seconds", type=Span(), metavar="TIME", help="With --unique: keep the key so long (1h).")
@click.option(
    "--wait",
    is_flag=True,
    help="Wait until it has ended, and write its result on stdout, as JSON; of several tasks a line for each.",
)
@click.option("--follow", is_flag=True, help="Have what becomes of it told to who records or listens.")
@click.option(
    "--timeout",
    type=float,
    callback=_seconds,
    metavar="SECONDS",
    help="How long to wait for the broker's confirm; with --wait, for the end of the task.",
)
@click.option("--samples", is_flag=True, help="Submit the sample job: words.count for every text in DATA_DIR.")
@json_option
@quiet_option
def verb(
    task: str | None,
    pairs: Sequence[str],
    tasks: Sequence[str],
    args: str | None,
    kwargs: str | None,
    file: str | None,
    queue: str | None,
    exchange: str | None,
    routing_key: str | None,
    task_id: str | None,
    priority: Priority | None,
    delay: float | None,
    at: datetime | None,
    unique: str | None,
    for_seconds: float | None,
    wait: bool,
    follow: bool,
    timeout: float | None,
    samples: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Submit."""
    if task and "=" in task:
        raise click.UsageError(f"{task!r} is an argument; name the task first: leveret submit TASK {task}")
    has_arguments = bool(pairs) or args is not None or kwargs is not None
    if samples and (task or has_arguments or file or task_id):
        raise click.UsageError("--samples brings its task and its arguments; leave out the others")
    if not (task or samples) and (has_arguments or file or task_id):
        raise click.UsageError("name the task that the arguments, --file or --id are for")
    if file and (has_arguments or task_id):
        raise click.UsageError("--file brings the arguments, and each line its own id; leave out the others")

    if (file or samples) and (unique is not None or for_seconds is not None):
        raise click.UsageError("--unique is the key of one task; leave out --file and --samples")
    if unique is not None and wait:
        raise click.UsageError("--wait waits for a task of this process, and one that is already there is of another's")
    try:
        check_unique(unique, for_seconds, None)
    except MessageError as error:
        raise click.UsageError(str(error).replace("for_seconds", "--for").replace("unique=…", "--unique")) from error

    handles: list[Submitted[Any]] = []

    def tell_of(sent: Submitted[Any]) -> None:
        if wait:
            handles.append(sent)
            note(sent.id, quiet or is_many)
        elif as_json:
            there = {"was_already_there": sent.was_already_there} if unique is not None else {}
            tell_json({"id": sent.id, "task": sent.task, **there})
        else:
            tell(sent.id)
            if sent.was_already_there:
                note(f"a task with the key {unique!r} was already there; nothing was submitted", quiet)

    configured = settings.load()
    modules = task_modules.named(tasks, configured)
    task_modules.load(modules)
    if not (task or samples):
        known = f"{', '.join(modules)} has: {', '.join(registry.names()) or 'none'}"
        raise click.UsageError(f"name a task; {known if modules else 'the sample job is leveret submit --samples'}")
    if samples or (task in TASK_NAMES and registry.get(task) is None):
        task_modules.load([SAMPLES])
    name = task or TASK_NAMES[0]
    try:
        check_delay(delay, at)
        check_way(queue, exchange, routing_key, called=lambda name: f"--{name.replace('_', '-')}")
    except MessageError as error:
        raise click.UsageError(str(error)) from error
    route = route_of(name, queue, exchange, routing_key)
    due = _due(delay, at)
    followed: Follow | None = True if wait else "record" if follow or unique is not None else None
    is_many = bool(file) or samples
    level = check_priority(priority, name, route)
    make = functools.partial(make_message, route=route, follow=followed, due=due, priority=level)
    messages = None
    if task and not file:
        messages = [make(task, _json(args, list, "--args"), _kwargs(task, kwargs, pairs), id=task_id)]
    configured = resolve(configured)
    check_any(configured)  # fail fast, where a publisher would wait for the broker
    with Publisher(configured, timeout=None if wait else timeout) as publisher:
        if file:
            status = _submit_file(publisher, functools.partial(make, name), file, route, tell_of, quiet)
        else:
            status = 0
            publish: Callable[[TaskMessage], Submitted[Any]] = publisher.publish
            if unique is not None:
                publish = functools.partial(publisher.publish_unique, key=unique, for_seconds=for_seconds)
            for message in messages or _sample_messages(publisher.settings, make, quiet):
                tell_of(publish(message))
        if not wait:
            return status
        from leveret.command.waiting import wait_for_many, wait_for_one

        if not is_many:
            return wait_for_one(handles[0], timeout, as_json, quiet)
        return wait_for_many(handles, timeout, quiet) or status


def _due(delay: float | None, at: datetime | None) -> float | None:
    """Return when it is to run; a time that is over is now, and said."""
    if at is not None and at.timestamp() <= time.time():
        note(f"leveret submit: --at {at.isoformat()} is over, so it runs now")
        return None
    return due_of(delay, at)


def _sample_messages(configured: settings.Settings, make: Make, quiet: bool) -> list[TaskMessage]:
    from leveret.producers.examples.samples import SAMPLE_TASK, sample_texts

    texts = sample_texts(configured.data_dir)
    note(f"submitting {SAMPLE_TASK} for {len(texts)} texts in {configured.data_dir}", quiet)
    return [make(SAMPLE_TASK, kwargs={"book": text}) for text in texts]


def _kwargs(task: str, text: str | None, pairs: Sequence[str]) -> dict[str, Any]:
    """Return the keyword arguments of --kwargs and of KEY=VALUE together."""
    given: dict[str, Any] = _json(text, dict, "--kwargs")
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(
                f"{pair!r} is no KEY=VALUE; write to=a@example.org, or give --kwargs an object, or --args an array"
            )
        if key in given:
            raise click.UsageError(f"argument {key!r} is given twice; leave one out")
        given[key] = _value(registry.get(task), key, value)
    return given


def _value(known: Any, key: str, text: str) -> Any:
    try:
        read = read_json(text)
    except (ValueError, RecursionError):
        return text
    return text if known and not isinstance(read, str) and known.wants_text(key) else read


def _submit_file(
    publisher: Publisher,
    make: Make,
    file: str,
    route: Route | None,
    tell_of: Tell,
    quiet: bool,
) -> int:
    """Submit one task a line and report exactly which lines failed."""
    from tqdm import tqdm  # only who has a file pays for it

    failures: dict[int, str] = {}
    lines: dict[str, int] = {}  # id → line, for messages on their way
    submitted = 0

    def messages(source: TextIO) -> Iterator[TaskMessage]:
        number = 0
        try:
            for number, line in enumerate(source, start=1):
                if not line.strip():
                    continue
                try:
                    message = make(kwargs=_json(line, dict, "the line"))
                except LeveretError as error:
                    failures[number] = str(error)
                    progress.update()
                else:
                    lines[message.id] = number
                    yield message
        except OSError as error:  # what was read before it is on its way all the same
            failures[number + 1] = f"cannot be read, nor what follows: {_why(error)}"

    total = _count_lines(file)
    is_hidden = True if quiet else None
    with _open(file) as source, tqdm(total=total, unit=" tasks", disable=is_hidden, file=sys.stderr) as progress:
        for message, error in publisher.publish_many(messages(source), route):
            number = lines.pop(message.id)
            if error:
                failures[number] = str(error)
            else:
                submitted += 1
                tell_of(publisher.handle_of(message))
            progress.update()
    return _report(file, submitted, failures, quiet)


def _report(file: str, submitted: int, failures: dict[int, str], quiet: bool) -> int:
    note(f"{submitted} tasks submitted, {len(failures)} lines of {file} failed", quiet and not failures)
    for number in sorted(failures)[:_MOST_REPORTED_LINES]:
        note(f"  line {number}: {failures[number]}")
    if len(failures) > _MOST_REPORTED_LINES:
        rest = ", ".join(map(str, sorted(failures)[_MOST_REPORTED_LINES:]))
        note(f"  and for reasons like these, lines {rest}")
    return EXIT_ERROR if failures else 0


def _open(file: str) -> TextIO:
    if file == "-" and sys.stdin is None:
        raise SettingsError("--file - cannot be read: standard input is closed; pipe the lines to it")
    try:
        if file == "-":
            return _text_of(sys.stdin.buffer, file) if isinstance(sys.stdin, io.TextIOWrapper) else sys.stdin
        return _text_of(Path(file).open("rb"), file)
    except OSError as error:
        raise SettingsError(f"--file {file} cannot be read: {_why(error)}") from error


def _text_of(source: BinaryIO, file: str) -> TextIO:
    """Return its text, without a byte order mark. Raises `SettingsError` if its first bytes are no UTF-8."""
    if isinstance(source, io.BufferedReader) and (encoding := wide_encoding(source.peek(4))):
        source.close()
        raise SettingsError(f"--file {file} is {encoding}; convert it to UTF-8, for example with iconv")
    return io.TextIOWrapper(source, encoding="utf-8-sig", errors="surrogateescape")


def _count_lines(file: str) -> int | None:
    """Count the lines for the progress bar; None for what can be read only once."""
    path = Path(file)
    try:
        if file == "-" or not path.is_file():
            return None
        with path.open("rb") as source:
            return sum(1 for _ in source)
    except OSError as error:
        raise SettingsError(f"--file {file} cannot be read: {_why(error)}") from error


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _json(text: str | None, wanted: type[Any], what: str) -> Any:
    if text is None:
        return wanted()
    try:
        value = read_json(text)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"{what} is not JSON: {error}; it reads {text.strip()[:_SHOWN_CHARACTERS]!r}") from error
    if not isinstance(value, wanted):
        form = 'an object like \'{"book": "dracula.txt"}\'' if wanted is dict else "an array like '[1, 2]'"
        raise MessageError(f"{what} must be {form}; it reads {text.strip()[:_SHOWN_CHARACTERS]!r}")
    return value
