"""A server as a target."""

import contextlib
import shlex
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec

from taskengine.cli.live.watching import AT_END, PATIENCE_S, log_frame
from taskengine.cli.options import EngineOptions
from taskengine.cli.problems import say
from taskengine.cli.targets.interface import Ended, Wanted
from taskengine.client import AsyncClient, Client, Patience
from taskengine.clock import Clock
from taskengine.config.sections import RetentionConfig
from taskengine.errors import (
    InvalidConfiguration,
    InvalidInput,
    NotFound,
    ServerUnreachable,
    TaskEngineError,
    WaitTimeout,
)
from taskengine.model.states import InstanceState
from taskengine.wire import (
    DatabaseBody,
    ExecuteReply,
    Explanation,
    FunctionBody,
    InstanceBody,
    InstanceDetail,
    InstanceStatus,
    LogLine,
    NodeBody,
    PruneReply,
    PruneRequest,
    Scope,
    Snapshot,
    StreamFrame,
    TokenBody,
    TokenCreated,
    UploadReply,
    VersionBody,
    WorkflowDetail,
    WorkflowSummary,
)

if TYPE_CHECKING:
    from taskengine.model.definition import WorkflowDefinition

__all__ = ["Remote"]

_WHOLE_ID: Final = 36
_PAGE: Final = 100
_SHOWN: Final = 10
_PIECE_S: Final = 60.0
_HURRIED: Final = Patience(connect_s=0.5, read_s=0.7, total_s=0.0, refused_s=0.0)
_MANY: Final = 10_000
"""Frames that may wait to be shown before the stream is left unread for a moment."""
_UPDATES: Final = ("instance_status", "task_status", "progress")
"""Log lines are followed by themselves: only stored ones have a number with which a cut is mended."""


# httpx goes without its own command line where that cannot be imported, and half the time of its import is that.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # the import system's word for "not to be had"


