"""The real server behind a wire that is cut at random: nothing is missing, and nothing comes or is done twice."""

from collections.abc import Iterator
from contextlib import closing
from random import Random
from typing import Any

import msgspec
import pytest
from api.apiworld import LIMIT_S, ApiWorld, background_server
from client.clientworld import CuttingWire, Either, TestTime

from taskengine import TaskContext
from taskengine.client import Client, Pace, Patience
from taskengine.wire import InstanceStatus, Snapshot, TaskStatus

TASKS = 12
CHAIN = "id: chain\nparams: {number: {type: integer, default: 0}}\ntasks:\n" + "".join(
    f"  - {{name: t{n}, job: speak{f', depends_on: [t{n - 1}]' if n else ''}}}\n" for n in range(TASKS)
)


async def speak(ctx: TaskContext) -> int:
    ctx.log.info("\u2028行")
    return 1


@pytest.fixture(scope="module")
def served() -> Iterator[ApiWorld]:
    with background_server(jobs={"speak": speak}) as world:
        with Client(f"http://127.0.0.1:{world.port}", world.secrets["admin"]) as client:
            client.upload(CHAIN)
        yield world


@pytest.fixture
def straight(served: ApiWorld) -> Iterator[Client]:
    """A client whose wire is never cut."""
    with Client(f"http://127.0.0.1:{served.port}", served.secrets["admin"]) as client:
        yield client


@pytest.fixture(params=range(4))
def wire(served: ApiWorld, request: pytest.FixtureRequest) -> Iterator[CuttingWire]:
    chance = Random(request.param)
    cuts = [int(chance.expovariate(1 / 1500)) for _ in range(8)]
    with closing(CuttingWire(served.port, iter(cuts))) as made:
        yield made


@pytest.fixture
def options(served: ApiWorld, time_of_test: TestTime) -> dict[str, Any]:
    patience = Patience(total_s=1e9, refused_s=1e9)
    pace = msgspec.structs.replace(time_of_test.pace(), new_key=Pace().new_key)  # one server sees many tests
    return {"token": served.secrets["admin"], "pace": pace, "patience": patience}


def plain(frames: list[Any]) -> list[Any]:
    """Status frames without their cursors, which stored events have not."""
    kept = [frame for frame in frames if isinstance(frame, InstanceStatus | TaskStatus)]
    return [msgspec.structs.replace(frame, cursor=None) for frame in kept]


def test_an_instance_is_told_whole(
    either: Either, wire: CuttingWire, straight: Client, options: dict[str, Any]
) -> None:
    instance_id = straight.execute("chain").instance_id
    frames = either.take(wire.address, "stream", instance_id, since=0, options=options)
    assert plain(frames) == straight.events(instance_id)
    assert wire.connections > 1


def test_many_instances_are_told_whole(
    either: Either, wire: CuttingWire, straight: Client, options: dict[str, Any]
) -> None:
    begin = _cursor(straight)
    ids = [straight.execute("chain", {"number": n}).instance_id for n in range(5)]
    for each in ids:
        straight.instance(each, wait=LIMIT_S)
    expected = {each: straight.events(each) for each in ids}
    count = sum(map(len, expected.values()))
    frames = either.take(
        wire.address,
        "stream",
        workflow_id="chain",
        types=["instance_status", "task_status"],
        since=begin,
        count=count,
        options=options,
    )
    told = plain(frames)
    assert {each: [frame for frame in told if frame.instance_id == each] for each in ids} == expected
    assert wire.connections > 1


def _cursor(client: Client) -> str:
    with closing(client.stream(workflow_id="chain")) as frames:
        snapshot = next(frames)
    assert isinstance(snapshot, Snapshot)
    assert snapshot.cursor is not None
    return snapshot.cursor


def test_lines_are_told_whole(either: Either, wire: CuttingWire, straight: Client, options: dict[str, Any]) -> None:
    instance_id = straight.execute("chain").instance_id
    lines = either.take(wire.address, "follow_logs", instance_id, options=options)
    assert lines == straight.logs(instance_id)
    assert len(lines) == TASKS


def test_a_start_is_done_once(either: Either, wire: CuttingWire, straight: Client, options: dict[str, Any]) -> None:
    before = straight.history("chain", limit=1).total or 0
    started = [either.ask(wire.address, "execute", "chain", wait=0.01, options=options).instance_id for _ in range(10)]
    assert len(set(started)) == 10
    assert straight.history("chain", limit=1).total == before + 10


def test_a_list_is_read_whole(either: Either, wire: CuttingWire, straight: Client, options: dict[str, Any]) -> None:
    expected = [each.id for each in straight.iter_instances(workflow_id="chain")]
    found = either.take(wire.address, "iter_instances", workflow_id="chain", limit=3, options=options)
    assert [each.id for each in found] == expected
