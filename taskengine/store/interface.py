"""The store as its callers see it: the life of an instance, not SQL.

Writing is one verb, `commit`, and belongs to the checkpointer. Reading shows committed state only, never waits for
a writer, and may be done by anyone on the loop's thread.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from taskengine.clock import Micros
from taskengine.model.ids import CommandId, InstanceId, Ordinal, Version, WorkflowId
from taskengine.model.records import (
    Aged,
    ArtifactRow,
    AttemptRow,
    CommandRow,
    DefinitionRow,
    EventRow,
    FunctionRow,
    InstanceRow,
    LogRow,
    TaskRow,
    TokenRow,
)
from taskengine.model.states import BUCKETS, Bucket, InstanceState, TaskState
from taskengine.store.batch import Batch
from taskengine.store.lock import Holder

__all__ = [
    "ALL_INSTANCES",
    "DEFAULT_READERS",
    "MAX_ORDINAL",
    "PENDING",
    "RUNNING",
    "Durability",
    "InstanceQuery",
    "Loaded",
    "MoveNote",
    "OpenTasks",
    "SchemaSteps",
    "Sight",
    "Store",
    "StoreFigures",
    "StoreStatus",
    "TableRows",
    "lower_ascii",
]


Durability = Literal["full", "normal"]
"""What `commit` waits for: full, the disk itself; normal, that the operating system has it."""

DEFAULT_READERS: Final = 2
"""One long read, such as a search through everything, does not hold up the short ones."""


MAX_ORDINAL: Final = (1 << 31) - 1
"""No task has a larger one."""


class InstanceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which instances: those that fulfil everything that is asked. What is left out does not narrow.

    states             one of these; empty: any
    labels             the definition version that the instance runs has all of these labels, key and value exactly
    created_after_us   inclusive
    created_before_us  exclusive
    search             occurs somewhere in the id, the workflow's id or the error text. Letters A to Z count like a
                       to z, all other characters stand for themselves; none is a wildcard
    prefix             the id begins so, exactly
    """

    workflow_id: WorkflowId | None = None
    states: frozenset[InstanceState] = frozenset()
    labels: Mapping[str, str] = {}
    created_after_us: Micros | None = None
    created_before_us: Micros | None = None
    search: str = ""
    prefix: str = ""


ALL_INSTANCES: Final = InstanceQuery()

_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def lower_ascii(text: str) -> str:
    """A to Z in lower case and nothing else: what SQLite does by itself, so all stores do it."""
    return text.translate(_LOWER)


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as an actor is rebuilt from, of one moment.

    tasks     by ordinal, only those that have rows; result and error are UNSET
    commands  in the order in which they were committed
    last_seq  of its events, 0: none
    """

    row: InstanceRow
    tasks: list[TaskRow]
    commands: list[CommandRow]
    last_seq: int


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as it is shown, of one moment.

    last     its event with the highest seq; None: it has none
    results  of the tasks that were asked for, once it has ended; tasks without a result are left out
    """

    row: InstanceRow
    last: EventRow | None
    results: Mapping[Ordinal, bytes]


class OpenTasks(msgspec.Struct, frozen=True, kw_only=True):
    """Ordinals, ascending, of tasks that count as running and of those that count as pending."""

    running: list[Ordinal]
    pending: list[Ordinal]


RUNNING: Final = frozenset(state for state in TaskState if BUCKETS[state] is Bucket.RUNNING)
PENDING: Final = frozenset(state for state in TaskState if BUCKETS[state] is Bucket.PENDING)


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the store is.

    address     for people, never with a password
    schema      number of the newest migration that was applied; 0 where there are none
    size_bytes  what it occupies, with its log; 0 in memory
    instances   how many are in each state; states without one are left out
    """

    address: str
    schema: int
    size_bytes: int
    instances: Mapping[InstanceState, int]


class SchemaSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Which steps of the schema a database has had.

    found   number of the newest one, 0: it is new, or not there yet
    steps   the names of all that this program knows, such as `0001_first`, by their numbers
    holder  who has the database; None: nobody
    """

    found: int
    steps: tuple[str, ...]
    holder: Holder | None

    @property
    def missing(self) -> tuple[str, ...]:
        return self.steps[self.found :]


