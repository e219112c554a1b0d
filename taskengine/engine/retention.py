"""Which ended instances have been kept long enough. Looks at the store and changes nothing.

Walks in the order of an index: by state over what follows the engine's retention, by workflow over what follows one of
its own. A walk reads what was created long enough ago and judges it by its end, so what has run for long is read again
until its time comes; that is little, while an index by the time of the end would be paid by every instance.
"""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from taskengine.clock import Micros, seconds
from taskengine.errors import InvalidInput
from taskengine.model.definition import Retention, retention_of
from taskengine.model.durations import MAX_DURATION_US
from taskengine.model.ids import InstanceId, Version, WorkflowId
from taskengine.model.records import Aged
from taskengine.model.states import INSTANCE_FINAL, InstanceState
from taskengine.store.interface import InstanceQuery, Store

__all__ = ["FOR_EVER", "KEY_US", "RETENTION", "Pruning", "asked", "due"]

FOR_EVER: Final = Retention(success_us=None, failed_us=None)

KEY_US: Final = Micros(24 * 3600 * 1_000_000)
"""From the start that it came with, an idempotency key is good for so long at least."""

_PAGE: Final = 500


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be removed; with nothing said: all whose retention is over.

    older_than_us  what ended so long ago, whatever a retention says
    states         only of these final states; empty: of all
    workflow_id    only of this workflow
    """

    older_than_us: Micros | None = None
    states: frozenset[InstanceState] = frozenset()
    workflow_id: WorkflowId | None = None


RETENTION: Final = Pruning()
"""All whose retention is over."""


def asked(older_than_s: float | None, states: Collection[InstanceState], workflow_id: str | None) -> Pruning:
    """What somebody asks for. Raises InvalidInput: an instance that has not ended is never removed."""
    live = sorted(set(states) - INSTANCE_FINAL)
    if live:
        raise InvalidInput(f"{', '.join(live)}: only ended instances are removed: {', '.join(sorted(INSTANCE_FINAL))}")
    if older_than_s is not None and not 0 <= older_than_s <= MAX_DURATION_US / 1_000_000:
        raise InvalidInput(f"older than {older_than_s:g} s: it is a span of time from 0 to a hundred years")
    return Pruning(
        older_than_us=None if older_than_s is None else seconds(older_than_s),
        states=frozenset(states),
        workflow_id=None if workflow_id is None else WorkflowId(workflow_id),
    )


async def due(store: Store, retention: Retention, pruning: Pruning, now_us: Micros) -> AsyncIterator[list[Aged]]:
    """What may go, in pages of at most 500, each as of the moment in which it is read.

    retention  of instances whose version says nothing
    """
    stored = [] if pruning.older_than_us is not None else await store.keeping()
    own = {row.version: (retention_of(row.canonical) or FOR_EVER).over(retention) for row in stored}
    workflows: dict[WorkflowId, list[Retention]] = {}
    for row in stored:
        workflows.setdefault(row.workflow_id, []).append(own[row.version])
    judge = _Judge(pruning, retention, own, now_us)
    for query, of_own in judge.walks(workflows):
        async for page in _pages(store, query):
            found = [aged for aged in page if judge.is_due(aged) and of_own in (None, aged.version in own)]
            if found:
                yield found


async def _pages(store: Store, query: InstanceQuery) -> AsyncIterator[list[Aged]]:
    after: tuple[Micros, InstanceId] | None = None
    while page := await store.aged(query, limit=_PAGE, after=after):
        yield page
        if len(page) < _PAGE:
            return
        after = page[-1].created_us, page[-1].id


class _Judge:
    """What is due at one moment. `own`: what versions say themselves, completed by the engine's retention."""

    def __init__(
        self, pruning: Pruning, retention: Retention, own: Mapping[Version, Retention], now_us: Micros
    ) -> None:
        self._pruning, self._retention, self._own, self._now_us = pruning, retention, own, now_us
        self._states = (pruning.states or INSTANCE_FINAL) & INSTANCE_FINAL

    def is_due(self, aged: Aged) -> bool:
        """Whether it is at its end and nobody may count on it any more."""
        if aged.state not in self._states or aged.finished_us is None:
            return False
        if aged.keyed and aged.created_us + KEY_US > self._now_us:
            return False
        kept_us = self._kept_us(self._own.get(aged.version, self._retention), aged.state)
        return kept_us is not None and aged.finished_us + kept_us <= self._now_us

    def walks(self, workflows: Mapping[WorkflowId, Sequence[Retention]]) -> Iterator[tuple[InstanceQuery, bool | None]]:
        """What to look through, and whether for versions with a retention of their own: only, not, or both (None).

        workflows  those that have such versions, with what they say
        """
        wanted = self._pruning.workflow_id
        if wanted is not None:
            yield from self._walk([self._retention, *workflows.get(wanted, ())], None, workflow_id=wanted)
            return
        for state in sorted(self._states):
            yield from self._walk([self._retention], False, states=frozenset({state}))
        for workflow_id, retentions in workflows.items():
            yield from self._walk(retentions, True, workflow_id=workflow_id)

    def _walk(
        self, retentions: Sequence[Retention], of_own: bool | None, **narrower: Any
    ) -> Iterator[tuple[InstanceQuery, bool | None]]:
        """Up to where the first of these lets anything go; nothing, where they keep for ever."""
        states = narrower.get("states", self._states)
        spans = [self._kept_us(retention, state) for retention in retentions for state in states]
        line_us = max((self._now_us - span_us for span_us in spans if span_us is not None), default=None)
        if line_us is not None:
            # What ended before the line was made before it.
            yield InstanceQuery(created_before_us=Micros(line_us + 1), **narrower), of_own

    def _kept_us(self, retention: Retention, state: InstanceState) -> Micros | None:
        if self._pruning.older_than_us is not None:
            return self._pruning.older_than_us
        kept_us = retention.success_us if state is InstanceState.SUCCESS else retention.failed_us
        return None if kept_us is msgspec.UNSET else kept_us
