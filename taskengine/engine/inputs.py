"""From a task's definition and its upstream's outcomes to the arguments of its body. Pure."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from taskengine.clock import Micros
from taskengine.engine.blueprint import Step
from taskengine.errors import BadArguments
from taskengine.expressions import evaluate, truthy
from taskengine.model.definition import Compensation
from taskengine.model.shape import kind_of

__all__ = [
    "Given",
    "Item",
    "Upstream",
    "bound_params",
    "idempotency_key",
    "items",
    "names_for",
    "undo_params",
    "wanted",
]

_JSON: Final = msgspec.json.Decoder()


class Given(msgspec.Struct, frozen=True):
    """What an instance hands to all its attempts.

    params      of the instance, decoded
    started_at  RFC 3339, UTC
    fresh       it was started by this engine and has been in memory since
    """

    instance_id: str
    workflow_id: str
    params: Mapping[str, Any]
    started_at: str
    fresh: bool = False

    @staticmethod
    def time_text(at_us: Micros | None) -> str:
        if at_us is None:
            return ""
        return datetime.fromtimestamp(at_us / 1_000_000, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Item(msgspec.Struct, frozen=True):
    """What a sub-task of a `for_each` works on."""

    index: int
    value: Any


class Upstream(Mapping[str, Any]):
    """`tasks.<name>` of an expression: status, result, error; decoded when looked at."""

    __slots__ = ("_error", "_result", "_status")

    def __init__(self, status: str, result: bytes | None, error: bytes | None) -> None:
        self._status, self._result, self._error = status, result, error

    def __getitem__(self, key: str) -> Any:
        match key:
            case "status":
                return self._status
            case "result":
                return None if self._result is None else _JSON.decode(self._result)
            case "error":
                return None if self._error is None else _JSON.decode(self._error)
            case _:
                raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(("status", "result", "error"))

    def __len__(self) -> int:
        return 3


def names_for(given: Given, tasks: Mapping[str, Upstream], item: Item | None = None) -> dict[str, object]:
    """Everything an expression may name."""
    own = {} if item is None else {"item": item.value, "index": item.index}
    return {
        **own,
        "params": given.params,
        "tasks": tasks,
        "instance": {"id": given.instance_id, "started_at": given.started_at},
        "workflow": {"id": given.workflow_id},
    }


def wanted(step: Step, names: Mapping[str, object]) -> bool:
    """Whether `when` lets the body run. Raises EvaluationFailed."""
    return step.when is None or truthy(step.when.evaluate(names, f"tasks.{step.spec.name}.when"))


def bound_params(step: Step, names: Mapping[str, object], direct: Mapping[str, bytes]) -> Mapping[str, Any]:
    """The task's params with every expression evaluated, completed from direct dependencies' results.

    `direct` holds the results of direct dependencies as JSON; it is looked at only for `result_mapping` and
    `required_params`. Raises EvaluationFailed, BadArguments.
    """
    spec = step.spec
    where = f"tasks.{spec.name}.params"
    params = spec.params if step.plain else evaluate(spec.params, names, where)
    assert isinstance(params, Mapping), "params are a mapping by definition"
    if not spec.result_mapping and not spec.required_params:
        return params
    return _completed(step, dict(params), [_JSON.decode(direct[name]) for name in spec.depends_on if name in direct])


def undo_params(
    undo: Compensation,
    own: Mapping[str, Any],
    names: Mapping[str, object],
    result: bytes | None,
    error: str,
    where: str,
) -> dict[str, Any]:
    """What a compensation is given, the later ones over the earlier: params of its task, `result`, `error`, its own.

    Raises EvaluationFailed.
    """
    said = evaluate(undo.params, names, f"{where}.compensation.params") if names else undo.params
    assert isinstance(said, Mapping), "params are a mapping by definition"
    return {**own, "result": None if result is None else _JSON.decode(result), "error": error, **said}


def idempotency_key(step: Step, names: Mapping[str, object], given: Given, task: str) -> str:
    """The task's own, else one that is unique to the task in its instance. Raises EvaluationFailed."""
    if step.key is None:
        return f"{given.instance_id}/{task}"
    return str(step.key.evaluate(names, f"tasks.{step.spec.name}.idempotency_key"))


def items(step: Step, names: Mapping[str, object]) -> list[Any]:
    """What `for_each` goes through. Raises EvaluationFailed, BadArguments."""
    where = f"tasks.{step.spec.name}.for_each"
    found = evaluate(step.spec.for_each, names, where)
    if not isinstance(found, list | tuple):
        raise BadArguments(f"{where} is a list, one item for each sub-task; it gave {kind_of(found)}")
    return list(found)


def _completed(step: Step, params: dict[str, Any], results: list[Any]) -> dict[str, Any]:
    """Fill mapped and required names from the first direct dependency that has the field."""
    fields = [result for result in results if isinstance(result, dict)]
    for target, field in step.spec.result_mapping.items():
        if target not in params:
            _fill(params, target, field, fields)
    for name in step.spec.required_params:
        if name not in params:
            _fill(params, name, name, fields)
    missing = [name for name in step.spec.required_params if name not in params]
    if missing:
        raise BadArguments(
            f"required params are missing: {', '.join(missing)}; "
            "neither the task's params nor a direct dependency's result has them"
        )
    return params


def _fill(params: dict[str, Any], target: str, field: str, results: list[dict[str, Any]]) -> None:
    for result in results:
        if field in result:
            params[target] = result[field]
            return