class TableRows(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows a table has. exact: they were counted, and not estimated from a part of them."""

    table: str
    rows: int
    exact: bool


class MoveNote(msgspec.Struct, frozen=True, kw_only=True):
    """How far a database has been filled from another one. Kept there, in the transaction that brings the rows.

    source       address of the other one, without a password
    epoch        of whoever had owned the other one last: another one says that somebody has owned it since
    table        whose rows come now; empty: all are there, and are to be compared
    after        the key of the last row that is here
    rows         that are here, of all tables
    finished_us  when both had been compared and were equal
    """

    source: str
    epoch: int
    started_us: Micros
    table: str = ""
    after: tuple[str | int, ...] | None = None
    rows: int = 0
    finished_us: Micros | None = None


class StoreFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever looks after a store wants to know.

    kind    sqlite, postgresql, mysql or memory
    steps   of the schema that this program knows
    oldest  the instance that has been unfinished for longest
    holder  who has the store; None: nobody
    move    how it was filled from another database; None: it was not
    """

    kind: str
    status: StoreStatus
    steps: tuple[str, ...]
    tables: Sequence[TableRows]
    oldest: InstanceRow | None
    holder: Holder | None
    move: MoveNote | None = None


class Store(Protocol):
    """What every database offers. All verbs but `open` need an open store and raise Unavailable otherwise."""

    @property
    def epoch(self) -> int:
        """Of this node, new and larger at every open; 0 before, and for a store that only reads."""
        ...

    @property
    def lanes(self) -> int:
        """How many batches may be in `commit` at the same time: one of each lane, which count from 0."""
        ...

    async def open(self) -> None:
        """Lock, migrate, take the node row with a new epoch.

        Raises StoreLocked, SchemaTooNew, StoreCorrupt, InvalidConfiguration; the store is closed then. An open store
        raises StoreError and stays open.
        """
        ...

    async def close(self) -> None:
        """Let a running commit end, then let go of everything. Idempotent, also before `open`.

        Waits as long as the database makes it wait; who cannot must end the process.
        """
        ...

    async def commit(self, batch: Batch) -> None:
        """Apply all of it or nothing; on return it is durable. By the checkpointer only, one call a lane at a time.

        A batch whose own row is already there has committed before: returns without a second effect.
        The definitions of a batch that are known stay as they are and become current; of functions and tokens the
        last one stays. A log line whose (instance, id) is there is left out, the first one stays: an id is only ever
        given twice by mistake, and losing a line is better than refusing what else is in the batch. An existing
        instance never changes its workflow, version, params, creation time or key.
        An instance that is removed must be at its end, in the run that the removal names.
        Raises   BatchRefused      a row was not where expected, or breaks a rule; replay the decisions one by one
                 StoreUnavailable  busy, full, connection; whether it committed is unknown, send the same batch again
                 anything else     is fatal: the process should end and recover at its next start
        Crash    before, during or after: either all of the batch is there at the next open or nothing.
        """
        ...

    @property
    def keep_after_s(self) -> float | None:
        """When a lane has committed nothing for so long it should be kept; None: this store's lanes need no care."""
        ...

    async def keep(self, lane: int) -> None:
        """Say a word on a lane that has nothing to commit. A server ends a connection that is silent for too long, as
        its other end may have died; and with it the lock that says who owns the database.

        In turn with `commit` on that lane, and raises as it does, but is not tried again.
        """
        ...

    async def instance(self, instance_id: InstanceId) -> InstanceRow | None: ...

    async def sight(self, instance_id: InstanceId, wanted: Callable[[Version], Collection[int]]) -> Sight | None:
        """What shows an instance.

        wanted  ordinals whose results are read if it has ended; it may be called on another thread and only looks
        """
        ...

    async def instances(
        self,
        query: InstanceQuery = ALL_INSTANCES,
        *,
        limit: int = 20,
        offset: int = 0,
        descending: bool = True,
        after: tuple[Micros, InstanceId] | None = None,
    ) -> list[InstanceRow]:
        """A page of instances by (created_us, id).

        after  these two of the last row seen: only what comes behind it in the chosen order, whatever was added or
               ended meanwhile. Costs the same on every page, where `offset` reads all that it skips
        """
        ...

    async def aged(
        self,
        query: InstanceQuery = ALL_INSTANCES,
        *,
        limit: int = 500,
        after: tuple[Micros, InstanceId] | None = None,
    ) -> list[Aged]:
        """The same page, the oldest first, without what may be large.

        With one state or one workflow it costs what it gives, however many instances there are.
        """
        ...

    async def removed(self, limit: int = 100) -> list[InstanceId]:
        """Instances that were removed and have left rows behind, in no certain order."""
        ...

    async def count_instances(self, query: InstanceQuery = ALL_INSTANCES) -> int: ...

    def unfinished(self) -> AsyncIterator[InstanceRow]:
        """Instances that are not at their end, by (created_us, id); read in pages, so of no single moment."""
        ...

    async def load(self, instance_ids: Collection[InstanceId]) -> dict[InstanceId, Loaded]:
        """What actors are rebuilt from, all of one moment; unknown ids are left out. A few hundred at a time."""
        ...

    async def tasks(self, instance_id: InstanceId, *, after: int = -1, limit: int = 500) -> list[TaskRow]:
        """Whole rows, with result and error (None: has none), by ordinal, from behind `after`."""
        ...

    async def task_states(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, TaskState]:
        """By ordinal; tasks without a row, which nothing has touched yet, are left out."""
        ...

    async def task_names(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, str]:
        """By ordinal; tasks without a row are left out."""
        ...

    async def added_task(self, instance_id: InstanceId, name: str) -> Ordinal | None:
        """The task of this name that was added at run time and is not out again."""
        ...

    async def open_tasks(self, instance_id: InstanceId, count: int, *, limit: int = 100) -> OpenTasks:
        """The first of the instance's tasks that run, and that are pending, at most `limit` of each.

        Of the tasks 0 to `count`, those of the definition, one without a row is pending; an unknown instance has only
        such. The others, which were added, all have rows.
        """
        ...

    async def tasks_in(
        self, instance_id: InstanceId, states: Collection[TaskState], *, parent: int | None = None, limit: int = 100
    ) -> list[Ordinal]:
        """The first of the tasks that have rows and are in one of these states, ascending; of one parent or of all."""
        ...

    async def count_tasks(self, instance_id: InstanceId, *, parent: int | None = None) -> dict[TaskState, int]:
        """How many of the tasks that have rows are in each state, of one parent or of all. States without one are left
        out. Counted by the database, which looks at every task of the instance.
        """
        ...

    async def results(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, bytes]:
        """JSON by ordinal; tasks without a result are left out."""
        ...

    async def task_errors(self, instance_id: InstanceId, ordinals: Collection[int]) -> dict[Ordinal, bytes]:
        """JSON of a TaskFailure by ordinal; tasks without an error are left out."""
        ...

    async def events(self, instance_id: InstanceId, *, after: int = 0, limit: int = 500) -> list[EventRow]:
        """By seq, from behind `after`."""
        ...

    async def last_event(self, instance_id: InstanceId) -> EventRow | None:
        """The one with the highest seq: how far the instance is. None: it has none."""
        ...

    async def last_events(self, instance_ids: Collection[InstanceId]) -> dict[InstanceId, EventRow]:
        """The same of many; those without one are left out. A few hundred at a time."""
        ...

    async def attempts(
        self, instance_id: InstanceId, ordinal: int | None = None, *, after: int = -1, last: int = MAX_ORDINAL
    ) -> list[AttemptRow]:
        """By (ordinal, attempt); of one task, or of all from behind `after` up to `last` inclusive."""
        ...

    async def command(self, instance_id: InstanceId, command_id: CommandId) -> CommandRow | None: ...

    async def commands(self, instance_id: InstanceId) -> list[CommandRow]:
        """In the order in which they were committed."""
        ...

    async def instance_by_key(self, workflow_id: WorkflowId, key: str) -> InstanceRow | None: ...

    async def definition(self, version: Version) -> DefinitionRow | None: ...

    async def current(self, workflow_id: WorkflowId) -> DefinitionRow | None:
        """The version of that workflow that was saved last; saving an older one again makes it current."""
        ...

    async def workflows(self) -> list[DefinitionRow]:
        """The current version of each workflow, by workflow id."""
        ...

    async def versions(self, workflow_id: WorkflowId) -> list[DefinitionRow]:
        """All versions of a workflow that were ever saved, newest first; also of one that was removed."""
        ...

    async def keeping(self) -> list[DefinitionRow]:
        """The versions that say themselves how long their instances are kept, in no certain order."""
        ...

    async def functions(self) -> list[FunctionRow]:
        """By name."""
        ...

    async def logs(
        self,
        instance_id: InstanceId,
        *,
        task: str | None = None,
        after: int = 0,
        limit: int = 1000,
        tail: int | None = None,
    ) -> list[LogRow]:
        """Lines by id, from behind `after`; of one task or of all.

        tail  the last so many of those that match, in the same order; `limit` does not count then
        """
        ...

    async def last_log(self, instance_id: InstanceId) -> int:
        """The highest id of a line of this instance, 0: it has none."""
        ...

    async def artifacts(self, instance_id: InstanceId) -> list[ArtifactRow]:
        """What its tasks have left in the artifact store, by (ordinal, name)."""
        ...

    async def known_digests(self, digests: Collection[str]) -> set[str]:
        """Those of them that a row names. A few hundred at a time."""
        ...

    async def tokens(self) -> list[TokenRow]:
        """By (created_us, id); expired and revoked ones too."""
        ...

    async def status(self) -> StoreStatus:
        """May be asked every few seconds: it counts in an index (SQLite: about 5 ms for 100,000 instances)."""
        ...

    async def figures(self) -> StoreFigures:
        """More than that, for people: large tables are estimated."""
        ...

    async def note_address(self, address: str) -> None:
        """Tell other processes that find this store taken where its owner serves; empty: nowhere (any more).

        Where there is no lock, in memory or in a store that only reads, it does nothing.
        """
        ...
