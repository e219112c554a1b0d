"""What one client is told, in order: how things are or what it missed, then what happens, then why it ends."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

import anyio
import msgspec

from taskengine.ambient import Ambient
from taskengine.api.stream.client import Client, Ending
from taskengine.api.stream.frames import encode_frame, event_frames, time_of
from taskengine.api.stream.hub import ENDED, Hub
from taskengine.api.stream.parcel import Parcel
from taskengine.api.stream.present import Present
from taskengine.errors import InvalidInput, TaskEngineError
from taskengine.wire.frames import GapFrame, HeartbeatFrame, Snapshot

__all__ = ["Beginning", "Sink", "Telling", "parse_since"]

_BATCH_BYTES: Final = 128 * 1024
_LOOK: Final = 500
_MOST_DIGITS: Final = 15
_UNKNOWN: Final = "this cursor is of another start of the server, or too old"


class Beginning(msgspec.Struct, frozen=True):
    """Where a client begins. `behind` is a number of the instance or a position; None: with a snapshot.

    gap  why what it asked for cannot be had; it gets a snapshot then
    """

    behind: int | None = None
    gap: str = ""


def parse_since(since: str | None, hub: Hub, *, one: bool) -> Beginning:
    """`?since=`: a number of the instance, or a cursor. Raises InvalidInput for what is no number."""
    if since is None or since == "":
        return Beginning()
    if not one:
        hub.flush()
        position = hub.ring.position(since)
        return Beginning(gap=_UNKNOWN) if position is None else Beginning(position)
    if not (since.isascii() and since.isdigit()) or len(since) > _MOST_DIGITS:
        raise InvalidInput(f"since={since[:50]!r} is no number; a stream of one instance goes on behind a `seq`")
    return Beginning(int(since))


class Sink(Protocol):
    """The way to one client."""

    async def ready(self) -> None:
        """Until the client can take more."""

    async def send(self, parcels: Sequence[Parcel]) -> None:
        """In order, as one write. May wait until the client can take more."""

    def unsent(self) -> int:
        """Bytes that were sent and have not left this process; 0 where nobody knows."""

    async def beat(self, heartbeat: Parcel) -> None:
        """The connection lives."""

    async def close(self, ending: Ending) -> None:
        """Say why, and end the connection within a few seconds, whether the client takes it or not."""


class Telling:
    """The life of one stream. Errors end that stream only."""

    def __init__(self, hub: Hub, client: Client, sink: Sink, present: Present, ambient: Ambient) -> None:
        self._hub = hub
        self._client = client
        self._sink = sink
        self._present = present
        self._clock, self._log, self._metrics = ambient.clock, ambient.log, ambient.metrics
        self._on_probation = False

    async def run(self, beginning: Beginning) -> None:
        """Until the client leaves or is sent away; the connection is closed then. Raises only cancellation."""
        client = self._client
        with anyio.CancelScope() as scope:
            client.cut, client.unsent = scope.cancel, self._sink.unsent
            try:
                if client.ending is None:
                    await self._open(beginning)
                    await self._follow()
            except TaskEngineError as error:
                client.end(Ending(1011, f"{error.code}: come back later", "error"))
            except Exception as error:
                self._log.error("stream.failed", exc=error)
                client.end(Ending(1011, "the server failed; its log has the details", "error"))
        client.cut = client.unsent = None
        if client.ending is not None:
            self._metrics.count("stream.closed", reason=client.ending.metric)
            await self._sink.close(client.ending)

    # -- beginning ---------------------------------------------------------------------------------------------

    async def _open(self, beginning: Beginning) -> None:
        one = self._client.interest.is_one
        if beginning.gap:
            await self._tell_gap(beginning.gap)
        elif beginning.behind is None:
            await self._tell_present()
        elif one:
            await self._tell_stored(beginning.behind)
        else:
            await self._tell_missed()

    async def _tell_present(self) -> None:
        """A snapshot; updates queue from before it is read."""
        interest = self._client.interest
        self._hub.flush()
        self._client.reopen()
        if interest.instance_id is not None:
            seen = await self._present.one(interest.instance_id)
            self._client.told = seen.snapshot.seq or 0
            await self._send([self._own(seen.snapshot)])
            if seen.ended:
                self._end_with_instance()
        else:
            self._client.told = self._hub.ring.last
            snapshot = await self._present.many(interest, self._hub.resume_of(self._client))
            await self._send([self._own(snapshot)])

    async def _tell_stored(self, behind: int) -> None:
        """What is stored behind the number, then live: the last look at the store finds nothing, while the queue has
        been filling since before that look. A queue that overflowed meanwhile costs another look."""
        instance_id = self._client.interest.instance_id
        assert instance_id is not None
        if behind > await self._present.last_number(instance_id):
            await self._tell_gap(f"this instance has not come to {behind} yet")
            return
        self._client.told = behind
        while True:
            self._client.reopen()
            events = await self._present.stored(instance_id, self._client.told)
            if not events and not self._client.lost:
                break
            for event in events:
                texts = list(map(encode_frame, self._client.interest.choice.of(event_frames(event))))
                if texts:
                    await self._send([Parcel(texts, seq=event.seq, resume=str(event.seq))])
                self._client.told = event.seq
        if await self._present.ended(instance_id):
            self._end_with_instance()

    async def _tell_missed(self) -> None:
        """What the ring has behind the position; then it is enlisted, and live."""
        while (parcels := self._hub.missed(self._client, _LOOK)) is not None:
            if not parcels:
                return
            await self._send(parcels)
        self._hub.enlist(self._client)
        await self._tell_gap(_UNKNOWN)

    async def _tell_gap(self, why: str) -> None:
        self._metrics.count("stream.gaps")
        await self._send([self._own(GapFrame(timestamp=self._now(), reason=why))])
        await self._tell_present()

    # -- going on ----------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        client = self._client
        while True:
            await client.wait()
            await self._ready()
            if not client.lost:
                self._on_probation = False
            elif not await self._recover():
                return
            if parcels := client.take(_BATCH_BYTES):
                await self._send(parcels)
            elif client.take_beat():
                await self._beat()
            elif client.ending is not None:
                return
            client.blocked_s = None

    async def _recover(self) -> bool:
        """After a loss: a gap and a snapshot. False: it is to go, since it did not even take the last snapshot."""
        client = self._client
        if client.ending is not None and client.ending is not ENDED:
            return False
        if self._on_probation:
            client.end(self._hub.too_slow(client))
            return False
        await self._tell_gap(client.lost)
        self._on_probation = True
        return True

    async def _beat(self) -> None:
        client, cursor = self._client, None
        if not client.interest.is_one:
            self._hub.flush()
            if not client.queued and not client.lost:
                client.told = self._hub.ring.last
            cursor = self._hub.resume_of(client)
        await self._sink.beat(self._own(HeartbeatFrame(timestamp=self._now(), cursor=cursor)))
        client.silent_s = self._clock.monotonic()

    def _end_with_instance(self) -> None:
        if not self._client.interest.keep:
            self._client.end(ENDED)

    # -- sending -----------------------------------------------------------------------------------------------

    async def _ready(self) -> None:
        """From here on the client is watched: it must be able to take something within the hub's patience."""
        self._client.blocked_s = self._clock.monotonic()
        await self._sink.ready()

    async def _send(self, parcels: Sequence[Parcel]) -> None:
        await self._ready()
        await self._sink.send(parcels)
        self._client.blocked_s = None
        self._client.silent_s = self._clock.monotonic()

    def _own(self, frame: Snapshot | GapFrame | HeartbeatFrame) -> Parcel:
        """A frame of this stream alone."""
        number = frame.seq if isinstance(frame, Snapshot) else None
        resume = getattr(frame, "cursor", None) or ("" if number is None else str(number))
        return Parcel([encode_frame(frame)], resume=resume)

    def _now(self) -> datetime:
        return time_of(self._clock.now_us())
