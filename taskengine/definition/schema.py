"""The file format as a JSON Schema (2020-12), for editors and for programs that write definitions.

Made from the reader's own tables: a key that the reader learns is in the schema, and one whose kind of value this
module does not know fails at import. The schema never refuses what the reader takes; names that do not exist, cycles
and expressions are the reader's to judge.
"""

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any, Final

from taskengine.definition import decode, fields
from taskengine.definition.fields import Choice, Convert, Table
from taskengine.model.definition import PARAM_TYPES
from taskengine.model.durations import DURATION_PATTERN
from taskengine.model.pools import MAX_PRIORITY

__all__ = ["json_schema"]

Schema = dict[str, Any]

_NAME: Final = r"^[^\u0000-\u002c\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007f]*$"
"""A name without the ASCII characters that no name has; what else is refused has no short pattern in all languages."""

_KINDS: Final[Mapping[Convert[Any], Schema]] = {
    fields.text: {"type": "string"},
    fields.name: {"$ref": "#/$defs/name"},
    fields.names: {"anyOf": [{"$ref": "#/$defs/name"}, {"type": "array", "items": {"$ref": "#/$defs/name"}}]},
    fields.texts: {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    fields.text_mapping: {"type": "object", "additionalProperties": {"type": "string"}},
    fields.json_mapping: {"type": "object"},
    fields.json_value: {},
    fields.flag: {"type": "boolean"},
    fields.whole: {"type": "integer"},
    fields.number: {"type": "number"},
    fields.duration: {"$ref": "#/$defs/duration"},
    decode.workflow_id: {"$ref": "#/$defs/name"},
    decode.pool_name: {"$ref": "#/$defs/name"},
    decode.when_condition: {"type": ["string", "boolean"]},
    decode.sleep_span: {"anyOf": [{"$ref": "#/$defs/duration"}, {"type": "string", "pattern": r"\$\{\{"}]},
    decode.retry_policy: {"anyOf": [{"type": "integer", "minimum": 0}, {"$ref": "#/$defs/retry"}]},
    decode.compensation: {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/compensation"}]},
    decode.wait_params: {"anyOf": [{"$ref": "#/$defs/name"}, {"$ref": "#/$defs/wait"}]},
    decode.retention: {"$ref": "#/$defs/retention"},
    decode.kept_span: {"anyOf": [{"$ref": "#/$defs/duration"}, {"enum": ["none", "off", None]}]},
    decode.enum_values: {"type": "array"},
    decode.for_each: {"anyOf": [{"type": "array"}, {"type": "string", "pattern": r"\$\{\{"}]},
    decode.task_list: {"type": "array", "items": {"$ref": "#/$defs/task"}},
    decode.param_declarations: {
        "type": "object",
        "propertyNames": {"$ref": "#/$defs/name"},
        "additionalProperties": {
            "anyOf": [
                {"$ref": "#/$defs/param"},
                {"type": ["string", "number", "boolean", "array", "null"], "description": "Short for its default."},
            ]
        },
    },
}

_WORKFLOW: Final[Mapping[str, Schema]] = {
    "id": {"description": "The key under which the workflow is stored."},
    "name": {"description": "For people, in any language; default: the id."},
    "description": {"description": "For people."},
    "labels": {
        "description": "Text to text, to find workflows by.",
        "propertyNames": {"minLength": 1, "maxLength": 128},
    },
    "params": {"description": "What an instance takes as input; without it: anything."},
    "tasks": {"description": "In any order."},
    "max_concurrent_tasks": {"description": "Tasks of one instance that run at once; default: no limit.", "minimum": 1},
    "timeout": {"description": "For a whole instance."},
    "on_failure": {
        "description": "What the first failure does. stop: what has begun finishes, little else starts; "
        "continue: other branches run on; cancel: what runs is cancelled, too.",
        "default": "stop",
    },
    "retention": {"description": "How long ended instances are kept; default: the engine's."},
    "mode": {"description": "How it runs.", "default": "batch"},
    "sub_task_error_tolerance": {
        "description": "Share of failed sub-tasks with which their parent still succeeds; default: none.",
        "minimum": 0,
        "maximum": 1,
    },
}
_TASK: Final[Mapping[str, Schema]] = {
    "name": {"description": "Unique in the workflow, whatever the case of its letters."},
    "job": {"description": "A registered name, or package.module:function.", "minLength": 1},
    "sleep": {"description": "A pause instead of a job, as a duration or an expression; it holds no worker."},
    "wait_for": {"description": "A signal or an approval instead of a job: its name, or a mapping. Holds no worker."},
    "workflow": {"description": "The id of a workflow that is run instead of a job, with the params. Holds no worker."},
    "description": {"description": "For people."},
    "params": {"description": "Arguments of the job; texts may hold ${{ expressions }}."},
    "depends_on": {"description": "Tasks that end before this one starts."},
    "when": {"description": "An expression; if it is false the task is skipped."},
    "trigger": {"description": "How the dependencies must have ended.", "default": "all_success"},
    "timeout": {"description": "For one attempt."},
    "retry": {"description": "Further attempts after a failure: how many, or a policy."},
    "required_params": {"description": "Params that must be there, given or from a direct dependency."},
    "result_mapping": {"description": "Param to the field of a direct dependency's result that fills it."},
    "executor": {"description": "Where the body runs; default: by the kind of function."},
    "at_most_once": {"description": "After a crash do not run it again; excludes retry.", "default": False},
    "idempotency_key": {"description": "May hold ${{ expressions }}; default: made by the engine."},
    "continue_on_failure": {"description": "Its failure counts as a success for others.", "default": False},
    "compensation": {"description": "What undoes the task's effect when the instance fails: a job, or a mapping."},
    "for_each": {"description": "A list, or the expression of one: the job runs once for each item, as a sub-task."},
    "max_parallel": {"description": "Sub-tasks of this task that run at once; default: no limit.", "minimum": 1},
    "tolerance": {
        "description": "Share of failed sub-tasks with which this task still succeeds; default: the workflow's.",
        "minimum": 0,
        "maximum": 1,
    },
    "pool": {"description": "Whose slots and rate its attempts need; default: only a worker."},
    "priority": {
        "description": "Among the attempts that wait for a slot; higher first.",
        "minimum": -MAX_PRIORITY,
        "maximum": MAX_PRIORITY,
        "default": 0,
    },
}
_RETRY: Final[Mapping[str, Schema]] = {
    "count": {"description": "Further attempts after the first.", "minimum": 0, "maximum": 1_000_000},
    "interval": {"description": "Before the first repetition.", "default": "1s"},
    "backoff": {"description": "Each next delay is that many times longer.", "minimum": 1, "default": 1},
    "max_interval": {"description": "No delay is longer."},
    "jitter": {
        "description": "The share of a delay by which it is spread to both sides.",
        "minimum": 0,
        "maximum": 1,
        "default": 0,
    },
    "on": {"description": "Exception classes, or bases of them, to repeat on; default: all."},
}
_COMPENSATION: Final[Mapping[str, Schema]] = {
    "job": {"description": "A registered name, or package.module:function.", "minLength": 1},
    "params": {"description": "Arguments over those of the task; texts may hold ${{ expressions }}."},
    "retry": {"description": "Further attempts after a failure: how many, or a policy."},
    "timeout": {"description": "For one attempt."},
}
_WAIT: Final[Mapping[str, Schema]] = {
    "signal": {"description": "Its name; default: that of the task."},
    "timeout": {"description": "How long to wait; default: for ever."},
    "on_timeout": {"description": "fail: the task is TimedOut; continue: it is Success, with null.", "default": "fail"},
    "approval": {"description": "Somebody says yes or no.", "default": False},
    "schema": {"description": "What the payload has, declared like the params of a workflow."},
}
_RETENTION: Final[Mapping[str, Schema]] = {
    "success": {"description": "Those that succeeded; at least 1m, none: for ever."},
    "failed": {"description": "Those that ended in any other way; at least 1m, none: for ever."},
}
_PARAM: Final[Mapping[str, Schema]] = {
    "type": {"description": "Of its values.", "enum": list(PARAM_TYPES), "default": "any"},
    "default": {"description": "Where none is given."},
    "required": {"description": "Must be given.", "default": False},
    "enum": {"description": "The only values that it may have."},
    "minimum": {"description": "The least number."},
    "maximum": {"description": "The greatest number."},
    "pattern": {"description": "A regular expression that is found in the text."},
    "description": {"description": "For people."},
}


@cache
def _schema() -> Schema:
    workflow = _object(decode.WORKFLOW_KEYS, _WORKFLOW, required=["id"])
    task = _object(decode.TASK_KEYS, _TASK, required=["name"])
    task["oneOf"] = [
        {"required": ["job"]},
        {"required": ["sleep"], "properties": {"params": False}},
        {"required": ["wait_for"], "properties": {"params": False}},
        {"required": ["workflow"]},
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:taskengine:workflow",
        "title": "taskengine workflow",
        "description": "One workflow definition, as YAML or JSON.",
        **workflow,
        "$defs": {
            "name": {
                "type": "string",
                "minLength": 1,
                "pattern": _NAME,
                "description": "1..128 characters: letters and digits of any script, _ . and -",
            },
            "duration": {
                "description": "500ms, 60s, 1h30m, 2d, or a number of seconds.",
                "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": DURATION_PATTERN}],
            },
            "task": task,
            "retry": _object(decode.RETRY_KEYS, _RETRY, required=["count"]),
            "compensation": _object(decode.COMPENSATION_KEYS, _COMPENSATION, required=["job"]),
            "wait": _object(decode.WAIT_KEYS, _WAIT, required=[]),
            "retention": {**_object(decode.RETENTION_KEYS, _RETENTION, required=[]), "minProperties": 1},
            "param": _object(decode.PARAM_KEYS, _PARAM, required=[]),
        },
    }


def _object(table: Table, notes: Mapping[str, Schema], *, required: list[str]) -> Schema:
    """A mapping with the keys of the reader's table; each has its note."""
    return {
        "type": "object",
        "properties": {key: _property(converter, notes[key]) for key, (_, converter) in table.items()},
        "required": required,
        "additionalProperties": False,
    }


def _property(converter: Convert[Any], note: Schema) -> Schema:
    kind = {"enum": list(converter.words)} if isinstance(converter, Choice) else _KINDS[converter]
    return {**kind, **note}


def json_schema() -> Schema:
    """The schema of a definition file, as a new value of plain types."""
    return deepcopy(_schema())
