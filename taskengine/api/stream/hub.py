"""One ear on the bus for the whole server: each frame is made and encoded once, for all clients that want it.

Publishing stays cheap: the tap only puts the frame aside. What has come together in one turn of the loop, or lately
within `linger_s`, is then told in one go, and costs what its own clients cost: they are found by instance and by
workflow. Nobody is waited for. A client that is too slow loses its queue, hears of it, and is sent away if that does
not help; all of that is decided here, by one look at all clients each second.
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final

from taskengine.ambient import Ambient
from taskengine.api.stream.client import MAX_BYTES, MAX_PARCELS, Client, Ending
from taskengine.api.stream.frames import encode_frame, log_update, progress_update
from taskengine.api.stream.interest import Interest
from taskengine.api.stream.parcel import Parcel
from taskengine.api.stream.ring import CAPACITY, Entry, Ring
from taskengine.api.stream.ring import MAX_BYTES as RING_BYTES
from taskengine.bus import Bus, Frame, LogFrame, ProgressFrame
from taskengine.clock import TimerHandle
from taskengine.model.events import Event
from taskengine.model.ids import InstanceId
from taskengine.model.states import INSTANCE_FINAL

__all__ = ["ENDED", "STOPPING", "Hub"]

ENDED: Final = Ending(1000, "ended", "ended")
STOPPING: Final = Ending(1012, "the server is stopping", "stopping")

_NOT_TOLD: Final = "an update was not told"

_KNOWN: Final = 10_000
"""Instances of which the last number is remembered, to notice one that was never told."""


class Hub:
    """Tells many clients what the bus says. Everything belongs to the loop's thread.

    capacity, ring_bytes       how much of the past is kept for those who come back
    max_parcels, max_bytes     of one client's queue
    linger_s                   news within this time of the last telling are told together; 0: in each turn of the loop
    heartbeat_s                of silence, then a heartbeat
    patience_s                 a client that takes nothing for so long, while there is something to take, has to go
    """

    def __init__(
        self,
        bus: Bus,
        *,
        ambient: Ambient | None = None,
        capacity: int = CAPACITY,
        ring_bytes: int = RING_BYTES,
        max_parcels: int = MAX_PARCELS,
        max_bytes: int = MAX_BYTES,
        linger_s: float = 0.01,
        heartbeat_s: float = 15.0,
        patience_s: float = 10.0,
    ) -> None:
        ambient = ambient or Ambient()
        self._bus = bus
        self._clock, self._log, self._metrics = ambient.clock, ambient.log, ambient.metrics
        # The end of a UUIDv7 is random; its beginning is the time, which an observer could guess.
        self.ring = Ring(ambient.ids.uuid7().replace("-", "")[-12:], capacity, ring_bytes)
        self._max_parcels, self._max_bytes = max_parcels, max_bytes
        self._linger_s, self._heartbeat_s, self._patience_s = linger_s, heartbeat_s, patience_s
        self._pending: list[Frame] = []
        self._told_s = self._clock.monotonic() - linger_s
        self._telling: TimerHandle | None = None
        self._sweeping: TimerHandle | None = None
        self._end_tap: Callable[[], None] | None = None
        self._stopped = False
        self._clients: dict[Client, None] = {}
        self._by_instance: dict[str, dict[Client, None]] = {}
        self._by_workflow: dict[str, dict[Client, None]] = {}
        self._everything: dict[Client, None] = {}
        self._seqs: dict[InstanceId, int] = {}
        self._gone: asyncio.Event | None = None

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    # -- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen to the bus. Idempotent."""
        if self._end_tap is None and not self._stopped:
            self._end_tap = self._bus.tap(self._take, self._send_all_away)
            self._sweep()

    async def stop(self, grace_s: float = 2.0) -> None:
        """Every client gets what is left to tell and is sent away. Who is still there after `grace_s` is cut off.

        Returns when all are gone, at the latest after twice the grace; with no grace at once. Idempotent.
        """
        self._send_all_away()
        if self._end_tap is not None:
            self._end_tap()
            self._end_tap = None
        for timer in (self._telling, self._sweeping):
            if timer is not None:
                timer.cancel()
        self._telling = self._sweeping = None
        self._pending.clear()
        await self._until_gone(grace_s)

    # -- for the handlers --------------------------------------------------------------------------------------

    def join(self, interest: Interest, *, behind: int | None = None) -> Client:
        """A client that is told everything from now on that it wants. The handler must call `leave`.

        behind   a position of the ring: the client is told nothing until it has read what it missed, see `missed`
        Of a hub that has stopped it gets nothing but its ending.
        """
        self.flush()
        client = Client(
            interest, max_parcels=self._max_parcels, max_bytes=self._max_bytes, now_s=self._clock.monotonic()
        )
        if self._stopped:
            client.end(STOPPING)
        self._clients[client] = None
        client.told = self.ring.last if behind is None else behind
        if behind is None:
            self.enlist(client)
        self._metrics.gauge("stream.clients", len(self._clients))
        return client

    def leave(self, client: Client) -> None:
        """Idempotent."""
        self.delist(client)
        if client in self._clients:
            del self._clients[client]
            self._metrics.gauge("stream.clients", len(self._clients))
        if not self._clients and self._gone is not None:
            self._gone.set()

    def enlist(self, client: Client) -> None:
        """Tell it what happens from now on."""
        interest = client.interest
        if interest.instance_id is not None:
            self._by_instance.setdefault(interest.instance_id, {})[client] = None
        elif interest.workflow_id is not None:
            self._by_workflow.setdefault(interest.workflow_id, {})[client] = None
        else:
            self._everything[client] = None

    def delist(self, client: Client) -> None:
        """It reads the ring by itself for a while, or leaves."""
        interest = client.interest
        self._everything.pop(client, None)
        for name, groups in ((interest.instance_id, self._by_instance), (interest.workflow_id, self._by_workflow)):
            if name is not None and (group := groups.get(name)) is not None:
                group.pop(client, None)
                if not group:
                    del groups[name]

    def missed(self, client: Client, limit: int) -> list[Parcel] | None:
        """For one that came back and is not enlisted: the next parcels behind `client.told` in the ring.

        At most `limit` events are looked at. Empty: it has seen everything, and is enlisted in the same step.
        None: something is missing there.
        """
        while self.ring.follows(client.told):
            entries = self.ring.after(client.told, limit)
            if not entries:
                self.enlist(client)
                return []
            covers, choice = client.interest.covers, client.interest.choice
            wanted = [entry for entry in entries if covers(entry.event.instance_id, entry.event.workflow_id)]
            if any(entry.behind_hole for entry in wanted):
                return None
            client.told = entries[-1].position
            parcels = [parcel for entry in wanted if (parcel := entry.parcel(choice, one=False)) is not None]
            self.ring.settle(wanted)
            if parcels:
                return parcels
        return None

    def flush(self) -> None:
        """Tell now what was put aside, so that positions and queues are of this moment."""
        if self._pending:
            self._tell()

    # -- hearing -----------------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        self._pending.append(frame)
        if self._telling is None:
            self._telling = self._clock.call_at(self._told_s + self._linger_s, self._tell)

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        frames, self._pending = self._pending, []
        self._told_s = self._clock.monotonic()
        told: list[Entry] = []
        count = 0
        for frame in frames:
            try:
                count += self._tell_event(frame, told) if isinstance(frame, Event) else self._tell_remark(frame)
            except Exception as exc:
                # Our fault, and no reason to leave the others without theirs.
                self._log.error("stream.not_told", instance=frame.instance_id, exc=exc)
                self._lose(frame, _NOT_TOLD)
        self.ring.settle(told)
        if count:
            self._metrics.count("stream.frames", count)

    def _tell_event(self, event: Event, told: list[Entry]) -> int:
        known = self._known_seq(event)
        if event.seq <= known:
            return 0
        entry = self.ring.append(event)
        told.append(entry)
        if event.seq > known + 1:
            self._log.warning("stream.hole", instance=event.instance_id, known=known, found=event.seq)
            entry.behind_hole = True
            self._lose(event, _NOT_TOLD)
        count = 0
        ended = event.body.state in INSTANCE_FINAL
        for client in self._listeners(event.instance_id, event.workflow_id):
            interest = client.interest
            parcel = entry.parcel(interest.choice, one=interest.is_one)
            if parcel is not None:
                client.offer(parcel)
                count += len(parcel.payloads)
            if ended and interest.is_one and not interest.keep:
                client.end(ENDED)
        return count

    def _known_seq(self, event: Event) -> int:
        """The last number told of this instance.

        There is a hole behind it when an actor died between the commit and the telling, which is a fault of ours.
        """
        known = self._seqs.pop(event.instance_id, event.seq - 1)
        if event.body.state not in INSTANCE_FINAL:
            self._seqs[event.instance_id] = max(known, event.seq)
            if len(self._seqs) > _KNOWN:
                del self._seqs[next(iter(self._seqs))]
        return known

    def _lose(self, frame: Frame, why: str) -> None:
        for client in self._listeners(frame.instance_id, frame.workflow_id):
            client.lose(why)

    def _tell_remark(self, frame: LogFrame | ProgressFrame) -> int:
        kind = "log" if isinstance(frame, LogFrame) else "progress"
        parcel: Parcel | None = None
        count = 0
        for client in self._listeners(frame.instance_id, frame.workflow_id):
            if client.interest.choice.has(kind):
                parcel = parcel or self._remark(frame)
                client.offer(parcel)
                count += 1
        return count

    def _remark(self, frame: LogFrame | ProgressFrame) -> Parcel:
        if isinstance(frame, LogFrame):
            return Parcel([encode_frame(log_update(frame))])
        return Parcel([encode_frame(progress_update(frame, self._clock.now_us()))])

    def _listeners(self, instance_id: str, workflow_id: str) -> Iterable[Client]:
        one, flow = self._by_instance.get(instance_id), self._by_workflow.get(workflow_id)
        if one is None and flow is None:
            return self._everything
        return chain(one or (), flow or (), self._everything)

    # -- looking after -----------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Each second: who has been silent for long beats, who has not taken anything for long goes."""
        now_s = self._clock.monotonic()
        for client in list(self._clients):
            if client.blocked_s is None:
                if now_s - client.silent_s >= self._heartbeat_s:
                    client.beat()
            elif client.is_moving():
                client.blocked_s = now_s
            elif now_s - client.blocked_s >= self._patience_s:
                client.end(self.too_slow(client), now=True)
        self._sweeping = self._clock.call_at(now_s + 1.0, self._sweep)

    def resume_of(self, client: Client) -> str:
        """What this client comes back with as `since`."""
        return str(client.told) if client.interest.is_one else self.ring.cursor(client.told)

    def too_slow(self, client: Client) -> Ending:
        """The ending of a client that does not keep up."""
        return Ending(1013, f"too slow; come back with since={self.resume_of(client)}", "too_slow")

    def _send_all_away(self) -> None:
        self.flush()
        self._stopped = True
        for client in list(self._clients):
            client.end(STOPPING)

    def _cut_all(self) -> None:
        for client in list(self._clients):
            client.end(STOPPING, now=True)

    async def _until_gone(self, grace_s: float) -> None:
        if grace_s <= 0:
            self._cut_all()
        if not self._clients or grace_s <= 0:
            return
        self._gone = asyncio.Event()
        now_s = self._clock.monotonic()
        timers = [
            self._clock.call_at(now_s + grace_s, self._cut_all),
            self._clock.call_at(now_s + 2 * grace_s, self._gone.set),
        ]
        try:
            await self._gone.wait()
        finally:
            for timer in timers:
                timer.cancel()
