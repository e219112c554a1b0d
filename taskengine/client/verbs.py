"""Everything one may ask a server, each described once: method, path, query, body, how to read the answer.

Both clients offer these functions as their methods. None of them sends anything.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeVar

import msgspec

from taskengine.client.calls import JSON, YAML, Call, Flow, api_path, ask, encode, enveloped, text, with_query
from taskengine.clock import Micros, seconds
from taskengine.errors import Conflict, InvalidInput, NotFound, TaskEngineError
from taskengine.model.durations import format_duration
from taskengine.model.states import INSTANCE_FINAL
from taskengine.wire.envelope import Envelope, Page
from taskengine.wire.explaining import Explanation
from taskengine.wire.frames import StreamFrame
from taskengine.wire.instances import (
    AddTasksReply,
    AddTasksRequest,
    CancelRequest,
    ForkRequest,
    InstanceBody,
    InstanceDetail,
    LogLine,
    PauseRequest,
    RetryRequest,
    SignalRequest,
    TaskBody,
)
from taskengine.wire.system import (
    DatabaseBody,
    FunctionBody,
    HealthBody,
    NodeBody,
    PruneReply,
    PruneRequest,
    Scope,
    StatusBody,
    TokenBody,
    TokenCreated,
    TokenRequest,
    VersionInfo,
)
from taskengine.wire.workflows import (
    ExecuteReply,
    ExecuteRequest,
    UploadReply,
    VersionBody,
    WorkflowDetail,
    WorkflowSummary,
)

if TYPE_CHECKING:
    from taskengine.model.definition import WorkflowDefinition

__all__ = [
    "add_tasks",
    "cancel",
    "create_token",
    "database",
    "delete_workflow",
    "detail",
    "events",
    "execute",
    "explain",
    "export",
    "fork",
    "functions",
    "graph",
    "health",
    "history",
    "instance",
    "instances",
    "is_final",
    "logs",
    "nodes",
    "pause",
    "prune",
    "resume",
    "retry",
    "revoke_token",
    "rotate_token",
    "signal",
    "status",
    "task",
    "tasks",
    "tokens",
    "upload",
    "validate",
    "version",
    "versions",
    "workflow",
    "workflows",
]

T = TypeVar("T")

GraphFormat = Literal["json", "mermaid", "dot", "svg", "ascii"]
Order = Literal["asc", "desc"]

LONGEST_WAIT_S: Final = 60.0
"""For how long a server holds an answer back at most; a longer wait is several requests."""
LONGEST_KEY: Final = 200
PAGE: Final = 500
"""How many tasks, lines or events come with one request."""


def upload(content: "bytes | str | WorkflowDefinition") -> Flow[UploadReply]:
    """Make a workflow known, or a new version of it: YAML or JSON text, or what a `WorkflowBuilder` built.

    Raises InvalidDefinition with all problems. The same content again changes nothing.
    """
    return ask(_define("workflows", content, "define"))


def validate(content: "bytes | str | WorkflowDefinition") -> Flow[UploadReply]:
    """Check a definition as `upload` would; nothing changes. Raises InvalidDefinition with all problems."""
    return ask(_define("validate", content, "read"))


def _define(place: str, content: "bytes | str | WorkflowDefinition", scope: Scope) -> Call[UploadReply]:
    body = _definition_text(content)
    return Call(method="POST", path=api_path(place), body=body, content_type=YAML, decode=_UPLOAD, scope=scope)


def _definition_text(content: "bytes | str | WorkflowDefinition") -> bytes:
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode("utf-8")
    # Needed only by those who have built one, and so have paid for this import already.
    from taskengine.definition import to_yaml

    return to_yaml(content).encode("utf-8")


def workflows() -> Flow[list[WorkflowSummary]]:
    """All workflows in their current versions, by id."""
    return ask(_get(api_path("workflows"), _WORKFLOWS))


def workflow(workflow_id: str, *, version: str | None = None) -> Flow[WorkflowDetail]:
    """One workflow with its tasks, params and graph; `version` may be the beginning of one. Raises NotFound."""
    return ask(_get(api_path("workflows", workflow_id), _WORKFLOW, with_query(version=version)))


def versions(workflow_id: str) -> Flow[list[VersionBody]]:
    """All versions of a workflow, the newest first. Raises NotFound."""
    return ask(_get(api_path("workflows", workflow_id, "versions"), _VERSIONS))


def delete_workflow(workflow_id: str, *, force: bool = False) -> Flow[None]:
    """Forget a workflow. Its instances keep their version and their history.

    Raises NotFound, and Conflict while instances of it have not ended, unless `force`.
    """
    return ask(
        Call(
            method="DELETE",
            path=api_path("workflows", workflow_id),
            query=with_query(force=force),
            decode=_nothing,
            scope="define",
            repeated=_gone_already,
        )
    )


def export(workflow_id: str, *, version: str | None = None) -> Flow[str]:
    """The definition as YAML. Raises NotFound."""
    return ask(_get(api_path("workflows", workflow_id, "export"), text, with_query(version=version), accept="*/*"))


def graph(workflow_id: str, format: GraphFormat = "mermaid", *, version: str | None = None) -> Flow[str]:
    """The graph of a workflow as text; `json` is that of a GraphBody. Raises NotFound."""
    decode = _raw_data if format == "json" else text
    query = with_query(format=format, version=version)
    return ask(_get(api_path("workflows", workflow_id, "graph"), decode, query, accept="*/*"))


def execute(
    workflow_id: str, params: Mapping[str, Any] | None = None, *, idempotency_key: str = "", wait: float | None = None
) -> Flow[ExecuteReply]:
    """Start an instance; it is committed when this returns.

    The same `idempotency_key` again gives the instance that it made, also much later and from another program; without
    one the client makes its own, so that a cut connection does not start two. With `wait` (seconds) the reply has the
    instance as it is when it has ended, or when the time is over: look at its `status`.
    Raises NotFound, InvalidParams, Conflict (the key was used for something else).
    """
    piece, rest = _split(wait)
    reply = yield from ask(
        Call(
            method="POST",
            path=api_path("workflows", workflow_id, "execute"),
            query=_waiting(piece),
            body=encode(ExecuteRequest(params=dict(params or {}))),
            content_type=JSON,
            decode=_EXECUTED,
            scope="operate",
            wait_s=piece,
            key=_checked_key(idempotency_key),
        )
    )
    if rest and not (reply.instance is not None and is_final(reply.instance.status)):
        body = yield from instance(reply.instance_id, wait=rest)
        return ExecuteReply(instance_id=reply.instance_id, instance=body)
    return reply


def instances(
    *,
    workflow_id: str | None = None,
    status: str | Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    search: str = "",
    prefix: str = "",
    limit: int = 20,
    offset: int = 0,
    cursor: str | None = None,
    order: Order = "desc",
    total: bool = False,
) -> Flow[Page[InstanceBody]]:
    """One page of the instances that fit all filters, the newest first.

    created_after is inclusive, created_before is not. `search` is looked for in id, workflow id and error, `prefix` is
    the beginning of the id. The page's `cursor` leads to the next one; `iter_instances` follows it by itself. `total`
    also counts all that fit.
    """
    query = with_query(
        workflow_id=workflow_id,
        status=[status] if isinstance(status, str) else list(status),
        label=[f"{name}:{value}" for name, value in (labels or {}).items()],
        created_after=created_after,
        created_before=created_before,
        search=search,
        prefix=prefix,
        limit=limit,
        offset=offset or None,
        cursor=cursor,
        order=order,
        total=total,
    )
    return ask(_get(api_path("instances"), _INSTANCES, query))


def instance(instance_id: str, *, wait: float | None = None) -> Flow[InstanceBody]:
    """One instance. With `wait` (seconds): as it is when it has ended, or when the time is over. Raises NotFound."""
    while True:
        piece, wait = _split(wait)
        call = _get(api_path("instances", instance_id), _INSTANCE, _waiting(piece), wait_s=piece)
        body = yield from ask(call)
        if not wait or is_final(body.status):
            return body


def detail(instance_id: str) -> Flow[InstanceDetail]:
    """One instance with all its tasks, in definition order. Raises NotFound."""
    body = yield from instance(instance_id)
    found = yield from tasks(instance_id)
    fields = {name: getattr(body, name) for name in InstanceBody.__struct_fields__}
    return InstanceDetail(**fields, tasks=found)


def tasks(instance_id: str) -> Flow[list[TaskBody]]:
    """All tasks of an instance with their attempts, in definition order. Raises NotFound."""
    found: list[TaskBody] = []
    cursor: str | None = None
    while True:
        query = with_query(limit=PAGE, cursor=cursor)
        page = yield from ask(_get(api_path("instances", instance_id, "tasks"), _TASKS, query))
        found += page.items
        if not page.has_more:
            return found
        cursor = page.cursor


def task(instance_id: str, name: str) -> Flow[TaskBody]:
    """One task of an instance with its attempts. Raises NotFound."""
    return ask(_get(api_path("instances", instance_id, "tasks", name), _TASK))


def explain(instance_id: str, task: str | None = None) -> Flow[Explanation]:
    """Why an instance, or one of its tasks, waits or has ended as it did, and what moves it on. Raises NotFound."""
    query = () if task is None else (("task", task),)
    return ask(_get(api_path("instances", instance_id, "explain"), _EXPLANATION, query))


def history(
    workflow_id: str,
    *,
    status: str | Sequence[str] = (),
    limit: int = 20,
    offset: int = 0,
    cursor: str | None = None,
    order: Order = "desc",
) -> Flow[Page[InstanceBody]]:
    """One page of a workflow's instances, with their `total` number. Raises NotFound."""
    many = [status] if isinstance(status, str) else list(status)
    query = with_query(status=many, limit=limit, offset=offset or None, cursor=cursor, order=order)
    return ask(_get(api_path("workflows", workflow_id, "history"), _INSTANCES, query))


