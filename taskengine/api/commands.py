"""Commands to an instance: pause, resume, cancel, retry, fork, signals, more tasks."""

from typing import Final

import msgspec
from litestar import post
from litestar.params import RawBody

from taskengine.api.asking import InstanceIdPath, Key, SignalPath, command_id
from taskengine.api.describing import also, describe_body, problems
from taskengine.api.parts import Asker, Parts
from taskengine.api.replies import Reply, decode_body
from taskengine.api.shapes import instance_body
from taskengine.engine.views import Commanded
from taskengine.errors import InvalidInput
from taskengine.model.names import composed
from taskengine.wire import (
    AddTasksReply,
    AddTasksRequest,
    CancelRequest,
    Envelope,
    ExecuteReply,
    ForkRequest,
    InstanceBody,
    PauseRequest,
    ResumeRequest,
    RetryRequest,
    SignalRequest,
)

__all__ = ["ROUTES"]

_PAUSE: Final = msgspec.json.Decoder(PauseRequest)
_RESUME: Final = msgspec.json.Decoder(ResumeRequest)
_CANCEL: Final = msgspec.json.Decoder(CancelRequest)
_FORK: Final = msgspec.json.Decoder(ForkRequest)
_RETRY: Final = msgspec.json.Decoder(RetryRequest)
_SIGNAL: Final = msgspec.json.Decoder(SignalRequest)
_ADD: Final = msgspec.json.Decoder(AddTasksRequest)
_MAX_REASON: Final = 1000

Told = Reply[Envelope[InstanceBody]]
_ALREADY: Final = also(200, Envelope[InstanceBody], "It was so already.")


@post(
    "/api/v1/instances/{instance_id:str}/pause",
    status_code=202,
    opt={"scope": "operate"},
    operation_class=describe_body(PauseRequest, {"now": False}),
    responses=_ALREADY | problems(400, 404, 409, 503),
    tags=["instances"],
    summary="Pause",
)
async def pause_instance(
    instance_id: InstanceIdPath, body: RawBody, parts: Parts, principal: Asker, idempotency_key: Key = None
) -> Told:
    """Start nothing new in this instance. `now` also interrupts what runs; it will run again after the resume.

    202: done; 200: it was paused already; 409: it has ended.
    """
    asked = decode_body(_PAUSE, body)
    command = command_id(principal, "pause", instance_id, idempotency_key)
    return _told(await parts.engine.pause_instance(instance_id, now=asked.now, command_id=command))


@post(
    "/api/v1/instances/{instance_id:str}/resume",
    status_code=202,
    opt={"scope": "operate"},
    operation_class=describe_body(ResumeRequest, {}),
    responses=_ALREADY | problems(400, 404, 409, 503),
    tags=["instances"],
    summary="Resume",
)
async def resume_instance(
    instance_id: InstanceIdPath, body: RawBody, parts: Parts, principal: Asker, idempotency_key: Key = None
) -> Told:
    """Go on after a pause, or after a quarantine. 202: done; 200: it was going on already; 409: it has ended."""
    decode_body(_RESUME, body)
    command = command_id(principal, "resume", instance_id, idempotency_key)
    return _told(await parts.engine.resume_instance(instance_id, command_id=command))


@post(
    "/api/v1/instances/{instance_id:str}/cancel",
    status_code=202,
    opt={"scope": "operate"},
    operation_class=describe_body(CancelRequest, {"reason": "wrong day"}),
    responses=_ALREADY | problems(400, 404, 409, 503),
    tags=["instances"],
    summary="Cancel",
)
async def cancel_instance(
    instance_id: InstanceIdPath, body: RawBody, parts: Parts, principal: Asker, idempotency_key: Key = None
) -> Told:
    """Ask it to end: nothing new starts, what runs is told to stop. It is Cancelled once everything has ended.

    202: asked; 200: it was cancelled already; 409: it has ended otherwise.
    """
    asked = decode_body(_CANCEL, body)
    if len(asked.reason) > _MAX_REASON:
        raise InvalidInput(f"reason has {len(asked.reason):,} characters, the limit is {_MAX_REASON:,}")
    command = command_id(principal, "cancel", instance_id, idempotency_key)
    return _told(
        await parts.engine.cancel_instance(instance_id, asked.reason, compensate=asked.compensate, command_id=command)
    )


