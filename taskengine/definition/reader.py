"""From text to a frozen definition: read, decode, check; all problems at once, each with its position."""

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from taskengine.definition.check import check_workflow
from taskengine.definition.decode import decode_workflow
from taskengine.definition.findings import Findings
from taskengine.definition.json_source import compose_json
from taskengine.definition.source import JSON_LINES, YAML_LINES, Document, Source
from taskengine.definition.yaml_source import compose_yaml
from taskengine.errors import InvalidDefinition, Problem
from taskengine.model.definition import WorkflowDefinition

__all__ = ["MAX_BYTES", "read_file", "read_json", "read_yaml"]

MAX_BYTES: Final = 64 * 1024 * 1024
"""What one's own machine may read. A server hands in a smaller limit."""

_BOM: Final = "\ufeff"
_NOT_ALLOWED: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_Compose = Callable[[Source, Findings], Document | None]


def read_yaml(
    text: str | bytes,
    *,
    file: str = "",
    jobs: Collection[str] | None = None,
    pools: Collection[str] | None = None,
    limit_bytes: int = MAX_BYTES,
) -> WorkflowDefinition:
    """The definition in a YAML text (JSON is YAML, too). Bytes are UTF-8.

    file   what positions are told with
    jobs   the names that `job` may have; None: any. It is asked with `in` and iterated for suggestions, so a caller
           that also takes `module:function` answers for those in `__contains__`.
    pools  the names that `pool` may have; None: any
    Raises InvalidDefinition, with every problem in the order of the text, and nothing else.
    """
    source = _source(text, file, limit_bytes, YAML_LINES)
    strange = _NOT_ALLOWED.search(source.text)
    if strange:
        message = f"the character U+{ord(strange[0]):04X} may not stand in YAML; write it as an escape in quotes"
        raise InvalidDefinition([source.problem(strange.start(), message)])
    return _read(compose_yaml, source, jobs, pools)


def read_json(
    text: str | bytes,
    *,
    file: str = "",
    jobs: Collection[str] | None = None,
    pools: Collection[str] | None = None,
    limit_bytes: int = MAX_BYTES,
) -> WorkflowDefinition:
    """As `read_yaml`, for JSON: the same keys, the same checks, the same hash."""
    return _read(compose_json, _source(text, file, limit_bytes, JSON_LINES), jobs, pools)


def read_file(
    path: str | os.PathLike[str],
    *,
    jobs: Collection[str] | None = None,
    pools: Collection[str] | None = None,
    limit_bytes: int = MAX_BYTES,
) -> WorkflowDefinition:
    """The definition in a file: JSON if its name ends in `.json`, else YAML. Raises OSError, and as `read_yaml`."""
    with open(path, "rb") as stream:
        data = stream.read(limit_bytes + 1)
    read = read_json if Path(path).suffix.lower() == ".json" else read_yaml
    return read(data, file=os.fspath(path), jobs=jobs, pools=pools, limit_bytes=limit_bytes)


def _read(
    compose: _Compose, source: Source, jobs: Collection[str] | None, pools: Collection[str] | None
) -> WorkflowDefinition:
    findings = Findings()
    document = compose(source, findings)
    if document is None:
        found = sorted(findings.found, key=lambda finding: finding.at)
        raise InvalidDefinition([source.problem(finding.at, finding.message, finding.path) for finding in found])
    definition = decode_workflow(document.value, findings)
    if definition is not None:
        check_workflow(definition, jobs, findings, pools)
    if findings or definition is None:
        raise InvalidDefinition(document.problems(findings.found))
    return definition


def _source(text: str | bytes, file: str, limit_bytes: int, lines: re.Pattern[str]) -> Source:
    size = len(text) if isinstance(text, bytes) else _bytes_of(text)
    if size > limit_bytes:
        message = f"the definition is larger than {limit_bytes:,} bytes, the limit here"
        raise InvalidDefinition([Problem(message=message, path="", file=file or "<text>", line=1, column=1)])
    plain = text if isinstance(text, str) else _decode(text, file, lines)
    return Source(plain.removeprefix(_BOM), file, lines)


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _decode(data: bytes, file: str, lines: re.Pattern[str]) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        source = Source((before + data[error.start :].decode(errors="replace")).removeprefix(_BOM), file, lines)
        message = f"the byte 0x{data[error.start]:02X} is not UTF-8; save the file as UTF-8"
        raise InvalidDefinition([source.problem(len(before.removeprefix(_BOM)), message)]) from None
