"""Every key there is, found in the structs of the sections: its names in file, environment and command line."""

from collections.abc import Iterator
from typing import Any, Final, get_type_hints

import msgspec

from taskengine.config.sections import Config

__all__ = ["FLAGS", "KEYS", "LATER", "Key"]

_ROOT: Final = "task-engine"


class Key(msgspec.Struct, frozen=True):
    """One setting.

    path     its keys in the file
    fields   the way to it in a `Config`
    type     of its value, as the struct declares it
    default  its value when nobody says anything
    """

    path: tuple[str, ...]
    fields: tuple[str, ...]
    type: Any
    default: Any

    @property
    def name(self) -> str:
        """`task-engine.execution.grace`"""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """`TASKENGINE_EXECUTION__GRACE`: the root is left out, hyphens are underscores."""
        parts = self.path[1:] if self.path[0] == _ROOT else self.path
        return "TASKENGINE_" + "__".join(part.replace("-", "_").upper() for part in parts)

    def of(self, config: Config) -> Any:
        """Its value."""
        value: Any = config
        for field in self.fields:
            value = getattr(value, field)
        return value


def _keys(section: type[msgspec.Struct], path: tuple[str, ...], fields: tuple[str, ...]) -> Iterator[Key]:
    hints = get_type_hints(section)
    for field in msgspec.structs.fields(section):
        here, there, hint = (*path, field.encode_name), (*fields, field.name), hints[field.name]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from _keys(hint, here, there)
        else:
            yield Key(here, there, hint, field.default)


KEYS: Final = {key.name: key for key in _keys(Config, (), ())}
"""By name, in the order of the sections."""

FLAGS: Final = {
    "server.host": "--host",
    "server.port": "--port",
    "server.tls_cert": "--tls-cert",
    "server.tls_key": "--tls-key",
    "server.behind_proxy": "--behind-proxy",
    "server.read_only": "--read-only",
    "task-engine.general.log_level": "--log-level",
    "task-engine.storage.database.dsn": "--db",
    "task-engine.execution.worker_concurrency": "-j",
    "functions.apps": "--app",
}
"""The flags of `serve`, by the key that each one sets."""

LATER: Final = frozenset(
    {
        ("plugins",),
        (_ROOT, "execution", "cluster"),
    }
)
"""Keys that a later release brings."""
