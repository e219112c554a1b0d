"""Plain values to the structs of the model: keys, types, short forms, defaults. `check` judges what they mean."""

from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from taskengine.clock import Micros
from taskengine.definition import fields as convert
from taskengine.definition.fields import Table, fields, make
from taskengine.definition.findings import Finding, Findings
from taskengine.definition.later import LATER_COMPENSATION, LATER_TASK, LATER_WORKFLOW, TWO_SECTIONS, not_yet
from taskengine.errors import InvalidExpression
from taskengine.expressions import compile_expression, has_expression
from taskengine.model.children import CHILD_JOB
from taskengine.model.definition import (
    Compensation,
    Executor,
    OnFailure,
    ParamSpec,
    Retention,
    RetryPolicy,
    TaskSpec,
    Trigger,
    WorkflowDefinition,
)
from taskengine.model.durations import format_duration, parse_duration
from taskengine.model.ids import WorkflowId
from taskengine.model.names import composed
from taskengine.model.params import type_of
from taskengine.model.shape import Path, kind_of
from taskengine.model.waits import WAIT_JOB

__all__ = [
    "COMPENSATION_KEYS",
    "PARAM_KEYS",
    "RETENTION_KEYS",
    "RETRY_KEYS",
    "SLEEP_JOB",
    "TASK_KEYS",
    "WAIT_KEYS",
    "WORKFLOW_KEYS",
    "compensation",
    "decode_task",
    "decode_workflow",
    "enum_values",
    "for_each",
    "kept_span",
    "param_declarations",
    "pool_name",
    "retention",
    "retry_policy",
    "sleep_span",
    "task_list",
    "wait_params",
    "when_condition",
    "workflow_id",
]

SLEEP_JOB: Final = "sleep"
_FOR_EVER: Final = ("none", "off")
_WHEN_BRACES: Final = "${{{{ {} }}}}"
_NOTHING: Final[frozenset[str]] = frozenset()


class _Mode(StrEnum):
    BATCH = "batch"


def decode_workflow(value: Any, findings: Findings) -> WorkflowDefinition | None:
    """A definition whose broken parts have their defaults; None when the whole has another shape."""
    if isinstance(value, dict) and TWO_SECTIONS in value and "id" not in value:
        message = not_yet("the shape `workflows: {jobs, definitions}`")
        findings.add(Finding((TWO_SECTIONS,), message, on_key=True))
        return None
    if value is None:
        findings.report((), "there is nothing here; a workflow has at least an `id`")
        return None
    made = fields(WORKFLOW_KEYS, LATER_WORKFLOW, value, (), findings)
    if not isinstance(value, dict):
        return None
    if "id" not in value:
        findings.add(Finding(("id",), "the workflow has no `id`"))
    made.setdefault("id", "")
    if made.get("name") == made["id"]:
        del made["name"]
    made.pop("mode", None)
    return make(WorkflowDefinition, made)


def workflow_id(value: Any, path: Path, findings: Findings) -> WorkflowId | UnsetType:
    found = convert.name(value, path, findings)
    return found if isinstance(found, UnsetType) else WorkflowId(found)


def task_list(value: Any, path: Path, findings: Findings) -> tuple[TaskSpec, ...] | UnsetType:
    if not isinstance(value, list | tuple):
        findings.report(path, f"expected a list, got {kind_of(value)}")
        return UNSET
    return tuple(decode_task(item, (*path, at), findings) for at, item in enumerate(value))


def decode_task(value: Any, path: Path, findings: Findings) -> TaskSpec:
    """One task; one that is not a mapping becomes a task without a name, so that the others keep their numbers."""
    made = fields(TASK_KEYS, LATER_TASK, value, path, findings)
    if not isinstance(value, dict):
        return TaskSpec(name="", job="")
    if "name" not in value:
        findings.report((*path, "name"), "the task has no `name`")
    if SLEEP_JOB in value:
        _expand_sleep(value, made, path, findings)
    elif WAIT_JOB in value:
        _expand_wait(value, made, path, findings)
    elif CHILD_JOB in value:
        _expand_child(value, made, path, findings)
    elif "job" not in value:
        findings.report((*path, "job"), "the task has neither a `job` nor a `sleep`, a `wait_for` or a `workflow`")
    elif made.get("job") == SLEEP_JOB:
        _settle_duration(made.get("params", {}), path, findings)
    made.setdefault("name", "")
    made.setdefault("job", "")
    return make(TaskSpec, made)


def _expand_sleep(value: dict[str, Any], made: dict[str, Any], path: Path, findings: Findings) -> None:
    """`sleep: 5m` is short for the job `sleep` with that duration."""
    for key in ("job", "params"):
        if key in value:
            findings.add(Finding((*path, key), f"`{key}` and `sleep` exclude each other", on_key=True))
    pause = made.pop(SLEEP_JOB, UNSET)
    findings.moved((*path, "job"), (*path, SLEEP_JOB))
    findings.moved((*path, "params"), (*path, SLEEP_JOB))
    findings.moved((*path, "params", "duration"), (*path, SLEEP_JOB))
    made["job"] = SLEEP_JOB
    made["params"] = {} if pause is UNSET else {"duration": pause}


