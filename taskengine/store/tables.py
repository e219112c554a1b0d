"""The tables whose rows are the data, as data: what a copy of a database consists of, whichever kind it is.

A test compares this list with the real schema of every database, so a table that is forgotten here is found.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from taskengine.store import columns
from taskengine.store.dialect import Dialect

__all__ = ["BESIDE", "TABLES", "Table"]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table.

    columns   in the order of the codec's values
    key       the columns of its primary key, by which its rows are read in pages
    wide      columns that may hold much; the others are short
    numbered  its rows have a number beside these columns, which says in which order they came
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    wide: tuple[str, ...] = ()
    numbered: bool = False

    @property
    def of_instances(self) -> bool:
        """An instance has several of its rows."""
        return self.key[0] == "instance_id" and len(self.key) > 1

    def places(self, dialect: Dialect) -> tuple[str, ...]:
        """All columns that are copied, as this database calls them; the number comes last."""
        return (*self.columns, dialect.number) if self.numbered else self.columns


TABLES: Final[tuple[Table, ...]] = (
    Table(name="definitions", columns=columns.DEFINITION, key=("version",), wide=("canonical",), numbered=True),
    Table(name="workflows", columns=columns.WORKFLOW, key=("id",)),
    Table(name="functions", columns=columns.FUNCTION, key=("name",), wide=("signature", "doc")),
    Table(name="tokens", columns=columns.TOKEN, key=("id",)),
    Table(name="instances", columns=columns.INSTANCE, key=("id",), wide=("params", "error")),
    Table(name="tasks", columns=columns.TASK, key=("instance_id", "ordinal"), wide=("spec", "result", "error")),
    Table(name="attempts", columns=columns.ATTEMPT, key=("instance_id", "ordinal", "attempt"), wide=("error",)),
    Table(name="events", columns=columns.EVENT, key=("instance_id", "seq"), wide=("body",)),
    Table(name="commands", columns=columns.COMMAND, key=("instance_id", "id"), wide=("answer",), numbered=True),
    Table(name="logs", columns=columns.LOG, key=("instance_id", "id"), wide=("message",)),
    Table(name="artifacts", columns=columns.ARTIFACT, key=("instance_id", "ordinal", "name")),
    Table(name="removed", columns=columns.REMOVED, key=("instance_id",)),
)
"""In the order in which they are copied."""

BESIDE: Final[Mapping[str, str]] = {
    "nodes": "who has the database",
    "batches": "commits that may be asked about",
    "moves": "how far the database has been filled by a move",
}
"""Tables that belong to one database and not to the data, and what they hold."""
