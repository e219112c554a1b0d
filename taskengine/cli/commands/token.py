"""`taskengine token`: who may ask a server, and for what. A secret is never typed: it comes from a file."""

from typing import Any, Final

import click

from taskengine.cli.completing import complete
from taskengine.cli.options import Span, target_options
from taskengine.cli.output import list_options, output_options
from taskengine.cli.tree import LazyGroup

__all__ = ["command", "create_command", "list_command", "revoke_command", "rotate_command"]

SCOPES: Final = ("read", "operate", "define", "admin")


@click.command("create", short_help="make a token and print its secret")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    required=True,
    help="What it allows, each with what stands before: look; start and change instances; upload and delete; tokens.",
)
@click.option("--expires", "expires_s", type=Span(), metavar="SPAN", help="Ends after so long, e.g. 90d.")
@target_options
@output_options
@click.pass_context
def create_command(context: click.Context, /, name: str, **options: Any) -> None:
    """Make a token. Its secret is printed now and never again.

    \b
    (umask 077; taskengine token create ci --scope operate --expires 90d > ci.token)
    taskengine instance list --server https://engine.example --token-file ci.token
    """
    from taskengine.cli.verbs import administering

    administering.create_token(context.obj, name, **options)


@click.command("list", short_help="list the tokens")
@target_options
@list_options
@click.pass_context
def list_command(context: click.Context, /, **options: Any) -> None:
    """List all tokens, also the expired and revoked ones. Secrets are not kept.

    \b
    taskengine token list
    """
    from taskengine.cli.verbs import administering

    administering.list_tokens(context.obj, **options)


@click.command("revoke", short_help="let a token open nothing any more")
@click.argument("prefix", metavar="ID|NAME", shell_complete=complete("tokens"))
@click.option("--yes", is_flag=True, help="Do not ask.")
@target_options
@output_options
@click.pass_context
def revoke_command(context: click.Context, /, prefix: str, **options: Any) -> int:
    """Let a token open nothing any more. The beginning of its id is enough.

    \b
    taskengine token revoke ci --yes
    """
    from taskengine.cli.verbs import administering

    return administering.revoke_token(context.obj, prefix, **options)


@click.command("rotate", short_help="replace the local token of a server")
@target_options
@output_options
@click.pass_context
def rotate_command(context: click.Context, /, **options: Any) -> None:
    """Replace the token that a server keeps in a file for programs of its user. The old one opens nothing any more.

    \b
    taskengine token rotate
    """
    from taskengine.cli.verbs import administering

    administering.rotate_token(context.obj, **options)


command = LazyGroup(
    {
        "create": "token:create_command",
        "list": "token:list_command",
        "revoke": "token:revoke_command",
        "rotate": "token:rotate_command",
    },
    name="token",
    help="Tokens: who may ask a server, and for what.",
    short_help="who may ask a server: create, list, revoke, rotate",
)
