"""Takes away what lies in the artifact store and no row names any more."""

from collections.abc import Sequence
from typing import Final

import msgspec

from taskengine.ambient import Ambient
from taskengine.clock import Micros
from taskengine.store.artifacts import Artifacts
from taskengine.store.interface import Store

__all__ = ["GRACE_US", "Collected", "collect"]

GRACE_US: Final = Micros(24 * 3600 * 1_000_000)
"""What was put is left alone for so long: its row may be on its way."""

_SLICE: Final = 200


class Collected(msgspec.Struct, frozen=True):
    """How many, and how many bytes."""

    count: int = 0
    size: int = 0


async def collect(store: Store, artifacts: Artifacts, ambient: Ambient) -> Collected:
    """In small slices. Raises what the store and the place raise; what was not looked at waits for the next time."""
    before_us = Micros(ambient.clock.now_us() - GRACE_US)
    digests, count, size = await artifacts.older(before_us), 0, 0
    for at in range(0, len(digests), _SLICE):
        for digest in await _unknown(store, digests[at : at + _SLICE]):
            freed = await artifacts.remove(digest, before_us)
            count, size = count + bool(freed), size + freed
    if count:
        ambient.log.info("artifacts.collected", count=count, bytes=size)
    return Collected(count, size)


async def _unknown(store: Store, digests: Sequence[str]) -> list[str]:
    known = await store.known_digests(digests)
    return [digest for digest in digests if digest not in known]
