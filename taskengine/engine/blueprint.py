"""One version of a workflow, made ready to run: its shape for the planner, its expressions for the attempts."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import msgspec

from taskengine.engine.planner import Shape
from taskengine.errors import StoreCorrupt
from taskengine.expressions import Template, compile_template, has_expression, references
from taskengine.model.added import item_spec
from taskengine.model.definition import TaskSpec, WorkflowDefinition, canonical_form, decode_canonical, version_of
from taskengine.model.ids import Version
from taskengine.store.interface import Store

__all__ = ["Blueprint", "Blueprints", "Step", "added_step", "undo_step"]


class Step(msgspec.Struct, frozen=True):
    """What an attempt of one task needs to know before its body can start. Names are task names.

    fixed     nothing about it is an expression
    plain     params hold no expression and can be used as they are
    mentions  upstream tasks whose status or more is mentioned
    results   upstream tasks whose results expressions read
    errors    upstream tasks whose errors expressions read
    spread    its body adds one sub-task for each item of `for_each`, and runs nothing itself
    """

    spec: TaskSpec
    when: Template | None = None
    key: Template | None = None
    spread: bool = False
    fixed: bool = True
    plain: bool = True
    mentions: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()
    errors: frozenset[str] = frozenset()


class Blueprint:
    """Read only, shared by all instances of a version. Steps are compiled when first asked for."""

    def __init__(self, definition: WorkflowDefinition, version: Version) -> None:
        self.definition = definition
        self.shape = Shape(definition, version)
        self.leaves: Final = tuple(self.shape.graph.leaves())
        """Ordinals of the tasks on which nothing depends: their results are the instance's."""
        self._steps: dict[int, Step] = {}
        self._item_steps: dict[int, Step] = {}

    def step(self, ordinal: int) -> Step:
        """Raises InvalidExpression for a definition that was never checked."""
        step = self._steps.get(ordinal)
        if step is None:
            spec = self.definition.tasks[ordinal]
            step = self._steps[ordinal] = _compile(spec) if spec.for_each is msgspec.UNSET else _compile_spread(spec)
        return step

    def item_step(self, ordinal: int) -> Step:
        """Of each item of that task's `for_each`."""
        step = self._item_steps.get(ordinal)
        if step is None:
            step = self._item_steps[ordinal] = _compile(item_spec(self.definition.tasks[ordinal]))
        return step


class Blueprints:
    """The versions in use, the least recently used dropped beyond a number of them."""

    MOST: Final = 256

    def __init__(self) -> None:
        self._known: OrderedDict[Version, Blueprint] = OrderedDict()
        self._latest: tuple[WorkflowDefinition, Version] | None = None

    def get(self, version: Version) -> Blueprint | None:
        blueprint = self._known.get(version)
        if blueprint is not None:
            self._known.move_to_end(version)
        return blueprint

    def peek(self, version: Version) -> Blueprint | None:
        """The same from any thread; it does not count as a use."""
        return self._known.get(version)

    def add(self, definition: WorkflowDefinition, version: Version) -> Blueprint:
        """Make it ready, or give what is there."""
        blueprint = self.get(version)
        if blueprint is None:
            blueprint = self._known[version] = Blueprint(definition, version)
            if len(self._known) > self.MOST:
                self._known.popitem(last=False)
        return blueprint

    def of(self, definition: WorkflowDefinition) -> Blueprint:
        """The blueprint of a definition; hashed once while the same object is started again and again."""
        if self._latest is None or self._latest[0] is not definition:
            self._latest = definition, version_of(canonical_form(definition))
        return self.add(definition, self._latest[1])

    def decode(self, canonical: bytes, version: Version) -> Blueprint:
        """The same from a stored canonical form, decoded once."""
        return self.get(version) or self.add(decode_canonical(canonical), version)

    async def stored(self, store: Store, version: Version) -> Blueprint:
        """Of a version that an instance or a workflow names. Raises StoreCorrupt, StoreUnavailable."""
        known = self.get(version)
        if known is not None:
            return known
        row = await store.definition(version)
        if row is None:
            raise StoreCorrupt(f"version {version} is named and not stored")
        return self.decode(row.canonical, row.version)


def _compile(spec: TaskSpec) -> Step:
    if not spec.params and not spec.when and not spec.idempotency_key:
        return Step(spec)
    texts: Mapping[str, object] = {"params": spec.params, "when": spec.when, "key": spec.idempotency_key}
    used = references(texts)
    plain = not _has_expression(spec.params)
    return Step(
        spec=spec,
        when=compile_template(spec.when) if spec.when else None,
        key=compile_template(spec.idempotency_key) if spec.idempotency_key else None,
        fixed=plain and not spec.when and not _has_expression(spec.idempotency_key),
        plain=plain,
        mentions=used.tasks,
        results=used.results,
        errors=used.errors,
    )


def _compile_spread(spec: TaskSpec) -> Step:
    """Params and key are those of the items."""
    used = references([spec.when, spec.for_each])
    return Step(
        spec=spec,
        when=compile_template(spec.when) if spec.when else None,
        spread=True,
        fixed=not spec.when and not _has_expression(spec.for_each),
        mentions=used.tasks,
        results=used.results,
        errors=used.errors,
    )


def added_step(spec: TaskSpec) -> Step:
    """Of a task that was added at run time: all that it says is data, and no expression."""
    return Step(spec)


def undo_step(spec: TaskSpec, *, is_data: bool) -> Step:
    """Of a compensation: what its task needed, and what its own params mention. is_data: nothing is an expression."""
    undo = spec.compensation
    if is_data or undo is None:
        return Step(spec)
    used = references([spec.params, spec.idempotency_key, undo.params])
    key = compile_template(spec.idempotency_key) if spec.idempotency_key else None
    plain = not _has_expression(spec.params)
    fixed = plain and not _has_expression(spec.idempotency_key) and not _has_expression(undo.params)
    return Step(spec, key=key, fixed=fixed, plain=plain, mentions=used.tasks, results=used.results, errors=used.errors)


def _has_expression(value: object) -> bool:
    if isinstance(value, str):
        return has_expression(value)
    if isinstance(value, Mapping):
        return any(_has_expression(item) for item in value.values())
    return isinstance(value, list | tuple) and any(_has_expression(item) for item in value)
