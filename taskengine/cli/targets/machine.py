"""The stores of this machine as a target: the runs' own, or one database.

Looking reads beside the process that owns a store. Changing takes the store's lock and runs an engine in this process
until the instance rests; while another process has the store it raises StoreLocked.
"""

import asyncio
import contextlib
import getpass
import shlex
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from taskengine.ambient import Ambient
from taskengine.api.shapes import (
    function_body,
    graph_body,
    instance_body,
    log_line,
    upload_reply,
    version_body,
    workflow_detail,
    workflow_summary,
)
from taskengine.api.stream.frames import event_frames, time_of
from taskengine.cli.local.databases import describe
from taskengine.cli.local.definitions import known_jobs, read_content
from taskengine.cli.local.finding import find_instance, list_instances
from taskengine.cli.local.goingon import go_on, tries_allowed
from taskengine.cli.local.once import engine_for_an_errand, token_book
from taskengine.cli.local.polling import PollFeed, poll_logs
from taskengine.cli.local.reading import Look, looking
from taskengine.cli.local.runs import RunRecord, Runs
from taskengine.cli.local.stepping import stepped
from taskengine.cli.local.work import Change, change_once, make_builder
from taskengine.cli.options import EngineOptions
from taskengine.cli.safe import clean_lines
from taskengine.cli.stdio import stdout_kept_for_data
from taskengine.cli.targets.drawing import draw
from taskengine.cli.targets.interface import Ended, Wanted
from taskengine.clock import Micros, seconds
from taskengine.config.dsn import shown_dsn
from taskengine.config.sections import RetentionConfig
from taskengine.definition import to_yaml
from taskengine.definition.export import workflow_shape
from taskengine.engine.engine import Engine
from taskengine.engine.views import WorkflowView
from taskengine.errors import InvalidInput, ServerUnreachable
from taskengine.model.ids import InstanceId, WorkflowId
from taskengine.model.names import composed
from taskengine.model.states import InstanceState
from taskengine.store.interface import InstanceQuery
from taskengine.telemetry.logs import set_up_logging
from taskengine.wire import (
    DatabaseBody,
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

__all__ = ["Machine"]

T = TypeVar("T")

_PAGE: Final = 500
_LIVE: Final = (InstanceState.PENDING, InstanceState.RUNNING)


class Machine:
    """`dsn` empty: the runs, a store each; `named` then says that somebody chose them, not for want of more."""

    lasts = False
    more_jobs = "add --app FILE for the jobs of a file; `taskengine function list --app FILE` shows all that are known"

    def __init__(self, ambient: Ambient, dsn: str = "", *, named: bool = False) -> None:
        self._ambient, self._dsn, self._named = ambient, dsn, named
        self._runs = Runs()
        self._found: dict[str, RunRecord] = {}
        self._jobs: Collection[str] | None = None
        self.shared = bool(dsn)
        self.place = shown_dsn(dsn) if dsn else "the runs of this machine"
        self.flags = f" --db {shlex.quote(shown_dsn(dsn))}" if dsn else " --runs" if named else ""

    def close(self) -> None:
        """There is nothing to let go of: each question opens its store and closes it."""

    def find(self, prefix: str) -> str:
        record, _ = asyncio.run(find_instance(self._runs, prefix, self._dsn, self._ambient))
        self._found[record.id] = record
        return record.id

    # -- workflows: of a database; a run has but its own

    def upload(self, content: bytes, name: str, apps: Sequence[str]) -> UploadReply:
        # As a server would: what is stored names jobs that are there, and a slip of the pen is told where it was made.
        if self._jobs is None:
            self._jobs = known_jobs(apps)
        definition = read_content(content, name, self._jobs)

        async def change(engine: Engine) -> UploadReply:
            return upload_reply(definition, await engine.register_workflow(definition))

        return self._errand("workflow upload", change)

    def workflows(self) -> list[WorkflowSummary]:
        async def ask(look: Look) -> list[WorkflowSummary]:
            return [workflow_summary(view) for view in await look.reading.workflows()]

        return self._look("workflow list", ask)

    def workflow(self, workflow_id: str) -> WorkflowDetail:
        view = self._view("workflow show", workflow_id)
        return workflow_detail(view, workflow_shape(view.definition))

    def versions(self, workflow_id: str) -> list[VersionBody]:
        async def ask(look: Look) -> list[VersionBody]:
            return [version_body(view) for view in await look.reading.versions(WorkflowId(workflow_id))]

        return self._look("workflow versions", ask)

    def export(self, workflow_id: str) -> str:
        return to_yaml(self._view("workflow export", workflow_id).definition)

    def graph(self, workflow_id: str, form: str) -> str:
        view = self._view("workflow graph", workflow_id)
        return draw(view.definition, graph_body(view.definition, view.version), form)

    def delete_workflow(self, workflow_id: str, *, force: bool) -> None:
        self._errand("workflow delete", lambda engine: engine.delete_workflow(workflow_id, force=force))

    def execute(self, workflow_id: str, params: Mapping[str, Any], key: str | None) -> NoReturn:
        if self._dsn:
            raise InvalidInput(
                "`workflow execute` starts an instance on a server, and nothing would work on it here; run a file with "
                f"`taskengine run FILE{self.flags}`, or start a server with `taskengine serve`"
            )
        self._need_server("workflow execute")

    # -- instances

    def instances(self, wanted: Wanted, limit: int) -> list[InstanceBody]:
        async def ask() -> list[InstanceBody]:
            found: list[InstanceBody] = []
            listed = list_instances(self._runs, self._dsn, self._ambient, _query(wanted))
            async with contextlib.aclosing(listed):
                async for record, view in listed:
                    self._found[record.id] = record
                    found.append(instance_body(view))
                    if len(found) == limit:
                        break
            return found

        return asyncio.run(ask())

    def detail(self, instance_id: str) -> InstanceDetail:
        return self._look_at(instance_id, lambda look, known: look.detail(known))

    def explain(self, instance_id: str, task: str | None) -> Explanation:
        name = None if task is None else composed(task)
        return self._look_at(instance_id, lambda look, known: look.reading.explain(known, name))

    def tries_allowed(self, detail: InstanceDetail) -> Mapping[str, int]:
        async def ask(look: Look, known: InstanceId) -> Mapping[str, int]:
            return tries_allowed(await look.definition_of(known))

        return self._look_at(detail.id, ask)

    def logs(self, instance_id: str, *, task: str | None, since: int, tail: int | None) -> list[LogLine]:
        async def ask(look: Look, known: InstanceId) -> list[LogLine]:
            found: list[LogLine] = []
            after = since
            while True:
                rows = await look.reading.logs(known, task=task, after=after, limit=_PAGE, tail=tail)
                found += [log_line(row) for row in rows]
                if tail is not None or len(rows) < _PAGE:
                    return found
                after = rows[-1].id

        return self._look_at(instance_id, ask)

    def follow_logs(self, instance_id: str, *, task: str | None, since: int) -> Iterator[LogLine]:
        record = self._record(instance_id)

        async def lines() -> AsyncIterator[LogLine]:
            clock = self._ambient.clock
            async with (
                looking(record.dsn, self._ambient) as look,
                contextlib.aclosing(poll_logs(look, record.id, clock, task=task, since=since)) as coming,
            ):
                async for line in coming:
                    yield line

        return stepped(lines())

    def events(self, instance_id: str) -> Iterator[StreamFrame]:
        async def ask(look: Look, known: InstanceId) -> list[StreamFrame]:
            frames: list[StreamFrame] = []
            after = 0
            while events := await look.reading.events(known, after, _PAGE):
                after = events[-1].seq
                frames += [frame for event in events for frame in event_frames(event)]
            return frames

        return iter(self._look_at(instance_id, ask))

    @contextlib.asynccontextmanager
    async def feed(self, instance_id: str, *, logs: bool, logs_since: int | None) -> AsyncIterator[PollFeed]:
        record = self._record(instance_id)
        async with looking(record.dsn, self._ambient) as look:
            workflow_id = (await look.reading.instance(record.id)).workflow_id
            yield PollFeed(look, record.id, workflow_id, self._ambient.clock, logs=logs, logs_since=logs_since)

    def pause(self, instance_id: str, *, now: bool) -> InstanceDetail:
        async def change(engine: Engine, known: InstanceId) -> None:
            await engine.pause_instance(known, now=now)

        return self._change(instance_id, change)

    def cancel(self, instance_id: str, reason: str, *, compensate: bool, quiet: bool) -> InstanceDetail:
        """To compensate is work, which is done here."""

        async def change(engine: Engine, known: InstanceId) -> None:
            await engine.cancel_instance(known, reason, compensate=compensate)

        if not compensate:
            return self._change(instance_id, change)
        ended = self._go_on(instance_id, EngineOptions(), change, quiet=quiet)
        return self.detail(instance_id) if ended.detail is None else ended.detail

    def signal(self, instance_id: str, name: str, payload: Any, engine: EngineOptions, *, quiet: bool) -> Ended:
        async def change(running: Engine, known: InstanceId) -> None:
            await running.signal_instance(known, name, payload, by=getpass.getuser())

        return self._go_on(instance_id, engine, change, quiet=quiet)

    def resume(self, instance_id: str, engine: EngineOptions, *, quiet: bool) -> Ended:
        """One that was only cut short is going on as soon as the engine starts. Raises Conflict for an ended one."""

        async def change(engine: Engine, known: InstanceId) -> None:
            view = await engine.get_instance(known)
            if view.status not in _LIVE:
                await engine.resume_instance(known)

        return self._go_on(instance_id, engine, change, quiet=quiet)

    def retry(
        self, instance_id: str, from_task: str | None, only_task: str | None, engine: EngineOptions, *, quiet: bool
    ) -> Ended:
        async def change(engine: Engine, known: InstanceId) -> None:
            await engine.retry_instance(known, from_task=from_task, only_task=only_task)

        return self._go_on(instance_id, engine, change, quiet=quiet)

    def fork(
        self, instance_id: str, from_task: str, params: Mapping[str, Any], version: str | None, key: str | None
    ) -> NoReturn:
        self._need_server("instance fork")

    def wait(self, instance_id: str, timeout_s: float | None) -> NoReturn:
        self._need_server("workflow execute --wait")

    def is_abandoned(self, instance_id: str) -> bool:
        record = self._found.get(instance_id)
        return record is not None and self._runs.seems_abandoned(record)

    # -- the engine itself

    def functions(self, apps: Sequence[str]) -> list[FunctionBody]:
        builder = make_builder(self._ambient, "memory://", apps, None)
        return [function_body(view) for view in builder.build().functions()]

    def nodes(self) -> list[NodeBody]:
        self._need_server("node list")

    def database(self) -> DatabaseBody:
        return asyncio.run(describe(self._database("db status"), self._ambient))

    def prune(self, request: PruneRequest, retention: RetentionConfig | None) -> PruneReply:
        dsn = self._database("db prune")
        if request.older_than is None and retention is None:
            raise InvalidInput(
                f"how long are instances kept in {self.place}? Say --older-than, such as 30d, or --config FILE as its "
                "server is told"
            )
        kept = retention or RetentionConfig(success=None, failed=None)

        async def run() -> PruneReply:
            async with engine_for_an_errand(self._ambient, dsn, kept) as engine:
                pruned = await engine.prune(
                    older_than_s=request.older_than,
                    states=[InstanceState(name) for name in request.status],
                    workflow_id=request.workflow_id,
                    dry_run=request.dry_run,
                    limit=request.limit,
                )
                if not request.dry_run:
                    await engine.sweep()
                return PruneReply(instances=pruned.instances, more=pruned.more)

        return asyncio.run(run())

    def tokens(self) -> list[TokenBody]:
        async def ask() -> list[TokenBody]:
            async with token_book(self._ambient, self._database("token list")) as book:
                return [_token(row) for row in book.list()]

        return asyncio.run(ask())

    def create_token(self, name: str, scope: Scope, expires_in: float | None) -> TokenCreated:
        clock = self._ambient.clock
        expires_us = None if expires_in is None else Micros(clock.now_us() + seconds(expires_in))

        async def ask() -> TokenCreated:
            async with token_book(self._ambient, self._database("token create")) as book:
                row, secret = await book.create(name, scope, expires_us)
                return TokenCreated(**msgspec.structs.asdict(_token(row)), secret=secret)

        return asyncio.run(ask())

    def revoke_token(self, token_id: str) -> None:
        async def ask() -> None:
            async with token_book(self._ambient, self._database("token revoke")) as book:
                await book.revoke(token_id)

        asyncio.run(ask())

    def rotate_token(self) -> NoReturn:
        if self._dsn:
            raise InvalidInput(
                "`token rotate` asks the running server; without one, delete its token file: the next start of "
                "`taskengine serve` makes a new one and revokes the old"
            )
        self._need_server("token rotate")

    # -- how it is done

    def _database(self, command: str) -> str:
        if not self._dsn:
            self._need_server(command)
        return self._dsn

    def _need_server(self, command: str) -> NoReturn:
        if self._named:
            raise InvalidInput(f"`{command}` is not about the runs of this machine; leave out --runs")
        raise ServerUnreachable(
            "",
            f"`{command}` needs a server, and none runs on this machine; start one with `taskengine serve`, or name "
            "one with --server URL",
        )

    def _record(self, instance_id: str) -> RunRecord:
        if instance_id not in self._found:
            self.find(instance_id)
        return self._found[instance_id]

    def _look(self, command: str, question: Callable[[Look], Coroutine[Any, Any, T]]) -> T:
        dsn = self._database(command)

        async def ask() -> T:
            async with looking(dsn, self._ambient) as look:
                return await question(look)

        return asyncio.run(ask())

    def _look_at(self, instance_id: str, question: Callable[[Look, InstanceId], Coroutine[Any, Any, T]]) -> T:
        record = self._record(instance_id)

        async def ask() -> T:
            async with looking(record.dsn, self._ambient) as look:
                return await question(look, record.id)

        return asyncio.run(ask())

    def _view(self, command: str, workflow_id: str) -> WorkflowView:
        return self._look(command, lambda look: look.reading.workflow(WorkflowId(workflow_id)))

    def _errand(self, command: str, errand: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        dsn = self._database(command)

        async def run() -> T:
            async with engine_for_an_errand(self._ambient, dsn) as engine:
                return await errand(engine)

        return asyncio.run(run())

    def _change(self, instance_id: str, change: Change) -> InstanceDetail:
        record = self._record(instance_id)
        set_up_logging("warning", clean_lines)
        # With its job files, although nothing of it is wanted to run: a task that was offered may start before the
        # command is heard, and must find its function.
        builder = make_builder(self._ambient, record.dsn, record.apps, record.workers, record.pools)
        with stdout_kept_for_data():
            ending = asyncio.run(change_once(builder, record.id, change))
        assert ending.detail is not None, "nobody interrupts an errand"
        return ending.detail

    def _go_on(self, instance_id: str, engine: EngineOptions, change: Change, *, quiet: bool) -> Ended:
        record = self._record(instance_id)
        set_up_logging(engine.log_level, clean_lines)
        with stdout_kept_for_data():
            ending = asyncio.run(go_on(self._ambient, self._runs, record, engine, change, quiet=quiet))
        return Ended(detail=ending.detail, ran=True)


def _query(wanted: Wanted) -> InstanceQuery:
    since = wanted.since
    return InstanceQuery(
        workflow_id=None if wanted.workflow_id is None else WorkflowId(wanted.workflow_id),
        states=frozenset(InstanceState(status) for status in wanted.statuses),
        labels=wanted.labels,
        created_after_us=None if since is None else Micros(round(since.timestamp() * 1_000_000)),
        search=wanted.search,
        prefix=wanted.prefix,
    )


def _token(row: Any) -> TokenBody:
    return TokenBody(
        id=row.id,
        name=row.name,
        scope=row.scope,
        created_at=time_of(row.created_us),
        expires_at=None if row.expires_us is None else time_of(row.expires_us),
        revoked_at=None if row.revoked_us is None else time_of(row.revoked_us),
    )