def pause(instance_id: str, *, now: bool = False) -> Flow[InstanceBody]:
    """Start no more tasks; `now` also interrupts those that run. Raises NotFound, Conflict."""
    return ask(_command(instance_id, "pause", PauseRequest(now=now)))


def resume(instance_id: str) -> Flow[InstanceBody]:
    """Go on after a pause. Raises NotFound, Conflict."""
    return ask(_command(instance_id, "resume", None))


def cancel(instance_id: str, *, reason: str = "", compensate: bool = False) -> Flow[InstanceBody]:
    """End it; `reason` is kept with it. `compensate`: undo then what its tasks have done. Raises NotFound, Conflict."""
    return ask(_command(instance_id, "cancel", CancelRequest(reason=reason, compensate=compensate)))


def retry(instance_id: str, *, from_task: str | None = None, only_task: str | None = None) -> Flow[InstanceBody]:
    """Run again what failed, or one task with all below it, or only that task. Raises NotFound, Conflict."""
    return ask(_command(instance_id, "retry", RetryRequest(from_task=from_task, only_task=only_task)))


def fork(
    instance_id: str,
    from_task: str,
    *,
    params: Mapping[str, Any] | None = None,
    version: str | None = None,
    idempotency_key: str = "",
) -> Flow[ExecuteReply]:
    """Start a new instance that takes over what this one has done, and runs `from_task` and all below.

    `params` go over its own; `version` is the beginning of a version of its workflow, or "latest". Keys as `execute`.
    Raises NotFound, InvalidParams, Conflict (it has not ended, or something cannot be taken over).
    """
    return ask(
        Call(
            method="POST",
            path=api_path("instances", instance_id, "fork"),
            body=encode(ForkRequest(from_task=from_task, params=dict(params or {}), version=version)),
            content_type=JSON,
            decode=_EXECUTED,
            scope="operate",
            key=_checked_key(idempotency_key),
        )
    )