def _expand_wait(value: dict[str, Any], made: dict[str, Any], path: Path, findings: Findings) -> None:
    """`wait_for: {...}` is short for the job `wait_for` with these params, a name for `{signal: name}`."""
    for key in ("job", "params"):
        if key in value:
            findings.add(Finding((*path, key), f"`{key}` and `wait_for` exclude each other", on_key=True))
    findings.moved((*path, "job"), (*path, WAIT_JOB))
    findings.moved((*path, "params"), (*path, WAIT_JOB))
    for key in WAIT_KEYS:
        findings.moved((*path, "params", key), (*path, WAIT_JOB, key))
    said = made.pop(WAIT_JOB, UNSET)
    made["job"] = WAIT_JOB
    made["params"] = {} if said is UNSET else said


def _expand_child(value: dict[str, Any], made: dict[str, Any], path: Path, findings: Findings) -> None:
    """`workflow: id` is short for the job `workflow` with that id, and with the task's params for the child."""
    if "job" in value:
        findings.add(Finding((*path, "job"), "`job` and `workflow` exclude each other", on_key=True))
    findings.moved((*path, "job"), (*path, CHILD_JOB))
    findings.moved((*path, "params", CHILD_JOB), (*path, CHILD_JOB))
    findings.moved((*path, "params", "params"), (*path, "params"))
    child, given = made.pop(CHILD_JOB, UNSET), made.pop("params", {})
    made["job"] = CHILD_JOB
    made["params"] = {CHILD_JOB: "" if child is UNSET else child, **({"params": given} if given else {})}


def wait_params(value: Any, path: Path, findings: Findings) -> dict[str, Any] | UnsetType:
    if isinstance(value, str):
        return {"signal": value}
    if not isinstance(value, dict):
        findings.report(path, f"expected the name of a signal or a mapping, got {kind_of(value)}")
        return UNSET
    return fields(WAIT_KEYS, _NOTHING, value, path, findings)


def _settle_duration(params: dict[str, Any], path: Path, findings: Findings) -> None:
    """One spelling for one duration, so that `sleep: 5m` and `job: sleep` have the same hash."""
    if "duration" in params:
        settled = sleep_span(params["duration"], (*path, "params", "duration"), findings)
        params["duration"] = None if isinstance(settled, UnsetType) else settled


def sleep_span(value: Any, path: Path, findings: Findings) -> str | UnsetType:
    if isinstance(value, str) and has_expression(value):
        return value
    try:
        return format_duration(parse_duration(value))
    except ValueError as error:
        findings.report(path, str(error))
        return UNSET


def pool_name(value: Any, path: Path, findings: Findings) -> str | UnsetType:
    found = convert.name(value, path, findings)
    if found == "":
        findings.report(path, "the name of the pool is empty; leave `pool` out for none")
        return UNSET
    return found


def when_condition(value: Any, path: Path, findings: Findings) -> str | UnsetType:
    """The braces may be left out here, and only here: a text that is no expression would always be true."""
    if isinstance(value, bool):
        return _WHEN_BRACES.format("true" if value else "false")
    found = convert.text(value, path, findings)
    if isinstance(found, UnsetType) or not found.strip() or has_expression(found):
        return found
    try:
        compile_expression(found)
    except InvalidExpression as error:
        findings.add(Finding(path, error.reason, offset=error.offset))
        return UNSET
    return _WHEN_BRACES.format(found.strip())


