"""Definitions come in: upload, check, delete."""

from typing import Annotated, Any, Final
from urllib.parse import quote

from litestar import Request, delete, post
from litestar.di import NamedDependency, Provide
from litestar.params import HeaderParameter, QueryParameter, RawBody, SkipValidation

from taskengine.api.asking import Key, WorkflowIdPath, workflow_key
from taskengine.api.describing import UploadOperation, also, problems
from taskengine.api.desk import Desk, desk_of, etag
from taskengine.api.parts import Parts
from taskengine.api.replies import Reply
from taskengine.api.shapes import upload_reply
from taskengine.model.definition import WorkflowDefinition
from taskengine.wire import Envelope, UploadReply

__all__ = ["ROUTES"]

_DESK: Final = {"desk": Provide(desk_of, sync_to_thread=False)}
TheDesk = NamedDependency[SkipValidation[Desk]]
IfMatch = Annotated[
    str | None,
    HeaderParameter(name="If-Match", max_length=1000, description="Only if this version is current."),
]


@post(
    "/api/v1/workflows",
    status_code=201,
    opt={"scope": "define", "body": "definition"},
    dependencies=_DESK,
    operation_class=UploadOperation,
    responses=also(200, Envelope[UploadReply], "A new version of a known workflow, or nothing new.")
    | problems(400, 412, 422, 503),
    tags=["workflows"],
    summary="Upload a definition",
)
async def upload_workflow(
    body: RawBody,
    request: Request[Any, Any, Any],
    parts: Parts,
    desk: TheDesk,
    if_match: IfMatch = None,
    idempotency_key: Key = None,
) -> Reply[Envelope[UploadReply]]:
    """Store a definition and make it the workflow's current version. 201: the workflow is new; 200: it was known.

    The same content again is the same version and changes nothing, so an upload may always be repeated. Every job must
    be one that this server knows (`GET /api/v1/functions`). All problems are told at once, with line and column.
    """
    definition = await _read(body, request, parts, desk)
    done = await desk.register(parts.engine, definition, if_match)
    where = (b"location", f"/api/v1/workflows/{quote(definition.id)}".encode())
    reply = Envelope(data=upload_reply(definition, done))
    return Reply(reply, 201 if done.created else 200, (where, *etag(done.version)))


@post(
    "/api/v1/validate",
    status_code=200,
    opt={"scope": "read", "body": "definition"},
    dependencies=_DESK,
    operation_class=UploadOperation,
    responses=problems(400, 422, 503),
    tags=["workflows"],
    summary="Check a definition",
)
async def validate_workflow(
    body: RawBody, request: Request[Any, Any, Any], parts: Parts, desk: TheDesk, idempotency_key: Key = None
) -> Reply[Envelope[UploadReply]]:
    """Say what an upload of this definition would do, or everything that is wrong with it. Changes nothing."""
    definition = await _read(body, request, parts, desk)
    return Reply(Envelope(data=upload_reply(definition, await desk.preview(parts.engine, definition))))


@delete(
    "/api/v1/workflows/{workflow_id:str}",
    status_code=204,
    opt={"scope": "define"},
    dependencies=_DESK,
    responses=problems(400, 404, 409, 412, 503),
    tags=["workflows"],
    summary="Delete a workflow",
)
async def delete_workflow(
    workflow_id: WorkflowIdPath,
    parts: Parts,
    desk: TheDesk,
    force: Annotated[bool, QueryParameter(description="Also while instances of it have not ended.")] = False,
    if_match: IfMatch = None,
) -> None:
    """Forget a workflow. Its instances keep their version and their history.

    Refused (409) while instances of it have not ended; with `force=true` those go on to their end.
    """
    await desk.remove(parts.engine, workflow_key(workflow_id), if_match, force=force)


async def _read(body: bytes, request: Request[Any, Any, Any], parts: Parts, desk: Desk) -> WorkflowDefinition:
    kind = request.headers.get("content-type", "")
    return await desk.read(body, kind, parts.engine, parts.limits.definition_bytes)


ROUTES: Final = [upload_workflow, validate_workflow, delete_workflow]
