"""One world for each store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine.worlds import World


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made = World("memory://" if request.param == "memory" else str(tmp_path / "引擎.db"))
    yield made
    for engine in made.engines:
        await engine.stop(grace_s=0)


@pytest.fixture
async def sqlite_world(tmp_path: Path) -> AsyncIterator[World]:
    """For laws about what is left when an engine has gone."""
    made = World(str(tmp_path / "引擎.db"))
    yield made
    for engine in made.engines:
        await engine.stop(grace_s=0)