def retry_policy(value: Any, path: Path, findings: Findings) -> RetryPolicy | UnsetType:
    """`retry: 3` is short for `retry: {count: 3}`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return RetryPolicy(count=value)
    if not isinstance(value, dict):
        findings.report(path, f"expected a whole number or a mapping, got {kind_of(value)}")
        return UNSET
    made = fields(RETRY_KEYS, _NOTHING, value, path, findings)
    if "count" not in value:
        findings.report((*path, "count"), "`retry` has no `count`, so nothing would be repeated")
    return make(RetryPolicy, made)


def compensation(value: Any, path: Path, findings: Findings) -> Compensation | UnsetType:
    """`compensation: undo` is short for `compensation: {job: undo}`."""
    if isinstance(value, str):
        return Compensation(job=value)
    if not isinstance(value, dict):
        findings.report(path, f"expected the name of a job or a mapping, got {kind_of(value)}")
        return UNSET
    made = fields(COMPENSATION_KEYS, LATER_COMPENSATION, value, path, findings)
    if "job" not in value:
        findings.report((*path, "job"), "the compensation has no `job`")
    made.setdefault("job", "")
    return make(Compensation, made)


def retention(value: Any, path: Path, findings: Findings) -> Retention | UnsetType:
    if not isinstance(value, dict):
        findings.report(path, f"expected a mapping such as {{success: 30d, failed: 90d}}, got {kind_of(value)}")
        return UNSET
    made = fields(RETENTION_KEYS, _NOTHING, value, path, findings)
    if not value:
        findings.report(path, "`retention` says nothing; give it `success`, `failed` or both")
    return make(Retention, made)


def kept_span(value: Any, path: Path, findings: Findings) -> Micros | UnsetType | None:
    """A duration, or None for ever."""
    if value is None or value in _FOR_EVER:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        findings.report(path, f"{error}; or `none`, to keep them for ever")
        return UNSET


def param_declarations(value: Any, path: Path, findings: Findings) -> dict[str, ParamSpec] | UnsetType:
    if not isinstance(value, dict):
        findings.report(path, f"expected a mapping, got {kind_of(value)}")
        return UNSET
    return {composed(key): _param(inner, (*path, key), findings) for key, inner in value.items()}


def _param(value: Any, path: Path, findings: Findings) -> ParamSpec:
    """A mapping declares; any other value is a default, and the type is its own."""
    if isinstance(value, dict):
        return make(ParamSpec, fields(PARAM_KEYS, _NOTHING, value, path, findings))
    default = convert.json_value(value, path, findings)
    return ParamSpec(type=type_of(default), default=default)


def for_each(value: Any, path: Path, findings: Findings) -> Any:
    """A list, or a text that the checks want to be one expression."""
    if isinstance(value, str | list | tuple):
        return convert.json_value(value, path, findings)
    findings.report(path, f"expected a list or the expression of one, got {kind_of(value)}")
    return UNSET


def enum_values(value: Any, path: Path, findings: Findings) -> tuple[Any, ...] | UnsetType:
    if not isinstance(value, list | tuple):
        findings.report(path, f"expected a list, got {kind_of(value)}")
        return UNSET
    return tuple(convert.json_value(item, (*path, at), findings) for at, item in enumerate(value))


def _same_names(struct: type[msgspec.Struct], **converters: convert.Convert[Any]) -> dict[str, Any]:
    """Rows of a table whose keys are called like the fields."""
    unknown = converters.keys() - set(struct.__struct_fields__)
    assert not unknown, f"{struct.__name__} has no {unknown}"
    return {key: (key, converter) for key, converter in converters.items()}


RETRY_KEYS: Final[Table] = {
    **_same_names(RetryPolicy, count=convert.whole, backoff=convert.number, jitter=convert.number, on=convert.texts),
    "interval": ("interval_us", convert.duration),
    "max_interval": ("max_interval_us", convert.duration),
}
RETENTION_KEYS: Final[Table] = {"success": ("success_us", kept_span), "failed": ("failed_us", kept_span)}
COMPENSATION_KEYS: Final[Table] = {
    **_same_names(Compensation, job=convert.text, params=convert.json_mapping, retry=retry_policy),
    "timeout": ("timeout_us", convert.duration),
}
WAIT_KEYS: Final[Table] = {
    "signal": ("signal", convert.name),
    "timeout": ("timeout", sleep_span),
    "on_timeout": ("on_timeout", convert.text),
    "approval": ("approval", convert.flag),
    "schema": ("schema", convert.json_mapping),
}
PARAM_KEYS: Final[Table] = _same_names(
    ParamSpec,
    type=convert.text,
    default=convert.json_value,
    required=convert.flag,
    enum=enum_values,
    minimum=convert.number,
    maximum=convert.number,
    pattern=convert.text,
    description=convert.text,
)
TASK_KEYS: Final[Table] = {
    **_same_names(
        TaskSpec,
        name=convert.name,
        job=convert.text,
        description=convert.text,
        params=convert.json_mapping,
        depends_on=convert.names,
        when=when_condition,
        trigger=convert.Choice("trigger", Trigger),
        retry=retry_policy,
        required_params=convert.texts,
        result_mapping=convert.text_mapping,
        executor=convert.Choice("executor", Executor),
        at_most_once=convert.flag,
        idempotency_key=convert.text,
        continue_on_failure=convert.flag,
        for_each=for_each,
        max_parallel=convert.whole,
        tolerance=convert.number,
        compensation=compensation,
        pool=pool_name,
        priority=convert.whole,
    ),
    "timeout": ("timeout_us", convert.duration),
    SLEEP_JOB: (SLEEP_JOB, sleep_span),
    WAIT_JOB: (WAIT_JOB, wait_params),
    CHILD_JOB: (CHILD_JOB, convert.name),
}
WORKFLOW_KEYS: Final[Table] = {
    **_same_names(
        WorkflowDefinition,
        id=workflow_id,
        name=convert.text,
        description=convert.text,
        labels=convert.text_mapping,
        params=param_declarations,
        tasks=task_list,
        max_concurrent_tasks=convert.whole,
        on_failure=convert.Choice("on_failure", OnFailure),
        retention=retention,
        sub_task_error_tolerance=convert.number,
    ),
    "timeout": ("timeout_us", convert.duration),
    "mode": ("mode", convert.Choice("mode", _Mode)),
}
