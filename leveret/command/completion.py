"""Print what makes a shell complete this command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from leveret.command.ending import tell
from leveret.command.verb import Verb


@click.command(
    "completion",
    cls=Verb,
    help="Print a script that makes a shell complete commands and options.",
    examples="""
eval "$(leveret completion bash)"    in ~/.bashrc
eval "$(leveret completion zsh)"     in ~/.zshrc
leveret completion fish > ~/.config/fish/completions/leveret.fish
""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def verb(shell: str) -> int:
    """Print the script."""
    from leveret.command import leveret

    made = get_completion_class(shell)
    assert made is not None
    tell(*made(leveret, {}, "leveret", "_LEVERET_COMPLETE").source().splitlines())
    return 0
