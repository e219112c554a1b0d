"""Data on stdout, in the form that was asked for. Shapes are stable: keys are added, never renamed or left out."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple, TextIO, TypeVar

import click

from taskengine.cli.safe import clean, clean_json, is_clean
from taskengine.cli.terminal import is_terminal

__all__ = ["Format", "Output", "json_text", "list_options", "output_options", "write_data", "write_text", "yaml_text"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Format(StrEnum):
    """`jsonl`: one compact object a line; `id`: only the ids, one a line."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    JSONL = "jsonl"
    ID = "id"


class Output(NamedTuple):
    """How a command shall speak.

    form     None: nothing was said, the command's own way
    headers  whether tables have a line with the names of their columns
    quiet    no progress and no hints on stderr; errors and warnings stay
    """

    form: Format | None = None
    headers: bool = True
    quiet: bool = False

    def hint(self, text: str) -> None:
        """A message to the person that may be missed."""
        if not self.quiet:
            from taskengine.cli.problems import say

            say(text)


def output_options(command: _Command) -> _Command:
    """`-o`, its alias `--json`, and `-q`; the command gets `output: Output`."""
    return _packed(command, _FORMS)


def list_options(command: _Command) -> _Command:
    """The same with `--no-headers`, for commands that print tables with names of columns."""
    return _packed(command, (*_FORMS, _NO_HEADERS))


_FORMS: Final = (
    click.option(
        "-o", "--output", "output", type=click.Choice(Format, case_sensitive=False), help="How to print the data."
    ),
    click.option("--json", "output", flag_value=Format.JSON.value, type=Format, help="The same as `-o json`."),
    click.option("-q", "--quiet", is_flag=True, help="No progress and no hints."),
)
_NO_HEADERS: Final = click.option("--no-headers", is_flag=True, help="Tables without the names of their columns.")


def _packed(command: _Command, options: Sequence[Callable[[Any], Any]]) -> _Command:
    @functools.wraps(command)
    def pack(*arguments: Any, output: Format | None, quiet: bool, no_headers: bool = False, **given: Any) -> Any:
        return command(*arguments, output=Output(output, not no_headers, quiet), **given)

    for option in reversed(options):
        pack = option(pack)
    return pack  # type: ignore[return-value]


def write_text(text: str, stream: TextIO | None = None) -> None:
    """Text and a line end to stdout. Raises BrokenPipeError when nobody reads any more."""
    out = stream or sys.stdout
    out.write(text + "\n")
    out.flush()


def write_data(
    value: object,
    form: Format,
    *,
    table: Callable[[TextIO], None],
    key: str = "id",
    stream: TextIO | None = None,
) -> None:
    """An object, or a list of objects, of JSON shape: wire bodies or mappings.

    table  prints the form for people
    key    the field that `-o id` prints; objects in which it is null are left out
    """
    out = stream or sys.stdout
    rows = value if isinstance(value, list) else [value]
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
            text = "\n".join(clean(str(found)) for row in rows if (found := _field(row, key)) is not None)
    if text:
        write_text(text, out)


def _field(row: object, key: str) -> object:
    return row[key] if isinstance(row, Mapping) else getattr(row, key)


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