class Remote:
    """`named`: somebody said which server; else it is the one of this machine."""

    lasts = shared = True

    def __init__(self, address: str, token_file: str, clock: Clock, *, named: bool, hurried: bool = False) -> None:
        self._clock, self._named = clock, named
        self._address, self._token_file = address, token_file or None
        self._client = Client(address, token_file=self._token_file, patience=_HURRIED if hurried else None)
        self.place = f"the server {address}"
        self.flags = f" --server {shlex.quote(address)}" if named else ""
        self.more_jobs = (
            f"the server has those of `taskengine function list{self.flags}`; more come with "
            "`taskengine serve --app FILE`, or with functions.modules in its configuration"
        )

    def close(self) -> None:
        self._client.close()

    def find(self, prefix: str) -> str:
        wanted = prefix.lower()
        if len(wanted) == _WHOLE_ID:
            if not self._named:  # then it may be a run's, and nobody else will ask
                self._client.instance(wanted)
            return wanted
        # No id is longer, and the server would not take the question.
        could_be = 0 < len(wanted) < _WHOLE_ID
        found = [body.id for body in self._client.instances(prefix=wanted, limit=_SHOWN + 1).items] if could_be else []
        if not found:
            raise NotFound("instance", prefix, f"`taskengine instance list{self.flags}` shows what there is")
        if len(found) > 1:
            shown = "\n  ".join([*found[:_SHOWN], *(["…"] if len(found) > _SHOWN else [])])
            raise InvalidInput(f"several instances begin with {prefix}; type more of the id:\n  {shown}")
        return found[0]

    # -- workflows

    def upload(self, content: bytes, name: str, apps: Sequence[str]) -> UploadReply:
        _refuse_apps(apps)
        return self._client.upload(content)

    def workflows(self) -> list[WorkflowSummary]:
        return self._client.workflows()

    def workflow(self, workflow_id: str) -> WorkflowDetail:
        return self._client.workflow(workflow_id)

    def versions(self, workflow_id: str) -> list[VersionBody]:
        return self._client.versions(workflow_id)

    def export(self, workflow_id: str) -> str:
        return self._client.export(workflow_id)

    def graph(self, workflow_id: str, form: str) -> str:
        from taskengine.cli.targets.drawing import draw

        body = self._client.workflow(workflow_id)
        # Drawn here and not there: all forms then look the same from everywhere.
        return draw(_definition_of(body), body.graph, form)

    def delete_workflow(self, workflow_id: str, *, force: bool) -> None:
        self._client.delete_workflow(workflow_id, force=force)

    def execute(self, workflow_id: str, params: Mapping[str, Any], key: str | None) -> ExecuteReply:
        return self._client.execute(workflow_id, params, idempotency_key=key or "")

    # -- instances

    def instances(self, wanted: Wanted, limit: int) -> list[InstanceBody]:
        found: list[InstanceBody] = []
        pages = self._client.iter_instances(
            workflow_id=wanted.workflow_id,
            status=wanted.statuses,
            labels=wanted.labels,
            created_after=wanted.since,
            search=wanted.search,
            prefix=wanted.prefix,
            limit=min(limit, _PAGE),
        )
        for body in pages:
            found.append(body)
            if len(found) == limit:
                break
        return found

    def detail(self, instance_id: str) -> InstanceDetail:
        return self._client.detail(instance_id)

    def explain(self, instance_id: str, task: str | None) -> Explanation:
        return self._client.explain(instance_id, task)

    def tries_allowed(self, detail: InstanceDetail) -> Mapping[str, int]:
        """Of the current version only: earlier ones cannot be asked for."""
        from taskengine.cli.local.goingon import tries_allowed

        with contextlib.suppress(TaskEngineError):
            workflow = self._client.workflow(detail.workflow_id)
            if workflow.version == detail.version:
                return tries_allowed(_definition_of(workflow))
        return {}

    def logs(self, instance_id: str, *, task: str | None, since: int, tail: int | None) -> list[LogLine]:
        return self._client.logs(instance_id, task=task, since=since, tail=tail)

    def follow_logs(self, instance_id: str, *, task: str | None, since: int) -> Iterator[LogLine]:
        return self._client.follow_logs(instance_id, task=task, since=since)

    def events(self, instance_id: str) -> Iterator[StreamFrame]:
        return iter(self._client.events(instance_id))

    @contextlib.asynccontextmanager
    async def feed(self, instance_id: str, *, logs: bool, logs_since: int | None) -> AsyncIterator["StreamFeed"]:
        failure: Exception | None = None
        async with AsyncClient(self._address, token_file=self._token_file) as client:
            feed = StreamFeed(client, instance_id)
            if logs:
                await feed.tell_lines(logs_since)
            async with anyio.create_task_group() as group:
                group.start_soon(feed.read)
                if logs:
                    group.start_soon(feed.read_lines)
                try:
                    yield feed
                except Exception as error:  # carried past the group, which would wrap it
                    failure = error
                finally:
                    group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def pause(self, instance_id: str, *, now: bool) -> InstanceDetail:
        self._client.pause(instance_id, now=now)
        return self.detail(instance_id)

    def cancel(self, instance_id: str, reason: str, *, compensate: bool, quiet: bool) -> InstanceDetail:
        self._client.cancel(instance_id, reason=reason, compensate=compensate)
        return self.detail(instance_id)

    def signal(self, instance_id: str, name: str, payload: Any, engine: EngineOptions, *, quiet: bool) -> Ended:
        _refuse_engine(engine)
        self._client.signal(instance_id, name, payload)
        return Ended(detail=self.detail(instance_id), ran=False)

    def resume(self, instance_id: str, engine: EngineOptions, *, quiet: bool) -> Ended:
        _refuse_engine(engine)
        self._client.resume(instance_id)
        return Ended(detail=self.detail(instance_id), ran=False)

    def retry(
        self, instance_id: str, from_task: str | None, only_task: str | None, engine: EngineOptions, *, quiet: bool
    ) -> Ended:
        _refuse_engine(engine)
        self._client.retry(instance_id, from_task=from_task, only_task=only_task)
        return Ended(detail=self.detail(instance_id), ran=False)

    def fork(
        self, instance_id: str, from_task: str, params: Mapping[str, Any], version: str | None, key: str | None
    ) -> ExecuteReply:
        return self._client.fork(instance_id, from_task, params=params, version=version, idempotency_key=key or "")

    def wait(self, instance_id: str, timeout_s: float | None) -> None:
        begun_s = self._clock.monotonic()
        while True:
            left_s = _PIECE_S if timeout_s is None else timeout_s - (self._clock.monotonic() - begun_s)
            body = self._client.instance(instance_id, wait=max(0.0, min(left_s, _PIECE_S)))
            if InstanceState(body.status) in AT_END:
                return
            if left_s <= _PIECE_S and timeout_s is not None:
                raise WaitTimeout(f"instance {instance_id} is {body.status} and did not end within {timeout_s:g} s")

    def is_abandoned(self, instance_id: str) -> bool:
        return False

    # -- the engine itself

    def functions(self, apps: Sequence[str]) -> list[FunctionBody]:
        _refuse_apps(apps)
        return self._client.functions()

    def nodes(self) -> list[NodeBody]:
        return self._client.nodes()

    def database(self) -> DatabaseBody:
        return self._client.database()

    def prune(self, request: PruneRequest, retention: RetentionConfig | None) -> PruneReply:
        return self._client.prune(**msgspec.structs.asdict(request))

    def tokens(self) -> list[TokenBody]:
        return self._client.tokens()

    def create_token(self, name: str, scope: Scope, expires_in: float | None) -> TokenCreated:
        return self._client.create_token(name, scope, expires_in=expires_in)

    def revoke_token(self, token_id: str) -> None:
        self._client.revoke_token(token_id)

    def rotate_token(self) -> None:
        self._client.rotate_token()


