"""What became of the sub-tasks of one task, read from the store page by page."""

from typing import Any, Final

import msgspec

from taskengine.engine.results import whole_results
from taskengine.model.ids import InstanceId, Ordinal
from taskengine.model.records import TaskFailure, TaskRow
from taskengine.model.states import TaskState
from taskengine.store.artifacts import Artifacts
from taskengine.store.interface import Store

__all__ = ["MOST", "sub_tasks"]

MOST: Final = 5_000
"""Sub-tasks of one page."""

_PAGE: Final = 1_000
_JSON: Final = msgspec.json.Decoder()
_FAILURE: Final = msgspec.json.Decoder(TaskFailure)


async def sub_tasks(
    store: Store, artifacts: Artifacts, instance_id: InstanceId, parent: int, *, after: int = -1, limit: int = MOST
) -> list[dict[str, Any]]:
    """In the order of their making: name among the siblings, ordinal, status, attempt, result, error.

    after  only those behind the one of this ordinal
    Raises StoreUnavailable, StoreCorrupt.
    """
    found: list[TaskRow] = []
    after, limit = max(after, parent), max(0, min(limit, MOST))
    while len(found) < limit:
        page = await store.tasks(instance_id, after=after, limit=_PAGE)
        found += [row for row in page if row.parent == parent and row.added_by >= 0]
        if len(page) < _PAGE:
            break
        after = page[-1].ordinal
    found = found[:limit]
    results = await whole_results(
        {row.ordinal: row.result for row in found if isinstance(row.result, bytes)}, artifacts
    )
    return [_told(row, results.get(row.ordinal)) for row in found]


def _told(row: TaskRow, result: bytes | None) -> dict[str, Any]:
    succeeded = row.state is TaskState.SUCCESS and result is not None
    return {
        "name": row.name.rpartition("/")[2],
        "ordinal": int(Ordinal(row.ordinal)),
        "status": row.state.value,
        "attempt": row.attempt,
        "result": _JSON.decode(result) if succeeded and result is not None else None,
        "error": _FAILURE.decode(row.error) if isinstance(row.error, bytes) else None,
    }
