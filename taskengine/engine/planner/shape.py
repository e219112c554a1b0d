"""What a definition means to the planner, by ordinal. Built once per version and shared by all its instances."""

from taskengine.clock import Micros
from taskengine.engine.planner.trigger import CLEANUP_TRIGGERS
from taskengine.model.definition import OnFailure, TaskSpec, WorkflowDefinition
from taskengine.model.graph import Graph
from taskengine.model.ids import Version

__all__ = ["Shape"]


class Shape:
    """Read only. Lists are indexed by ordinal; dependents and dependencies are ordinals."""

    __slots__ = (
        "cleanup",
        "definition",
        "dependencies",
        "dependents",
        "graph",
        "names",
        "on_failure",
        "ordinals",
        "specs",
        "timeout_us",
        "version",
    )

    def __init__(self, definition: WorkflowDefinition, version: Version) -> None:
        self.definition = definition
        self.version = version
        self.specs: list[TaskSpec] = list(definition.tasks)
        self.names = [spec.name for spec in definition.tasks]
        self.ordinals = {name: ordinal for ordinal, name in enumerate(self.names)}
        needs = [[self.ordinals[name] for name in dict.fromkeys(spec.depends_on)] for spec in definition.tasks]
        self.graph = Graph(needs)
        self.dependencies: list[list[int]] = needs
        self.dependents: list[list[int]] = [list(self.graph.dependents(node)) for node in range(len(needs))]
        self.cleanup = [spec.trigger in CLEANUP_TRIGGERS for spec in definition.tasks]
        self.on_failure: OnFailure = definition.on_failure
        self.timeout_us: Micros | None = definition.timeout_us

    @property
    def tolerance(self) -> float:
        """Share of failed sub-tasks with which a parent still succeeds, where it says nothing itself."""
        return self.definition.sub_task_error_tolerance

    @property
    def max_active(self) -> int | None:
        return self.definition.max_concurrent_tasks
