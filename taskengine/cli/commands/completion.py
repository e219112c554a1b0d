"""`taskengine completion`: scripts that shells load."""

import click

__all__ = ["command"]


@click.command("completion", short_help="print a completion script for a shell")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a script that completes commands, options, and the ids of workflows, instances and tasks.

    \b
    bash:  taskengine completion bash > ~/.local/share/bash-completion/completions/taskengine
    zsh:   taskengine completion zsh > "${fpath[1]}/_taskengine"
    fish:  taskengine completion fish > ~/.config/fish/completions/taskengine.fish
    """
    from taskengine.cli.completion import script_for
    from taskengine.cli.output import write_text

    write_text(script_for(shell))
