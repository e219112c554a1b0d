"""What commands ask for, wherever the answer comes from."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

import msgspec

from taskengine.cli.live.watching import Feed
from taskengine.cli.options import EngineOptions
from taskengine.config.sections import RetentionConfig
from taskengine.wire import (
    DatabaseBody,
    ExecuteReply,
    Explanation,
    FunctionBody,
    InstanceBody,
    InstanceDetail,
    LogLine,
    NodeBody,
    PruneReply,
    PruneRequest,
    Scope,
    StreamFrame,
    TokenBody,
    TokenCreated,
    UploadReply,
    VersionBody,
    WorkflowDetail,
    WorkflowSummary,
)

__all__ = ["Ended", "Target", "Wanted"]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which instances. What is left out does not narrow.

    since   created then or later
    search  occurs in the id, the workflow's id or the error
    prefix  the id begins so
    """

    statuses: tuple[str, ...] = ()
    workflow_id: str | None = None
    labels: Mapping[str, str] = {}
    since: datetime | None = None
    search: str = ""
    prefix: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an instance that was told to go on.

    detail  None: somebody interrupted it
    ran     it was worked on, or followed, until it rested; else it goes on elsewhere
    """

    detail: InstanceDetail | None
    ran: bool


class Target(Protocol):
    """Blocking; raises `taskengine.errors`. Instance ids are whole ones, as `find` gives them.

    place   for people: who answers
    flags   with which the same target is meant again, to be put behind a command; "" where none are needed
    lasts   an instance goes on when the command ends
    shared  it has workflows of its own, by their ids

    more_jobs  for people: what makes a job known that is not
    """

    place: str
    flags: str
    more_jobs: str
    lasts: bool
    shared: bool

    def close(self) -> None: ...

    def find(self, prefix: str) -> str:
        """The only instance whose id begins so. Raises NotFound, and InvalidInput when there are several."""
        ...

    # -- workflows

    def upload(self, content: bytes, name: str, apps: Sequence[str]) -> UploadReply:
        """`apps` are files with jobs for who checks it in this process. Raises InvalidDefinition."""
        ...

    def workflows(self) -> list[WorkflowSummary]: ...

    def workflow(self, workflow_id: str) -> WorkflowDetail: ...

    def versions(self, workflow_id: str) -> list[VersionBody]: ...

    def export(self, workflow_id: str) -> str:
        """As a YAML file."""
        ...

    def graph(self, workflow_id: str, form: str) -> str: ...

    def delete_workflow(self, workflow_id: str, *, force: bool) -> None: ...

    def execute(self, workflow_id: str, params: Mapping[str, Any], key: str | None) -> ExecuteReply: ...

    # -- instances

    def instances(self, wanted: Wanted, limit: int) -> list[InstanceBody]:
        """The newest first."""
        ...

    def detail(self, instance_id: str) -> InstanceDetail: ...

    def explain(self, instance_id: str, task: str | None) -> Explanation:
        """Raises NotFound, with the nearest name of a task."""
        ...

    def tries_allowed(self, detail: InstanceDetail) -> Mapping[str, int]:
        """Attempts that the definition allows, by task, where that is known."""
        ...

    def logs(self, instance_id: str, *, task: str | None, since: int, tail: int | None) -> list[LogLine]: ...

    def follow_logs(self, instance_id: str, *, task: str | None, since: int) -> Iterator[LogLine]:
        """Until the instance has ended."""
        ...

    def events(self, instance_id: str) -> Iterator[StreamFrame]:
        """All that were stored, in their order."""
        ...

    def feed(self, instance_id: str, *, logs: bool, logs_since: int | None) -> AbstractAsyncContextManager[Feed]:
        """News from now on. With `logs` also the log lines behind `logs_since`; None: those from now on.

        Each line comes once, and before the news that the instance has ended. Belongs to the loop.
        """
        ...

    def pause(self, instance_id: str, *, now: bool) -> InstanceDetail: ...

    def cancel(self, instance_id: str, reason: str, *, compensate: bool, quiet: bool) -> InstanceDetail: ...

    def signal(self, instance_id: str, name: str, payload: Any, engine: EngineOptions, *, quiet: bool) -> Ended:
        """Send something to a task that waits for it, or will."""
        ...

    def resume(self, instance_id: str, engine: EngineOptions, *, quiet: bool) -> Ended: ...

    def retry(
        self, instance_id: str, from_task: str | None, only_task: str | None, engine: EngineOptions, *, quiet: bool
    ) -> Ended: ...

    def fork(
        self, instance_id: str, from_task: str, params: Mapping[str, Any], version: str | None, key: str | None
    ) -> ExecuteReply:
        """A new instance that takes over what this one has done."""
        ...

    def wait(self, instance_id: str, timeout_s: float | None) -> None:
        """Until it has ended, or needs somebody. Raises WaitTimeout."""
        ...

    def is_abandoned(self, instance_id: str) -> bool:
        """Whether it is unfinished and nobody works on it."""
        ...

    # -- the engine itself

    def functions(self, apps: Sequence[str]) -> list[FunctionBody]:
        """By name; `apps` are job files for an engine in this process."""
        ...

    def nodes(self) -> list[NodeBody]: ...

    def database(self) -> DatabaseBody: ...

    def prune(self, request: PruneRequest, retention: RetentionConfig | None) -> PruneReply:
        """Remove ended instances, or count them.

        retention  for who prunes in this process; None: nobody said one, and a server knows its own
        """
        ...

    def tokens(self) -> list[TokenBody]: ...

    def create_token(self, name: str, scope: Scope, expires_in: float | None) -> TokenCreated: ...

    def revoke_token(self, token_id: str) -> None: ...

    def rotate_token(self) -> None:
        """Replace the local token's file."""
        ...
