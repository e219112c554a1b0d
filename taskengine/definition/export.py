"""A definition back to text: YAML and JSON that read back to the same hash, and a drawing of the graph."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import yaml

from taskengine.definition.decode import SLEEP_JOB
from taskengine.definition.fields import defaults_of
from taskengine.definition.scalars import looks_typed
from taskengine.model.children import CHILD_JOB
from taskengine.model.definition import Compensation, ParamSpec, RetryPolicy, TaskSpec, WorkflowDefinition
from taskengine.model.durations import format_duration
from taskengine.model.params import type_of
from taskengine.model.waits import WAIT_JOB

__all__ = ["task_shape", "to_json", "to_mermaid", "to_yaml", "workflow_shape"]


def to_yaml(definition: WorkflowDefinition) -> str:
    """YAML that `read_yaml` reads back to the same hash. Short forms where the format has them."""
    text: str = yaml.dump(
        workflow_shape(definition),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=_NO_FOLDING,
    )
    return text


def to_json(definition: WorkflowDefinition) -> str:
    """JSON with the keys of the format, which `read_json` reads back to the same hash."""
    return json.dumps(workflow_shape(definition), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def to_mermaid(definition: WorkflowDefinition) -> str:
    """A Mermaid flow chart, from dependencies to dependents. Nodes are n0, n1, ... in the order of the tasks."""
    numbers = {task.name: at for at, task in enumerate(definition.tasks)}
    lines = ["graph TD"]
    lines += [f'  n{at}["{_label(task.name)}"]' for at, task in enumerate(definition.tasks)]
    for at, task in enumerate(definition.tasks):
        lines += [f"  n{numbers[name]} --> n{at}" for name in task.depends_on]
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    """Mermaid's own entities; everything that could end a label, be markup, or start an icon or Markdown."""
    return re.sub(r"[^\w .-]", lambda match: f"#{ord(match[0])};", text)


# shapes: what a file would say


def workflow_shape(definition: WorkflowDefinition) -> dict[str, Any]:
    """Plain values under the keys of the format, in the order in which people write them."""
    shape = _rest(definition, "params", "tasks", "timeout_us", "retention")
    if definition.params:
        shape["params"] = {name: _param_shape(spec) for name, spec in definition.params.items()}
    if definition.timeout_us is not None:
        shape["timeout"] = format_duration(definition.timeout_us)
    if definition.retention is not None:
        kept = {"success": definition.retention.success_us, "failed": definition.retention.failed_us}
        shape["retention"] = {key: _kept(span_us) for key, span_us in kept.items() if span_us is not msgspec.UNSET}
    if definition.tasks:
        shape["tasks"] = [task_shape(task) for task in definition.tasks]
    return shape


def _kept(span_us: Any) -> str:
    return "none" if span_us is None else format_duration(span_us)


def task_shape(task: TaskSpec) -> dict[str, Any]:
    shape = _rest(task, "timeout_us", "retry", "compensation")
    if task.job == SLEEP_JOB and list(task.params) == ["duration"]:
        del shape["job"], shape["params"]
        shape["sleep"] = task.params["duration"]
    if task.job == WAIT_JOB:
        del shape["job"]
        said = shape.pop("params", {})
        shape["wait_for"] = said["signal"] if list(said) == ["signal"] else said
    if task.job == CHILD_JOB:
        del shape["job"]
        said = shape.pop("params")
        shape["workflow"] = said[CHILD_JOB]
        if "params" in said:
            shape["params"] = said["params"]
    if task.timeout_us is not None:
        shape["timeout"] = format_duration(task.timeout_us)
    if task.retry is not None:
        shape["retry"] = _retry_shape(task.retry)
    if task.compensation is not None:
        shape["compensation"] = _compensation_shape(task.compensation)
    return shape


def _compensation_shape(undo: Compensation) -> dict[str, Any] | str:
    shape = {"job": undo.job, **_rest(undo, "job", "timeout_us", "retry")}
    if undo.timeout_us is not None:
        shape["timeout"] = format_duration(undo.timeout_us)
    if undo.retry is not None:
        shape["retry"] = _retry_shape(undo.retry)
    return undo.job if len(shape) == 1 else shape


def _retry_shape(retry: RetryPolicy) -> dict[str, Any] | int:
    shape = {"count": retry.count, **_rest(retry, "count", "interval_us", "max_interval_us")}
    if retry.interval_us != RetryPolicy().interval_us:
        shape["interval"] = format_duration(retry.interval_us)
    if retry.max_interval_us is not None:
        shape["max_interval"] = format_duration(retry.max_interval_us)
    return retry.count if len(shape) == 1 else shape


def _param_shape(spec: ParamSpec) -> Any:
    bare = ParamSpec(type=type_of(spec.default), default=spec.default)
    if spec == bare and not isinstance(spec.default, Mapping) and spec.default is not msgspec.UNSET:
        return spec.default
    return _rest(spec)


def _rest(struct: msgspec.Struct, *left_out: str) -> dict[str, Any]:
    """The fields that differ from their defaults, in plain types."""
    shape: dict[str, Any] = {}
    for name, default in defaults_of(type(struct)).items():
        value = getattr(struct, name)
        if name not in left_out and value != default:
            shape[name] = list(value) if isinstance(value, tuple) else msgspec.to_builtins(value)
    return shape


# YAML

_NO_FOLDING: Final = 2**30
_Base: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_Base):  # type: ignore[misc]
    """Quotes what any reader, of YAML 1.1 or 1.2, could take for something other than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: Any, text: str) -> Any:
    if looks_typed(text):
        return dumper.represent_scalar(_TEXT, text, style="'")
    # A wish: the emitter quotes where a block could not hold the text.
    return dumper.represent_scalar(_TEXT, text, style="|" if "\n" in text else None)


_TEXT: Final = "tag:yaml.org,2002:str"
_Dumper.add_representer(str, _represent_text)
