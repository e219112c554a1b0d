"""Definitions from Python: the fluent twin of the YAML format, with the same checks and the same hash.

Builders gather what a file would say, key by key; `build()` decodes and checks it as a file is. They may be built
more than once and changed in between; what was built does not change with them. Not thread-safe.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NoReturn, Self

import msgspec

from taskengine.definition.check import check_task, check_workflow
from taskengine.definition.decode import decode_task, decode_workflow
from taskengine.definition.export import task_shape
from taskengine.definition.findings import MAX_PROBLEMS, Findings
from taskengine.definition.later import LATER_BUILDER, not_yet
from taskengine.errors import InvalidDefinition, Problem
from taskengine.model.definition import Executor, OnFailure, TaskSpec, Trigger, WorkflowDefinition
from taskengine.model.durations import format_duration
from taskengine.model.names import name_fault
from taskengine.model.shape import Path, path_text
from taskengine.model.spelling import did_you_mean

__all__ = ["TaskBuilder", "WorkflowBuilder", "added_task"]

Span = float | str | timedelta
"""Seconds, text such as "1h30m", or a timedelta."""


class _Builder:
    """`_said` is what a file would say: plain values under the keys of the format."""

    def __init__(self) -> None:
        self._said: dict[str, Any] = {}

    def __getattr__(self, name: str) -> NoReturn:
        if name in LATER_BUILDER:
            raise AttributeError(not_yet(name), name=name, obj=self)
        known = [known for known in dir(type(self)) if known.startswith("with_")]
        raise AttributeError(f"{type(self).__name__} has no {name}{did_you_mean(name, known)}", name=name, obj=self)

    def _say(self, key: str, value: object) -> Self:
        self._said[key] = value
        return self


class TaskBuilder(_Builder):
    """One task. `build()` checks what can be checked of a task alone; the rest waits for the workflow."""

    def __init__(self, name: str, description: str = "") -> None:
        super().__init__()
        self._say("name", name)._say("description", description)

    def with_job_function(self, job: str | Callable[..., object], params: Mapping[str, object] | None = None) -> Self:
        """What does the work: a registered name, `module:function`, or the function itself; and its params."""
        self._say("job", job if isinstance(job, str) else _name_of(job))
        return self if params is None else self.with_params(params)

    def with_params(self, params: Mapping[str, object]) -> Self:
        """Add params; texts may hold `${{ expressions }}`. Takes what has a JSON form, dates and dataclasses too."""
        return self._say("params", {**self._said.get("params", {}), **params})

    def with_sleep(self, span: Span) -> Self:
        """Wait instead of running a job. Holds no worker."""
        return self._say("sleep", span)

    def with_wait_for(
        self,
        signal: str = "",
        *,
        timeout: Span | None = None,
        on_timeout: str = "fail",
        approval: bool = False,
        schema: Mapping[str, object] | None = None,
    ) -> Self:
        """Wait for a signal (default: of the task's name), or an approval, instead of running a job."""
        said: dict[str, object] = {"signal": signal} if signal else {}
        if isinstance(timeout, timedelta):
            timeout = format_duration(timeout // timedelta(microseconds=1))
        for key, value, unsaid in (
            ("timeout", timeout, None),
            ("on_timeout", on_timeout, "fail"),
            ("approval", approval, False),
            ("schema", None if schema is None else dict(schema), None),
        ):
            if value != unsaid:
                said[key] = value
        return self._say("wait_for", said)

    def with_workflow(self, workflow: str, params: Mapping[str, object] | None = None) -> Self:
        """Run a workflow of that id as a child, with these params, instead of a job."""
        self._say("workflow", workflow)
        return self if params is None else self.with_params(params)

    def with_timeout(self, span: Span) -> Self:
        """How long one attempt may take."""
        return self._say("timeout", span)

    def with_retry_count(self, count: int) -> Self:
        """Further attempts after the first."""
        return self._retry(count=count)

    def with_retry_interval(self, span: Span) -> Self:
        """Before the first repetition. Needs a count, too."""
        return self._retry(interval=span)

    def with_retry(
        self,
        count: int,
        interval: Span = 1.0,
        *,
        backoff: float = 1.0,
        max_interval: Span | None = None,
        jitter: float = 0.0,
        on: str | type[BaseException] | Iterable[str | type[BaseException]] = (),
    ) -> Self:
        """The whole policy at once. `on`: exception classes, or their names, to repeat on; none: all."""
        several = [on] if isinstance(on, str | type) else on
        names = [item if isinstance(item, str) else item.__name__ for item in several]
        self._said.pop("retry", None)
        self._retry(count=count, interval=interval, backoff=backoff, jitter=jitter, on=names)
        return self if max_interval is None else self._retry(max_interval=max_interval)

    def _retry(self, **said: object) -> Self:
        return self._say("retry", {**self._said.get("retry", {}), **said})

    def with_dependency(self, *names: str) -> Self:
        """Add tasks that come before this one."""
        return self._say("depends_on", [*self._said.get("depends_on", ()), *names])

    def with_dependencies(self, *names: str) -> Self:
        """The same as `with_dependency`."""
        return self.with_dependency(*names)

    def with_when(self, expression: str) -> Self:
        """Run only if this is true: `"${{ tasks.a.result.rows | length > 0 }}"`."""
        return self._say("when", expression)

    def with_trigger(self, trigger: Trigger | str) -> Self:
        return self._say("trigger", str(trigger))

    def with_required_params(self, *names: str) -> Self:
        """Params that must be there, given or from a direct dependency, or the task fails."""
        return self._say("required_params", [*self._said.get("required_params", ()), *names])

    def with_result_mapping(self, mapping: Mapping[str, str]) -> Self:
        """Param -> field of a direct dependency's result that fills it."""
        return self._say("result_mapping", {**self._said.get("result_mapping", {}), **mapping})

    def with_executor(self, executor: Executor | str) -> Self:
        return self._say("executor", str(executor))

    def with_pool(self, name: str) -> Self:
        """Run only in a slot of this pool, which the engine must have: `EngineBuilder.with_pool`, or its settings."""
        return self._say("pool", name)

    def with_priority(self, priority: int) -> Self:
        """Among the attempts that wait for a slot the highest is first; 0 without this."""
        return self._say("priority", priority)

    def with_at_most_once(self, once: bool = True) -> Self:
        """Never start the body a second time, not even after a crash."""
        return self._say("at_most_once", once)

    def with_idempotency_key(self, key: str) -> Self:
        return self._say("idempotency_key", key)

    def with_for_each(self, items: str | Sequence[object]) -> Self:
        """Run the job once for each item, as sub-tasks: a list, or `"${{ tasks.list.result }}"`.

        Params may name `item` and `index`.
        """
        return self._say("for_each", items if isinstance(items, str) else list(items))

    def with_max_parallel(self, limit: int) -> Self:
        """Sub-tasks of this task that may run at once."""
        return self._say("max_parallel", limit)

    def with_tolerance(self, share: float) -> Self:
        """Share of failed sub-tasks, 0 to 1, with which this task still succeeds."""
        return self._say("tolerance", share)

    def with_compensation(
        self,
        job: str | Callable[..., object],
        params: Mapping[str, object] | None = None,
        *,
        retry: int | Mapping[str, object] | None = None,
        timeout: Span | None = None,
    ) -> Self:
        """What undoes the task's effect when the instance fails; it gets the task's params and `result` by name."""
        said: dict[str, object] = {"job": job if isinstance(job, str) else _name_of(job)}
        for key, value in (("params", params), ("retry", retry), ("timeout", timeout)):
            if value is not None:
                said[key] = dict(value) if isinstance(value, Mapping) else value
        return self._say("compensation", said)

    def with_continue_on_failure(self, go_on: bool = True) -> Self:
        """A failure of this task counts as a success for what depends on it, and for the instance."""
        return self._say("continue_on_failure", go_on)

    def build(self) -> TaskSpec:
        """The task. Raises InvalidDefinition with every problem; their paths start with `tasks['<name>']`."""
        findings, path = Findings(), ("tasks", str(self._said["name"]))
        task = decode_task(_plain(self._said), path, findings)
        check_task(task, path, findings)
        _raise_if(findings)
        return task


def added_task(said: Mapping[str, object]) -> TaskSpec:
    """A task that is added at run time, as a file would say it; expressions in it are plain text.

    Raises InvalidDefinition with every problem; their paths start at the task.
    """
    findings = Findings()
    task = decode_task(dict(said), (), findings)
    check_task(task, (), findings, is_data=True)
    _raise_if(findings)
    return task


class WorkflowBuilder(_Builder):
    """A workflow. Its id is the name, if that is a legal id; any other name asks for `with_id`."""

    def __init__(self, name: str, description: str = "") -> None:
        super().__init__()
        self._say("name", name)._say("description", description)
        self._tasks: list[TaskSpec | TaskBuilder] = []

    def with_id(self, workflow_id: str) -> Self:
        return self._say("id", workflow_id)

    def with_name(self, name: str) -> Self:
        """What to show people; the id stays what it was, if `with_id` gave one."""
        return self._say("name", name)

    def with_description(self, description: str) -> Self:
        return self._say("description", description)

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        return self._say("labels", {**self._said.get("labels", {}), **labels})

    def with_params(self, params: Mapping[str, object]) -> Self:
        """Add declared inputs: a mapping declares (`{"type": "integer", "required": True}`), all else is a default."""
        return self._say("params", {**self._said.get("params", {}), **params})

    def with_task(self, *tasks: TaskSpec | TaskBuilder) -> Self:
        """Add tasks, in any order. A builder is built when the workflow is."""
        self._tasks.extend(tasks)
        return self

    def with_timeout(self, span: Span) -> Self:
        """How long a whole instance may take."""
        return self._say("timeout", span)

    def with_max_concurrent_tasks(self, limit: int) -> Self:
        """Tasks of one instance that may run at once."""
        return self._say("max_concurrent_tasks", limit)

    def with_error_tolerance(self, share: float) -> Self:
        """Share of failed sub-tasks, 0 to 1, with which their parent still succeeds."""
        return self._say("sub_task_error_tolerance", share)

    def with_on_failure(self, what: OnFailure | str) -> Self:
        return self._say("on_failure", str(what))

    def with_retention(
        self,
        *,
        success: Span | msgspec.UnsetType | None = msgspec.UNSET,
        failed: Span | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> Self:
        """How long instances are kept that ended as Success, and that ended in any other way; None: for ever.

        What is not given here is left to the engine.
        """
        given = {"success": success, "failed": failed}
        return self._say("retention", {key: span for key, span in given.items() if span is not msgspec.UNSET})

    def with_batch_mode(self) -> Self:
        """Says what is so anyway: an instance ends when its tasks have."""
        return self._say("mode", "batch")

    def build(self) -> WorkflowDefinition:
        """The definition. Raises InvalidDefinition with every problem, with paths and without lines."""
        findings = Findings()
        definition = decode_workflow(_plain(self._shape(findings)), findings)
        assert definition is not None, "a mapping with an id decodes"
        tasks = tuple(_task(task, ("tasks", at), findings) for at, task in enumerate(self._tasks))
        definition = msgspec.structs.replace(definition, tasks=tasks)
        check_workflow(definition, None, findings)
        _raise_if(findings)
        return definition

    def _shape(self, findings: Findings) -> dict[str, Any]:
        said = {"id": self._said["name"], **self._said}
        fault = name_fault(said["id"]) if "id" not in self._said and isinstance(said["id"], str) else ""
        if fault:
            findings.report(("id",), f'the name {fault}, so it cannot be the id too; give one: with_id("...")')
        return said


def _task(task: TaskSpec | TaskBuilder, path: Path, findings: Findings) -> TaskSpec:
    """The task in its canonical form, whoever made it: a TaskSpec can be made by hand, with anything in it."""
    if isinstance(task, TaskBuilder):
        return decode_task(_plain(task._said), path, findings)
    try:
        return decode_task(task_shape(msgspec.convert(msgspec.to_builtins(task), TaskSpec)), path, findings)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
        findings.report(path, f"this is no task: {error}")
        return TaskSpec(name="", job="")


def _name_of(function: Callable[..., object]) -> str:
    """The name under which `@job` registers a function; for any other one its import path."""
    mark = getattr(function, _MARK, None)
    if mark is not None and mark.name:
        return str(mark.name)
    if not hasattr(function, "__qualname__"):
        raise TypeError(f"a job is a name or a function, not {function!r}; register it under a name")
    return str(function.__name__) if mark is not None else f"{function.__module__}:{function.__qualname__}"


_MARK: Final = "__taskengine_job__"
_SPANS: Final = ("timeout", "sleep", "interval", "max_interval", "success", "failed")


def _plain(said: Any) -> Any:
    """What was said in the types of a file: tuples as lists, timedeltas of the format's own keys as text."""
    plain = {key: value for key, value in said.items() if key != "description" or value != ""}
    for key in _SPANS:
        if isinstance(plain.get(key), timedelta):
            plain[key] = format_duration(plain[key] // timedelta(microseconds=1))
    for key in ("retry", "retention", "compensation"):
        if isinstance(plain.get(key), dict):
            plain[key] = _plain(plain[key])
    return plain


def _raise_if(findings: Findings) -> None:
    if not findings:
        return
    problems = [Problem(message=found.message, path=path_text(found.path)) for found in findings.found[:MAX_PROBLEMS]]
    if len(findings.found) > MAX_PROBLEMS:
        problems.append(Problem(message=f"and {len(findings.found) - MAX_PROBLEMS:,} more problems"))
    raise InvalidDefinition(problems)
