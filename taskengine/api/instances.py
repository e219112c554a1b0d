"""Instances over HTTP: list, show, tasks, events. Commands are in `commands`, logs in `logs`."""

from datetime import datetime
from typing import Annotated, Final

from litestar import get
from litestar.params import QueryParameter

from taskengine.api import commands, logs
from taskengine.api.asking import InstanceIdPath, Statuses, TaskNamePath, instance_query
from taskengine.api.describing import problems
from taskengine.api.paging import (
    CursorText,
    Limit,
    LongLimit,
    Offset,
    Order,
    after_instance,
    after_number,
    instance_cursor,
    number_cursor,
    page_of,
)
from taskengine.api.parts import Parts
from taskengine.api.replies import Reply
from taskengine.api.shapes import MAX_NAMES, instance_body, task_bodies, task_body
from taskengine.api.stream.frames import UpdateFrame, event_frames
from taskengine.api.waiting import Wait, wait_for_end, wait_seconds
from taskengine.engine.engine import Engine
from taskengine.engine.views import InstanceView
from taskengine.errors import InvalidInput
from taskengine.model.names import composed
from taskengine.model.states import INSTANCE_FINAL
from taskengine.wire import Envelope, Explanation, InstanceBody, Page, TaskBody

__all__ = ["ROUTES"]

Labels = Annotated[
    list[str] | None,
    QueryParameter(name="label", max_items=20, description="`key:value` of the definition; repeated: all of them."),
]
WorkflowFilter = Annotated[str | None, QueryParameter(name="workflow_id", max_length=400, description="Of it.")]
After = Annotated[
    datetime | None, QueryParameter(name="created_after", description="Created then or later; RFC 3339 with a zone.")
]
Before = Annotated[
    datetime | None, QueryParameter(name="created_before", description="Created before that; RFC 3339 with a zone.")
]
Search = Annotated[
    str, QueryParameter(name="search", max_length=200, description="Part of the id, the workflow's id or the error.")
]
Prefix = Annotated[str, QueryParameter(name="prefix", max_length=200, description="The beginning of the id.")]


@get(
    "/api/v1/instances",
    opt={"scope": "read"},
    responses=problems(400, 503),
    tags=["instances"],
    summary="List instances",
)
async def list_instances(
    parts: Parts,
    status: Statuses = None,
    workflow_id: WorkflowFilter = None,
    label: Labels = None,
    created_after: After = None,
    created_before: Before = None,
    search: Search = "",
    prefix: Prefix = "",
    limit: Limit = 20,
    offset: Offset = 0,
    cursor: CursorText = None,
    order: Order = "desc",
    total: Annotated[bool, QueryParameter(description="Also count all that match.")] = False,
) -> Reply[Envelope[Page[InstanceBody]]]:
    """Instances that fulfil every filter, by their creation. Results are not among it: ask for one instance."""
    if cursor is not None and offset:
        raise InvalidInput("cursor and offset exclude each other")
    query = instance_query(
        workflow_id=workflow_id,
        states=status,
        labels=label,
        created_after=created_after,
        created_before=created_before,
        search=search,
        prefix=prefix,
    )
    views = await parts.engine.list_instances(
        query, limit=limit + 1, offset=offset, descending=order == "desc", after=after_instance(cursor, order)
    )
    shown, more = page_of(views, limit)
    page = Page(
        items=[instance_body(view) for view in shown],
        has_more=more,
        cursor=instance_cursor(shown[-1], order) if more else None,
        total=await parts.engine.count_instances(query) if total else None,
    )
    return Reply(Envelope(data=page))


@get(
    "/api/v1/instances/{instance_id:str}",
    opt={"scope": "read"},
    responses=problems(400, 404, 503),
    tags=["instances"],
    summary="Show an instance",
)
async def get_instance(instance_id: InstanceIdPath, parts: Parts, wait: Wait = None) -> Reply[Envelope[InstanceBody]]:
    """One instance with its progress, and its result once it has ended: that of the tasks on which nothing depends.

    While it runs `progress` names the tasks that run and those that wait, at most 100 of each. With `wait` the answer
    comes when it has ended, or after that time as it is then.
    """
    engine = parts.engine
    view = await wait_for_end(engine, instance_id, wait_seconds(wait))
    return Reply(Envelope(data=await _told(engine, view)))


