"""The configuration file: from YAML to raw settings, each with its place; every problem is told with line and column.

The walk follows the known keys, so neither depth nor aliases of the file can lead it astray.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from taskengine.config.keys import KEYS, LATER
from taskengine.config.references import resolved
from taskengine.config.values import POOLS, Raw, split_list
from taskengine.errors import InvalidConfiguration, Problem
from taskengine.model.pools import Pool, make_pool, parse_rate, parse_slots
from taskengine.model.shape import path_text
from taskengine.model.spelling import did_you_mean, quoted

__all__ = ["FileSetting", "SettingsFile", "read_file"]

T = TypeVar("T")
_MAX_BYTES: Final = 1024 * 1024
_POOL_KEYS: Final = ("slots", "rate")
_NOTHING: Final = frozenset({"", "~", "null", "Null", "NULL"})


class FileSetting(msgspec.Struct, frozen=True):
    """One setting of a file: what is written, after `${ENV:...}`, and where (line and column from 1)."""

    raw: Raw
    line: int
    column: int


class SettingsFile(msgspec.Struct, frozen=True):
    """What a file says.

    settings  by the name of the key
    problems  everything that is wrong so far
    lines     of the text, for excerpts
    """

    path: Path
    settings: Mapping[str, FileSetting]
    problems: list[Problem]
    lines: list[str]

    def problem(self, name: str, message: str) -> Problem:
        """A problem with the value of a key."""
        setting = self.settings[name]
        return _problem(self.path, self.lines, setting.line, setting.column, name, message)


def read_file(path: Path, environ: Mapping[str, str]) -> SettingsFile:
    """Raises InvalidConfiguration when it cannot be read or is no YAML mapping; everything else is in `problems`."""
    text = _text(path)
    lines = text.splitlines()
    try:
        # The parser in Python: the file is short, and libyaml's composer has no bound for its recursion.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidConfiguration(_syntax(path, lines, error)) from None
    if root is None:
        return SettingsFile(path, {}, [], lines)
    reader = _Reader(path, lines, environ)
    reader.section(root, ())
    return SettingsFile(path, reader.settings, reader.problems, lines)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidConfiguration(f"the configuration {path} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise InvalidConfiguration(f"the configuration {path} is larger than 1 MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(
            f"the configuration {path} is not UTF-8: byte {error.start} has no meaning"
        ) from None


def _syntax(path: Path, lines: list[str], error: Exception) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    words = getattr(error, "problem", None) or (
        "nested too deeply" if isinstance(error, RecursionError) else str(error)
    )
    line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
    return str(_problem(path, lines, line, column, "", f"this is not valid YAML: {words}"))


def _problem(path: Path, lines: list[str], line: int, column: int, name: str, message: str) -> Problem:
    excerpt = lines[line - 1] if line <= len(lines) else ""
    shown = excerpt if len(excerpt) <= 200 else ""
    return Problem(message=message, path=name, file=str(path), line=line, column=column, excerpt=shown)


def _children(prefix: tuple[str, ...]) -> list[str]:
    """The keys that may stand there, in their order."""
    depth = len(prefix)
    found = {key.path[depth]: None for key in KEYS.values() if key.path[:depth] == prefix and len(key.path) > depth}
    return list(found)


class _Reader:
    def __init__(self, path: Path, lines: list[str], environ: Mapping[str, str]) -> None:
        self._path, self._lines, self._environ = path, lines, environ
        self.settings: dict[str, FileSetting] = {}
        self.problems: list[Problem] = []

    def section(self, node: Any, prefix: tuple[str, ...]) -> None:
        if isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NOTHING:
            return  # `server:` with nothing below
        known = _children(prefix)
        if not isinstance(node, yaml.MappingNode):
            self._fault(node, prefix, f"a mapping is expected, with keys such as {', '.join(known[:3])}")
            return
        for name, key_node, value_node in self._pairs(node, prefix):
            here = (*prefix, name)
            if ".".join(here) in KEYS:
                self._setting(key_node, value_node, here)
            elif here in LATER:
                self._fault(key_node, here, f"the key {quoted(name)} is not supported yet; see docs/not-yet.md")
            elif name in known:
                self.section(value_node, here)
            else:
                self._fault(key_node, here, _unknown(name, here, known))

    def _pairs(self, node: Any, prefix: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                self._fault(key_node, prefix, "a key is a plain text")
            elif key_node.value in seen:
                line = seen[key_node.value]
                self._fault(key_node, prefix, f"the key {quoted(key_node.value)} stands in line {line} already")
            else:
                seen[key_node.value] = key_node.start_mark.line + 1
                yield key_node.value, key_node, value_node

    def _setting(self, key_node: Any, node: Any, path: tuple[str, ...]) -> None:
        try:
            if KEYS[".".join(path)].type == POOLS:
                raw = self._pools(node, path)
            else:
                raw = self._raw(node, wants_list=_wants_list(path))
        except ValueError as error:
            self._fault(node, path, str(error))
            return
        # An empty value has its mark behind the line's end: the key shows better what is meant.
        mark = (key_node if raw is None else node).start_mark
        self.settings[".".join(path)] = FileSetting(raw, mark.line + 1, mark.column + 1)

    def _raw(self, node: Any, *, wants_list: bool) -> Raw:
        if isinstance(node, yaml.ScalarNode):
            if node.style is None and node.value in _NOTHING:
                return None
            text, referred = resolved(node.value, self._environ)
            return split_list(text) if wants_list and referred else text
        if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
            return tuple(resolved(item.value, self._environ)[0] for item in node.value)
        raise ValueError("a value is expected here" if not wants_list else "a list of texts is expected here")

    def _pools(self, node: Any, path: tuple[str, ...]) -> Raw:
        """As texts such as `api=5@50/s`; what is wrong with one of them is told where it stands."""
        if isinstance(node, yaml.ScalarNode) and (raw := self._raw(node, wants_list=True)) != node.value:
            return raw  # nothing, or a variable that lists them
        if not isinstance(node, yaml.MappingNode):
            raise ValueError("a mapping is expected here, such as {io: 50, api: {slots: 5, rate: 50/s}}")
        made = [self._pool(*pair, (*path, pair[0])) for pair in self._pairs(node, path)]
        return tuple(str(pool) for pool in made if pool is not None)

    def _pool(self, name: str, key_node: Any, node: Any, path: tuple[str, ...]) -> Pool | None:
        """`api: 5`, or `api: {slots: 5, rate: 50/s}`. None: it has been said what is wrong."""
        said = {"slots": node}
        if isinstance(node, yaml.MappingNode):
            said = {}
            for key, inner_key, inner in self._pairs(node, path):
                said[key] = inner
                if key not in _POOL_KEYS:
                    self._fault(inner_key, (*path, key), _unknown(key, (*path, key), _POOL_KEYS))
        if "slots" not in said and said.keys() <= {*_POOL_KEYS}:
            self._fault(key_node, path, "the pool has no `slots`: how many of its tasks may run at once")
        slots = self._part(parse_slots, said.get("slots"), path)
        rate = self._part(parse_rate, said.get("rate"), path)
        if slots is None or (rate is None and "rate" in said):
            return None
        try:
            return make_pool(name, slots, rate)
        except ValueError as error:
            self._fault(key_node, path, str(error))
            return None

    def _part(self, read: Callable[[str], T], node: Any, path: tuple[str, ...]) -> T | None:
        """A part of a pool; None when it is not there, or is wrong and that has been said."""
        if node is None:
            return None
        try:
            if not isinstance(node, yaml.ScalarNode):
                raise ValueError("a single value is expected here")
            return read(resolved(node.value, self._environ)[0])
        except ValueError as error:
            self._fault(node, path, str(error))
            return None

    def _fault(self, node: Any, path: tuple[str, ...], message: str) -> None:
        mark = node.start_mark
        place = (mark.line + 1, mark.column + 1)
        self.problems.append(_problem(self._path, self._lines, *place, path_text(path), message))


def _wants_list(path: tuple[str, ...]) -> bool:
    return isinstance(KEYS[".".join(path)].default, tuple)


def _unknown(name: str, path: tuple[str, ...], known: Collection[str]) -> str:
    hint = did_you_mean(name, known)
    if not hint:
        hint = _elsewhere(name, path[:-1]) or f"; there are {', '.join(known)}"
    where = ".".join(path[:-1])
    return f"unknown key {quoted(name)}{f' of {where}' if where else ''}{hint}"


def _elsewhere(name: str, prefix: tuple[str, ...]) -> str:
    """Where a key belongs that stands in the wrong section."""
    for key in KEYS.values():
        for depth, part in enumerate(key.path):
            if part == name and key.path[:depth] != prefix:
                return (
                    f"; it belongs to {quoted('.'.join(key.path[:depth]))}" if depth else "; it belongs to no section"
                )
    return ""
