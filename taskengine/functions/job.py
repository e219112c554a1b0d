"""The `@job` decorator and the record of one registered function."""

import functools
import inspect
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar, overload

import msgspec

from taskengine.clock import Micros
from taskengine.errors import InvalidConfiguration, NotSupportedYet
from taskengine.functions.binding import Binder
from taskengine.functions.loading import home_of
from taskengine.model.definition import Executor, RetryPolicy
from taskengine.model.durations import parse_duration

__all__ = ["MARK", "JobFunction", "JobMark", "Kind", "is_async", "job", "kind_for", "make_job", "mark_of"]

MARK: Final = "__taskengine_job__"
"""The attribute that `@job` leaves on a function."""

F = TypeVar("F", bound=Callable[..., Any])


class Kind(StrEnum):
    """Where a body runs."""

    ASYNC = "async"  # on the loop
    THREAD = "thread"
    PROCESS = "process"


class JobMark(msgspec.Struct, frozen=True):
    """What `@job` was told. `name` is empty where the function's own name holds."""

    name: str = ""
    timeout_us: Micros | None = None
    retry: RetryPolicy | None = None
    executor: Executor = Executor.AUTO
    nan: str = "error"


class JobFunction(msgspec.Struct, frozen=True):
    """A registered function.

    path        `module:qualname`, by which a worker process or a later start imports it again
    origin      the file it was loaded from, when that was not a module of the Python path
    awaits      it is an `async def`
    timeout_us  what the function asks for; a task's own `timeout` and `retry` come first
    """

    name: str
    function: Callable[..., Any]
    kind: Kind
    path: str
    binder: Binder
    origin: str = ""
    awaits: bool = True
    timeout_us: Micros | None = None
    retry: RetryPolicy | None = None
    nan: str = "error"


@overload
def job(name: F, /) -> F: ...
@overload
def job(
    name: str | None = None,
    *,
    timeout: float | str | timedelta | None = None,
    retry: int | RetryPolicy | None = None,
    executor: str | None = None,
    nan: str = "error",
) -> Callable[[F], F]: ...
def job(
    name: Any = None,
    *,
    timeout: float | str | timedelta | None = None,
    retry: int | RetryPolicy | None = None,
    executor: str | None = None,
    nan: str = "error",
) -> Any:
    """Mark a function as a job; bare or with options. Nothing is registered by that.

    timeout   of one attempt: `60`, `"1m30s"`, a timedelta
    retry     number of further attempts, or the whole policy
    executor  async, thread or process; without it `async def` runs on the loop and `def` in a thread
    nan       `null` turns NaN and infinities of the result into null instead of failing
    Raises    InvalidConfiguration, NotSupportedYet
    """
    if callable(name):
        return _marked(name, JobMark())
    mark = _mark(name, timeout, retry, executor, nan)
    return lambda function: _marked(function, mark)


def mark_of(function: object) -> JobMark | None:
    """What `@job` left there, None for any other object."""
    mark = getattr(function, MARK, None) if callable(function) else None
    return mark if isinstance(mark, JobMark) else None


def make_job(
    name: str,
    function: Callable[..., Any],
    *,
    timeout: float | str | timedelta | None = None,
    retry: int | RetryPolicy | None = None,
    executor: str | None = None,
    origin: str = "",
) -> JobFunction:
    """The record of a function; options given here come before those of its `@job`. Raises as `job` does."""
    mark = mark_of(function) or JobMark()
    path, home = home_of(function)
    told = _mark(name, timeout, retry, executor, mark.nan)
    made = JobFunction(
        name=name,
        function=function,
        kind=_kind(name, function, told.executor or mark.executor),
        path=path,
        binder=_binder(name, function),
        origin=origin or home,
        awaits=is_async(function),
        timeout_us=mark.timeout_us if told.timeout_us is None else told.timeout_us,
        retry=told.retry or mark.retry,
        nan=mark.nan,
    )
    kind_for(made, Executor.AUTO)
    return made


def kind_for(job: JobFunction, executor: Executor) -> Kind:
    """Where a call runs when the task asks for `executor`. Raises InvalidConfiguration when it cannot run there."""
    kind = Kind(executor) if executor else job.kind
    if kind is Kind.ASYNC and not job.awaits:
        raise InvalidConfiguration(
            f"job {job.name!r} is a plain def and would block the loop: write async def, or use the executor thread"
        )
    if kind is Kind.PROCESS and "<" in job.path:
        raise InvalidConfiguration(
            f"job {job.name!r} cannot run in a worker process: {job.path} cannot be imported by name; "
            "move the function to the top level of a module"
        )
    return kind


def _marked(function: F, mark: JobMark) -> F:
    if not callable(function):
        raise InvalidConfiguration(f"@job is for functions, not for {function!r}")
    setattr(function, MARK, mark)
    return function


def _mark(name: Any, timeout: Any, retry: Any, executor: Any, nan: str) -> JobMark:
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise InvalidConfiguration(f"a job's name is a text that is not empty, got {name!r}")
    if nan not in ("error", "null"):
        raise InvalidConfiguration(f"nan is 'error' or 'null', got {nan!r}")
    return JobMark(name or "", _timeout(timeout), _retry(retry), _executor(executor), nan)


def _timeout(timeout: float | str | timedelta | None) -> Micros | None:
    if timeout is None:
        return None
    try:
        span_us = parse_duration(timeout)
    except ValueError as error:
        raise InvalidConfiguration(f"timeout: {error}") from error
    if span_us == 0:
        raise InvalidConfiguration("timeout: 0 would end every attempt at once; leave it out for no timeout")
    return span_us


def _retry(retry: int | RetryPolicy | None) -> RetryPolicy | None:
    if retry is None or isinstance(retry, RetryPolicy):
        return retry
    if isinstance(retry, bool) or not isinstance(retry, int) or retry < 0:
        raise InvalidConfiguration(f"retry is a number of further attempts or a RetryPolicy, got {retry!r}")
    return RetryPolicy(count=retry)


def _executor(executor: str | None) -> Executor:
    if executor == "cluster":
        raise NotSupportedYet("the executor 'cluster' is not supported yet; see docs/not-yet.md")
    try:
        return Executor(executor or "")
    except ValueError:
        raise InvalidConfiguration(f"executor is async, thread or process, got {executor!r}") from None


def _kind(name: str, function: Callable[..., Any], executor: Executor) -> Kind:
    if not callable(function):
        raise InvalidConfiguration(f"job {name!r} is no function: {function!r}")
    if inspect.isasyncgenfunction(function):
        raise NotSupportedYet(f"job {name!r} is an async generator (a source); not supported yet, see docs/not-yet.md")
    if inspect.isgeneratorfunction(function):
        raise InvalidConfiguration(f"job {name!r} is a generator, whose items nobody would read; return a list")
    if executor:
        return Kind(executor)
    return Kind.ASYNC if is_async(function) else Kind.THREAD


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine: `async def`, a partial of one, an object with an `async __call__`."""
    bare = function.func if isinstance(function, functools.partial) else function
    return inspect.iscoroutinefunction(bare) or inspect.iscoroutinefunction(getattr(bare, "__call__", None))  # noqa: B004


def _binder(name: str, function: Callable[..., Any]) -> Binder:
    try:
        return Binder(function)
    except (ValueError, TypeError) as error:
        raise InvalidConfiguration(f"job {name!r} has no signature that params could bind to: {error}") from error
