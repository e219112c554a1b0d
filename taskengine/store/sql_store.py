"""What every store that speaks SQL offers to whoever looks after it: figures, its schema, copies of whole tables."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Final

import msgspec

from taskengine.errors import MoveUnfinished, SchemaTooOld
from taskengine.store import codec
from taskengine.store.dialect import Dialect
from taskengine.store.figures import count
from taskengine.store.interface import MoveNote, SchemaSteps, StoreFigures, StoreStatus
from taskengine.store.lock import Holder
from taskengine.store.migrations import Migration, load
from taskengine.store.pages import Key, page
from taskengine.store.queries import folder
from taskengine.store.reading import Look, Reading
from taskengine.store.tables import Table

__all__ = ["SqlStore", "read_move", "refuse_older", "refuse_unfinished"]

_NOTE: Final = msgspec.json.Decoder(MoveNote)


class SqlStore(Reading):
    """Open, unless a verb says otherwise."""

    @property
    @abstractmethod
    def epoch(self) -> int: ...

    @property
    @abstractmethod
    def address(self) -> str:
        """For people, without a password."""

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def status(self) -> StoreStatus: ...

    @abstractmethod
    async def _outline(self) -> tuple[int, Holder | None]:
        """The newest step of the schema that the database has had, and who has it; of a closed store, too."""

    @abstractmethod
    async def copy_in(self, table: Table, rows: Sequence[codec.Values], note: MoveNote) -> None:
        """Rows as `copy_out` gives them, that are not there yet, and the note, in one transaction.

        For the owner only. Raises StoreError when a row does not fit.
        """

    @abstractmethod
    async def note_move(self, note: MoveNote) -> None:
        """The note alone."""

    async def schema(self) -> SchemaSteps:
        """Of an open store or a closed one, beside whoever has it; takes no lock and changes nothing.

        Raises InvalidConfiguration for a database that is not ours.
        """
        found, holder = await self._outline()
        return SchemaSteps(found=found, steps=_step_names(self._dialect), holder=holder)

    async def figures(self) -> StoreFigures:
        schema = await self.schema()
        counted = await self._see(lambda: count(self._dialect, self._sql))
        return StoreFigures(
            kind=self._dialect.name,
            status=await self.status(),
            steps=schema.steps,
            tables=counted.tables,
            oldest=counted.oldest,
            holder=schema.holder,
            move=await self.move_note(),
        )

    async def move_note(self) -> MoveNote | None:
        """How far a move has filled this database; None: none has."""
        return await self._see(lambda: read_move(self._sql["read_move"]))

    async def last_epoch(self) -> int:
        """That of whoever owned this database last, or owns it now; 0: nobody has yet."""
        return sum([int(epoch) for (epoch,) in await self._rows("read_epoch")])

    async def copy_out(self, table: Table, after: Key | None) -> Sequence[codec.Values]:
        """The rows that come next by the table's key, at most some megabytes of them; none: that was all."""
        return await self._see(lambda: page(self._dialect, table, after))


def _step_names(dialect: Dialect) -> tuple[str, ...]:
    return tuple(step.label for step in load(folder(dialect.name)))


def read_move(query: str) -> Look[MoveNote | None]:
    rows = yield query, []
    return _NOTE.decode(rows[0][0]) if rows else None


def refuse_unfinished(address: str, note: MoveNote | None) -> None:
    """Raises MoveUnfinished for a database that a move has not finished filling."""
    if note is not None and note.finished_us is None:
        raise MoveUnfinished(address, note.source)


def refuse_older(address: str, found: int, steps: Sequence[Migration]) -> None:
    """Raises SchemaTooOld when the schema of a database that is only read lacks a step."""
    if found < len(steps):
        raise SchemaTooOld(address, found, len(steps))
