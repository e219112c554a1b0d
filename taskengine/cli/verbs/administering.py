"""What `taskengine function`, `node` and `token` do: the engine itself, looked at and guarded."""

from collections.abc import Sequence
from typing import Final, TextIO

from taskengine.ambient import Ambient
from taskengine.cli import exits
from taskengine.cli.listing import show_table
from taskengine.cli.options import Where
from taskengine.cli.output import Format, Output, write_data, write_text
from taskengine.cli.safe import clean, clean_lines
from taskengine.cli.targets.choosing import choose
from taskengine.cli.verbs.confirming import confirm
from taskengine.cli.verbs.instances import time_text
from taskengine.errors import InvalidInput, NotFound
from taskengine.model.spelling import did_you_mean
from taskengine.wire import FunctionBody, Scope, TokenBody

__all__ = [
    "create_token",
    "list_functions",
    "list_nodes",
    "list_tokens",
    "revoke_token",
    "rotate_token",
    "show_function",
]

_FUNCTION_HEADS: Final = ("NAME", "KIND", "BUILT IN", "SUMMARY")
_NODE_HEADS: Final = ("ID", "ADDRESS", "PID", "STARTED (UTC)", "VERSION")
_TOKEN_HEADS: Final = ("ID", "NAME", "SCOPE", "CREATED (UTC)", "EXPIRES (UTC)", "REVOKED (UTC)")


def list_functions(ambient: Ambient | None, *, apps: Sequence[str], where: Where, output: Output) -> None:
    """What a run here, or that server, could run."""
    with choose(where, ambient) as target:
        found = target.functions(apps)
    rows = [
        [each.name, each.kind, "yes" if each.builtin else "", (each.doc.strip().splitlines() or [""])[0]]
        for each in found
    ]
    write_data(
        found,
        output.form or Format.TABLE,
        table=lambda stream: show_table(_FUNCTION_HEADS, rows, stream, headers=output.headers),
        key="name",
    )


def show_function(ambient: Ambient | None, name: str, *, apps: Sequence[str], where: Where, output: Output) -> None:
    with choose(where, ambient) as target:
        found = {each.name: each for each in target.functions(apps)}
    if name not in found:
        near = did_you_mean(name, found).removeprefix(", ")
        raise NotFound("function", name, near or "`taskengine function list` shows what there is")
    function = found[name]
    write_data(function, output.form or Format.TABLE, table=lambda stream: _show_function(function, stream), key="name")


def _show_function(function: FunctionBody, stream: TextIO) -> None:
    write_text(clean(f"{function.name}{function.signature}"), stream)
    write_text(clean(f"Runs      {function.kind}{', built in' if function.builtin else ''}"), stream)
    write_text(clean(f"Defined   {function.path}"), stream)
    if function.doc:
        write_text("\n" + clean_lines(function.doc.strip()), stream)


def list_nodes(ambient: Ambient | None, *, where: Where, output: Output) -> None:
    with choose(where, ambient) as target:
        found = target.nodes()
    rows = [[each.id, each.address, str(each.pid), time_text(each.started_at), each.version] for each in found]
    write_data(
        found,
        output.form or Format.TABLE,
        table=lambda stream: show_table(_NODE_HEADS, rows, stream, headers=output.headers),
    )


def list_tokens(ambient: Ambient | None, *, where: Where, output: Output) -> None:
    with choose(where, ambient) as target:
        found = target.tokens()
    write_data(
        found,
        output.form or Format.TABLE,
        table=lambda stream: show_table(
            _TOKEN_HEADS, [_token_row(each) for each in found], stream, headers=output.headers
        ),
    )


def create_token(
    ambient: Ambient | None, name: str, scope: Scope, *, expires_s: float | None, where: Where, output: Output
) -> None:
    """The secret goes to stdout and nowhere else: `taskengine token create ci --scope operate > ci.token`."""
    with choose(where, ambient) as target:
        made = target.create_token(name, scope, expires_s)
    write_data(made, output.form or Format.TABLE, table=lambda stream: write_text(made.secret, stream))
    output.hint(f"Made token {made.id} ({scope}). Its secret is told only this once; keep it in a file of mode 0600.")


def revoke_token(ambient: Ambient | None, prefix: str, *, yes: bool, where: Where, output: Output) -> int:
    with choose(where, ambient) as target:
        token = _find(target.tokens(), prefix)
        if not confirm(f"Revoke token {token.id} ({token.name}, {token.scope}) of {target.place}?", yes=yes):
            return exits.ERROR
        target.revoke_token(token.id)
    output.hint(f"Revoked token {token.id} ({token.name}). It opens nothing any more.")
    return exits.OK


def rotate_token(ambient: Ambient | None, *, where: Where, output: Output) -> None:
    with choose(where, ambient) as target:
        target.rotate_token()
    output.hint("The local token was replaced. Programs of this user on that machine read the new one from its file.")


def _find(tokens: Sequence[TokenBody], prefix: str) -> TokenBody:
    """By the beginning of its id, or by its whole name. Raises NotFound, InvalidInput."""
    found = [each for each in tokens if each.id.startswith(prefix.lower())] if prefix else []
    found = found or [each for each in tokens if each.name == prefix and each.revoked_at is None]
    if not found:
        raise NotFound("token", prefix, "`taskengine token list` shows what there is")
    if len(found) > 1:
        shown = "\n  ".join(f"{each.id}  {each.name}" for each in found[:10])
        raise InvalidInput(f"several tokens are meant by {prefix}; type more of the id:\n  {shown}")
    return found[0]


def _token_row(token: TokenBody) -> list[str]:
    return [
        token.id,
        token.name,
        token.scope,
        time_text(token.created_at),
        time_text(token.expires_at),
        time_text(token.revoked_at),
    ]
