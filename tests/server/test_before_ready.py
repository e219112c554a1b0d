"""While a server starts it sends nobody away for good: it does not know its tokens yet."""

import msgspec
from api.apiworld import ApiWorld, api_world

from taskengine.api.app import make_app
from taskengine.api.gate import Limits, TokenBook


def starting(world: ApiWorld) -> TokenBook:
    """The same server, at the moment at which it listens and has read nothing."""
    book = TokenBook(world.engine, world.parts.ambient)
    world.parts = msgspec.structs.replace(world.parts, tokens=book)
    world.app = make_app(world.parts)
    return book


async def test_a_token_that_is_not_known_yet_is_to_be_sent_again() -> None:
    async with api_world(limits=Limits(failed_logins_per_minute=1)) as world:
        book = starting(world)
        async with world.client("read") as client:
            for _ in range(5):
                answer = await client.get("/api/v1/workflows")
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                assert answer.headers["retry-after"]
            await book.load()
            assert (await client.get("/api/v1/workflows")).status_code == 200
        async with world.client("wrong") as stranger:
            # The tries before counted for nothing: this one is the first.
            assert (await stranger.get("/api/v1/workflows")).status_code == 401


async def test_what_is_open_to_all_is_so_at_once_and_nothing_else() -> None:
    async with api_world() as world:
        starting(world)
        async with world.client(None) as nobody, world.client("wrong") as stranger:
            for client in (nobody, stranger):
                assert (await client.get("/livez")).status_code == 200
            assert (await nobody.get("/api/v1/workflows")).status_code == 401
            assert (await stranger.get("/metrics")).status_code == 503
        assert "gate.wrong_token" not in world.log.events("warning")
