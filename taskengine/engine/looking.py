"""The verbs that only look: committed state, of instances, workflows and functions."""

from typing import Any

from taskengine.clock import Clock, Micros
from taskengine.engine.blueprint import Blueprints
from taskengine.engine.directory import Directory
from taskengine.engine.reading import Reading
from taskengine.engine.views import (
    AttemptView,
    FunctionView,
    InstanceView,
    TaskView,
    VersionView,
    WorkflowView,
    function_view,
)
from taskengine.functions import Registry
from taskengine.model.events import Event
from taskengine.model.ids import InstanceId, Version, WorkflowId
from taskengine.model.progress import Progress
from taskengine.model.records import LogRow
from taskengine.model.states import InstanceState
from taskengine.store.artifacts import Artifacts
from taskengine.store.interface import ALL_INSTANCES, InstanceQuery, Store
from taskengine.wire import Explanation

__all__ = ["Looking"]


class Looking:
    """What an engine says about instances and workflows. Never waits for a writer.

    registry  the job functions it can run
    store     for its reading verbs only
    """

    def __init__(self, store: Store, artifacts: Artifacts, registry: Registry, clock: Clock) -> None:
        self.registry = registry
        self.store = store
        self._blueprints = Blueprints()
        self._directory = Directory()
        self._artifacts = artifacts
        self._reading = Reading(store, artifacts, self._blueprints, clock, self._directory)

    async def get_instance(self, instance_id: str) -> InstanceView:
        """Committed state. Raises NotFound."""
        return await self._reading.instance(InstanceId(instance_id))

    async def get_tasks(self, instance_id: str, *, after: int = -1, limit: int | None = None) -> list[TaskView]:
        """Tasks in the order of the definition. Raises NotFound.

        after  only tasks with a larger ordinal, which counts from 0
        limit  at most so many; None: all of them
        """
        return await self._reading.tasks(InstanceId(instance_id), after, limit)

    async def get_task(self, instance_id: str, name: str) -> TaskView:
        """One task. Raises NotFound, of the instance or of the task."""
        return await self._reading.task(InstanceId(instance_id), name)

    async def open_tasks(self, instance_id: str, *, limit: int = 100) -> tuple[list[str], list[str]]:
        """Names of tasks that count as running, and of those that count as pending, the first of each. NotFound.

        By the order of the definition, at most `limit` of each, whatever number of tasks there is.
        """
        return await self._reading.open_tasks(InstanceId(instance_id), limit)

    async def explain(self, instance_id: str, task: str | None = None) -> Explanation:
        """Why an instance, or one of its tasks, waits or has ended as it did, and what would move it on.

        Reads the few tasks that it names and the states of those on the way to them, whatever number of tasks there is.
        Raises NotFound, of the instance or of the task.
        """
        return await self._reading.explain(InstanceId(instance_id), task)

    async def get_attempts(
        self, instance_id: str, *, task: str | None = None, after: int = -1, last: int | None = None
    ) -> list[AttemptView]:
        """Every attempt that was followed by another one; a task's latest is told by `get_tasks`.

        task         only of it
        after, last  only of tasks with a larger ordinal than `after`, up to `last`
        """
        return await self._reading.attempts(InstanceId(instance_id), task, after, last)

    async def get_events(self, instance_id: str, *, after: int = 0, limit: int = 500) -> list[Event]:
        """By seq, from behind `after`; as the bus told them. Raises NotFound."""
        return await self._reading.events(InstanceId(instance_id), after, limit)

    async def get_logs(
        self,
        instance_id: str,
        *,
        task: str | None = None,
        after: int = 0,
        limit: int = 1000,
        tail: int | None = None,
    ) -> list[LogRow]:
        """Stored lines by id, of one task or of all. Raises NotFound.

        after  only lines with a larger id
        tail   the last so many of those that match, still in ascending order
        """
        return await self._reading.logs(InstanceId(instance_id), task=task, after=after, limit=limit, tail=tail)

    async def list_instances(
        self,
        query: InstanceQuery = ALL_INSTANCES,
        *,
        limit: int = 20,
        offset: int = 0,
        descending: bool = True,
        after: tuple[Micros, InstanceId] | None = None,
    ) -> list[InstanceView]:
        """By the time of their creation.

        after  creation time and id of the last one seen: only what comes behind it in the chosen order
        """
        return await self._reading.instances(query, limit=limit, offset=offset, descending=descending, after=after)

    async def count_instances(self, query: InstanceQuery = ALL_INSTANCES) -> int:
        return await self.store.count_instances(query)

    async def find_instances(self, prefix: str, limit: int = 10) -> list[InstanceId]:
        """Ids that begin so, the newest first."""
        return await self._reading.find(prefix, limit)

    async def get_workflow_history(
        self,
        workflow_id: str,
        *,
        status: InstanceState | None = None,
        limit: int = 20,
        offset: int = 0,
        order: str = "desc",
    ) -> list[InstanceView]:
        """Instances of one workflow by the time of their creation."""
        states = frozenset() if status is None else frozenset({status})
        query = InstanceQuery(workflow_id=WorkflowId(workflow_id), states=states)
        return await self.list_instances(query, limit=limit, offset=offset, descending=order == "desc")

    async def progress(self, instance_id: str) -> Progress:
        """The seven numbers of the last committed state. Raises NotFound."""
        return (await self.get_instance(instance_id)).progress

    async def result(self, instance_id: str, *, version: Version | None = None) -> dict[str, Any]:
        """Results of the tasks on which nothing depends, by name. `version` is the instance's: it spares a look at it.

        Raises NotFound, unless the version is given.
        """
        return await self._reading.result(InstanceId(instance_id), version)

    async def get_workflow(self, workflow_id: str) -> WorkflowView:
        """The current version. Raises NotFound."""
        return await self._reading.workflow(WorkflowId(workflow_id))

    async def list_workflows(self) -> list[WorkflowView]:
        """The current version of each, by workflow id."""
        return await self._reading.workflows()

    async def get_workflow_versions(self, workflow_id: str) -> list[VersionView]:
        """The newest first. Raises NotFound."""
        return await self._reading.versions(WorkflowId(workflow_id))

    def functions(self) -> list[FunctionView]:
        """The job functions that tasks may name, by name."""
        return [function_view(job, builtin=self.registry.is_builtin(job)) for job in self.registry.jobs()]
