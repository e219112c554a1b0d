"""Random definitions that are valid, and a text that holds about everything."""

import msgspec
import pytest
from hypothesis import strategies as st

from taskengine.definition.fields import make
from taskengine.model.definition import (
    Executor,
    OnFailure,
    ParamSpec,
    Retention,
    RetryPolicy,
    TaskSpec,
    Trigger,
    WorkflowDefinition,
)

WORDS = "abcXYZ019_.-获取数据ßéя"
TEXT = st.one_of(
    st.text(max_size=12).filter(lambda text: "${{" not in text),
    st.sampled_from(
        ["on", "yes", "no", "null", "~", "012", "0o14", "1e5", "1:30", "2024-01-02", ".nan", "<<", "=", "- a", "a: b",
         "# c", "two\nlines\n", "\n lead", "trail \n", "tab\t", "\u2028", "\x85x", "é\u0301", "'\"", "{", "[", "%", "@",
         "!tag", "&a", "*a", "|", ">", "\ufeff", "a #b", "line\r\nend", "\x07", " ", "  two", "😀", "\u200f"]
    ),
)  # fmt: skip
NAMES = st.text(alphabet=WORDS, min_size=1, max_size=8).filter(lambda name: name.strip("."))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)
SPANS = st.integers(min_value=1, max_value=100 * 365 * 86_400_000_000)
KEPT = st.sampled_from([msgspec.UNSET, None]) | st.integers(min_value=60_000_000, max_value=10**13)
RETENTIONS = st.builds(Retention, success_us=KEPT, failed_us=KEPT).filter(lambda made: made != Retention())
RETRIES = st.builds(
    lambda **made: make(RetryPolicy, made),
    count=st.integers(0, 9),
    interval_us=st.integers(0, 10**10),
    backoff=st.floats(1, 10),
    max_interval_us=st.none() | st.integers(0, 10**10),
    jitter=st.floats(0, 1),
    on=st.lists(st.sampled_from(["TimeoutError", "httpx.HTTPError", "错误"]), unique=True).map(tuple),
)


@st.composite
def param_specs(draw):
    default = draw(st.just(msgspec.UNSET) | VALUES)
    return ParamSpec(default=default, required=default is msgspec.UNSET and draw(st.booleans()), description=draw(TEXT))


@st.composite
def tasks(draw, name, before):
    depends_on = tuple(draw(st.lists(st.sampled_from(before), unique=True, max_size=3))) if before else ()
    triggers = list(Trigger) if depends_on else [Trigger.ALL_SUCCESS, Trigger.ALL_DONE, Trigger.NONE_FAILED]
    once = draw(st.booleans())
    return TaskSpec(
        name=name,
        job=draw(st.sampled_from(["noop", "my_jobs.load", "pkg.mod:run", "下载"])),
        description=draw(TEXT),
        params=draw(st.dictionaries(TEXT, VALUES, max_size=3)),
        depends_on=depends_on,
        when=draw(st.sampled_from(["", "${{ params.a }}", "${{ 1 > 0 }}"])),
        trigger=draw(st.sampled_from(triggers)),
        timeout_us=draw(st.none() | SPANS),
        retry=None if once else draw(st.none() | RETRIES),
        required_params=tuple(draw(st.lists(NAMES, unique=True, max_size=2))),
        result_mapping=draw(st.dictionaries(NAMES, NAMES, max_size=2)),
        executor=draw(st.sampled_from(Executor)),
        at_most_once=once,
        idempotency_key=draw(st.sampled_from(["", "k", "k-${{ instance.id }}"])),
        continue_on_failure=draw(st.booleans()),
        pool=draw(st.just("") | NAMES),
        priority=draw(st.integers(-1000, 1000)),
    )


@st.composite
def workflows(draw):
    names = draw(st.lists(NAMES, unique_by=str.casefold, max_size=5))
    params = draw(st.dictionaries(NAMES, param_specs(), max_size=3))
    if params:
        params = {"a": ParamSpec(), **params}
    return WorkflowDefinition(
        id=draw(NAMES),
        name=draw(TEXT.map(lambda text: text + "!")),
        description=draw(TEXT),
        labels=draw(st.dictionaries(NAMES, TEXT, max_size=2)),
        params=params,
        tasks=tuple(draw(tasks(name, names[:at])) for at, name in enumerate(names)),
        max_concurrent_tasks=draw(st.none() | st.integers(1, 99)),
        timeout_us=draw(st.none() | SPANS),
        on_failure=draw(st.sampled_from(OnFailure)),
        retention=draw(st.none() | RETENTIONS),
    )


@pytest.fixture(scope="session")
def valid_definitions():
    """A strategy: definitions that no check refuses, without sleeps (their durations have one spelling only)."""
    return workflows()


@pytest.fixture(scope="session")
def full_text() -> str:
    """A file that uses about every key."""
    return """\
id: daily-sync
name: 每日同步
description: Daily market data
labels: {team: quant}
params:
  trade_date: {type: string, required: true, pattern: "^[0-9]{8}$"}
  env: production
max_concurrent_tasks: 10
timeout: 2h
on_failure: continue
retention: {success: 7d, failed: none}
tasks:
  - name: calendar
    job: http_request
    params: {url: "https://example.org/cal?d=${{ params.trade_date }}"}
    timeout: 60s
    retry: {count: 3, interval: 5s, backoff: 2.0, max_interval: 1m, jitter: 0.1, on: [TimeoutError, HTTPStatusError]}
  - name: 等待
    sleep: 5m
    depends_on: calendar
  - name: load
    job: my_jobs.load
    depends_on: [calendar, 等待]
    when: tasks.calendar.result.rows | length > 0
    params: {rows: "${{ tasks.calendar.result.rows }}"}
    trigger: none_failed
    executor: process
    required_params: [rows]
    result_mapping: {count: row_count}
    at_most_once: true
    idempotency_key: load-${{ params.trade_date }}
    continue_on_failure: true
    pool: api
    priority: -3
"""
