"""Expressions inside a definition: do they compile, and does what they mention exist where it is needed."""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Final

from msgspec import UNSET

from taskengine.definition.dependencies import TaskGraph
from taskengine.definition.findings import Finding, Findings
from taskengine.definition.later import LATER_ROOTS, not_yet
from taskengine.errors import InvalidExpression
from taskengine.expressions import References, Template, compile_template, has_expression
from taskengine.model.definition import TaskSpec, WorkflowDefinition
from taskengine.model.graph import Graph
from taskengine.model.shape import Path
from taskengine.model.spelling import quoted

__all__ = ["check_expressions", "check_references", "missing_paths", "texts_in"]

_BATCH: Final = 2_048

Mention = tuple[Path, str, References]
"""A text with expressions: where it is, what it says, and what it mentions."""


def texts_in(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Every text of a JSON-shaped value, and where it is."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts_in(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from texts_in(inner, (*path, at))


def check_expressions(task: TaskSpec, path: Path, findings: Findings) -> list[Mention]:
    """Compile every expression of a task; gives what they mention. Faults of a task alone are reported."""
    mentions: list[Mention] = []
    for inner, text in _texts_of(task, path):
        template = _compile(inner, text, findings)
        if template is None:
            continue
        for root in sorted(template.references.roots & LATER_ROOTS):
            findings.add(Finding(inner, not_yet(f"`{root}` in an expression"), offset=_place(text, root)))
        _check_item(task, inner, text, template, len(path), findings)
        if template.references.tasks or template.references.params:
            mentions.append((inner, text, template.references))
    return mentions


_ITEM_ROOTS: Final = frozenset({"item", "index"})
_PER_ITEM: Final = frozenset({"params", "idempotency_key", "compensation"})


def _check_item(task: TaskSpec, path: Path, text: str, template: Template, depth: int, findings: Findings) -> None:
    if not (roots := template.references.roots & _ITEM_ROOTS):
        return
    if task.for_each is UNSET:
        message = "there is {} only in a task with `for_each`"
    elif path[depth] not in _PER_ITEM:
        message = "there is no {} here: this is evaluated once, before the items"
    else:
        return
    root = min(roots)
    findings.add(Finding(path, message.format(f"`{root}`"), offset=_place(text, root)))


def _texts_of(task: TaskSpec, path: Path) -> Iterator[tuple[Path, str]]:
    for inner, text in texts_in(task.params, (*path, "params")):
        # A script's are refused altogether.
        if has_expression(text) and not (task.job == "shell_command" and inner[len(path) + 1] == "script"):
            yield inner, text
    if task.compensation is not None:
        for inner, text in texts_in(task.compensation.params, (*path, "compensation", "params")):
            if has_expression(text):
                yield inner, text
    if task.when:
        yield (*path, "when"), task.when
    if isinstance(task.for_each, str):
        yield (*path, "for_each"), task.for_each
    elif isinstance(task.for_each, Sequence):
        for inner, text in texts_in(task.for_each, (*path, "for_each")):
            if has_expression(text):
                yield inner, text
    if has_expression(task.idempotency_key):
        yield (*path, "idempotency_key"), task.idempotency_key


def _compile(path: Path, text: str, findings: Findings) -> Template | None:
    try:
        template = compile_template(text)
    except InvalidExpression as error:
        findings.add(Finding(path, error.reason, offset=error.offset))
        return None
    if path[-1] == "when" and not template.is_whole:
        findings.report(path, "`when` is one expression and nothing else, e.g. `${{ params.env == 'production' }}`")
    if path[-1] == "for_each" and not template.is_whole:
        findings.report(path, "`for_each` is a list or one expression, e.g. `${{ tasks.list.result }}`")
    return template


def check_references(definition: WorkflowDefinition, tasks: TaskGraph, findings: Findings) -> None:
    """Report what expressions mention and what is not there: undeclared params, unknown tasks, tasks not upstream."""
    checker = _Checker(definition, tasks, findings)
    for at, task in enumerate(definition.tasks):
        mentions = check_expressions(task, ("tasks", at), findings)
        direct = set(tasks.graph.dependencies(at)) if mentions else set()
        for mention in mentions:
            checker.mention(at, direct, *mention)
    checker.judge_paths()


class _Checker:
    def __init__(self, definition: WorkflowDefinition, tasks: TaskGraph, findings: Findings) -> None:
        self._definition, self._tasks, self._findings = definition, tasks, findings
        self._queries: list[tuple[int, int]] = []
        self._askers: list[tuple[Path, str]] = []

    def mention(self, at: int, direct: Set[int], path: Path, text: str, references: References) -> None:
        declared = self._definition.params
        if declared:
            for name in sorted(references.params - declared.keys()):
                self._say(path, text, "params", name, f"there is no parameter {quoted(name)}", declared)
        for name in sorted(references.tasks):
            self._task(at, direct, path, text, name)

    def _task(self, at: int, direct: Set[int], path: Path, text: str, name: str) -> None:
        number = self._tasks.numbers.get(name)
        if name == self._definition.tasks[at].name:
            self._say(path, text, "tasks", name, f"{quoted(name)} cannot refer to itself")
        elif number is None:
            self._say(path, text, "tasks", name, f"there is no task {quoted(name)}", self._tasks.numbers)
        elif number not in direct:
            self._queries.append((number, at))
            self._askers.append((path, text))

    def _say(
        self, path: Path, text: str, root: str, name: str, message: str, known: Mapping[str, object] | None = None
    ) -> None:
        message += self._findings.suggest(name, known) if known else ""
        self._findings.add(Finding(path, message, offset=_place(text, root, name)))

    def judge_paths(self) -> None:
        """Of all the tasks that are no direct dependency: are they upstream at all?"""
        if not self._queries:
            return
        graph, names = self._tasks.graph, self._definition.tasks
        unsure = graph.below(self._tasks.unsure)
        missing = missing_paths(graph, self._queries)
        for (source, target), (path, text) in zip(self._queries, self._askers, strict=True):
            if (source, target) in missing and target not in unsure:
                before, after = quoted(names[source].name), quoted(names[target].name)
                message = f"{before} is not upstream of {after}, so it may not have ended; add it to `depends_on`"
                self._say(path, text, "tasks", names[source].name, message)


def missing_paths(graph: Graph, queries: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """Which of the (source, target) pairs have no way from source to target. The graph has no cycle.

    Walking up from each target would be quadratic in long chains. Instead each node gets the set of sources above it,
    as the bits of an integer, for some two thousand sources at a time.
    """
    levels = graph.levels()
    order = sorted(range(graph.size), key=levels.__getitem__)
    sources = sorted({source for source, _ in queries})
    missing: set[tuple[int, int]] = set()
    for start in range(0, len(sources), _BATCH):
        bits = {source: 1 << at for at, source in enumerate(sources[start : start + _BATCH])}
        above = [0] * graph.size
        for node in order:
            for before in graph.dependencies(node):
                above[node] |= above[before] | bits.get(before, 0)
        missing.update(
            (source, target) for source, target in queries if source in bits and not above[target] & bits[source]
        )
    return missing


def _place(text: str, root: str, name: str = "") -> int:
    """Where a text mentions `root`, or `root.name`; its first expression when it is written in another way."""
    words = re.escape(name)
    behind = rf"""\s*(?:\.\s*{words}(?!\w)|\[\s*(?P<quote>['"]){words}(?P=quote)\s*\])""" if name else r"(?!\w)"
    opening = max(0, text.find("${{"))
    found = re.compile(rf"(?<![\w.]){root}{behind}").search(text, opening)
    return found.start() if found else opening
