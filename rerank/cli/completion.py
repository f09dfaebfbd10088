"""`rerank completion`: names at the press of a key."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete names.

    SHELL is bash, zsh or fish. Commands and options are completed, and the values of --dataset, --model, --method,
    --retriever, --algorithm, --judge, --prompt and --measures.

    \b
    Examples:
        rerank completion bash > ~/.local/share/bash-completion/completions/rerank
        rerank completion zsh > "${fpath[1]}/_rerank"
        rerank completion fish > ~/.config/fish/completions/rerank.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(ctx.find_root().command, {}, "rerank", "_RERANK_COMPLETE").source())
