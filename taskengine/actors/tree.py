"""The supervision tree as something to look at."""

from collections.abc import Iterator

import msgspec

from taskengine.actors.household import Household

__all__ = ["ActorInfo", "walk"]


class ActorInfo(msgspec.Struct, frozen=True):
    """One line of `Dispatcher.snapshot()`.

    name      key, or URN where there is none
    parent    name of the parent, None at the top
    depth     messages that wait
    restarts  how often its supervisor has built it anew
    tasks     spawned coroutines that are running for it
    """

    name: str
    actor_class: str
    parent: str | None
    depth: int
    restarts: int
    tasks: int


def walk(household: Household, parent: str | None = None) -> Iterator[ActorInfo]:
    """Depth first. A list of it costs a string per anonymous actor; fine for a person, not for a poll."""
    for ref in list(household.children):
        home = ref.household
        yield ActorInfo(
            name=ref.name,
            actor_class=ref.actor_class.__name__,
            parent=parent,
            depth=ref.depth,
            restarts=ref.restarts,
            tasks=0 if home is None else len(home.tasks),
        )
        if home is not None:
            yield from walk(home, ref.name)
