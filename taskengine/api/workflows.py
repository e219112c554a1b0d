"""Workflows over HTTP: list, show, draw, start, history. Uploading is in `uploads`."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

import anyio.to_thread
import msgspec
from litestar import get, post
from litestar.params import HeaderParameter, QueryParameter, RawBody

from taskengine.api import uploads
from taskengine.api.asking import Key, Statuses, WorkflowIdPath, instance_query, workflow_key
from taskengine.api.describing import UNCHANGED, also, describe_body, describe_forms, problems
from taskengine.api.desk import etag, is_named
from taskengine.api.paging import CursorText, Limit, Offset, Order, after_instance, instance_cursor, page_of
from taskengine.api.parts import Parts
from taskengine.api.replies import Empty, Headers, Reply, Text, decode_body
from taskengine.api.shapes import graph_body, instance_body, version_body, workflow_detail, workflow_summary
from taskengine.api.versions import find_version
from taskengine.api.waiting import Wait, wait_for_end, wait_seconds
from taskengine.definition import to_ascii, to_dot, to_mermaid, to_svg, to_yaml, workflow_shape
from taskengine.engine.views import WorkflowView
from taskengine.errors import InvalidInput
from taskengine.model.definition import WorkflowDefinition
from taskengine.model.states import INSTANCE_FINAL
from taskengine.wire import (
    Envelope,
    ExecuteReply,
    ExecuteRequest,
    GraphBody,
    InstanceBody,
    Page,
    VersionBody,
    WorkflowDetail,
    WorkflowSummary,
)

__all__ = ["ROUTES"]

_EXECUTE: Final = msgspec.json.Decoder(ExecuteRequest)
_LARGE: Final = 300
"""Tasks of a graph whose drawing takes longer than a few milliseconds."""

VersionQuery = Annotated[
    str | None,
    QueryParameter(
        name="version",
        min_length=4,
        max_length=64,
        pattern="^[0-9a-f]+$",
        description="A version, or the beginning of one if there is only one that begins so; default: the current one.",
    ),
]
IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(name="If-None-Match", max_length=1000, description="304 if it is this version."),
]
GraphFormat = Literal["json", "mermaid", "dot", "svg", "ascii"]


@get("/api/v1/workflows", opt={"scope": "read"}, responses=problems(503), tags=["workflows"], summary="List workflows")
async def list_workflows(parts: Parts) -> Reply[Envelope[list[WorkflowSummary]]]:
    """All workflows in their current versions, by id."""
    return Reply(Envelope(data=[workflow_summary(view) for view in await parts.engine.list_workflows()]))


@get(
    "/api/v1/workflows/{workflow_id:str}",
    opt={"scope": "read"},
    responses=UNCHANGED | problems(400, 404, 503),
    tags=["workflows"],
    summary="Show a workflow",
)
async def get_workflow(
    workflow_id: WorkflowIdPath, parts: Parts, version: VersionQuery = None, if_none_match: IfNoneMatch = None
) -> Reply[Envelope[WorkflowDetail]]:
    """A workflow with its params, its definition and its graph. The ETag is the version, in quotes."""
    view = await find_version(parts.engine, workflow_key(workflow_id), version)
    if is_named(if_none_match, view.version):
        return _unchanged(view)
    return Reply(Envelope(data=workflow_detail(view, workflow_shape(view.definition))), headers=etag(view.version))


@get(
    "/api/v1/workflows/{workflow_id:str}/versions",
    opt={"scope": "read"},
    responses=problems(400, 404, 503),
    tags=["workflows"],
    summary="List versions",
)
async def list_versions(workflow_id: WorkflowIdPath, parts: Parts) -> Reply[Envelope[list[VersionBody]]]:
    """Every version that was uploaded, the newest first. Running instances keep theirs."""
    versions = await parts.engine.get_workflow_versions(workflow_key(workflow_id))
    return Reply(Envelope(data=[version_body(view) for view in versions]))


@get(
    "/api/v1/workflows/{workflow_id:str}/graph",
    opt={"scope": "read"},
    operation_class=describe_forms({"text/plain": "mermaid, dot, ascii", "image/svg+xml": "svg"}),
    responses=UNCHANGED | problems(400, 404, 503),
    tags=["workflows"],
    summary="Draw the graph",
)
async def get_graph(
    workflow_id: WorkflowIdPath,
    parts: Parts,
    format: Annotated[
        GraphFormat, QueryParameter(description="The form of the drawing, or the graph itself.")
    ] = "json",
    version: VersionQuery = None,
    if_none_match: IfNoneMatch = None,
) -> Reply[Envelope[GraphBody]]:
    """The tasks and what depends on what: as data, or as text in the language of a drawing program.

    `json` comes as all answers do; `mermaid`, `dot` and `ascii` are plain text, `svg` is a picture.
    """
    view = await find_version(parts.engine, workflow_key(workflow_id), version)
    if is_named(if_none_match, view.version):
        return _unchanged(view)
    headers = etag(view.version)
    if format == "json":
        return Reply(Envelope(data=graph_body(view.definition, view.version)), headers=headers)
    draw, media_type = _DRAWINGS[format]
    return _text(await _drawn(draw, view.definition), media_type, headers)


@get(
    "/api/v1/workflows/{workflow_id:str}/export",
    opt={"scope": "read"},
    media_type="application/yaml",
    responses=UNCHANGED | problems(400, 404, 503),
    tags=["workflows"],
    summary="Export as YAML",
)
async def export_workflow(
    workflow_id: WorkflowIdPath, parts: Parts, version: VersionQuery = None, if_none_match: IfNoneMatch = None
) -> Reply[str]:
    """The definition as a YAML file, which uploads to the same version again."""
    view = await find_version(parts.engine, workflow_key(workflow_id), version)
    if is_named(if_none_match, view.version):
        return _unchanged(view)
    text = await _drawn(to_yaml, view.definition)
    return Text(text, "application/yaml; charset=utf-8", etag(view.version))


@post(
    "/api/v1/workflows/{workflow_id:str}/execute",
    status_code=202,
    opt={"scope": "operate", "starts": True},
    operation_class=describe_body(ExecuteRequest, {"params": {"day": "20240102"}}),
    responses=also(200, Envelope[ExecuteReply], "It has ended within the wait.") | problems(400, 404, 409, 422, 503),
    tags=["workflows"],
    summary="Start an instance",
)
async def execute_workflow(
    workflow_id: WorkflowIdPath,
    body: RawBody,
    parts: Parts,
    idempotency_key: Key = None,
    wait: Wait = None,
) -> Reply[Envelope[ExecuteReply]]:
    """Start an instance of the current version. The answer comes after the commit: what is told here will end.

    The same Idempotency-Key of the same workflow gives the same instance; with other params it is a conflict. With
    `wait` the answer has the instance, with 200 if it has ended by then and with 202 if not.
    """
    engine, seconds = parts.engine, wait_seconds(wait)
    asked = decode_body(_EXECUTE, body)
    key = workflow_key(workflow_id)
    instance_id = await engine.execute_workflow(key, asked.params, idempotency_key=idempotency_key)
    where = (b"location", b"/api/v1/instances/" + instance_id.encode())
    if wait is None:
        return Reply(Envelope(data=ExecuteReply(instance_id=instance_id)), 202, (where,))
    view = await wait_for_end(engine, instance_id, seconds)
    ended = view.status in INSTANCE_FINAL
    told = instance_body(view, result=await engine.result(instance_id, version=view.version) if ended else None)
    return Reply(Envelope(data=ExecuteReply(instance_id=instance_id, instance=told)), 200 if ended else 202, (where,))


@get(
    "/api/v1/workflows/{workflow_id:str}/history",
    opt={"scope": "read"},
    responses=problems(400, 404, 503),
    tags=["workflows"],
    summary="Instances of a workflow",
)
async def get_history(
    workflow_id: WorkflowIdPath,
    parts: Parts,
    status: Statuses = None,
    limit: Limit = 20,
    offset: Offset = 0,
    cursor: CursorText = None,
    order: Order = "desc",
) -> Reply[Envelope[Page[InstanceBody]]]:
    """Instances of all versions of a workflow, with how many there are; also of one that was deleted since."""
    if cursor is not None and offset:
        raise InvalidInput("cursor and offset exclude each other")
    engine, query = parts.engine, instance_query(workflow_id=workflow_id, states=status)
    views = await engine.list_instances(
        query, limit=limit + 1, offset=offset, descending=order == "desc", after=after_instance(cursor, order)
    )
    total = await engine.count_instances(query)
    if not total:
        await _known(parts, workflow_id)
    shown, more = page_of(views, limit)
    page = Page(
        items=[instance_body(view) for view in shown],
        has_more=more,
        cursor=instance_cursor(shown[-1], order) if more else None,
        total=total,
    )
    return Reply(Envelope(data=page))


async def _known(parts: Parts, workflow_id: str) -> None:
    """Raises NotFound for a workflow that has neither a version nor an instance."""
    key = workflow_key(workflow_id)
    if not await parts.engine.list_instances(instance_query(workflow_id=key), limit=1):
        await parts.engine.get_workflow(key)


async def _drawn(draw: Callable[[WorkflowDefinition], str], definition: WorkflowDefinition) -> str:
    """A large one is drawn in a thread, so that the loop gets its turns."""
    if len(definition.tasks) <= _LARGE:
        return draw(definition)
    return await anyio.to_thread.run_sync(draw, definition)


def _text(text: str, media_type: str, headers: Headers) -> Reply[Any]:
    """Another form of the same answer than the annotation says."""
    return Text(text, media_type, headers)


def _unchanged(view: WorkflowView) -> Reply[Any]:
    """304: whoever asks has it already."""
    return Empty(304, etag(view.version))


_PLAIN: Final = "text/plain; charset=utf-8"
_DRAWINGS: Final[Mapping[str, tuple[Callable[[WorkflowDefinition], str], str]]] = {
    "mermaid": (to_mermaid, _PLAIN),
    "dot": (to_dot, _PLAIN),
    "ascii": (to_ascii, _PLAIN),
    "svg": (to_svg, "image/svg+xml"),
}

ROUTES: Final = [
    list_workflows,
    get_workflow,
    list_versions,
    get_graph,
    export_workflow,
    execute_workflow,
    get_history,
    *uploads.ROUTES,
]
