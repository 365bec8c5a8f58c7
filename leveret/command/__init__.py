"""The command `leveret`: a tree of verbs, each loaded when it is used.

How every verb speaks: ids and data on stdout, everything else on stderr. How it ends: 0 done, 1 not done, 2 wrong
usage, 3 partly, 4 the task failed or nothing was found, 130 Ctrl-C.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence

import click

from leveret.command import ending
from leveret.topology.printable import printable

VERBS = {
    "run": "Take tasks from work queues and run them.",
    "submit": "Submit tasks.",
    "status": "Show what is known of tasks.",
    "result": "Print what a task has returned.",
    "list": "List the tasks in the record.",
    "cancel": "Cancel tasks that wait or run.",
    "run-now": "Have delayed tasks run now.",
    "logs": "Show what a followed task has logged and printed.",
    "events": "Show what happens to tasks as it passes.",
    "info": "Show workers, queues and what runs.",
    "doctor": "Say what is wrong, and what to do about it.",
    "pause": "Have workers take nothing more from a queue.",
    "resume": "Have workers take from a paused queue again.",
    "schedule": "Fire what is to run at certain times.",
    "recorder": "Keep what becomes of followed tasks.",
    "dead": "Work the dead letters: see, mend, redrive, discard.",
    "redrive": "Send the dead messages of a queue round again.",
    "declare": "Declare exchanges and queues on the broker.",
    "plan": "Show what differs between code and broker.",
    "apply": "Bring the broker to the code, without an outage.",
    "export": "Write what tasks and queues are, for others.",
    "users": "Make the broker's users, each with the least rights.",
    "deploy": "Write units, a Compose file or manifests for workers.",
    "node": "Start, stop or show a RabbitMQ of this machine.",
    "fetch": "Fetch four real books and nltk's stop words.",
    "demo": "Run the sample job from nothing to results.",
    "treasure": "Hide a treasure in one of many files, and have it found.",
    "completion": "Print what makes a shell complete this command.",
}
"""In the order in which they are listed. Each is the `verb` of the module of its name."""
MODULES = {"list": "listing", "run-now": "run_now"}
"""But for names that are none in Python, or that would hide Python's own in this package."""


class Branch(click.Group):
    """Commands with their one line each, without loading any of them.

    `commands_of` has their lines by their names. Each is the `verb` of the module of its name in `package`, but for
    those in `modules`. `unknown` is what is said of a name that is none.
    """

    commands_of: Mapping[str, str]
    modules: Mapping[str, str]
    package: str
    unknown: str

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names."""
        return list(self.commands_of)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one."""
        if cmd_name not in self.commands_of:
            return None
        module = self.modules.get(cmd_name, cmd_name)
        verb: click.Command = importlib.import_module(f"{self.package}.{module}").verb
        return verb

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find one, or name the nearest there is."""
        if args and args[0] not in self.commands_of and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.commands_of, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(self.commands_of)}"
            raise click.UsageError(f"{self.unknown} {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.commands_of.items()))


class Tree(Branch):
    """The verbs."""

    commands_of = VERBS
    modules = MODULES
    package = "leveret.command"
    unknown = "there is no command"


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib import metadata

        ending.tell(f"leveret {metadata.version('leveret')}")
        ctx.exit()


@click.group(
    cls=Tree,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show it.")
@click.pass_context
def leveret(ctx: click.Context) -> int:
    """Workers for Python on RabbitMQ. Each command has --help, which ends in examples."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run the command with these arguments; returns its exit status."""
    return ending.run("leveret", lambda: _invoke(arguments))


def _invoke(arguments: Sequence[str]) -> int:
    try:
        return leveret.main(list(arguments), prog_name="leveret", standalone_mode=False) or 0
    except click.Abort as error:  # what click makes of Ctrl-C
        raise KeyboardInterrupt from error
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "leveret"
        print(printable(f"{command}: {_said(error)}; see {command} --help"), file=sys.stderr)
        return ending.EXIT_USAGE


def _said(error: click.UsageError) -> str:
    """Return click's words as a part of a sentence."""
    if isinstance(error, click.NoSuchOption):
        near = difflib.get_close_matches(error.option_name, error.possibilities or (), n=1)
        return f"there is no option {error.option_name}" + (f"; did you mean {near[0]}?" if near else "")
    text = " ".join(error.format_message().split()).rstrip(".")
    return text[:1].lower() + text[1:]
