"""Tokens: made once, told once, known again after a restart; the local one and its file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from api.apiworld import ApiWorld, api_world

from taskengine.ambient import Ambient
from taskengine.api.gate import TokenBook
from taskengine.api.gate.secretfile import read_secret, write_secret
from taskengine.api.gate.tokens import LOCAL_NAME, new_secret
from taskengine.clock import ManualClock, Micros
from taskengine.engine.builder import EngineBuilder
from taskengine.errors import Conflict, InvalidConfiguration, InvalidInput, NotFound

PATH = "/api/v1/admin/tokens"


@asynccontextmanager
async def book(store: str | Path = "memory://", clock: ManualClock | None = None) -> AsyncIterator[TokenBook]:
    """A book as a server opens it."""
    ambient = Ambient() if clock is None else Ambient(clock=clock)
    async with EngineBuilder(ambient).with_store(store).build() as engine:
        made = TokenBook(engine, ambient)
        await made.load()
        yield made


def local(tokens: TokenBook) -> list[bool]:
    """Of each local token whether it was revoked."""
    return [row.revoked_us is not None for row in tokens.list() if row.name == LOCAL_NAME]


# -- the book --------------------------------------------------------------------------------------------------------


async def test_a_token_is_known_by_its_secret_only() -> None:
    async with book() as tokens:
        row, secret = await tokens.create("看", "read")
        principal = tokens.check(secret)
        assert principal is not None
        assert (principal.id, principal.name, principal.scope) == (row.id, "看", "read")
        for wrong in ("", secret[:-1], secret + "x", secret.lower(), row.digest, row.id, "\ud800", "\x00"):
            assert tokens.check(wrong) is None


async def test_the_database_never_sees_a_secret(tmp_path: Path) -> None:
    store = tmp_path / "t.db"
    async with book(store) as tokens:
        _, secret = await tokens.create("x", "admin")
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())  # noqa: ASYNC240
    assert b"sqlite" in kept.lower()
    assert secret.encode() not in kept


async def test_tokens_outlive_the_process(tmp_path: Path) -> None:
    async with book(tmp_path / "t.db") as tokens:
        _, kept = await tokens.create("kept", "operate")
        row, revoked = await tokens.create("revoked", "admin")
        await tokens.revoke(row.id)
    async with book(tmp_path / "t.db") as tokens:
        assert tokens.check(kept) is not None
        assert tokens.check(revoked) is None
        assert [each.name for each in tokens.list()] == ["kept", "revoked"]


async def test_a_token_expires_by_the_clock() -> None:
    clock = ManualClock()
    async with book(clock=clock) as tokens:
        _, secret = await tokens.create("short", "read", Micros(clock.now_us() + 1_000_000))
        clock.tick(0.999)
        assert tokens.check(secret) is not None
        clock.tick(0.001)
        assert tokens.check(secret) is None
        with pytest.raises(InvalidInput, match="future"):
            await tokens.create("late", "read", clock.now_us())


async def test_a_revoked_token_stays_revoked() -> None:
    async with book() as tokens:
        row, _ = await tokens.create("x", "read")
        first = await tokens.revoke(row.id)
        assert await tokens.revoke(row.id) == first
        with pytest.raises(NotFound):
            await tokens.revoke("absent")


@pytest.mark.parametrize("name", ["", " ", " x", "x\n", "\x1b[31m", "x" * 101, LOCAL_NAME, "\ud800"])
async def test_a_name_is_for_people(name: str) -> None:
    async with book() as tokens:
        with pytest.raises(InvalidInput):
            await tokens.create(name, "read")


@pytest.mark.parametrize("scope", ["", "open", "root", "READ"])
async def test_there_are_four_scopes(scope: Any) -> None:
    async with book() as tokens:
        with pytest.raises(InvalidInput):
            await tokens.create("x", scope)


# -- the local token -------------------------------------------------------------------------------------------------


async def test_the_first_start_makes_a_local_token(tmp_path: Path) -> None:
    path = tmp_path / "state" / "token"
    async with book() as tokens:
        await tokens.ensure_local(path)
        principal = tokens.check(read_secret(path) or "")
        assert principal is not None
        assert (principal.name, principal.scope) == (LOCAL_NAME, "admin")


async def test_a_restart_keeps_the_local_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    secrets = []
    for _ in range(3):
        async with book(tmp_path / "t.db") as tokens:
            await tokens.ensure_local(path)
            secrets.append(read_secret(path))
            assert local(tokens) == [False]
    assert len(set(secrets)) == 1


async def test_a_new_database_takes_the_token_that_is_there(tmp_path: Path) -> None:
    path, secret = tmp_path / "token", new_secret()
    write_secret(path, secret)
    async with book() as tokens:
        await tokens.ensure_local(path)
        assert read_secret(path) == secret
        assert tokens.check(secret) is not None


async def test_a_lost_file_is_made_anew_and_the_old_secret_is_revoked(tmp_path: Path) -> None:
    path = tmp_path / "token"
    async with book(tmp_path / "t.db") as tokens:
        await tokens.ensure_local(path)
        lost = read_secret(path) or ""
    path.unlink()
    async with book(tmp_path / "t.db") as tokens:
        await tokens.ensure_local(path)
        assert tokens.check(lost) is None
        assert tokens.check(read_secret(path) or "") is not None
        assert local(tokens) == [True, False]


async def test_a_file_with_a_revoked_token_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "token"
    async with book() as tokens:
        await tokens.ensure_local(path)
        old = read_secret(path) or ""
        await tokens.revoke(tokens.list()[0].id)
        await tokens.ensure_local(path)
        assert tokens.check(old) is None
        assert tokens.check(read_secret(path) or "") is not None


async def test_a_rotation_replaces_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "token"
    async with book() as tokens:
        with pytest.raises(Conflict):
            await tokens.rotate_local()
        await tokens.ensure_local(path)
        old = read_secret(path) or ""
        row = await tokens.rotate_local()
        new = read_secret(path) or ""
        assert tokens.check(old) is None
        principal = tokens.check(new)
        assert principal is not None
        assert principal.id == row.id


async def test_a_rotation_that_fails_leaves_a_file_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"

    def full(*_: object) -> None:
        raise OSError("no space left")

    async with book(tmp_path / "t.db") as tokens:
        await tokens.ensure_local(path)
        monkeypatch.setattr("taskengine.api.gate.tokens.write_secret", full)
        with pytest.raises(OSError, match="no space"):
            await tokens.rotate_local()
        assert tokens.check(read_secret(path) or "") is not None
    monkeypatch.undo()
    async with book(tmp_path / "t.db") as tokens:
        await tokens.ensure_local(path)
        assert tokens.check(read_secret(path) or "") is not None
        assert sorted(local(tokens)) == [False, True]  # the one that reached no file is revoked


async def test_a_broken_token_file_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    async with book() as tokens:
        with pytest.raises(InvalidConfiguration, match="holds no token"):
            await tokens.ensure_local(path)


# -- over HTTP -------------------------------------------------------------------------------------------------------


async def test_tokens_are_made_listed_and_revoked(world: ApiWorld) -> None:
    async with world.client("admin") as client:
        made = (await client.post(PATH, json={"name": "agent 代理", "scope": "operate", "expires_in": 60})).json()[
            "data"
        ]
        assert made["secret"].startswith("te_")
        listed = (await client.get(PATH)).json()["data"]
        assert made["secret"] not in str(listed)
        assert "digest" not in str(listed)
        assert made["id"] in {each["id"] for each in listed}
        async with world.client(None, headers={"Authorization": f"Bearer {made['secret']}"}) as other:
            assert (await other.get("/version")).status_code == 200
            assert (await client.delete(f"{PATH}/{made['id']}")).json()["data"]["revoked_at"]
            assert (await other.get("/version")).status_code == 401
        assert (await client.delete(f"{PATH}/{made['id']}")).status_code == 200
        assert (await client.delete(f"{PATH}/absent")).status_code == 404


async def test_a_repeated_key_makes_no_second_token(world: ApiWorld) -> None:
    headers = {"Idempotency-Key": "钥匙".encode().hex()}
    async with world.client("admin") as client:
        assert (await client.post(PATH, json={"name": "a", "scope": "read"}, headers=headers)).status_code == 201
        response = await client.post(PATH, json={"name": "a", "scope": "read"}, headers=headers)
        assert response.status_code == 409
        assert [row.name for row in world.tokens.list()].count("a") == 1


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "scope": "root"},
        {"name": "a"},
        {"name": "a", "scope": "read", "expires_in": 0},
        {"name": "a", "scope": "read", "expires_in": -1},
        {"name": "a", "scope": "read", "expires_in": 1e300},
        {"name": "a", "scope": "read", "forever": True},
        {"name": "local", "scope": "read"},
    ],
)
async def test_a_token_that_cannot_be_is_not_made(world: ApiWorld, body: dict[str, Any]) -> None:
    async with world.client("admin") as client:
        assert (await client.post(PATH, json=body)).status_code == 400


async def test_the_local_token_is_rotated_over_http(tmp_path: Path) -> None:
    async with api_world() as world, world.client("admin") as client:
        assert (await client.post(f"{PATH}/rotate-local")).status_code == 409  # this server keeps no file
        await world.tokens.ensure_local(tmp_path / "token")
        old = read_secret(tmp_path / "token") or ""
        async with world.client(None, headers={"Authorization": f"Bearer {old}"}) as own:
            response = await own.post(f"{PATH}/rotate-local")
            assert response.status_code == 200
            assert "secret" not in response.json()["data"]
            assert (await own.get("/version")).status_code == 401
        assert world.tokens.check(read_secret(tmp_path / "token") or "") is not None
