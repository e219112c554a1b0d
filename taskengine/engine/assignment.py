"""What an attempt works on, as its instance hands it out."""

from collections.abc import Mapping, Sequence

import msgspec

from taskengine.engine.blueprint import Step
from taskengine.engine.inputs import Given, Item
from taskengine.model.ids import InstanceId, Ordinal

__all__ = ["Assignment"]


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a task's actor is started with.

    statuses         of the upstream tasks that expressions mention
    results          JSON by ordinal, as far as it is in memory
    missing_results  what has to be read back first
    names            of every ordinal above
    direct           ordinals of direct dependencies whose results the body may ask for
    name             of the task in its instance
    item             what it works on, of its parent's `for_each`
    undo             its compensation is what runs, for this reason; None: its body
    before           ordinals of direct dependencies by their names, for a body that may ask for their sub-tasks
    tries            attempts before this one that have failed in this run
    gathers          of tasks among the missing results: the sub-tasks whose results make up theirs, in order
    """

    instance_id: InstanceId
    ordinal: Ordinal
    attempt: int
    run: int
    step: Step
    given: Given
    statuses: Mapping[str, str] = {}
    results: Mapping[int, bytes] = {}
    missing_results: frozenset[int] = frozenset()
    missing_errors: frozenset[int] = frozenset()
    names: Mapping[int, str] = {}
    direct: frozenset[int] = frozenset()
    name: str
    item: Item | None = None
    undo: str | None = None
    before: Mapping[str, int] = {}
    tries: int = 0
    gathers: Mapping[int, Sequence[int]] = {}
