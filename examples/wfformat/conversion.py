"""Turns a trace into a workflow: each task lasts as long as its record says, and depends on the recorded parents."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final
from unicodedata import normalize

import yaml

from examples.wfformat.trace import Step, Trace

__all__ = ["Body", "as_yaml", "task_names"]

MAX_NAME: Final = 128
UNHURRIED_S: Final = 30.0

# The C emitter is six times faster, and large traces have a hundred thousand edges.
_Base: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_Base):  # type: ignore[misc]
    """Quotes whatever does not begin like a word: PyYAML takes `0E0` for text, YAML 1.2 for a number."""

    def represent_text(self, text: str) -> yaml.Node:
        style = None if text[:1].isalpha() else '"'
        node: yaml.Node = self.represent_scalar("tag:yaml.org,2002:str", text, style=style)
        return node


_Dumper.add_representer(str, _Dumper.represent_text)


class Body(StrEnum):
    """What a task does for its time."""

    HOLD = "hold"  # the job of jobs.py: keeps a worker busy, as the recorded program did
    WAIT = "wait"  # the built-in `sleep`: a durable wait that occupies no worker


def as_yaml(trace: Trace, body: Body) -> str:
    """The workflow as text that `taskengine run` takes; with Body.HOLD it needs `--app jobs.py`."""
    names = task_names(trace)
    document = {
        "id": _legal(trace.name),
        "name": trace.name,
        "tasks": [_task(step, names, body) for step in trace.steps],
    }
    text: str = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110
    )
    return text


def _task(step: Step, names: Mapping[str, str], body: Body) -> dict[str, Any]:
    name = names[step.id]
    task: dict[str, Any] = {"name": name}
    if name != step.id:
        task["description"] = step.id
    if body is Body.WAIT:
        task |= {"job": "sleep", "params": {"duration": step.seconds}}
    else:
        task |= {"job": "hold", "params": {"seconds": step.seconds}}
        if step.seconds > UNHURRIED_S:
            # Bodies have a deadline of a minute by default, and a recorded one may last for hours.
            task["timeout"] = round(2 * step.seconds + UNHURRIED_S)
    if step.parents:
        task["depends_on"] = [names[parent] for parent in step.parents]
    return task


def task_names(trace: Trace) -> Mapping[str, str]:
    """A legal task name for each id, the id itself wherever it is one; no two differ only in case."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for step in trace.steps:
        wanted = name = _legal(step.id)
        count = 1
        while _fold(name) in taken:
            count += 1
            ending = f"-{count}"
            name = wanted[: MAX_NAME - len(ending)] + ending
        taken.add(_fold(name))
        names[step.id] = name
    return names


def _legal(text: str) -> str:
    """The text with what no id or name may hold (spaces, slashes, brackets) replaced by a dash."""
    composed = normalize("NFC", text)
    kept = "".join(char if char.isalnum() or char in "_.-" else "-" for char in composed)[:MAX_NAME]
    return kept if kept.strip(".") else f"task-{kept}"[:MAX_NAME]


def _fold(name: str) -> str:
    return normalize("NFC", name.casefold())
