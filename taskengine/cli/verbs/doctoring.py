"""What `taskengine doctor` does: look at everything a server needs, and say how to mend it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from taskengine.ambient import Ambient
from taskengine.assembly import assemble, database_file, shown_store, state_folder, token_path
from taskengine.cli import exits
from taskengine.cli.doctor.finding import Finding, fail, ok
from taskengine.cli.doctor.machine import check_clock, check_files, check_libraries, check_sqlite
from taskengine.cli.doctor.network import check_address, check_servers
from taskengine.cli.doctor.storage import check_database, check_room, check_state_folder, newest_us
from taskengine.cli.output import Format, Output, write_data, write_text
from taskengine.cli.safe import clean
from taskengine.cli.settings import load_settings
from taskengine.cli.stdio import stdout_kept_for_data
from taskengine.config import Settings
from taskengine.errors import TaskEngineError

__all__ = ["examine"]

_MARKS: Final = {"ok": "✔ ok  ", "warn": "! warn", "fail": "✘ fail"}


def examine(ambient: Ambient | None, options: dict[str, Any]) -> int:
    """The findings to stdout; 0 when none is a failure, else 1."""
    output: Output = options.pop("output")
    with stdout_kept_for_data():  # job modules may print
        found = list(_findings(ambient or Ambient(), options))
    write_data(found, output.form or Format.TABLE, table=lambda stream: _table(found, stream))
    return exits.ERROR if any(each.status == "fail" for each in found) else exits.OK


def _findings(ambient: Ambient, options: dict[str, Any]) -> Iterator[Finding]:
    yield from check_libraries()
    yield check_sqlite()
    try:
        settings = load_settings(options)
    except TaskEngineError as error:
        yield fail("configuration", str(error), "correct it; docs/configuration.md has every key")
        settings = Settings()
        file = None
    else:
        yield _origins(settings)
        yield from check_address(settings.config.server, shown_store(settings.config))
        file = database_file(settings.config.engine.storage.database.dsn)
        yield from _check_storage(settings, file, ambient)
        yield _check_functions(settings, ambient)
        yield check_files(settings.config.server.max_clients)
    yield check_clock(ambient.clock, newest_us(file) if file is not None else None)
    yield from check_servers()


def _origins(settings: Settings) -> Finding:
    """How many values came from where; `config show --origin` lists them."""
    kinds = [origin.kind for origin in settings.origins.values()]
    counted = [f"{kinds.count(kind)} from {where}" for kind, where in _WHERE.items() if kind in kinds]
    named = f"{settings.file}: " if settings.file is not None else ""
    return ok("configuration", f"{named}{', '.join(counted) or 'everything by default'}")


_WHERE: Final = {"flag": "flags", "environment": "the environment", "file": "the file"}


def _check_storage(settings: Settings, file: Path | None, ambient: Ambient) -> Iterator[Finding]:
    config = settings.config
    yield from check_state_folder(state_folder(config), token_path(config))
    if file is None:
        yield ok("database", "in memory: it ends with its server")
        return
    yield from check_room(file, config.engine.storage.database.dsn)
    yield from check_database(file, ambient.clock)


def _check_functions(settings: Settings, ambient: Ambient) -> Finding:
    """Import what a server would import."""
    try:
        engine = assemble(settings, ambient, lambda error: None).engine
    except TaskEngineError as error:
        return fail("functions", str(error), "correct functions.modules, functions.apps or functions.builtin")
    return ok("functions", f"{len(engine.registry.names())} jobs")


def _table(found: Iterable[Finding], stream: TextIO) -> None:
    for each in found:
        write_text(f"{_MARKS[each.status]}  {clean(each.id)}: {_indented(each.detail)}", stream)
        if each.advice:
            write_text(f"          {_indented(each.advice)}", stream)


def _indented(text: str) -> str:
    return "\n          ".join(clean(line) for line in text.splitlines())
