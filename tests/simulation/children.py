"""The children of one simulated instance: other instances, which a crash of their parent's planner does not touch."""

import random

from taskengine.engine.planner import ChildOrder, StartChild, TellChild
from taskengine.model.children import ChildOf
from taskengine.model.ids import InstanceId
from taskengine.model.messages import ChildSettled
from taskengine.model.records import Outcome, TaskFailure

_ENDS = [Outcome.OK] * 6 + [Outcome.FAIL, Outcome.FAIL, Outcome.INTERRUPTED]


class Children:
    """Outcome by the child's link; None: it runs."""

    def __init__(self, parent: str, rng: random.Random) -> None:
        self._parent, self._rng = InstanceId(parent), rng
        self.outcomes: dict[ChildOf, Outcome | None] = {}

    @property
    def running(self) -> list[ChildOf]:
        return [link for link, outcome in self.outcomes.items() if outcome is None]

    def link(self, effect: StartChild | TellChild) -> ChildOf:
        return ChildOf(self._parent, effect.ordinal, effect.attempt)

    def start(self, effect: StartChild) -> ChildSettled | None:
        """A new one, or word of one that has ended."""
        return self._word(self.link(effect)) if self.outcomes.setdefault(self.link(effect), None) else None

    def tell(self, effect: TellChild) -> ChildSettled | None:
        """A cancel ends it, or comes too late; nothing else changes how it ends."""
        link = self.link(effect)
        if effect.order is not ChildOrder.CANCEL:
            return None
        if self.outcomes.get(link) is None:
            self.outcomes[link] = self._rng.choice([Outcome.INTERRUPTED, Outcome.INTERRUPTED, Outcome.OK])
        return self._word(link)

    def end_one(self) -> ChildSettled:
        link = self._rng.choice(self.running)
        self.outcomes[link] = self._rng.choice(_ENDS)
        return self._word(link)

    def _word(self, link: ChildOf) -> ChildSettled:
        outcome = self.outcomes[link]
        assert outcome is not None
        error = None if outcome is Outcome.OK else TaskFailure(type="ChildFailed", message="坏了")
        return ChildSettled(link.ordinal, link.attempt, link.child, outcome, b"1", error)