def signal(instance_id: str, name: str, payload: Any = None, *, idempotency_key: str = "") -> Flow[InstanceBody]:
    """Send a signal to a task that waits for it, or will; for an approval `{"approved": True, "comment": "…"}`.

    Raises InvalidInput, NotFound (also for a name that nobody waits for), Conflict, TooManyRequests.
    """
    return ask(
        Call(
            method="POST",
            path=api_path("instances", instance_id, "signals", name),
            body=encode(SignalRequest(payload=payload)),
            content_type=JSON,
            decode=_INSTANCE,
            scope="operate",
            key=_checked_key(idempotency_key),
        )
    )


def add_tasks(
    instance_id: str, tasks: Sequence[Mapping[str, Any]], *, parent: str | None = None, idempotency_key: str = ""
) -> Flow[int]:
    """Add tasks to a running instance, all of them or none, at most 5,000; gives how many are new.

    tasks   each as in a file: `{"name": "a", "job": "load", "params": {...}}`
    parent  the task whose sub-tasks they are; None: they stand beside the tasks of the definition
    Raises InvalidInput, NotFound, Conflict.
    """
    reply = yield from ask(
        Call(
            method="POST",
            path=api_path("instances", instance_id, "tasks"),
            body=encode(AddTasksRequest(tasks=[dict(task) for task in tasks], parent=parent)),
            content_type=JSON,
            decode=_ADDED,
            scope="operate",
            key=_checked_key(idempotency_key),
        )
    )
    return reply.added


