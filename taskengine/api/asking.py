"""What several routes ask with: ids in the path, idempotency keys, filters of instances."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from litestar.params import HeaderParameter, PathParameter, QueryParameter

from taskengine.api.gate.tokens import Principal
from taskengine.api.paging import micros_of
from taskengine.clock import Micros
from taskengine.errors import InvalidInput
from taskengine.model.ids import WorkflowId
from taskengine.model.names import composed
from taskengine.model.spelling import did_you_mean
from taskengine.model.states import InstanceState
from taskengine.store.interface import InstanceQuery

__all__ = [
    "InstanceIdPath",
    "Key",
    "Statuses",
    "TaskNamePath",
    "WorkflowIdPath",
    "command_id",
    "instance_query",
    "labels_of",
    "workflow_key",
]

WorkflowIdPath = Annotated[str, PathParameter(max_length=400, description="The workflow's id, percent-encoded UTF-8.")]
InstanceIdPath = Annotated[str, PathParameter(max_length=200, description="The whole id of the instance.")]
TaskNamePath = Annotated[str, PathParameter(max_length=400, description="The task's name, percent-encoded UTF-8.")]
SignalPath = Annotated[str, PathParameter(max_length=400, description="The signal's name, percent-encoded UTF-8.")]
Key = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Any text that names this request: sent again, it has the same answer and no second effect.",
    ),
]
Statuses = Annotated[
    list[InstanceState] | None,
    QueryParameter(name="status", max_items=20, description="Only in this state; may be repeated for several."),
]


def workflow_key(text: str) -> WorkflowId:
    """The id as it is stored: in Unicode's normal form C."""
    return WorkflowId(composed(text))


def command_id(principal: Principal, route: str, instance_id: str, key: str | None) -> str | None:
    """One name for one request of one caller; None without a key. The same key on another route is another request."""
    if key is None:
        return None
    parts = "\0".join((principal.id, route, instance_id, key))
    return hashlib.sha256(parts.encode(errors="surrogatepass")).hexdigest()[:32]


def states_of(names: Sequence[str]) -> list[InstanceState]:
    """The states of a body, by their names. Raises InvalidInput."""
    known = {state.value: state for state in InstanceState}
    unknown = [name for name in names if name not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known) or f"; there are {', '.join(known)}"
        raise InvalidInput(f"status: there is no state {unknown[0]!r}{hint}")
    return [known[name] for name in names]


def labels_of(pairs: Sequence[str] | None) -> dict[str, str]:
    """`key:value` texts as a mapping. Raises InvalidInput."""
    found: dict[str, str] = {}
    for pair in pairs or ():
        key, colon, value = pair.partition(":")
        if not key or not colon:
            raise InvalidInput(f"label={pair!r} has no colon; write label=key:value, e.g. label=team:quant")
        if found.setdefault(key, value) != value:
            raise InvalidInput(f"label {key!r} is asked to be {found[key]!r} and {value!r}; no instance can be both")
    return found


def instance_query(
    *,
    workflow_id: str | None = None,
    states: Sequence[InstanceState] | None = None,
    labels: Sequence[str] | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    search: str = "",
    prefix: str = "",
) -> InstanceQuery:
    """The filters of a request as the store takes them. Raises InvalidInput."""
    return InstanceQuery(
        workflow_id=None if workflow_id is None else workflow_key(workflow_id),
        states=frozenset(states or ()),
        labels=labels_of(labels),
        created_after_us=_moment("created_after", created_after),
        created_before_us=_moment("created_before", created_before),
        search=search,
        prefix=prefix,
    )


def _moment(name: str, at: datetime | None) -> Micros | None:
    if at is None:
        return None
    if at.tzinfo is None:
        raise InvalidInput(f"{name}: {at.isoformat()} has no zone; end it with Z, or with an offset such as %2B08:00")
    return micros_of(at)
