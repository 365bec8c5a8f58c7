"""Working the dead letters: a file for each thing that can be done, loaded when it is."""

from __future__ import annotations

import difflib
import importlib

import click

from leveret.topology.printable import printable

ACTIONS = {
    "top": "Count the dead by why they are dead.",
    "list": "List them.",
    "show": "Show one: arguments, traceback, history.",
    "edit": "Mend the arguments of one, and send it round again.",
    "redrive": "Send them round again, a few first if wished.",
    "discard": "Take them out, into a file.",
    "export": "Write them to a file.",
    "import": "Put those of a file back.",
    "replay": "Run one here, in this process.",
}
_MODULES = {"list": "listing", "import": "importing"}
_EXAMPLES = """
leveret dead top
leveret dead show g4f9a21c
leveret dead redrive mail --kind ConnectionError --canary 3
leveret dead discard mail --older 30d
"""
_STATUSES = "Exit status: 0 done; 1 not done, and stderr says why; 2 wrong usage; 3 partly; 4 failed again; 5 not yet"


class _Dead(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(ACTIONS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ACTIONS:
            return None
        module = importlib.import_module(f"leveret.command.dead.{_MODULES.get(cmd_name, cmd_name)}")
        verb: click.Command = module.verb
        return verb

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in ACTIONS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], ACTIONS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(ACTIONS)}"
            raise click.UsageError(f"nothing is called {printable(args[0])!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(ACTIONS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("\nExamples:\n")
        for line in _EXAMPLES.strip().splitlines():
            formatter.write(f"  {line}\n")
        formatter.write("\n")
        formatter.write_text(_STATUSES)


@click.group("dead", cls=_Dead, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def verb(ctx: click.Context) -> None:
    """Work the dead letters: see why they are dead, mend them, send them round again, take them out.

    QUEUE is a work queue; the name of its DLQ means the same. Looking changes nothing. Each has --help.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