async def _told(engine: Engine, view: InstanceView) -> InstanceBody:
    if view.status in INSTANCE_FINAL:
        return instance_body(view, result=await engine.result(view.id, version=view.version))
    if not view.progress.open:
        return instance_body(view)
    running, pending = await engine.open_tasks(view.id, limit=MAX_NAMES)
    return instance_body(view, running=running, pending=pending)


@get(
    "/api/v1/instances/{instance_id:str}/tasks",
    opt={"scope": "read"},
    responses=problems(400, 404, 503),
    tags=["instances"],
    summary="List tasks",
)
async def list_tasks(
    instance_id: InstanceIdPath, parts: Parts, limit: LongLimit = 500, cursor: CursorText = None
) -> Reply[Envelope[Page[TaskBody]]]:
    """Tasks in the order of the definition, each as its latest attempt left it, with the attempts before."""
    engine, after = parts.engine, after_number(cursor, "task", 0) - 1
    view = await engine.get_instance(instance_id)
    shown, more = page_of(await engine.get_tasks(instance_id, after=after, limit=limit + 1), limit)
    last = shown[-1].ordinal if shown else after
    attempts = await engine.get_attempts(instance_id, after=after, last=last)
    page = Page(
        items=task_bodies(shown, attempts),
        has_more=more,
        cursor=number_cursor("task", last + 1) if more else None,
        total=view.progress.total,
    )
    return Reply(Envelope(data=page))


@get(
    "/api/v1/instances/{instance_id:str}/tasks/{task_name:path}",
    opt={"scope": "read"},
    responses=problems(400, 404, 503),
    tags=["instances"],
    summary="Show a task",
)
async def get_task(instance_id: InstanceIdPath, task_name: TaskNamePath, parts: Parts) -> Reply[Envelope[TaskBody]]:
    """One task with all its attempts. Its lines are at `/instances/{id}/logs?task=`."""
    name = composed(str(task_name).lstrip("/"))  # that of a sub-task has a slash inside
    task = await parts.engine.get_task(instance_id, name)
    attempts = await parts.engine.get_attempts(instance_id, task=name)
    return Reply(Envelope(data=task_body(task, attempts)))


@get(
    "/api/v1/instances/{instance_id:str}/explain",
    opt={"scope": "read"},
    responses=problems(400, 404, 503),
    tags=["instances"],
    summary="Explain an instance or a task",
)
async def explain(
    instance_id: InstanceIdPath,
    parts: Parts,
    task: Annotated[
        str | None, QueryParameter(max_length=400, description="The name of a task; without it: of the whole instance.")
    ] = None,
) -> Reply[Envelope[Explanation]]:
    """Why an instance, or one of its tasks, waits or has ended as it did, and what would move it on.

    `because` names at most 20 tasks, `more` counts the others. A release has the command to type, or the time at which
    it comes by itself, or neither.
    """
    return Reply(Envelope(data=await parts.engine.explain(instance_id, None if task is None else composed(task))))


@get(
    "/api/v1/instances/{instance_id:str}/events",
    opt={"scope": "read"},
    responses=problems(400, 404, 503),
    tags=["instances"],
    summary="List events",
)
async def list_events(
    instance_id: InstanceIdPath,
    parts: Parts,
    after: Annotated[int, QueryParameter(ge=0, le=2**53, description="Only what has a larger `seq`.")] = 0,
    limit: LongLimit = 500,
    cursor: CursorText = None,
) -> Reply[Envelope[Page[UpdateFrame]]]:
    """What has happened, as the streams told it. `limit` counts events; one may be several frames, with one `seq`."""
    events = await parts.engine.get_events(instance_id, after=after_number(cursor, "event", after), limit=limit + 1)
    shown, more = page_of(events, limit)
    page = Page(
        items=[frame for event in shown for frame in event_frames(event)],
        has_more=more,
        cursor=number_cursor("event", shown[-1].seq) if more else None,
    )
    return Reply(Envelope(data=page))


ROUTES: Final = [
    list_instances,
    get_instance,
    list_tasks,
    get_task,
    explain,
    list_events,
    *commands.ROUTES,
    *logs.ROUTES,
]
