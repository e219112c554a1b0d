"""W7's servers, each in a process of its own: the whole one, and a bare Litestar that only decodes and encodes.

Both use the same uvicorn with the same settings on the same kind of loop. The bare one has no gate, no tokens, no
engine, no store: its two handlers take and give the same bodies.
"""

import asyncio
import gc
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop
from litestar import Litestar, get, post

from taskengine.clock import SystemClock
from taskengine.config import ServerConfig, load
from taskengine.server import serve
from taskengine.server.listening import address_of, listen
from taskengine.server.web import WebServer
from taskengine.wire import Envelope, ExecuteReply, ExecuteRequest, InstanceBody, ProgressBody

__all__ = ["bare", "whole"]

_ID: Final = "0192f3c1-0000-7000-8000-000000000000"


def whole(folder: str) -> None:
    """The server as `taskengine serve` runs it, with a database in `folder`; it leaves its note and token there."""
    os.environ["TASKENGINE_HOME"] = folder
    flags: dict[str, Any] = {
        "server.port": "0",
        "task-engine.storage.database.dsn": str(Path(folder) / "w7.db"),
        "task-engine.general.log_level": "warning",
        "task-engine.limits.starts_per_second": "1000000",
        "task-engine.execution.worker_concurrency": "1000",
        "functions.builtin": ("noop",),
    }
    sys.exit(serve(load(None, {}, flags)))


def bare(folder: str) -> None:
    """Says its address in the file `address` in `folder`."""
    config = ServerConfig(port=0)
    with listen(config) as sock, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def live() -> None:
            gc.collect()
            gc.freeze()
            gc.set_threshold(10_000, 20, 20)  # as the server does
            (Path(folder) / "address").write_text(address_of(sock, tls=False))
            await WebServer(_app(), sock, config, None, SystemClock()).run()

        runner.run(live())


def _app() -> Litestar:
    now = datetime.now(UTC)
    progress = ProgressBody(
        total=1, percent=100, completed=1, failed=0, running=0, pending=0, skipped=0, cancelled=0, compensation=0
    )
    body = InstanceBody(
        id=_ID,
        workflow_id="w7",
        workflow_name="w7",
        version="0" * 64,
        status="Success",
        run=1,
        progress=progress,
        params={"n": 1},
        created_at=now,
        started_at=now,
        finished_at=now,
        duration=0.001,
        result={"only": {}},
    )

    @post("/api/v1/workflows/{workflow_id:str}/execute", status_code=202)
    async def execute(workflow_id: str, data: ExecuteRequest) -> Envelope[ExecuteReply]:
        return Envelope(data=ExecuteReply(instance_id=_ID))

    @get("/api/v1/instances/{instance_id:str}")
    async def get_instance(instance_id: str) -> Envelope[InstanceBody]:
        return Envelope(data=body)

    return Litestar([execute, get_instance], openapi_config=None, logging_config=None)
