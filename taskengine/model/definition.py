"""The canonical workflow definition: what YAML, the builder and JSON compile to.

Frozen. Every default is left out of the canonical form, so that adding a field with a default later changes no hash.
Expressions stay text here; they are compiled by whoever evaluates them. Spans are integer microseconds.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from taskengine.clock import Micros
from taskengine.model.ids import Version, WorkflowId
from taskengine.model.label import Label

__all__ = [
    "PARAM_TYPES",
    "Compensation",
    "Executor",
    "OnFailure",
    "ParamSpec",
    "Retention",
    "RetryPolicy",
    "TaskSpec",
    "Trigger",
    "WorkflowDefinition",
    "canonical_form",
    "decode_canonical",
    "retention_of",
    "version_of",
]


class Trigger(Label):
    """When a task runs, given how its dependencies ended. The table is in `engine/trigger.py`."""

    ALL_SUCCESS = "all_success"
    ALL_DONE = "all_done"
    ONE_SUCCESS = "one_success"
    ONE_FAILED = "one_failed"
    NONE_FAILED = "none_failed"


class OnFailure(Label):
    """What the first failure that counts does to the rest of the instance."""

    STOP = "stop"
    CONTINUE = "continue"
    CANCEL = "cancel"


class Executor(Label):
    """Where a body runs. AUTO: on the loop for `async def`, in a thread for `def`."""

    AUTO = ""
    ASYNC = "async"
    THREAD = "thread"
    PROCESS = "process"


def _use_defaults(struct: msgspec.Struct, fields: tuple[str, ...]) -> None:
    """Equal to the default is the default: msgspec leaves a value out of the canonical form only if it is the same
    object, and a float or a text that somebody computed is another one.
    """
    # The defaults are those of the last fields.
    defaults = dict(zip(reversed(struct.__struct_fields__), reversed(struct.__struct_defaults__), strict=False))
    for field in fields:
        if getattr(struct, field) == defaults[field]:
            msgspec.structs.force_setattr(struct, field, defaults[field])


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often and when a failed attempt is repeated.

    count     further attempts after the first
    interval  before the first repetition; each next one is `backoff` times longer, at most `max_interval`
    jitter    share of the delay, 0..1, by which it is spread to both sides
    on        names of exception classes to repeat on, matched against the class and its bases; empty: all
    """

    count: int = 0
    interval_us: Micros = Micros(1_000_000)
    backoff: float = 1.0
    max_interval_us: Micros | None = None
    jitter: float = 0.0
    on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _use_defaults(self, ("interval_us", "backoff", "jitter"))


class Retention(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long an instance is kept after its end. None: for ever. UNSET: not said, somebody else decides.

    success  if it ended as Success
    failed   if it ended in any other way
    """

    success_us: Micros | msgspec.UnsetType | None = msgspec.UNSET
    failed_us: Micros | msgspec.UnsetType | None = msgspec.UNSET

    def over(self, other: "Retention") -> "Retention":
        """Both together: `other` where this one says nothing."""
        unset = msgspec.UNSET
        return Retention(
            success_us=other.success_us if self.success_us is unset else self.success_us,
            failed_us=other.failed_us if self.failed_us is unset else self.failed_us,
        )


PARAM_TYPES: Final = ("any", "string", "integer", "number", "boolean", "array", "object")


class ParamSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One declared input of a workflow. `default` is UNSET when there is none; null is a default like any other."""

    type: str = "any"
    default: Any = msgspec.UNSET
    required: bool = False
    enum: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    pattern: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        _use_defaults(self, ("type",))


class Compensation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What undoes a task's effect when its instance fails.

    params   over those of the task; texts may hold the same expressions
    retry    None: what the job function asks for by itself, else no repetition
    """

    job: str
    params: Mapping[str, Any] = {}
    retry: RetryPolicy | None = None
    timeout_us: Micros | None = None


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One task as it is defined. `when` and the strings inside `params` may hold `${{ expressions }}`.

    retry         None: what the job function asks for by itself, else no repetition
    for_each      a list, or the expression of one: the job runs once for each item; UNSET: it runs once
    max_parallel  sub-tasks of this task that may run at once; None: no limit
    compensation  what undoes it; of a `for_each` it undoes each item
    tolerance     share of failed sub-tasks, 0..1, with which it still succeeds; None: the workflow's
    pool          whose slots and rate its attempts need besides a worker; empty: none
    priority      among the attempts that wait for a slot, higher first
    """

    name: str
    job: str
    description: str = ""
    params: Mapping[str, Any] = {}
    depends_on: tuple[str, ...] = ()
    when: str = ""
    trigger: Trigger = Trigger.ALL_SUCCESS
    timeout_us: Micros | None = None
    retry: RetryPolicy | None = None
    required_params: tuple[str, ...] = ()
    result_mapping: Mapping[str, str] = {}
    executor: Executor = Executor.AUTO
    at_most_once: bool = False
    idempotency_key: str = ""
    continue_on_failure: bool = False
    for_each: Any = msgspec.UNSET
    max_parallel: int | None = None
    tolerance: float | None = None
    compensation: Compensation | None = None
    pool: str = ""
    priority: int = 0


class WorkflowDefinition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole workflow. `name` defaults to the id and is then left out of the canonical form."""

    id: WorkflowId
    name: str = ""
    description: str = ""
    labels: Mapping[str, str] = {}
    params: Mapping[str, ParamSpec] = {}
    tasks: tuple[TaskSpec, ...] = ()
    max_concurrent_tasks: int | None = None
    timeout_us: Micros | None = None
    on_failure: OnFailure = OnFailure.STOP
    retention: Retention | None = None
    sub_task_error_tolerance: float = 0.0

    def __post_init__(self) -> None:
        _use_defaults(self, ("sub_task_error_tolerance",))

    @property
    def title(self) -> str:
        """What to show people."""
        return self.name or self.id


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(WorkflowDefinition)


def canonical_form(definition: WorkflowDefinition) -> bytes:
    """UTF-8 JSON with sorted keys and without defaults: the same meaning, the same bytes."""
    return _ENCODER.encode(definition)


def decode_canonical(data: bytes) -> WorkflowDefinition:
    """The definition that `canonical_form` wrote. Unknown keys are passed over: a newer program may have written it."""
    return _DECODER.decode(data)


class _Kept(msgspec.Struct):
    """The one part of a canonical definition that says how long instances are kept."""

    retention: Retention | None = None


_KEPT: Final = msgspec.json.Decoder(_Kept)


def retention_of(canonical: bytes) -> Retention | None:
    """The same as `decode_canonical(canonical).retention`, without making all the rest."""
    return _KEPT.decode(canonical).retention


def version_of(canonical: bytes) -> Version:
    """The name of a version: SHA-256 of its canonical form, in hex."""
    return Version(hashlib.sha256(canonical).hexdigest())
