"""/metrics answers also while the store does not."""

import asyncio
from typing import Any

import msgspec
import pytest
from api.apiworld import ApiWorld, api_world

from taskengine.api import system
from taskengine.api.app import make_app
from taskengine.errors import TaskEngineError, Unavailable


class _Away:
    """An engine whose store is away."""

    def __init__(self, world: ApiWorld, error: TaskEngineError | None) -> None:
        self._engine, self._error = world.engine, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def status(self) -> None:
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [Unavailable("the disk is full"), None], ids=["refuses", "hangs"])
async def test_while_the_store_is_away_the_last_values_stay(
    error: TaskEngineError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "_PATIENCE_S", 0.05)
    async with api_world() as world:
        away: Any = _Away(world, error)
        world.parts = msgspec.structs.replace(world.parts, engine=away, metrics=lambda: b"as before\n")
        world.app = make_app(world.parts)
        async with world.client("read") as client, asyncio.timeout(20):
            answer = await client.get("/metrics")
        assert (answer.status_code, answer.text) == (200, "as before\n")
