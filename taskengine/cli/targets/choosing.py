"""Which target a command line means: a server by name, a database, the server of this machine, its runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from taskengine.ambient import Ambient
from taskengine.cli.options import SERVER_VARIABLE, Where
from taskengine.cli.targets.interface import Target
from taskengine.config.presence import ServerNote, live_servers
from taskengine.errors import InvalidConfiguration, NotFound

__all__ = ["choose", "choose_for", "means_runs", "target_of"]


def target_of(where: Where, ambient: Ambient, *, hurried: bool = False) -> Target:
    """The target that is meant; its user closes it. Raises InvalidConfiguration where that is not clear.

    hurried  a server that does not answer at once is not worth waiting for
    """
    target, _ = _choose(where, ambient, hurried=hurried)
    return target


@contextmanager
def choose(where: Where, ambient: Ambient | None) -> Iterator[Target]:
    """The same for the length of a block."""
    target = target_of(where, ambient or Ambient())
    try:
        yield target
    finally:
        target.close()


@contextmanager
def choose_for(where: Where, prefix: str, ambient: Ambient | None) -> Iterator[tuple[Target, str]]:
    """The target that knows an instance whose id begins so, and the whole id.

    What the server of this machine does not know may be a run. Raises NotFound, and InvalidInput where several begin
    so.
    """
    ambient = ambient or Ambient()
    target, named = _choose(where, ambient)
    try:
        try:
            instance_id = target.find(prefix)
        except NotFound as error:
            if named or target.lasts is False:
                raise
            target.close()
            target, instance_id = _among_runs(prefix, ambient, error, target.place)
        yield target, instance_id
    finally:
        target.close()


def _choose(where: Where, ambient: Ambient, *, hurried: bool = False) -> tuple[Target, bool]:
    """The target, and whether somebody named it."""
    _refuse_contradictions(where)
    if where.runs:
        return _machine(ambient, "", named=True), True
    # A flag is stronger than the variable, whatever it names.
    server = where.server or ("" if where.dsn else os.environ.get(SERVER_VARIABLE, ""))
    if server:
        return _server(ambient, server, where.token_file, named=True, hurried=hurried), True
    if where.dsn:
        return _machine(ambient, where.dsn), True
    notes = live_servers()
    if len(notes) > 1:
        raise InvalidConfiguration(_several(notes))
    if notes:
        return _server(ambient, notes[0].address, where.token_file, named=False, hurried=hurried), False
    if where.token_file:
        raise InvalidConfiguration("--token-file: no server runs on this machine; name one with --server URL")
    return _machine(ambient, ""), False


def means_runs(where: Where) -> bool:
    """Whether there is nobody to ask but the folders of this machine's runs."""
    return where.runs or (not any(where) and not os.environ.get(SERVER_VARIABLE) and not live_servers())


def _refuse_contradictions(where: Where) -> None:
    if where.runs and (where.server or where.dsn or where.token_file):
        other = "--server" if where.server else "--db" if where.dsn else "--token-file"
        raise InvalidConfiguration(f"--runs and {other} exclude each other: each run has a store of its own")
    if where.server and where.dsn:
        raise InvalidConfiguration("--server and --db exclude each other: ask the server, or look into the database")
    if where.dsn and where.token_file:
        raise InvalidConfiguration("--token-file belongs to a server; a database is opened without a token")


def _several(notes: list[ServerNote]) -> str:
    listed = "".join(f"\n  --server {note.address}   (pid {note.pid}, {note.store})" for note in notes)
    return f"several servers run on this machine; say which one is meant:{listed}"


def _machine(ambient: Ambient, dsn: str, *, named: bool = False) -> Target:
    from taskengine.cli.targets.machine import Machine

    return Machine(ambient, dsn, named=named)


def _server(ambient: Ambient, address: str, token_file: str, *, named: bool, hurried: bool) -> Target:
    from taskengine.cli.targets.remote import Remote

    return Remote(address, token_file, ambient.clock, named=named, hurried=hurried)


def _among_runs(prefix: str, ambient: Ambient, missing: NotFound, place: str) -> tuple[Target, str]:
    """Raises NotFound that names both places."""
    machine = _machine(ambient, "")
    try:
        return machine, machine.find(prefix)
    except NotFound:
        hint = f"neither {place} nor a run of this machine has it; `taskengine instance list` shows what there is"
        raise NotFound(missing.kind, prefix, hint) from None
