"""A hub with a hand-made bus, and clients of a real server: what the stream tests share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from api.apiworld import LIMIT_S, ApiWorld, Limits, api_world, listening
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from taskengine.ambient import Ambient
from taskengine.api.app import make_app
from taskengine.api.stream.frames import event_frames
from taskengine.api.stream.hub import Hub
from taskengine.api.stream.protocol import uvicorn_options
from taskengine.api.stream.routes import ROUTES
from taskengine.bus import Bus, LogFrame, ProgressFrame
from taskengine.clock import ManualClock, Micros
from taskengine.model.events import Event, EventBody, Transition
from taskengine.model.ids import InstanceId, Ordinal, WorkflowId
from taskengine.model.progress import Progress
from taskengine.model.states import InstanceState, TaskMove, TaskState

FLOW = WorkflowId("流程")


def moved(seq: int, instance: str = "one", *, workflow: str = FLOW, text: str = "", final: bool = False) -> Event:
    """Number `seq` of an instance: a task moved; a final one also ends it."""
    state = InstanceState.SUCCESS if final else InstanceState.RUNNING
    move = Transition(Ordinal(0), f"task-{seq}", TaskMove.DISPATCH, TaskState.RUNNING, 1, text)
    body = EventBody(state=state, transitions=(move,), progress=Progress(pending=1), changed=final or seq == 1)
    return Event(
        instance_id=InstanceId(instance), workflow_id=WorkflowId(workflow), seq=seq, at_us=Micros(seq), body=body
    )


def said(message: str, instance: str = "one") -> LogFrame:
    return LogFrame(
        instance_id=InstanceId(instance),
        workflow_id=FLOW,
        task="load",
        attempt=1,
        level="info",
        message=message,
        at_us=Micros(1),
    )


def went(fraction: float, instance: str = "one") -> ProgressFrame:
    return ProgressFrame(instance_id=InstanceId(instance), workflow_id=FLOW, task="load", fraction=fraction)


class Numbers:
    """Metrics."""

    def __init__(self) -> None:
        self.counted: dict[str, int] = {}
        self.gauges: dict[str, float] = {}

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        key = ".".join([name, *labels.values()])
        self.counted[key] = self.counted.get(key, 0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self.gauges[name] = value

    def observe(self, name: str, value: float, **labels: str) -> None: ...


class HubRig:
    """A started hub on a bus and a clock of the test's own."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.metrics = Numbers()
        self.bus = Bus(Ambient(clock=self.clock, metrics=self.metrics))
        self.hub = Hub(self.bus, ambient=Ambient(clock=self.clock, metrics=self.metrics), **options)

    def tell(self, *frames: Any) -> None:
        for frame in frames:
            self.bus.publish(frame)
        self.hub.flush()


@asynccontextmanager
async def hub_rig(**options: Any) -> AsyncIterator[HubRig]:
    rig = HubRig(**options)
    await rig.hub.start()
    yield rig
    await rig.hub.stop(0)


@asynccontextmanager
async def stream_world(
    *, jobs: dict[str, Any] | None = None, limits: Limits | None = None, stock: bool = False, **hub_options: Any
) -> AsyncIterator[ApiWorld]:
    """An API of streams only, behind a real server on `world.port` with our connections, and a hub as asked for.

    stock  uvicorn's own connections instead of ours, as any other ASGI server would have them
    """
    seats = limits or Limits(websockets=100_000, websockets_per_principal=100_000)
    async with api_world(jobs=jobs, handlers=[], limits=seats) as world:
        hub = Hub(world.engine.bus, ambient=world.parts.ambient, **hub_options)
        world.parts = msgspec.structs.replace(world.parts, hub=hub)
        world.app = make_app(world.parts, ROUTES)
        await hub.start()
        ours = {} if stock else uvicorn_options()
        options = {name: value for name, value in ours.items() if name != "ws_max_size"}
        async with listening(world, **options):
            yield world
            await hub.stop()


def decoded(parcels: Iterable[Any]) -> list[dict[str, Any]]:
    """The frames of parcels."""
    return [msgspec.json.decode(payload) for parcel in parcels for payload in parcel.payloads]


def seqs(frames: Iterable[dict[str, Any]]) -> list[int]:
    """The numbers of the frames that end a number."""
    return [
        frame["seq"] for frame in frames if frame.get("seq") and frame["type"] != "snapshot" and not frame.get("more")
    ]


def plain(frames: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Status frames without what differs between a stream over one and one over many."""
    return [
        {key: value for key, value in frame.items() if key != "cursor"}
        for frame in frames
        if frame["type"] in ("instance_status", "task_status")
    ]


async def history(world: ApiWorld, instance_id: str, after: int = 0) -> list[dict[str, Any]]:
    """What the store says has happened, as frames."""
    events: list[Event] = []
    while page := await world.engine.get_events(instance_id, after=events[-1].seq if events else after):
        events += page
    return [msgspec.json.decode(msgspec.json.encode(frame)) for event in events for frame in event_frames(event)]


def dial(world: ApiWorld, path: str, scope: str | None = "read", **options: Any) -> connect:
    """A connection of the websockets library."""
    return connect(
        f"ws://127.0.0.1:{world.port}/api/v1/ws/{path}",
        additional_headers=world.headers(scope),
        compression=None,
        **options,
    )


async def next_frame(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(LIMIT_S):
        frame: dict[str, Any] = msgspec.json.decode(await socket.recv())
        return frame


async def frames_until(socket: ClientConnection, enough: Any) -> list[dict[str, Any]]:
    """Frames up to the first that is enough, or to the end of the connection."""
    frames: list[dict[str, Any]] = []
    try:
        while not frames or not enough(frames[-1]):
            frames.append(await next_frame(socket))
    except ConnectionClosed:
        pass
    return frames


async def all_frames(socket: ClientConnection) -> list[dict[str, Any]]:
    """Everything up to the end of the connection."""
    return await frames_until(socket, lambda frame: False)


async def end_of(socket: ClientConnection) -> tuple[int | None, str | None]:
    """How the server closed, after whatever it still says."""
    await all_frames(socket)
    async with asyncio.timeout(LIMIT_S):
        await socket.wait_closed()
    return socket.close_code, socket.close_reason


async def until(holds: Callable[[], Any]) -> None:
    """The server's side of something that a client did; it needs the loop's turns and real sockets."""
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110  # there is no event to wait for: any state may be asked about
            await asyncio.sleep(0.001)


def parse_events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(id, data) of each server-sent event; comments are left out, an id lasts until the next one."""
    found: list[tuple[str, dict[str, Any]]] = []
    identity = ""
    for block in text.split("\n\n"):
        fields = [line.partition(": ") for line in block.split("\n") if line and not line.startswith(":")]
        identity = next((value for name, _, value in fields if name == "id"), identity)
        data = [value for name, _, value in fields if name == "data"]
        if data:
            found.append((identity, msgspec.json.decode("\n".join(data))))
    return found
