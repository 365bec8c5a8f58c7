"""What the verbs have in common: how they end, their help with its examples, and the options that many take."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from leveret.command import ending
from leveret.topology.printable import printable

F = TypeVar("F", bound=Callable[..., Any])

STATUSES = "Exit status: 0 done; 1 not done, and stderr says why; 2 wrong usage"


class Verb(click.Command):
    """A verb whose function returns the exit status. `examples` stand at the end of its help, as they are."""

    def __init__(self, *args: Any, examples: str, statuses: str = STATUSES, **options: Any) -> None:
        # click keeps the option as it was asked for first, which may be without the command around it
        options.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **options)
        self._examples = examples.strip().splitlines()
        self._statuses = statuses

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples without breaking their lines."""
        formatter.write("\nExamples:\n")
        for line in self._examples:
            formatter.write(f"  {line}\n")
        formatter.write("\n")
        formatter.write_text(self._statuses)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; what is wrong with it is said in the name of this verb."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> int:
        """Run it; its errors become one line that begins with its name."""
        return ending.run(ctx.command_path, functools.partial(super().invoke, ctx))


def split_commas(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Take `a,b` as two values, as a repeated option gives them; each counts once. One without any is refused."""
    found: dict[str, None] = {}
    for value in values:
        names = [one for one in value.split(",") if one]
        if not names:
            raise click.BadParameter("it is empty")
        found.update(dict.fromkeys(names))
    return tuple(found)


def tasks_option(what: str) -> Callable[[F], F]:
    """Take the modules that define tasks and queues; `what` is done with them."""
    return click.option(
        "-a",
        "--tasks",
        multiple=True,
        metavar="MODULE",
        callback=split_commas,
        help=f"{what} (default: LEVERET_TASKS, or tasks in leveret.toml)",
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON on stdout, one object a line.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Write nothing on stderr but errors.")


def note(text: str, quiet: bool = False) -> None:
    """Say something beside the result in one line on stderr. What is not printable in it is escaped."""
    if not quiet:
        print(printable(text), file=sys.stderr, flush=True)


def filled(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse an option that was given without a value, as a script with an empty variable does."""
    if value == "":
        raise click.BadParameter("it is empty")
    return value


def named_ids(ids: Sequence[str]) -> list[str]:
    """Return each id once: of these arguments, of which one may be several with commas, or - for the lines of stdin."""
    chosen: dict[str, None] = {}
    for one in ids:
        if one == "-":
            chosen.update(dict.fromkeys(line.strip() for line in sys.stdin if line.strip()))
        else:
            chosen.update(dict.fromkeys(part for part in one.split(",") if part))
    if not chosen:
        raise click.UsageError("no id is named")
    return list(chosen)
