"""Whether a failed attempt is repeated, and when. Pure: the spread of a delay comes from the attempt's own name."""

import hashlib
from typing import Final

from taskengine.clock import Micros
from taskengine.model.definition import RetryPolicy
from taskengine.model.records import TaskFailure

__all__ = ["delay_us", "may_retry"]

_LONGEST_US: Final = 365 * 24 * 3600 * 1_000_000


def may_retry(policy: RetryPolicy | None, tries: int, failure: TaskFailure | None) -> bool:
    """`tries` counts the failed attempts of this run, the latest included."""
    if policy is None or tries > policy.count:
        return False
    if failure is None:
        return True
    if not failure.retryable:
        return False
    return not policy.on or not {failure.type, *failure.bases}.isdisjoint(policy.on)


def delay_us(policy: RetryPolicy, tries: int, failure: TaskFailure | None, seed: str) -> Micros:
    """From the end of attempt number `tries` of this run to the next one.

    The delay that the job asked for (RetryAfter) wins over the policy, its jitter included. A year is the longest.
    """
    if failure is not None and failure.retry_after_us is not None:
        return Micros(min(max(0, failure.retry_after_us), _LONGEST_US))
    ceiling = _LONGEST_US if policy.max_interval_us is None else min(policy.max_interval_us, _LONGEST_US)
    delay = min(policy.interval_us * _growth(policy.backoff, tries - 1), ceiling)
    return Micros(round(min(delay * (1 + policy.jitter * _spread(seed)), _LONGEST_US)))


def _growth(backoff: float, steps: int) -> float:
    try:
        return backoff**steps
    except OverflowError:
        return float(_LONGEST_US)


def _spread(seed: str) -> float:
    """A number in -1..1 that depends on nothing but `seed`, so that a replayed decision is the same."""
    digest = hashlib.blake2b(seed.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 0x7FFFFFFF - 1
