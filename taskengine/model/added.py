"""What a task that was added at run time is made from: the `spec` column of its row."""

from collections.abc import Sequence
from typing import Final

import msgspec

from taskengine.model.definition import TaskSpec, Trigger
from taskengine.model.records import TaskRow

__all__ = ["Added", "added_spec", "decode_added", "encode_added", "item_spec"]


class Added(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One added task.

    task   its definition, with the name that it has among its siblings; None: it is one item of its parent's `for_each`
    index  of that item, from 0
    item   JSON
    """

    task: TaskSpec | None = None
    index: int = -1
    item: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def name(self) -> str:
        """Among its siblings."""
        return str(self.index) if self.task is None else self.task.name


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(Added)


def encode_added(added: Added) -> bytes:
    """JSON with sorted keys and without defaults: the same meaning, the same bytes."""
    return _ENCODER.encode(added)


def decode_added(data: bytes) -> Added:
    return _DECODER.decode(data)


def item_spec(parent: TaskSpec) -> TaskSpec:
    """What each item of a `for_each` runs: the parent's job, without what the parent has settled before."""
    return msgspec.structs.replace(
        parent,
        depends_on=(),
        when="",
        trigger=Trigger.ALL_SUCCESS,
        for_each=msgspec.UNSET,
        max_parallel=None,
        tolerance=None,
        continue_on_failure=False,
    )


def added_spec(specs: Sequence[TaskSpec], row: TaskRow, source: bytes) -> TaskSpec:
    """Of the added task of this row, with its dependencies under their full names.

    specs   of the definition, by ordinal: an item of a `for_each` runs its parent's job
    source  what the row was made from
    """
    added = decode_added(source)
    if added.task is None:
        return item_spec(specs[row.parent])
    prefix = row.name.rpartition("/")[0]
    siblings = tuple(f"{prefix}/{name}" if prefix else name for name in added.task.depends_on)
    return msgspec.structs.replace(added.task, depends_on=siblings)