class StreamFeed:
    """What a server says of one instance, gathered for who looks now and then.

    Updates and log lines come over a connection each: an update has the number of an event, a line its own.
    """

    def __init__(self, client: AsyncClient, instance_id: str) -> None:
        self._client, self._instance_id = client, instance_id
        self._line: int | None = None
        self._frames: list[StreamFrame] = []
        self._woken, self._room = anyio.Event(), anyio.Event()
        self._end: Exception | None = None
        self._lost = False

    async def tell_lines(self, since: int | None) -> None:
        """Lines are wanted, those behind `since`; None: behind the last one that there is now."""
        if since is None:
            stored = await self._client.logs(self._instance_id, tail=1)
            since = stored[-1].id if stored else 0
        self._line = since

    async def read(self) -> None:
        """Takes every update, until it is cancelled; how the stream ends is told by `news`."""
        stream = self._client.stream(instance_id=self._instance_id, types=_UPDATES, on_state=self._say)
        try:
            async with contextlib.aclosing(stream):
                async for frame in stream:
                    await self._take(frame)
            self._end = ServerUnreachable("", "the stream ended")
        except TaskEngineError as error:
            self._end = error
        self._woken.set()

    async def read_lines(self) -> None:
        """Takes every log line. It ends with the instance."""
        lines = self._client.follow_logs(self._instance_id, since=self._line or 0)
        try:
            async with contextlib.aclosing(lines):
                async for line in lines:
                    await self._take_line(line)
        except TaskEngineError as error:
            self._end = error
            self._woken.set()

    async def _take(self, frame: StreamFrame) -> None:
        if isinstance(frame, Snapshot) and any(len(frame.tasks) < body.progress.total for body in frame.instances):
            # Of many tasks a snapshot has but the first.
            detail = await self._client.detail(self._instance_id)
            frame = msgspec.structs.replace(frame, instances=[detail], tasks=detail.tasks)
        if self._line is not None and _tells_the_end(frame):
            # Stored by now, and perhaps still on its way to `read_lines`.
            for line in await self._client.logs(self._instance_id, since=self._line):
                await self._take_line(line)
        await self._add(frame)

    async def _take_line(self, line: LogLine) -> None:
        if self._line is not None and line.id > self._line:
            self._line = line.id
            await self._add(log_frame(line, ""))

    async def _add(self, frame: StreamFrame) -> None:
        self._frames.append(frame)
        self._woken.set()
        if len(self._frames) >= _MANY:
            if self._room.is_set():  # else the other reader waits on it
                self._room = anyio.Event()
            await self._room.wait()

    def _say(self, state: str, detail: str) -> None:
        """Says that the connection is lost, and that it is there again."""
        if state == "reconnecting" and not self._lost:
            say(f"Connection lost: {detail}")
        if state == "connected" and self._lost:
            say("Connected again.")
        self._lost = state == "reconnecting"

    async def news(self) -> list[StreamFrame]:
        if not self._frames and self._end is not None:
            raise self._end
        if not self._frames:
            self._woken = anyio.Event()
            with anyio.move_on_after(PATIENCE_S):
                await self._woken.wait()
        found, self._frames = self._frames, []
        self._room.set()
        return found


def _tells_the_end(frame: StreamFrame) -> bool:
    match frame:
        case InstanceStatus():
            return InstanceState(frame.status) in AT_END
        case Snapshot():
            return any(InstanceState(body.status) in AT_END for body in frame.instances)
        case _:
            return False


def _definition_of(workflow: WorkflowDetail) -> "WorkflowDefinition":
    """Raises InvalidDefinition where the server's release knows more than this one."""
    from taskengine.definition import read_json

    return read_json(msgspec.json.encode(workflow.definition))


def _refuse_apps(apps: Sequence[str]) -> None:
    if apps:
        raise InvalidConfiguration("--app: the server has the jobs that it was started with")


def _refuse_engine(engine: EngineOptions) -> None:
    """`--follow` is the watcher's, all else is for an engine in this process."""
    strange = [flag for flag in engine.typed if flag != "--follow"]
    if strange:
        raise InvalidConfiguration(
            f"{', '.join(strange)}: the server runs the tasks, with the jobs and workers that it was started with"
        )
