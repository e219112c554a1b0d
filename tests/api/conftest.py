"""The API in this process, and behind a real socket."""

from collections.abc import AsyncIterator

import pytest
from api.apiworld import ApiWorld, api_world, listening


@pytest.fixture
async def world() -> AsyncIterator[ApiWorld]:
    """An API on a memory store, with a token of each scope."""
    async with api_world() as made:
        yield made


@pytest.fixture
async def live(world: ApiWorld) -> AsyncIterator[ApiWorld]:
    """The same behind a real server on `world.port`, for WebSockets and for requests that clients would tidy up."""
    async with listening(world):
        yield world
