"""Which database a command of `taskengine db` is about."""

import os
from collections.abc import Mapping
from typing import Final

from taskengine.cli.options import SERVER_VARIABLE, Where
from taskengine.cli.settings import CONFIG_FLAG, load_settings
from taskengine.config.presence import live_servers
from taskengine.config.references import resolved
from taskengine.config.sections import RetentionConfig
from taskengine.errors import InvalidConfiguration

__all__ = ["address_of", "database_of", "retention_of", "where_of"]

_DSN: Final = "task-engine.storage.database.dsn"


def address_of(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """An address as somebody types it, with `${ENV:NAME}` for what shall not stand in a list of processes.

    Raises InvalidConfiguration for a variable that is not there.
    """
    try:
        return resolved(text, environ)[0]
    except ValueError as error:
        raise InvalidConfiguration(str(error)) from None


def database_of(dsn: str, config: str) -> str:
    """The one that is named, that of the configuration, that of the server of this machine, or that of a first server.

    Raises InvalidConfiguration where that is not clear.
    """
    configured, chosen = _configured(dsn, config)
    if chosen:
        return configured
    notes = live_servers()
    if len(notes) > 1:
        listed = "".join(f"\n  {note.store}   (pid {note.pid})" for note in notes)
        raise InvalidConfiguration(
            f"several servers run on this machine; say which database is meant with --db:{listed}"
        )
    if notes and "***" in notes[0].store:
        raise InvalidConfiguration(
            f"the server of this machine has {notes[0].store}, and its note does not tell the password; "
            "say --config FILE as the server was told, or --db DSN"
        )
    return notes[0].store if notes else configured


def where_of(where: Where, config: str) -> Where:
    """For a command that may ask a server as well: the server if there is one, unless a database is named."""
    if config and (where.server or where.runs):
        raise InvalidConfiguration(f"--config and {'--server' if where.server else '--runs'} exclude each other")
    if where.dsn or config:
        return where._replace(dsn=_configured(where.dsn, config)[0])
    if any(where) or os.environ.get(SERVER_VARIABLE) or live_servers():
        return where
    return Where(dsn=_configured("", "")[0])


def retention_of(where: Where, config: str) -> RetentionConfig | None:
    """How long the server of that database keeps instances; None where only a database is named, and not its server."""
    if where.dsn and not config:
        return None
    return load_settings({CONFIG_FLAG: config or None}).config.engine.storage.retention


def _configured(dsn: str, config: str) -> tuple[str, bool]:
    """What `serve` would take with these options; and whether somebody chose it, or it is the default."""
    if dsn:
        return address_of(dsn), True
    settings = load_settings({CONFIG_FLAG: config or None})
    return settings.config.engine.storage.database.dsn, settings.origins[_DSN].kind != "default"
