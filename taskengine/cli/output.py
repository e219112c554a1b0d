"""Data on stdout, in the form that was asked for. Shapes are stable: keys are added, never renamed or left out."""

import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TextIO, TypeVar

import click

from taskengine.cli.safe import clean_json, is_clean
from taskengine.cli.terminal import is_terminal

__all__ = ["Format", "json_text", "output_options", "write_data", "write_text", "yaml_text"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Format(StrEnum):
    """`jsonl`: one compact object a line; `id`: only the ids, one a line."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    JSONL = "jsonl"
    ID = "id"


def output_options(command: _Command) -> _Command:
    """`-o` and its alias `--json`; the command gets `output: Format | None`, None when neither was given."""
    with_json = click.option(
        "--json", "output", flag_value=Format.JSON.value, type=Format, help="The same as `-o json`."
    )(command)
    return click.option(
        "-o", "--output", "output", type=click.Choice(Format, case_sensitive=False), help="How to print the data."
    )(with_json)


def write_text(text: str, stream: TextIO | None = None) -> None:
    """Text and a line end to stdout. Raises BrokenPipeError when nobody reads any more."""
    out = stream or sys.stdout
    out.write(text + "\n")
    out.flush()


def write_data(
    value: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    form: Format,
    *,
    table: Callable[[TextIO], None],
    stream: TextIO | None = None,
) -> None:
    """An object, or a list of objects, of JSON shape, each with an `id`. `table` prints the form for people."""
    out = stream or sys.stdout
    rows = [value] if isinstance(value, Mapping) else list(value)
    match form:
        case Format.TABLE:
            table(out)
            return
        case Format.JSON:
            text = json_text(value, pretty=is_terminal(out))
        case Format.YAML:
            text = yaml_text(value)
        case Format.JSONL:
            text = "\n".join(json_text(row) for row in rows)
        case Format.ID:
            text = "\n".join(str(row["id"]) for row in rows if row["id"] is not None)
    if text:
        write_text(text, out)


def json_text(value: object, *, pretty: bool = False) -> str:
    """One line, or indented; nothing in it that a terminal would obey."""
    import msgspec

    encoded = msgspec.json.encode(value)
    return clean_json((msgspec.json.format(encoded, indent=2) if pretty else encoded).decode())


def yaml_text(value: object) -> str:
    import msgspec
    import yaml

    class Dumper(yaml.CSafeDumper):
        """Quotes what a terminal would obey, so that it can be written as escapes."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def represent(dumper: Dumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_clean(text) else '"')

    Dumper.add_representer(str, represent)
    plain = msgspec.to_builtins(value)
    dumped: str = yaml.dump(plain, Dumper=Dumper, allow_unicode=True, sort_keys=False, width=4096)
    return clean_json(dumped).rstrip("\n")
