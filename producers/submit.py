"""Submit tasks from the command line: `python -m producers.submit`. See --help.

Ids go to stdout, one a line, and everything else to stderr, so that it pipes. Lines of a file or of stdin are
published 1000 at a time, as `publish_many` takes them, so those of a slow pipe wait for that, or for its end.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from tqdm import tqdm

from producers.publisher import Publisher, submit
from topology import broker, connection, modules, names, queues, samples, settings
from topology.command import EXIT_ERROR, run, tell
from topology.declare import SAMPLES, declare
from topology.errors import LeveretError, MessageError, SettingsError
from topology.message import TaskMessage, check_name, read_json
from topology.names import Route
from topology.settings import Settings

_MOST_REPORTED_LINES = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    has_arguments = options.args is not None or options.kwargs is not None
    if not options.task and (has_arguments or options.file):
        parser.error("name the task that --args, --kwargs or --file are for")
    if options.file and has_arguments:
        parser.error("--file brings the arguments; leave out --args and --kwargs")
    if options.queue and options.exchange not in (None, "direct"):
        parser.error("--queue is a way of the direct exchange; leave out --exchange or --queue")
    if options.queue and options.routing_key is not None:
        parser.error("--queue is the routing key, too; leave out --routing-key or --queue")
    return run("producers.submit", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    message = None
    if options.task and not options.file:
        args, kwargs = _json(options.args, list, "--args"), _json(options.kwargs, dict, "--kwargs")
        message = TaskMessage.create(options.task, args, kwargs)
    configured = _prepare(broker.resolve(settings.load()), options)
    with Publisher(configured) as publisher:
        if message:
            tell(publisher.publish(message, _route(options, options.task)))
            return 0
        return _submit_file(publisher, options) if options.file else _submit_samples(publisher, options)


def _prepare(configured: Settings, options: argparse.Namespace) -> Settings:
    """Fail fast when there is no broker, and declare what this program knows of."""
    modules.load(options.tasks or [SAMPLES])
    if options.no_declare:
        connection.check_any(configured)
    else:
        declare(configured, queues.known())
    return configured


def _submit_samples(publisher: Publisher, options: argparse.Namespace) -> int:
    texts = samples.sample_texts(publisher.settings.data_dir)
    print(f"submitting {samples.SAMPLE_TASK} for {len(texts)} texts in {publisher.settings.data_dir}", file=sys.stderr)
    for text in texts:
        message = TaskMessage.create(samples.SAMPLE_TASK, kwargs={"book": text})
        tell(publisher.publish(message, _route(options, samples.SAMPLE_TASK)))
    return 0


def _route(options: argparse.Namespace, task: str) -> Route:
    if options.queue:
        return Route.direct(check_name(options.queue, "--queue"))
    key = options.routing_key and check_name(options.routing_key, "--routing-key")
    if options.exchange == "direct":
        if key is None:
            raise SettingsError("--exchange direct needs a queue: --queue NAME (or --routing-key)")
        return Route.direct(key)
    if options.exchange == "fanout":
        return Route.fanout(task if key is None else key)
    return Route.topic(task if key is None else key)


def _submit_file(publisher: Publisher, options: argparse.Namespace) -> int:
    """Submit one task a line and report exactly which lines failed."""
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
                    message = TaskMessage.create(options.task, kwargs=_json(line, dict, "the line"))
                except LeveretError as error:
                    failures[number] = str(error)
                    progress.update()
                else:
                    lines[message.id] = number
                    yield message
        except OSError as error:  # what was read before it is on its way all the same
            failures[number + 1] = f"cannot be read, nor what follows: {_why(error)}"

    total = _count_lines(options.file)
    with _open(options.file) as source, tqdm(total=total, unit=" tasks", disable=None, file=sys.stderr) as progress:
        for message, error in publisher.publish_many(messages(source), _route(options, options.task)):
            number = lines.pop(message.id)
            if error:
                failures[number] = str(error)
            else:
                submitted += 1
                tell(message.id)
            progress.update()
    return _report(options.file, submitted, failures)


def _report(file: str, submitted: int, failures: dict[int, str]) -> int:
    print(f"{submitted} tasks submitted, {len(failures)} lines of {file} failed", file=sys.stderr)
    for number in sorted(failures)[:_MOST_REPORTED_LINES]:
        print(f"  line {number}: {failures[number]}", file=sys.stderr)
    if len(failures) > _MOST_REPORTED_LINES:
        rest = ", ".join(map(str, sorted(failures)[_MOST_REPORTED_LINES:]))
        print(f"  and for reasons like these, lines {rest}", file=sys.stderr)
    return EXIT_ERROR if failures else 0


def _open(file: str) -> TextIO:
    if file == "-":
        if sys.stdin is None:
            raise SettingsError("--file - cannot be read: standard input is closed; pipe the lines to it")
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        return sys.stdin
    try:
        return Path(file).open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise SettingsError(f"--file {file} cannot be read: {_why(error)}") from error


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
        raise MessageError(f"{what} is not JSON: {error}; it reads {text.strip()[:80]!r}") from error
    if not isinstance(value, wanted):
        form = 'an object like \'{"book": "dracula.txt"}\'' if wanted is dict else "an array like '[1, 2]'"
        raise MessageError(f"{what} must be {form}; it reads {text.strip()[:80]!r}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m producers.submit",
        description="Submit tasks. Each id printed on stdout is a task the broker has confirmed and put into a queue. "
        f"Without a TASK, submits {samples.SAMPLE_TASK} for every text in DATA_DIR.",
        epilog="examples:\n"
        "  python -m producers.submit\n"
        '  python -m producers.submit words.count --kwargs \'{"book": "lighthouse-log.txt", "top": 5}\'\n'
        "  python -m producers.submit words.count --args '[\"lighthouse-log.txt\"]' --queue words\n"
        "  python -m producers.submit mail.send --tasks my_app --file jobs.jsonl > ids.txt\n"
        "  generate-jobs | python -m producers.submit mail.send --file - --exchange topic --routing-key mail.urgent\n\n"
        "exit status: 0 everything was submitted; 1 something was not, and stderr says what; 2 wrong usage",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", nargs="?", type=_filled, metavar="TASK", help="name of the task, such as words.count")
    parser.add_argument("--args", metavar="JSON", help="positional arguments, a JSON array")
    parser.add_argument("--kwargs", metavar="JSON", help="keyword arguments, a JSON object")
    parser.add_argument(
        "--file",
        type=_filled,
        metavar="FILE",
        help="submit one task a line: each line a JSON object of kwargs. - is stdin, "
        "whose lines wait until there are 1000 or it ends",
    )
    parser.add_argument(
        "--exchange",
        choices=("direct", "topic", "fanout"),
        help=f"exchange to publish to (default: topic; {names.DIRECT_EXCHANGE}, {names.TOPIC_EXCHANGE} or "
        f"{names.FANOUT_EXCHANGE})",
    )
    parser.add_argument("--routing-key", metavar="KEY", help="routing key (default: the task's name)")
    parser.add_argument(
        "--queue", type=_filled, metavar="QUEUE", help="put it into exactly this queue, by the direct exchange"
    )
    modules.add_option(parser, "module whose queues to declare first", SAMPLES)
    parser.add_argument(
        "--no-declare",
        action="store_true",
        help="declare nothing, for an account without the configure right",
    )
    return parser


def _filled(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


class _CallableModule(ModuleType):
    """Whoever imports this module puts it where the function `producers.submit` was; so it does what that does."""

    def __call__(self, task: str, /, *args: Any, **kwargs: Any) -> str:
        return submit(task, *args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    sys.exit(main())
