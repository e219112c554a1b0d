"""Which server is meant, and which token it gets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from taskengine.client.address import is_loopback, parse_address, same_server
from taskengine.client.token import Token
from taskengine.config.presence import ServerNote, live_servers
from taskengine.errors import InvalidConfiguration, ServerUnreachable

__all__ = ["TOKEN_FILE_VARIABLE", "Target", "find_target"]

TOKEN_FILE_VARIABLE = "TASKENGINE_TOKEN_FILE"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """`address` as `parse_address` writes it."""

    address: str
    token: Token


def find_target(
    server: str | None,
    token: str | None,
    token_file: str | Path | None,
    environ: Mapping[str, str],
    *,
    allow_plain_http: bool = False,
) -> Target:
    """The server that was named, else the only one that runs on this machine.

    The token is the one given, else that of `token_file`, of $TASKENGINE_TOKEN_FILE, of the note that a local server
    left. Raises ServerUnreachable, InvalidConfiguration.
    """
    if token is not None and token_file is not None:
        raise InvalidConfiguration("give `token` or `token_file`, not both")
    if server is None:
        note = _only(live_servers())
        address, notes = parse_address(note.address), [note]
    else:
        address = parse_address(server)
        notes = live_servers() if is_loopback(address) else []
    target = Target(address=address, token=_token(address, token, token_file, environ, notes))
    _refuse_clear_text(target, allow_plain_http)
    return target


def _only(notes: Sequence[ServerNote]) -> ServerNote:
    if not notes:
        raise ServerUnreachable("", "no server runs on this machine; start one: taskengine serve")
    if len(notes) > 1:
        listed = "".join(f"\n  {note.address}  (pid {note.pid}, {note.store})" for note in notes)
        raise InvalidConfiguration(f"several servers run on this machine; say which one is meant:{listed}")
    return notes[0]


def _token(
    address: str, token: str | None, token_file: str | Path | None, environ: Mapping[str, str], notes: list[ServerNote]
) -> Token:
    if token is not None:
        return Token(secret=token, origin="the token that the program gave")
    if token_file is not None:
        return _from_file(token_file, "token file {}")
    if environ.get(TOKEN_FILE_VARIABLE):
        return _from_file(environ[TOKEN_FILE_VARIABLE], f"token file {{}} (${TOKEN_FILE_VARIABLE})")
    for note in notes:
        if note.token_file and same_server(address, parse_address(note.address)):
            return _from_file(note.token_file, "token file {} (of the server on this machine)")
    return Token()


def _from_file(path: str | Path, origin: str) -> Token:
    place = Path(path).expanduser()
    return Token(path=place, origin=origin.format(place))


def _refuse_clear_text(target: Target, allow_plain_http: bool) -> None:
    if not target.token.known or allow_plain_http or target.address.startswith("https://"):
        return
    if not is_loopback(target.address):
        raise InvalidConfiguration(
            f"{target.address}: over plain http the token travels readable, and whoever sees it on the way can use it; "
            "use https://, or a tunnel to 127.0.0.1, or allow_plain_http=True where the network itself is encrypted"
        )
