"""The two ledgers outside the engine, as they are read back."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


class Effect(msgspec.Struct, frozen=True):
    """One call of a task's body. `seen`: the instance's last event that was committed by then, 0: none."""

    instance: str
    task: str
    attempt: int
    monotonic_ns: int
    seen: int


class Deed(msgspec.Struct, frozen=True):
    """Something the load driver asked for (`asked`), or was told to be done."""

    what: str
    number: int
    asked: bool
    instance: str = ""


def read_effects(path: Path) -> list[Effect]:
    return _lines(path, Effect)


def read_deeds(path: Path) -> list[Deed]:
    return _lines(path, Deed)


def _lines(path: Path, kind: type[Any]) -> list[Any]:
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(kind)
    # A kill can cut the last line of a writer short; what was acknowledged is whole.
    return [decoder.decode(line) for line in path.read_bytes().split(b"\n") if line.endswith(b"}")]


class ClientLedger:
    """Appends, and is on the disk before it returns."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, **line: Any) -> None:
        os.write(self._file, _encode(line))
        os.fsync(self._file)


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"
