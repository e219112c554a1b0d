"""Where an attempt waits for its slot: in a pool, with a priority."""

from collections.abc import Sequence
from typing import Final

from taskengine.engine.turns import TaskOffer
from taskengine.model.definition import TaskSpec

__all__ = ["COMMON", "Place", "by_place", "place_of"]

Place = tuple[str, int]
"""The name of a pool, empty: none; and a priority, higher first."""

COMMON: Final[Place] = ("", 0)


def place_of(spec: TaskSpec) -> Place:
    """Where the attempts of this task wait."""
    return (spec.pool, spec.priority)


def by_place(offers: Sequence[TaskOffer], specs: Sequence[TaskSpec]) -> list[tuple[Place, Sequence[TaskOffer]]]:
    """The offers of one burst by where they wait, the highest priority first; each place's in their order."""
    if len(offers) == 1:
        return [(place_of(specs[offers[0][0]]), offers)]
    places: dict[Place, list[TaskOffer]] = {}
    for offer in offers:
        spec = specs[offer[0]]
        places.setdefault((spec.pool, spec.priority), []).append(offer)
    if len(places) == 1:
        return list(places.items())
    return sorted(places.items(), key=lambda item: -item[0][1])
