import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.clock import Micros
from taskengine.engine.planner.retry import delay_us, may_retry
from taskengine.model.definition import RetryPolicy
from taskengine.model.records import TaskFailure

SECOND = 1_000_000
YEAR = 365 * 24 * 3600 * SECOND


def failure(
    kind: str = "ValueError", *, bases: tuple[str, ...] = (), retryable: bool = True, after: int | None = None
) -> TaskFailure:
    after_us = None if after is None else Micros(after)
    return TaskFailure(type=kind, message="坏了", bases=bases, retryable=retryable, retry_after_us=after_us)


def test_without_a_policy_nothing_is_repeated() -> None:
    assert not may_retry(None, 1, failure())


def test_count_is_the_number_of_further_attempts() -> None:
    policy = RetryPolicy(count=2)
    assert [may_retry(policy, tries, failure()) for tries in (1, 2, 3)] == [True, True, False]


def test_a_failure_that_is_not_retryable_ends_it() -> None:
    assert not may_retry(RetryPolicy(count=5), 1, failure(retryable=False))


@pytest.mark.parametrize(
    ("kind", "bases", "repeated"),
    [
        ("TimeoutError", (), True),
        ("MyTimeout", ("TimeoutError", "OSError"), True),
        ("ValueError", ("Exception",), False),
    ],
)
def test_on_is_matched_against_the_class_and_its_bases(kind: str, bases: tuple[str, ...], repeated: bool) -> None:
    policy = RetryPolicy(count=1, on=("TimeoutError",))
    assert may_retry(policy, 1, failure(kind, bases=bases)) is repeated


def test_delays_grow_by_backoff_up_to_the_longest() -> None:
    policy = RetryPolicy(count=9, interval_us=Micros(SECOND), backoff=2.0, max_interval_us=Micros(5 * SECOND))
    assert [delay_us(policy, tries, None, "i/0/1") // SECOND for tries in (1, 2, 3, 4, 5)] == [1, 2, 4, 5, 5]


def test_what_the_job_asks_for_wins_and_is_not_spread() -> None:
    policy = RetryPolicy(count=1, interval_us=Micros(SECOND), jitter=1.0, max_interval_us=Micros(SECOND))
    assert delay_us(policy, 1, failure(after=7 * SECOND), "i/0/1") == 7 * SECOND


@given(
    interval=st.integers(0, YEAR),
    backoff=st.floats(1, 1000),
    tries=st.integers(1, 10_000),
    jitter=st.floats(0, 1),
    seed=st.text(max_size=10),
)
def test_a_delay_is_never_negative_nor_longer_than_a_year(
    interval: int, backoff: float, tries: int, jitter: float, seed: str
) -> None:
    policy = RetryPolicy(count=1, interval_us=Micros(interval), backoff=backoff, jitter=jitter)
    delay = delay_us(policy, tries, None, seed)
    assert 0 <= delay <= YEAR
    assert delay == delay_us(policy, tries, None, seed), "the same attempt has the same delay"


def test_jitter_spreads_to_both_sides() -> None:
    policy = RetryPolicy(count=1, interval_us=Micros(SECOND), jitter=0.5)
    delays = [delay_us(policy, 1, None, f"i/{number}/1") for number in range(200)]
    assert min(delays) >= SECOND // 2
    assert max(delays) <= SECOND * 3 // 2
    assert min(delays) < SECOND * 0.7 < SECOND * 1.3 < max(delays)