def logs(instance_id: str, *, task: str | None = None, since: int = 0, tail: int | None = None) -> Flow[list[LogLine]]:
    """The stored lines with an id above `since`, in order; with `tail` only the last so many of them."""
    if tail is not None and tail < 1:
        raise InvalidInput(f"tail={tail}: it is a number of lines, 1 or more")
    found: list[LogLine] = []
    at_once = tail if tail is not None and tail <= PAGE else None
    while True:
        query = with_query(task=task, since=since or None, tail=at_once, limit=PAGE)
        page = yield from ask(_get(api_path("instances", instance_id, "logs"), _LOGS, query))
        found += page.items
        if not page.has_more or not page.items:
            return found if tail is None else found[-tail:]
        since = page.items[-1].id


def events(instance_id: str, *, after: int = 0) -> Flow[list[StreamFrame]]:
    """What has happened to an instance after the event number `after`, as frames of its stream, in order."""
    found: list[StreamFrame] = []
    while True:
        query = with_query(after=after or None, limit=PAGE)
        page = yield from ask(_get(api_path("instances", instance_id, "events"), _EVENTS, query))
        found += page.items
        last = max((getattr(frame, "seq", None) or 0 for frame in page.items), default=after)
        if not page.has_more or last <= after:
            return found
        after = last


def functions() -> Flow[list[FunctionBody]]:
    """The job functions that the server can run, by name."""
    return ask(_get(api_path("functions"), _FUNCTIONS))


def status() -> Flow[StatusBody]:
    """How the engine is doing."""
    return ask(_get(api_path("status"), _STATUS))


def database() -> Flow[DatabaseBody]:
    """The database under the server: its size, rows and schema, and who has it. Needs the scope `admin`."""
    return ask(_get(api_path("admin", "database"), _DATABASE, scope="admin"))


def prune(
    *,
    older_than: float | None = None,
    status: str | Sequence[str] = (),
    workflow_id: str | None = None,
    dry_run: bool = False,
    limit: int = 1_000,
) -> Flow[PruneReply]:
    """Remove ended instances with all that is stored of them: those whose retention is over, or what is asked for.

    older_than  those that ended so many seconds ago, whatever their retention says
    status      only those in one of these final states
    dry_run     only count them
    limit       at most so many at once, up to 10,000; the reply's `more` says that there may be more
    Raises InvalidInput, and Unavailable. Needs the scope `admin`.
    """
    request = PruneRequest(
        older_than=older_than,
        status=[status] if isinstance(status, str) else list(status),
        workflow_id=workflow_id,
        dry_run=dry_run,
        limit=limit,
    )
    return ask(
        Call(
            method="POST",
            path=api_path("admin", "prune"),
            body=encode(request),
            content_type=JSON,
            decode=_PRUNED,
            scope="admin",
        )
    )


def nodes() -> Flow[list[NodeBody]]:
    """The servers that work on this store."""
    return ask(_get(api_path("nodes"), _NODES))


def version() -> Flow[VersionInfo]:
    """What runs there."""
    return ask(_get("/version", _VERSION))


def health() -> Flow[HealthBody]:
    """How the server is, in one word; needs no token. One that is starting or cannot commit answers too."""
    return ask(Call(method="GET", path="/health", decode=_HEALTH, scope="open"))


def tokens() -> Flow[list[TokenBody]]:
    """All tokens, without their secrets, in the order of their making."""
    return ask(_get(api_path("admin", "tokens"), _TOKENS, scope="admin"))


def create_token(name: str, scope: Scope, *, expires_in: float | None = None) -> Flow[TokenCreated]:
    """Make a token. This answer is the only time that its secret is told. `expires_in` in seconds; None: never."""
    return ask(
        Call(
            method="POST",
            path=api_path("admin", "tokens"),
            body=encode(TokenRequest(name=name, scope=scope, expires_in=expires_in)),
            content_type=JSON,
            decode=_NEW_TOKEN,
            scope="admin",
            repeated=_secret_lost,
        )
    )


