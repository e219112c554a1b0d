"""The engine for programs without an event loop: scripts, and notebooks whose thread has a loop of its own."""

import asyncio
import threading
from collections.abc import Collection, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from taskengine.clock import Micros
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.engine.views import (
    AttemptView,
    Commanded,
    EngineStatus,
    FunctionView,
    InstanceView,
    Pruned,
    Registration,
    TaskView,
    VersionView,
    WorkflowView,
)
from taskengine.errors import Unavailable
from taskengine.model.definition import WorkflowDefinition
from taskengine.model.events import Event
from taskengine.model.ids import InstanceId, Version
from taskengine.model.progress import Progress
from taskengine.model.records import LogRow
from taskengine.model.states import InstanceState
from taskengine.store.interface import ALL_INSTANCES, InstanceQuery
from taskengine.wire import Explanation

__all__ = ["BlockingEngine"]

T = TypeVar("T")

_NOT_RUNNING: Final = "the engine is not started; use `with BlockingEngine(builder) as engine:` or engine.start()"


class BlockingEngine:
    """The verbs of `Engine`, each of which returns when it is done. It works on a loop in a thread of its own.

    `with BlockingEngine(EngineBuilder().with_app("jobs.py")) as engine: engine.execute_workflow(...)`

    From any thread, also from several at once, and also where a loop runs already, as in a notebook; from a job of
    this very engine it would wait for itself, so that is refused. Ctrl-C while it waits ends the waiting and nothing
    else: the instance goes on, the engine can be used as before.
    """

    def __init__(self, builder: EngineBuilder) -> None:
        self._builder = builder
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the store, take up every unfinished instance. Again: nothing. Raises what `Engine.start` raises."""
        with self._lock:
            if self._thread is not None:
                return
            begun: Future[asyncio.AbstractEventLoop] = Future()
            self._thread = threading.Thread(target=_serve, args=(begun,), name="taskengine", daemon=True)
            self._thread.start()
            self._loop = begun.result()
            try:
                self._engine = self._builder.build()
                self._wait(self._engine.start())
            except BaseException:
                self._end()
                raise

    def stop(self, *, grace_s: float = 25.0) -> None:
        """As `Engine.stop`; the thread is gone when it returns. Idempotent, also before the start."""
        with self._lock:
            if self._thread is not None:
                self._end(grace_s)

    def _end(self, grace_s: float = 0.0) -> None:
        assert self._loop is not None
        assert self._thread is not None
        try:
            if self._engine is not None:
                self._wait(self._engine.stop(grace_s=grace_s))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._engine = self._loop = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _running(self) -> Engine:
        if self._engine is None:
            raise Unavailable(_NOT_RUNNING)
        return self._engine

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of `work` on the engine's loop. Whoever stops waiting, by Ctrl-C for one, ends it there too."""
        loop = self._loop
        if loop is None or threading.current_thread() is self._thread:
            work.close()
            raise Unavailable(_NOT_RUNNING if loop is None else "a job on the engine's own loop cannot wait for it")
        outcome = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return outcome.result()
        except BaseException:
            outcome.cancel()
            raise

    # -- starting and changing ---------------------------------------------------------------------------------

    def fork_instance(
        self,
        instance_id: str,
        from_task: str,
        *,
        params: Mapping[str, Any] | None = None,
        version: str | None = None,
        idempotency_key: str | None = None,
    ) -> InstanceId:
        return self._wait(
            self._running().fork_instance(
                instance_id, from_task, params=params, version=version, idempotency_key=idempotency_key
            )
        )

    def register_workflow(self, definition: WorkflowDefinition) -> Registration:
        """Store a version and make it the workflow's current one."""
        return self._wait(self._running().register_workflow(definition))

    def delete_workflow(self, workflow_id: str, *, force: bool = False) -> None:
        """Forget a workflow. Raises NotFound, Conflict."""
        self._wait(self._running().delete_workflow(workflow_id, force=force))

    def prune(
        self,
        *,
        older_than_s: float | None = None,
        states: Collection[InstanceState] = (),
        workflow_id: str | None = None,
        dry_run: bool = False,
        limit: int | None = None,
    ) -> Pruned:
        """Remove ended instances whose retention is over, or those that are asked for. As `Engine.prune`."""
        return self._wait(
            self._running().prune(
                older_than_s=older_than_s, states=states, workflow_id=workflow_id, dry_run=dry_run, limit=limit
            )
        )

    def sweep(self) -> None:
        """Delete all that removed instances have left behind."""
        self._wait(self._running().sweep())

    def execute_workflow(
        self,
        workflow: WorkflowDefinition | str,
        params: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        instance_id: str | None = None,
    ) -> InstanceId:
        """Start an instance; returns once its start is committed. Raises as `Engine.execute_workflow`."""
        return self._wait(
            self._running().execute_workflow(workflow, params, idempotency_key=idempotency_key, instance_id=instance_id)
        )

    def pause_instance(self, instance_id: str, *, now: bool = False, command_id: str | None = None) -> Commanded:
        return self._wait(self._running().pause_instance(instance_id, now=now, command_id=command_id))

    def resume_instance(self, instance_id: str, *, command_id: str | None = None) -> Commanded:
        return self._wait(self._running().resume_instance(instance_id, command_id=command_id))

    def cancel_instance(
        self, instance_id: str, reason: str = "", *, compensate: bool = False, command_id: str | None = None
    ) -> Commanded:
        """End it. As `Engine.cancel_instance`."""
        running = self._running()
        return self._wait(running.cancel_instance(instance_id, reason, compensate=compensate, command_id=command_id))

    def signal_instance(
        self, instance_id: str, name: str, payload: object = None, *, by: str = "", command_id: str | None = None
    ) -> Commanded:
        """Send a signal to a running instance. As `Engine.signal_instance`."""
        return self._wait(self._running().signal_instance(instance_id, name, payload, by=by, command_id=command_id))

    def add_tasks(
        self, instance_id: str, tasks: Iterable[object], *, parent: str | None = None, command_id: str | None = None
    ) -> int:
        """Add tasks to a running instance. As `Engine.add_tasks`."""
        return self._wait(self._running().add_tasks(instance_id, tasks, parent=parent, command_id=command_id))

    def retry_instance(
        self,
        instance_id: str,
        *,
        from_task: str | None = None,
        only_task: str | None = None,
        command_id: str | None = None,
    ) -> Commanded:
        return self._wait(
            self._running().retry_instance(instance_id, from_task=from_task, only_task=only_task, command_id=command_id)
        )

    def wait_for_instance(self, instance_id: str, timeout_s: float | None = None) -> InstanceView:
        """Until it has ended. Raises NotFound, and WaitTimeout when `timeout_s` is over first."""
        return self._wait(self._running().wait_for_instance(instance_id, timeout_s))

    def wait_until_resting(self, instance_id: str, timeout_s: float | None = None) -> InstanceView:
        """Until it has ended, is held, or only a far timer can move it."""
        return self._wait(self._running().wait_until_resting(instance_id, timeout_s))

    # -- looking -----------------------------------------------------------------------------------------------

    def get_instance(self, instance_id: str) -> InstanceView:
        return self._wait(self._running().get_instance(instance_id))

    def get_tasks(self, instance_id: str, *, after: int = -1, limit: int | None = None) -> list[TaskView]:
        return self._wait(self._running().get_tasks(instance_id, after=after, limit=limit))

    def get_task(self, instance_id: str, name: str) -> TaskView:
        return self._wait(self._running().get_task(instance_id, name))

    def open_tasks(self, instance_id: str, *, limit: int = 100) -> tuple[list[str], list[str]]:
        """Names of tasks that count as running, and of those that count as pending, the first of each."""
        return self._wait(self._running().open_tasks(instance_id, limit=limit))

    def explain(self, instance_id: str, task: str | None = None) -> Explanation:
        """Why an instance, or one of its tasks, waits or has ended as it did, and what would move it on."""
        return self._wait(self._running().explain(instance_id, task))

    def get_attempts(
        self, instance_id: str, *, task: str | None = None, after: int = -1, last: int | None = None
    ) -> list[AttemptView]:
        return self._wait(self._running().get_attempts(instance_id, task=task, after=after, last=last))

    def get_events(self, instance_id: str, *, after: int = 0, limit: int = 500) -> list[Event]:
        return self._wait(self._running().get_events(instance_id, after=after, limit=limit))

    def get_logs(
        self,
        instance_id: str,
        *,
        task: str | None = None,
        after: int = 0,
        limit: int = 1000,
        tail: int | None = None,
    ) -> list[LogRow]:
        return self._wait(self._running().get_logs(instance_id, task=task, after=after, limit=limit, tail=tail))

    def list_instances(
        self,
        query: InstanceQuery = ALL_INSTANCES,
        *,
        limit: int = 20,
        offset: int = 0,
        descending: bool = True,
        after: tuple[Micros, InstanceId] | None = None,
    ) -> list[InstanceView]:
        return self._wait(
            self._running().list_instances(query, limit=limit, offset=offset, descending=descending, after=after)
        )

    def count_instances(self, query: InstanceQuery = ALL_INSTANCES) -> int:
        return self._wait(self._running().count_instances(query))

    def find_instances(self, prefix: str, limit: int = 10) -> list[InstanceId]:
        return self._wait(self._running().find_instances(prefix, limit))

    def get_workflow_history(
        self,
        workflow_id: str,
        *,
        status: InstanceState | None = None,
        limit: int = 20,
        offset: int = 0,
        order: str = "desc",
    ) -> list[InstanceView]:
        return self._wait(
            self._running().get_workflow_history(workflow_id, status=status, limit=limit, offset=offset, order=order)
        )

    def progress(self, instance_id: str) -> Progress:
        return self._wait(self._running().progress(instance_id))

    def result(self, instance_id: str, *, version: Version | None = None) -> dict[str, Any]:
        """Results of the tasks on which nothing depends, by name."""
        return self._wait(self._running().result(instance_id, version=version))

    def get_workflow(self, workflow_id: str) -> WorkflowView:
        return self._wait(self._running().get_workflow(workflow_id))

    def list_workflows(self) -> list[WorkflowView]:
        return self._wait(self._running().list_workflows())

    def get_workflow_versions(self, workflow_id: str) -> list[VersionView]:
        return self._wait(self._running().get_workflow_versions(workflow_id))

    def functions(self) -> list[FunctionView]:
        return self._running().functions()

    def status(self) -> EngineStatus:
        return self._wait(self._running().status())


def _serve(begun: "Future[asyncio.AbstractEventLoop]") -> None:
    """The thread: a loop until somebody stops it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.call_soon(begun.set_result, loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
