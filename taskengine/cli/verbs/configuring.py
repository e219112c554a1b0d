"""What `taskengine config show` does."""

from collections.abc import Sequence
from typing import Any, TextIO

from taskengine.cli import exits
from taskengine.cli.output import Format, Output, write_data, write_text, yaml_text
from taskengine.cli.safe import clean
from taskengine.cli.settings import load_settings
from taskengine.config import Settings
from taskengine.config.dsn import shown_dsn
from taskengine.config.keys import KEYS, Key
from taskengine.config.values import POOLS, pool_shapes, shown

__all__ = ["nested", "rows", "show"]


def show(options: dict[str, Any], *, origin: bool) -> int:
    """The settings to stdout. As YAML without `origin` they are a configuration file."""
    output: Output = options.pop("output")
    settings = load_settings(options)
    form = output.form or Format.TABLE
    if form is Format.YAML and not origin:
        write_text(yaml_text(nested(settings)))
        return exits.OK
    found = rows(settings, origin=origin)
    write_data(found, form, table=lambda stream: _table(found, stream, origin=origin, headers=output.headers))
    return exits.OK


def rows(settings: Settings, *, origin: bool) -> list[dict[str, Any]]:
    """One for each key, in the order of the sections; `id` is its name."""
    return [
        {"id": key.name, "value": _value(key, settings), "variable": key.variable}
        | ({"origin": settings.origins[key.name].kind, "place": settings.origins[key.name].place} if origin else {})
        for key in KEYS.values()
    ]


def nested(settings: Settings) -> dict[str, Any]:
    """The settings in the shape of the file."""
    root: dict[str, Any] = {}
    for key in KEYS.values():
        place = root
        for part in key.path[:-1]:
            place = place.setdefault(part, {})
        place[key.path[-1]] = _value(key, settings)
    return root


def _value(key: Key, settings: Settings) -> Any:
    """What one would write in the file; numbers, yes or no, lists and mappings as such, all else as text."""
    value = key.of(settings.config)
    if key.type == POOLS:
        return pool_shapes(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, bool | float) or (type(value) is int and key.type is int):
        return value
    text = shown(key, value)
    return shown_dsn(text) if key.path[-1] == "dsn" else text


def _table(found: Sequence[dict[str, Any]], stream: TextIO, *, origin: bool, headers: bool) -> None:
    cells = [[row["id"], _text(row["value"])] + ([_from(row)] if origin else []) for row in found]
    if headers:
        cells.insert(0, ["KEY", "VALUE", "ORIGIN"][: len(cells[0])])
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]) - 1)]
    for row in cells:
        padded = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        write_text("  ".join([*padded, row[-1]]).rstrip(), stream)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{clean(key)}: {_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return clean(f"[{', '.join(value)}]")
    if isinstance(value, bool):
        return "true" if value else "false"
    return clean(f"{value:g}" if isinstance(value, float) else str(value))


def _from(row: dict[str, Any]) -> str:
    return clean(f"{row['origin']} {row['place']}".strip())