def revoke_token(token_id: str) -> Flow[TokenBody]:
    """From now on the token opens nothing; again changes nothing. Raises NotFound."""
    return ask(Call(method="DELETE", path=api_path("admin", "tokens", token_id), decode=_TOKEN, scope="admin"))


def rotate_token() -> Flow[TokenBody]:
    """Replace the server's local token; its file then holds the new one."""
    return ask(Call(method="POST", path=api_path("admin", "tokens", "rotate-local"), decode=_TOKEN, scope="admin"))


def is_final(status: str) -> bool:
    """Whether an instance of this status has ended."""
    return status in INSTANCE_FINAL


def _get(
    path: str,
    decode: Callable[[bytes], T],
    query: tuple[tuple[str, str], ...] = (),
    *,
    scope: Scope = "read",
    wait_s: float = 0.0,
    accept: str = JSON,
) -> Call[T]:
    return Call(method="GET", path=path, query=query, decode=decode, scope=scope, wait_s=wait_s, accept=accept)


def _command(instance_id: str, verb: str, body: msgspec.Struct | None) -> Call[InstanceBody]:
    return Call(
        method="POST",
        path=api_path("instances", instance_id, verb),
        body=b"{}" if body is None else encode(body),
        content_type=JSON,
        decode=_INSTANCE,
        scope="operate",
    )


def _checked_key(key: str) -> str:
    """As it may stand in a header."""
    if key != key.strip() or not key.isprintable() or len(key.encode()) > LONGEST_KEY:
        raise InvalidInput(
            f"idempotency_key {key[:50]!r}: at most {LONGEST_KEY} bytes of visible text, no space at its ends"
        )
    return key


def _split(wait: float | None) -> tuple[float, float]:
    """What to ask for in one request, and what is left for the next ones."""
    if wait is None:
        return 0.0, 0.0
    if not math.isfinite(wait) or wait < 0:
        raise InvalidInput(f"wait={wait}: it is a number of seconds, 0 or more")
    return min(wait, LONGEST_WAIT_S), max(0.0, wait - LONGEST_WAIT_S)


def _waiting(piece_s: float) -> tuple[tuple[str, str], ...]:
    return with_query(wait=format_duration(Micros(seconds(piece_s) // 1000 * 1000)) if piece_s else None)


def _gone_already(error: TaskEngineError) -> None:
    """A deletion that finds nothing, after one that may have worked, has worked."""
    if not isinstance(error, NotFound):
        raise error


def _secret_lost(error: TaskEngineError) -> NoReturn:
    if not isinstance(error, Conflict):
        raise error
    raise Conflict(
        f"the token was made, but the connection was cut before its secret arrived ({error}); "
        "revoke it and create another: taskengine token list"
    ) from error


def _nothing(_: bytes) -> None:
    return None


def _raw_data(body: bytes) -> str:
    return bytes(_RAW.decode(body).data).decode("utf-8")


_RAW: Final = msgspec.json.Decoder(Envelope[msgspec.Raw])
_UPLOAD: Final = enveloped(UploadReply)
_WORKFLOWS: Final = enveloped(list[WorkflowSummary])
_WORKFLOW: Final = enveloped(WorkflowDetail)
_VERSIONS: Final = enveloped(list[VersionBody])
_EXECUTED: Final = enveloped(ExecuteReply)
_INSTANCES: Final = enveloped(Page[InstanceBody])
_INSTANCE: Final = enveloped(InstanceBody)
_TASKS: Final = enveloped(Page[TaskBody])
_TASK: Final = enveloped(TaskBody)
_EXPLANATION: Final = enveloped(Explanation)
_LOGS: Final = enveloped(Page[LogLine])
_EVENTS: Final = enveloped(Page[StreamFrame])
_FUNCTIONS: Final = enveloped(list[FunctionBody])
_STATUS: Final = enveloped(StatusBody)
_NODES: Final = enveloped(list[NodeBody])
_PRUNED: Final = enveloped(PruneReply)
_ADDED: Final = enveloped(AddTasksReply)
_DATABASE: Final = enveloped(DatabaseBody)
_VERSION: Final = enveloped(VersionInfo)
_HEALTH: Final = enveloped(HealthBody)
_TOKENS: Final = enveloped(list[TokenBody])
_NEW_TOKEN: Final = enveloped(TokenCreated)
_TOKEN: Final = enveloped(TokenBody)
