"""The server itself over HTTP: health, version, metrics, status, nodes."""

import os
import platform
import sqlite3
from contextlib import suppress
from typing import Final

import anyio
import msgspec
from litestar import get, post
from litestar.params import RawBody

from taskengine.api.asking import states_of, workflow_key
from taskengine.api.describing import describe_body, problems
from taskengine.api.parts import Parts
from taskengine.api.replies import Reply, Text, decode_body
from taskengine.api.shapes import database_body, status_body
from taskengine.engine.gauges import refresh_gauges
from taskengine.errors import TaskEngineError, Unavailable
from taskengine.version import VERSION
from taskengine.wire import (
    DatabaseBody,
    Envelope,
    HealthBody,
    NodeBody,
    PruneReply,
    PruneRequest,
    StatusBody,
    VersionInfo,
)

__all__ = ["ROUTES"]

_PATIENCE_S: Final = 2.0
_PRUNE: Final = msgspec.json.Decoder(PruneRequest)
_WHY: Final = {
    "starting": "the server is starting: instances of an earlier life are being taken up",
    "degraded": "the store cannot commit at the moment",
    "stopping": "the server is stopping",
}


@get("/livez", opt={"scope": "open"}, tags=["server"], summary="Alive")
async def get_livez() -> Reply[Envelope[HealthBody]]:
    """The process answers. Whether it should be restarted is told by this, and by nothing else."""
    return Reply(Envelope(data=HealthBody(status="ok")))


@get("/readyz", opt={"scope": "open"}, responses=problems(503), tags=["server"], summary="Ready")
async def get_readyz(parts: Parts) -> Reply[Envelope[HealthBody]]:
    """Whether requests should be sent here: 200 when every unfinished instance is queued again, 503 with the reason."""
    word = parts.health()
    if word != "ok":
        raise Unavailable(_WHY[word])
    return Reply(Envelope(data=HealthBody(status=word)))


@get("/health", opt={"scope": "open"}, tags=["server"], summary="Health in one word")
async def get_health(parts: Parts) -> Reply[Envelope[HealthBody]]:
    """`ok`, `starting`, `degraded` or `stopping`, always with 200: for people, and for programs that read."""
    return Reply(Envelope(data=HealthBody(status=parts.health())))


@get("/version", opt={"scope": "read"}, tags=["server"], summary="Version")
async def get_version(parts: Parts) -> Reply[Envelope[VersionInfo]]:
    """What runs here, and since when."""
    info = VersionInfo(
        version=VERSION,
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        sqlite=sqlite3.sqlite_version,
        started_at=parts.started_at,
    )
    return Reply(Envelope(data=info))


@get("/metrics", opt={"scope": "read"}, media_type="text/plain", tags=["server"], summary="Metrics")
async def get_metrics(parts: Parts) -> Reply[str]:
    """Prometheus' text format. While the store is away the gauges that come from there keep their last values."""
    with suppress(TaskEngineError), anyio.move_on_after(_PATIENCE_S):
        await refresh_gauges(parts.engine, parts.ambient.metrics)
    return Text(parts.metrics(), "text/plain; version=0.0.4; charset=utf-8")


@get("/api/v1/status", opt={"scope": "read"}, responses=problems(503), tags=["server"], summary="Status")
async def get_status(parts: Parts) -> Reply[Envelope[StatusBody]]:
    """How the engine is doing now: instances by state, slots, queues, backlog."""
    status = await parts.engine.status()
    body = status_body(status, stream_clients=parts.hub.clients, loop_lag_s=parts.loop_lag())
    return Reply(Envelope(data=body))


@get("/api/v1/nodes", opt={"scope": "read"}, responses=problems(503), tags=["server"], summary="Nodes")
async def list_nodes(parts: Parts) -> Reply[Envelope[list[NodeBody]]]:
    """The servers that run on this store. One process owns a database, so there is this one."""
    node = NodeBody(
        id=parts.node_id,
        epoch=parts.engine.store.epoch,
        started_at=parts.started_at,
        address=parts.address(),
        pid=os.getpid(),
        version=VERSION,
    )
    return Reply(Envelope(data=[node]))


@get("/api/v1/admin/database", opt={"scope": "admin"}, responses=problems(503), tags=["server"], summary="Database")
async def get_database(parts: Parts) -> Reply[Envelope[DatabaseBody]]:
    """The database under this server: size, rows of each table (large ones estimated), schema, who has it."""
    return Reply(Envelope(data=database_body(await parts.engine.store.figures(), parts.engine.retention)))


@post(
    "/api/v1/admin/prune",
    opt={"scope": "admin"},
    status_code=200,
    operation_class=describe_body(PruneRequest, {"older_than": 604800, "status": ["Success"], "dry_run": True}),
    responses=problems(400, 503),
    tags=["server"],
    summary="Prune",
)
async def prune(body: RawBody, parts: Parts) -> Reply[Envelope[PruneReply]]:
    """Remove ended instances now, with all that is stored of them. Ask again while the answer says `more`.

    Never removed are unfinished instances, those in use at the moment, and those of the last 24 hours that have an
    idempotency key.
    """
    asked = decode_body(_PRUNE, body)
    pruned = await parts.engine.prune(
        older_than_s=asked.older_than,
        states=states_of(asked.status),
        workflow_id=None if asked.workflow_id is None else workflow_key(asked.workflow_id),
        dry_run=asked.dry_run,
        limit=asked.limit,
    )
    return Reply(Envelope(data=PruneReply(instances=pruned.instances, more=pruned.more)))


ROUTES: Final = [
    get_livez,
    get_readyz,
    get_health,
    get_version,
    get_metrics,
    get_status,
    list_nodes,
    get_database,
    prune,
]
