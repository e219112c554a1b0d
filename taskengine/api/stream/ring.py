"""What happened lately over all instances, with positions: whoever was away for a short while misses nothing."""

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

from taskengine.api.stream.frames import UpdateFrame, encode_frame, event_frames, with_cursor
from taskengine.api.stream.interest import ALL, Choice
from taskengine.api.stream.parcel import Parcel
from taskengine.model.events import Event

__all__ = ["CAPACITY", "MAX_BYTES", "Entry", "Ring"]

CAPACITY: Final = 20_000
MAX_BYTES: Final = 32 * 1024 * 1024

# What an event costs that nobody has asked for yet: the records themselves, and each of their transitions.
_EVENT_BYTES: Final = 600
_TRANSITION_BYTES: Final = 160
_MOST_DIGITS: Final = 15


class Entry:
    """One event with its position. Encodes for those who want it, once for each choice.

    behind_hole   the event before it of the same instance was never told
    """

    __slots__ = ("_frames", "_parcels", "_ring", "behind_hole", "counted", "event", "position")

    def __init__(self, event: Event, position: int, ring: str) -> None:
        self.event = event
        self.position = position
        self.behind_hole = False
        self._ring = ring
        self._frames: list[UpdateFrame] | None = None
        self._parcels: dict[tuple[Choice, bool], Parcel | None] = {}
        self.counted = 0

    @property
    def weight(self) -> int:
        """Bytes, about. Texts count twice: they are kept also in the form in which they travel."""
        texts = 0
        if self._parcels:
            texts = sum([parcel.size for parcel in self._parcels.values() if parcel is not None])
        return _EVENT_BYTES + _TRANSITION_BYTES * len(self.event.body.transitions) + 2 * texts

    def parcel(self, choice: Choice, *, one: bool) -> Parcel | None:
        """The frames that are wanted; None: none of them. `one`: for a stream of this instance, without the cursor."""
        key = (choice, one)
        try:
            return self._parcels[key]
        except KeyError:
            made = self._parcels[key] = self._make(choice, one)
            return made

    def _make(self, choice: Choice, one: bool) -> Parcel | None:
        if not one:
            plain = self.parcel(choice, one=True)
            if plain is None:
                return None
            cursor = _cursor(self._ring, self.position)
            *before, last = plain.payloads
            return Parcel([*before, with_cursor(last, cursor)], seq=plain.seq, position=self.position, resume=cursor)
        if self._frames is None:
            self._frames = event_frames(self.event)
        chosen = choice.of(self._frames)
        seq = self.event.seq
        if not chosen:
            return None
        return Parcel(list(map(encode_frame, chosen)), seq=seq, position=self.position, resume=str(seq))

    def settle(self) -> None:
        """It has been told: what only helped to encode it goes, and of the texts only the usual ones stay."""
        self._frames = None
        if self._parcels and any(choice != ALL for choice, _ in self._parcels):
            self._parcels = {key: parcel for key, parcel in self._parcels.items() if key[0] == ALL}


class Ring:
    """The latest events, oldest first; positions count up from 1 without holes for the life of one hub.

    Bounded by number and by an estimate of the bytes. A cursor is this ring's name with a position: another ring, as
    after a restart, does not know it.
    """

    def __init__(self, name: str, capacity: int = CAPACITY, max_bytes: int = MAX_BYTES) -> None:
        if capacity < 1:
            raise ValueError("a ring holds at least one event")
        self._name = name
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self.bytes = 0
        self.last = 0

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, event: Event) -> Entry:
        """The event with the next position; hand it to `settle` once it was told."""
        self.last += 1
        entry = Entry(event, self.last, self._name)
        self._entries.append(entry)
        return entry

    def settle(self, entries: Iterable[Entry]) -> None:
        """They were told, and weigh what they weigh now; the oldest of all go until the bounds hold.

        The newest one always stays. Entries that were told again later may come again, if they are still here.
        """
        for entry in entries:
            entry.settle()
            weight = entry.weight
            self.bytes += weight - entry.counted
            entry.counted = weight
        while len(self._entries) > self._capacity or (self.bytes > self._max_bytes and len(self._entries) > 1):
            self.bytes -= self._entries.popleft().counted

    def cursor(self, position: int) -> str:
        """Opaque to clients: behind this position."""
        return _cursor(self._name, position)

    def position(self, cursor: str) -> int | None:
        """The position of a cursor. None: not from this ring, or what follows it is no longer complete."""
        name, _, number = cursor.rpartition("-")
        if name != self._name or not (number.isascii() and number.isdigit()) or len(number) > _MOST_DIGITS:
            return None
        position = int(number)
        return position if self.follows(position) else None

    def follows(self, position: int) -> bool:
        """Whether everything behind the position is here."""
        return self.last - len(self._entries) <= position <= self.last

    def after(self, position: int, limit: int) -> list[Entry]:
        """At most `limit` entries behind the position, which must be one that `follows`."""
        skipped = position - (self.last - len(self._entries))
        return list(islice(self._entries, skipped, skipped + limit))


def _cursor(ring: str, position: int) -> str:
    return f"{ring}-{position}"