@post(
    "/api/v1/instances/{instance_id:str}/retry",
    status_code=202,
    opt={"scope": "operate"},
    operation_class=describe_body(RetryRequest, {"from": "load"}),
    responses=_ALREADY | problems(400, 404, 409, 503),
    tags=["instances"],
    summary="Retry",
)
async def retry_instance(
    instance_id: InstanceIdPath, body: RawBody, parts: Parts, principal: Asker, idempotency_key: Key = None
) -> Told:
    """Open a new run of an instance that has ended: of what failed, `from` one task and all below, or `only` one task.

    It keeps the version that it was started with. 202: it runs again; 409: it has not ended, or there is nothing to
    repeat.
    """
    asked = decode_body(_RETRY, body)
    if asked.from_task is not None and asked.only_task is not None:
        raise InvalidInput("`from` and `only` exclude each other")
    view = await parts.engine.retry_instance(
        instance_id,
        from_task=None if asked.from_task is None else composed(asked.from_task),
        only_task=None if asked.only_task is None else composed(asked.only_task),
        command_id=command_id(principal, "retry", instance_id, idempotency_key),
    )
    return _told(view)


@post(
    "/api/v1/instances/{instance_id:str}/fork",
    status_code=202,
    opt={"scope": "operate", "starts": True},
    operation_class=describe_body(ForkRequest, {"from": "load", "version": "latest"}),
    responses=problems(400, 404, 409, 422, 503),
    tags=["instances"],
    summary="Fork",
)
async def fork_instance(
    instance_id: InstanceIdPath, body: RawBody, parts: Parts, idempotency_key: Key = None
) -> Reply[Envelope[ExecuteReply]]:
    """Start a new instance that takes over what this one has done, and runs the task `from` and all below.

    `version` is the beginning of a version of the workflow, or `latest`: so a definition is mended and the work goes
    on. `params` go over those of the instance. 409: it has not ended, or something cannot be taken over, which is
    told. The same Idempotency-Key gives the same instance; 409 if another start had it.
    """
    asked = decode_body(_FORK, body)
    new = await parts.engine.fork_instance(
        instance_id,
        composed(asked.from_task),
        params=asked.params,
        version=asked.version,
        idempotency_key=idempotency_key,
    )
    where = (b"location", b"/api/v1/instances/" + new.encode())
    return Reply(Envelope(data=ExecuteReply(instance_id=new)), 202, (where,))


@post(
    "/api/v1/instances/{instance_id:str}/tasks",
    status_code=200,
    opt={"scope": "operate"},
    operation_class=describe_body(
        AddTasksRequest, {"parent": "list", "tasks": [{"name": "extra", "job": "noop", "params": {"x": 1}}]}
    ),
    responses=problems(400, 404, 409, 503),
    tags=["instances"],
    summary="Add tasks",
)
async def add_tasks(
    instance_id: InstanceIdPath, body: RawBody, parts: Parts, principal: Asker, idempotency_key: Key = None
) -> Reply[Envelope[AddTasksReply]]:
    """Add tasks to a running instance, all of them or none, at most 5,000. Committed with the answer.

    Sub-tasks of `parent` start when its body has succeeded. 409: the instance or the parent has ended, or ends.
    """
    asked = decode_body(_ADD, body)
    parent = None if asked.parent is None else composed(asked.parent)
    command = command_id(principal, "tasks", instance_id, idempotency_key)
    added = await parts.engine.add_tasks(instance_id, asked.tasks, parent=parent, command_id=command)
    return Reply(Envelope(data=AddTasksReply(added=added)))


@post(
    "/api/v1/instances/{instance_id:str}/signals/{signal_name:str}",
    status_code=202,
    opt={"scope": "operate"},
    operation_class=describe_body(SignalRequest, {"payload": {"approved": True, "comment": "checked"}}),
    responses=problems(400, 404, 409, 503),
    tags=["instances"],
    summary="Signal",
)
async def signal_instance(
    instance_id: InstanceIdPath,
    signal_name: SignalPath,
    body: RawBody,
    parts: Parts,
    principal: Asker,
    idempotency_key: Key = None,
) -> Told:
    """Send a signal to a task that waits for it, or will: it is kept until one does. Committed with the answer.

    404: no task of the workflow waits for this name; 409: the instance has ended, or ends.
    """
    asked = decode_body(_SIGNAL, body)
    view = await parts.engine.signal_instance(
        instance_id,
        composed(signal_name),
        asked.payload,
        by=principal.name,
        command_id=command_id(principal, f"signal {signal_name}", instance_id, idempotency_key),
    )
    return Reply(Envelope(data=instance_body(view)), 202)


def _told(view: Commanded) -> Told:
    return Reply(Envelope(data=instance_body(view)), 202 if view.changed else 200)


ROUTES: Final = [
    pause_instance,
    resume_instance,
    cancel_instance,
    retry_instance,
    fork_instance,
    add_tasks,
    signal_instance,
]
