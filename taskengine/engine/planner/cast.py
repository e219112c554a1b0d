"""The tasks of one instance by ordinal: those of its definition, and behind them those that were added."""

from collections import deque
from collections.abc import Iterable, Sequence, Set
from typing import Final

from taskengine.engine.planner.shape import Shape
from taskengine.engine.planner.trigger import CLEANUP_TRIGGERS
from taskengine.model.added import Added, item_spec
from taskengine.model.definition import TaskSpec

__all__ = ["TOP", "Cast", "Family"]

TOP = -1
"""The parent of a task that has none."""

_NAMED: Final = 5


class Family:
    """The sub-tasks of one task.

    members  ordinals, in the order in which they were added
    open     of them have not ended
    active   are offered or run; held: would be, were it not for `limit`
    """

    __slots__ = ("active", "held", "limit", "members", "open")

    def __init__(self, limit: int | None) -> None:
        self.members: list[int] = []
        self.limit = limit
        self.open = self.active = 0
        self.held: deque[int] = deque()

    @property
    def full(self) -> bool:
        return self.limit is not None and self.active >= self.limit


class Cast:
    """Who plays in one instance. Read only, but for `add` and `rewire`.

    As long as nothing is added, the lists are the definition's own, shared by all its instances.

    defined   tasks of the definition; a larger ordinal was added
    sources   of added tasks: what they are made from, as their rows have it
    families  of tasks that have sub-tasks
    """

    __slots__ = (
        "_item_specs",
        "_own",
        "cleanup",
        "defined",
        "dependencies",
        "dependents",
        "families",
        "names",
        "ordinals",
        "sources",
        "specs",
    )

    def __init__(self, shape: Shape) -> None:
        self.defined = len(shape.names)
        self._own = False
        self._item_specs: dict[int, TaskSpec] = {}
        self.names: list[str] = shape.names
        self.specs: list[TaskSpec] = shape.specs
        self.dependencies: list[list[int]] = shape.dependencies
        self.dependents: list[list[int]] = shape.dependents
        self.cleanup: list[bool] = shape.cleanup
        self.ordinals: dict[str, int] = shape.ordinals
        self.sources: dict[int, bytes] = {}
        self.families: dict[int, Family] = {}

    def members(self, ordinal: int) -> Sequence[int]:
        family = self.families.get(ordinal)
        return family.members if family is not None else ()

    def full_name(self, parent: int, name: str) -> str:
        return name if parent == TOP else f"{self.names[parent]}/{name}"

    def short_name(self, ordinal: int) -> str:
        """Among its siblings."""
        return self.names[ordinal].rpartition("/")[2]

    def some_names(self, ordinals: Sequence[int]) -> str:
        """The first few, for a message."""
        names = ", ".join(repr(self.names[ordinal]) for ordinal in ordinals[:_NAMED])
        return f"{names} and {len(ordinals) - _NAMED:,} more" if len(ordinals) > _NAMED else names

    def spec_of(self, added: Added, parent: int) -> TaskSpec:
        if added.task is not None:
            return added.task
        spec = self._item_specs.get(parent)
        if spec is None:
            spec = self._item_specs[parent] = item_spec(self.specs[parent])
        return spec

    def add(self, name: str, spec: TaskSpec, source: bytes, parent: int, *, out: bool = False) -> int:
        """One more task, of this name among its siblings; gives its ordinal. What it depends on: `tie`.

        out  it keeps its ordinal, and is nobody's any more
        """
        self._take_over()
        ordinal, name = len(self.names), self.full_name(parent, name)
        self.names.append(name)
        self.specs.append(spec)
        self.dependencies.append([])
        self.dependents.append([])
        self.cleanup.append(spec.trigger in CLEANUP_TRIGGERS)
        self.sources[ordinal] = source
        if out:
            return ordinal
        self.ordinals[name] = ordinal
        if parent != TOP:
            family = self.families.get(parent)
            if family is None:
                family = self.families[parent] = Family(self.specs[parent].max_parallel)
            family.members.append(ordinal)
        return ordinal

    def rewire(self, ordinal: int, spec: TaskSpec, source: bytes, needs: Sequence[int]) -> None:
        """The task is another one under the same name."""
        for before in self.dependencies[ordinal]:
            self.dependents[before].remove(ordinal)
        self.specs[ordinal] = spec
        self.cleanup[ordinal] = spec.trigger in CLEANUP_TRIGGERS
        self.sources[ordinal] = source
        self.tie(ordinal, needs)

    def tie(self, ordinal: int, needs: Sequence[int]) -> None:
        """Say what an added task depends on."""
        self.dependencies[ordinal] = list(needs)
        for before in needs:
            self.dependents[before].append(ordinal)

    def leave(self, parent: int, ordinals: Set[int]) -> None:
        """These sub-tasks of one parent are out; their ordinals stay, their names are free."""
        for before in {need for ordinal in ordinals for need in self.dependencies[ordinal]}:
            self.dependents[before] = [after for after in self.dependents[before] if after not in ordinals]
        for ordinal in ordinals:
            del self.ordinals[self.names[ordinal]]
            self.dependencies[ordinal], self.dependents[ordinal] = [], []
        family = self.families[parent]
        family.members = [member for member in family.members if member not in ordinals]

    def below(self, starts: Iterable[int]) -> set[int]:
        """What can be reached from them, themselves and all sub-tasks of what is reached included."""
        seen = set(starts)
        stack = list(seen)
        while stack:
            at = stack.pop()
            for after in (*self.dependents[at], *self.members(at)):
                if after not in seen:
                    seen.add(after)
                    stack.append(after)
        return seen

    def _take_over(self) -> None:
        """Lists of one's own, once."""
        if self._own:
            return
        self._own = True
        self.names, self.specs, self.cleanup = list(self.names), list(self.specs), list(self.cleanup)
        self.dependencies, self.ordinals = list(self.dependencies), dict(self.ordinals)
        self.dependents = [list(row) for row in self.dependents]
