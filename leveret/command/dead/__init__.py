"""Working the dead letters: a file for each thing that can be done, loaded when it is."""

from __future__ import annotations

import click

from leveret.command import Branch

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


class _Dead(Branch):
    commands_of = ACTIONS
    modules = _MODULES
    package = "leveret.command.dead"
    unknown = "nothing is called"

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
