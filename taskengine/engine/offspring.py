"""What became of the sub-tasks of one task, read from the store page by page."""

from typing import Final

import msgspec

from taskengine.engine.results import whole_results
from taskengine.functions.sub_tasks import SubTask
from taskengine.model.ids import InstanceId
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
    store: Store,
    artifacts: Artifacts,
    instance_id: InstanceId,
    parent: int,
    *,
    after: int = -1,
    limit: int = MOST,
    results: bool = True,
) -> list[SubTask]:
    """In the order of their making.

    after    only those behind the one of this ordinal
    results  false: each has None, and what lies in the artifact store is not read
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
    given = {row.ordinal: row.result for row in found if results and isinstance(row.result, bytes)}
    whole = await whole_results(given, artifacts)
    return [_told(row, whole.get(row.ordinal)) for row in found]


def _told(row: TaskRow, result: bytes | None) -> SubTask:
    return SubTask(
        name=row.name.rpartition("/")[2],
        ordinal=row.ordinal,
        status=row.state.value,
        attempt=row.attempt,
        result=None if result is None or row.state is not TaskState.SUCCESS else _JSON.decode(result),
        error=_FAILURE.decode(row.error) if isinstance(row.error, bytes) else None,
    )
