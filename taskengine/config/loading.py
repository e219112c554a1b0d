"""Putting settings together: flag, else environment, else file, else default; and where each one came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from taskengine.config.dsn import database_kind
from taskengine.config.environment import read_environment
from taskengine.config.file import SettingsFile, read_file
from taskengine.config.keys import FLAGS, KEYS, Key
from taskengine.config.sections import Config
from taskengine.config.values import Raw, parse
from taskengine.errors import InvalidConfiguration, Problem

__all__ = ["CONFIG_VARIABLE", "Origin", "Settings", "find_file", "load"]

CONFIG_VARIABLE: Final = "TASKENGINE_CONFIG"


class Origin(msgspec.Struct, frozen=True):
    """Where a value came from.

    place  the flag, the variable, or the file with the line; empty for a default
    """

    kind: Literal["flag", "environment", "file", "default"]
    place: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.place}" if self.place else self.kind


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration, and the origin of each value by the name of its key, such as `server.port`.

    file  the file that was read, if any
    """

    config: Config = Config()
    origins: Mapping[str, Origin] = {}
    file: Path | None = None


def find_file(flag: str | None, environ: Mapping[str, str]) -> Path | None:
    """The file to load: `--config`, else `$TASKENGINE_CONFIG`, else none. A file that just lies there is not taken."""
    name = flag or environ.get(CONFIG_VARIABLE, "")
    return Path(name).expanduser() if name else None


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """The settings of a server.

    path   the file; None: none
    flags  values from the command line by the name of their key; None and empty tuples count as not given
    Raises InvalidConfiguration with every problem that was found, a line each, with its place.
    """
    file = None if path is None else read_file(path, environ)
    variables, problems = read_environment(environ)
    if file is not None:
        problems = [*file.problems, *problems]
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for key in KEYS.values():
        raw, origin = _strongest(key, flags, variables, file)
        origins[key.name] = origin
        if origin.kind == "default":
            continue
        try:
            values[key.name] = parse(key, raw)
        except ValueError as error:
            problems.append(_problem(key, origin, str(error), file))
    config = _built(values)
    problems += _contradictions(config, origins) if not problems else []
    if problems:
        raise InvalidConfiguration("\n".join(str(problem) for problem in problems))
    return Settings(config=config, origins=origins, file=path)


def _strongest(
    key: Key, flags: Mapping[str, object], variables: Mapping[str, Raw], file: SettingsFile | None
) -> tuple[Raw, Origin]:
    flag = flags.get(key.name)
    if flag not in (None, ()):
        return _from_flag(flag), Origin("flag", FLAGS.get(key.name, ""))
    if key.name in variables:
        return variables[key.name], Origin("environment", key.variable)
    if file is not None and key.name in file.settings:
        setting = file.settings[key.name]
        return setting.raw, Origin("file", f"{file.path}:{setting.line}")
    return None, Origin("default")


def _from_flag(value: object) -> Raw:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return tuple(str(item) for item in value)
    return str(value)


def _problem(key: Key, origin: Origin, message: str, file: SettingsFile | None) -> Problem:
    if origin.kind == "file" and file is not None:
        return file.problem(key.name, f"{key.name}: {message}")
    return Problem(message=message, path=origin.place or key.name)


def _built(values: Mapping[str, Any]) -> Config:
    config = Config()
    for name, value in values.items():
        config = _replaced(config, KEYS[name].fields, value)
    return config


def _replaced(struct: Any, fields: tuple[str, ...], value: Any) -> Any:
    field, *rest = fields
    inner = _replaced(getattr(struct, field), tuple(rest), value) if rest else value
    return msgspec.structs.replace(struct, **{field: inner})


def _contradictions(config: Config, origins: Mapping[str, Origin]) -> list[Problem]:
    """What each key alone cannot show."""
    found: list[tuple[str, str]] = []
    server, retry = config.server, config.engine.execution.retry
    if (server.tls_cert is None) != (server.tls_key is None):
        given, missing = ("tls_cert", "tls_key") if server.tls_key is None else ("tls_key", "tls_cert")
        found.append((f"server.{given}", f"server.{missing} is missing; TLS needs both"))
    if retry.max_interval < retry.interval:
        found.append(("task-engine.execution.retry.max_interval", "it is shorter than retry.interval"))
    database = config.engine.storage.database
    if database.type not in ("auto", kind := database_kind(database.dsn)) and kind is not None:
        found.append(
            (
                "task-engine.storage.database.type",
                f"it is {database.type}, but dsn is the address of a {kind} database; leave type out or correct it",
            )
        )
    return [Problem(message=message, path=f"{name} ({origins[name]})") for name, message in found]
