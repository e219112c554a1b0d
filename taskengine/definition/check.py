"""What a decoded definition may not say: names, limits, combinations. One finding for each fault.

Parts that already have a finding are passed over. The graph is judged in `dependencies`, expressions in `references`.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

from taskengine.definition.decode import SLEEP_JOB
from taskengine.definition.dependencies import check_dependencies
from taskengine.definition.findings import Finding, Findings
from taskengine.definition.references import check_expressions, check_references, texts_in
from taskengine.expressions import has_expression
from taskengine.model.children import CHILD_JOB
from taskengine.model.definition import Executor, ParamSpec, RetryPolicy, TaskSpec, Trigger, WorkflowDefinition
from taskengine.model.durations import format_duration
from taskengine.model.names import name_fault
from taskengine.model.params import spec_faults
from taskengine.model.pools import MAX_PRIORITY, no_pool
from taskengine.model.shape import Path
from taskengine.model.spelling import quoted
from taskengine.model.waits import WAIT_JOB, WAIT_PARAMS

__all__ = ["BUILTIN_JOBS", "check_task", "check_workflow"]

BUILTIN_JOBS: Final = frozenset(
    {"fail", "http_request", "log", "noop", "shell_command", "sleep", "transform", "wait_for", "workflow"}
)
"""Jobs that come with the engine, whether or not they are enabled where a definition is read."""

_JOB_NAME: Final = re.compile(r"[^\W\d]\w*(?:[.-]\w+)*")
_JOB_PATH: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_EXCEPTION: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_NEEDS_DEPENDENCY: Final = frozenset({Trigger.ONE_SUCCESS, Trigger.ONE_FAILED})
_MAX_RETRIES: Final = 1_000_000
_MAX_KEY: Final = 128
_SHORTEST_KEPT_US: Final = 60_000_000
"""Whoever waits for an instance must be able to read what came of it."""
_NOT_HERE: Final = "expressions are not evaluated here; they are in `params`, `when` and `idempotency_key` of tasks"


def check_workflow(
    definition: WorkflowDefinition,
    jobs: Collection[str] | None,
    findings: Findings,
    pools: Collection[str] | None = None,
) -> None:
    """Judge a whole definition. `jobs`, `pools`: what `job` and `pool` may name; None when that is not known here."""
    judge = _Judge(findings, pools)
    judge.workflow(definition)
    for at, task in enumerate(definition.tasks):
        judge.task(task, ("tasks", at), jobs)
    graph = check_dependencies(definition.tasks, findings)
    check_references(definition, graph, findings)


def check_task(task: TaskSpec, path: Path, findings: Findings, *, is_data: bool = False) -> None:
    """Judge what can be said of a task alone. is_data: what looks like an expression in it is none."""
    _Judge(findings, None).task(task, path, None)
    if not is_data:
        check_expressions(task, path, findings)


class _Judge:
    def __init__(self, findings: Findings, pools: Collection[str] | None) -> None:
        self._findings, self._pools = findings, pools

    def _say(self, path: Path, message: str, *, on_key: bool = False) -> None:
        if not self._findings.touches(path):
            self._findings.add(Finding(path, message, on_key))

    def _legal(self, path: Path, what: str, text: str, *, on_key: bool = False) -> None:
        fault = name_fault(text)
        if fault:
            shown = f" {quoted(text)}" if text else ""
            self._say(path, f"the {what}{shown} {fault}", on_key=on_key)

    # the workflow

    def workflow(self, definition: WorkflowDefinition) -> None:
        self._legal(("id",), "id", definition.id)
        for key, text in definition.labels.items():
            self._label(("labels", key), key, text)
        for name, spec in definition.params.items():
            self._param(("params", name), name, spec)
        for at, task in enumerate(definition.tasks):
            if task.job == CHILD_JOB and task.params.get(CHILD_JOB) == definition.id:
                self._say(("tasks", at, "params", CHILD_JOB), "the workflow would run below itself, without an end")
        limit = definition.max_concurrent_tasks
        if limit is not None and limit < 1:
            self._say(("max_concurrent_tasks",), f"{limit:,} tasks at once; at least 1, or leave it out for no limit")
        self._timeout(("timeout",), definition.timeout_us)
        self._share(("sub_task_error_tolerance",), definition.sub_task_error_tolerance)
        if definition.retention is not None:
            self._kept(("retention", "success"), definition.retention.success_us)
            self._kept(("retention", "failed"), definition.retention.failed_us)

    def _share(self, path: Path, share: float | None) -> None:
        if share is not None and not 0 <= share <= 1:
            self._say(path, f"a tolerance of {share:g}; it is a share of the sub-tasks, 0..1")

    def _kept(self, path: Path, span_us: int | msgspec.UnsetType | None) -> None:
        if isinstance(span_us, int) and span_us < _SHORTEST_KEPT_US:
            self._say(path, f"`{format_duration(span_us)}` is too short to read what came of an instance; at least 1m")

    def _label(self, path: Path, key: str, text: str) -> None:
        if not 0 < len(key) <= _MAX_KEY:
            self._say(path, f"a label's key has 1..{_MAX_KEY} characters", on_key=True)
        if has_expression(text):
            self._say(path, _NOT_HERE)

    def _param(self, path: Path, name: str, spec: ParamSpec) -> None:
        self._legal(path, "parameter", name, on_key=True)
        if self._findings.touches(path):
            return
        for key, fault in spec_faults(spec):
            self._findings.report((*path, key), fault)
        for inner, text in texts_in(spec.default, (*path, "default")):
            if has_expression(text):
                self._say(inner, _NOT_HERE)

    def _timeout(self, path: Path, timeout_us: int | None) -> None:
        if timeout_us is not None and timeout_us <= 0:
            self._say(path, "a timeout must be longer than 0; leave it out for none")

    # a task

    def task(self, task: TaskSpec, path: Path, jobs: Collection[str] | None) -> None:
        if self._findings.condemns(path):
            return
        self._legal((*path, "name"), "task name", task.name)
        self._job(task.job, (*path, "job"), jobs)
        self._place(task, path)
        self._timeout((*path, "timeout"), task.timeout_us)
        if task.retry is not None:
            self._retry(task.retry, (*path, "retry"))
        if task.at_most_once and task.retry is not None and task.retry.count:
            self._say((*path, "at_most_once"), "`at_most_once` and `retry` exclude each other")
        if (
            task.trigger in _NEEDS_DEPENDENCY
            and not task.depends_on
            and not self._findings.touches((*path, "depends_on"))
        ):
            self._say((*path, "trigger"), f"`{task.trigger}` can never be met without dependencies")
        self._bindings(task, path)
        self._sub_tasks(task, path)
        if task.job == WAIT_JOB:
            self._wait(task, path)
        if task.job == CHILD_JOB:
            self._child(task, path)
        if (undo := task.compensation) is not None:
            where = (*path, "compensation")
            self._job(undo.job, (*where, "job"), jobs)
            self._timeout((*where, "timeout"), undo.timeout_us)
            if undo.retry is not None:
                self._retry(undo.retry, (*where, "retry"))
            self._keys(undo.params, (*where, "params"))
            if task.job == SLEEP_JOB:
                self._say(where, "a sleep has no effect that could be undone")
        self._keys(task.params, (*path, "params"))
        if task.job == "shell_command":
            self._script(task.params.get("script"), (*path, "params", "script"))
        if task.job == SLEEP_JOB and "duration" not in task.params and not self._findings.touches((*path, "params")):
            self._say((*path, "params"), "the job `sleep` needs a `duration`")

    def _sub_tasks(self, task: TaskSpec, path: Path) -> None:
        self._share((*path, "tolerance"), task.tolerance)
        if task.max_parallel is not None and task.max_parallel < 1:
            self._say((*path, "max_parallel"), f"{task.max_parallel:,} at once; at least 1, or leave it out")
        if task.for_each is msgspec.UNSET:
            return
        if task.job == SLEEP_JOB:
            self._say((*path, "for_each"), "a sleep is not repeated for each item; give the task a job")
        if task.at_most_once:
            self._say((*path, "at_most_once"), "`at_most_once` is not supported yet together with `for_each`")

    def _wait(self, task: TaskSpec, path: Path) -> None:
        if task.retry is not None or task.for_each is not msgspec.UNSET or task.compensation is not None:
            self._say(path, "a task that waits for a signal has neither `retry` nor `for_each` nor `compensation`")
        for key, value in task.params.items():
            if key not in WAIT_PARAMS:
                self._say(
                    (*path, "params", key), f"`wait_for` has no {quoted(key)}{self._findings.suggest(key, WAIT_PARAMS)}"
                )
            elif key != "timeout" and isinstance(value, str) and has_expression(value):
                self._say((*path, "params", key), f"`{key}` of `wait_for` is no expression: who sends must know it")
        if task.params.get("on_timeout", "fail") not in ("fail", "continue"):
            self._say((*path, "params", "on_timeout"), "`on_timeout` is `fail` or `continue`")
        name = task.params.get("signal", "")
        if not isinstance(name, str) or (name and name_fault(name)):
            self._say((*path, "params", "signal"), f"{quoted(str(name))} is no name of a signal")
        self._schema(task.params.get("schema"), task.params.get("approval") is True, (*path, "params", "schema"))

    def _child(self, task: TaskSpec, path: Path) -> None:
        child, params = task.params.get(CHILD_JOB), task.params.get("params", {})
        where = (*path, "params", CHILD_JOB)
        if not isinstance(child, str):
            self._say(where, "the job `workflow` needs the id of a workflow; write `workflow: ID` instead of a job")
        else:
            self._legal(where, "id of the workflow", child)
        if not isinstance(params, Mapping):
            self._say((*path, "params", "params"), "the params of the child are a mapping")
        for key in task.params.keys() - {CHILD_JOB, "params"}:
            self._say((*path, "params", key), f"the job `workflow` has no {quoted(key)}; put it into `params`")
        for key, said, instead in (
            ("timeout", task.timeout_us is not None, "the workflow that it runs can have a timeout"),
            ("executor", task.executor is not Executor.AUTO, "its own tasks say where they run"),
            ("required_params", bool(task.required_params), "the workflow that it runs declares its params"),
            ("result_mapping", bool(task.result_mapping), "use expressions in its params"),
            ("at_most_once", task.at_most_once, "an attempt never has two children"),
        ):
            if said:
                self._say((*path, key), f"a task that runs a workflow has no `{key}`: {instead}")

    def _schema(self, schema: Any, approval: bool, path: Path) -> None:
        if schema is None:
            return
        if approval:
            self._say(path, "an approval has no `schema`: it is a yes or a no")
            return
        try:
            specs = msgspec.convert(schema, dict[str, ParamSpec])
        except msgspec.ValidationError as error:
            self._say(path, f"a schema declares what a payload has, as `params` does: {error}")
            return
        for name, spec in specs.items():
            self._param((*path, name), name, spec)

    def _job(self, job: str, path: Path, jobs: Collection[str] | None) -> None:
        shape = _JOB_PATH if ":" in job else _JOB_NAME
        if len(job) > 4 * _MAX_KEY or not shape.fullmatch(job):
            self._say(path, f"{quoted(job)} is no job; write a registered name or `package.module:function`")
        elif jobs is not None and job not in jobs:
            advice = self._findings.suggest(job, jobs)
            if job in BUILTIN_JOBS:
                advice = ", which is built in but not enabled here; add it to `functions.builtin` of the configuration"
            elif not advice and ":" in job:
                advice = "; its module must be listed in `functions.modules` and the function decorated with `@job`"
            self._say(path, f"unknown job {quoted(job)}{advice}")

    def _place(self, task: TaskSpec, path: Path) -> None:
        """Where its attempts wait for their slot."""
        if task.pool:
            self._legal((*path, "pool"), "name of the pool", task.pool)
            if self._pools is not None and task.pool not in self._pools:
                hint = self._findings.suggest(task.pool, self._pools)
                self._say((*path, "pool"), no_pool(task.pool, self._pools, hint))
        if abs(task.priority) > MAX_PRIORITY:
            message = f"a priority of {task.priority:,}; -{MAX_PRIORITY:,}..{MAX_PRIORITY:,} are possible"
            self._say((*path, "priority"), message)

    def _retry(self, retry: RetryPolicy, path: Path) -> None:
        if not 0 <= retry.count <= _MAX_RETRIES:
            self._say((*path, "count"), f"{retry.count:,} repetitions; 0..{_MAX_RETRIES:,} are possible")
        if not retry.backoff >= 1:
            self._say((*path, "backoff"), f"a backoff of {retry.backoff:g}; at least 1, or the delays would shrink")
        if not 0 <= retry.jitter <= 1:
            self._say((*path, "jitter"), f"a jitter of {retry.jitter:g}; it is a share of the delay, 0..1")
        for at, name in enumerate(retry.on):
            if not _EXCEPTION.fullmatch(name):
                self._say((*path, "on", at), f"{quoted(name)} is no name of an exception class")

    def _bindings(self, task: TaskSpec, path: Path) -> None:
        seen: set[str] = set()
        for at, name in enumerate(task.required_params):
            if not name:
                self._say((*path, "required_params", at), "the name of a parameter is empty")
            if name in seen:
                self._say((*path, "required_params", at), f"{quoted(name)} is listed twice")
            seen.add(name)
        for target, field in task.result_mapping.items():
            if not target or not field:
                self._say((*path, "result_mapping", target), "a result mapping names a parameter and a field")
            elif has_expression(field):
                self._say((*path, "result_mapping", target), f"{quoted(field)} is no field of a result; {_NOT_HERE}")

    def _keys(self, value: Any, path: Path) -> None:
        for inner, key in _keys_in(value, path):
            if has_expression(key):
                message = "expressions are not evaluated in keys, only in values"
                self._findings.add(Finding(inner, message, on_key=True))

    def _script(self, script: Any, path: Path) -> None:
        for inner, text in texts_in(script, path):
            if has_expression(text):
                advice = "hand values over through `env`"
                self._say(
                    inner, f"expressions are not allowed inside `script`, a value could become a command; {advice}"
                )


def _keys_in(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield (*path, key), key
            yield from _keys_in(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from _keys_in(inner, (*path, at))
