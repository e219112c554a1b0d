"""The answer to an ask: awaitable on any loop without blocking it, gettable from a thread that has no loop."""

import asyncio
import functools
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Never, TypeVar, cast

import pykka

__all__ = ["AsyncFuture", "refuse_to_block"]

T = TypeVar("T")
J = TypeVar("J")
M = TypeVar("M")
R = TypeVar("R")

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
_PENDING: Final = object()


def refuse_to_block(call: str, loop_thread: int | None = None) -> None:
    """Raise RuntimeError where waiting in `call` would stop an event loop.

    That is on every thread with a running loop, and on `loop_thread` even while its loop stands still: nobody
    else could ever deliver the answer there.
    """
    if loop_thread == threading.get_ident() or asyncio._get_running_loop() is not None:
        raise RuntimeError(f"{call} would block the event loop; await the future instead")


class AsyncFuture(pykka.Future[T]):
    """A pykka future whose `await` really waits.

    Set once, from any thread. `await` works on every loop and any number of times. `get()` blocks and is
    therefore for threads without a loop; elsewhere it raises RuntimeError. `loop_thread` is the thread of the
    dispatcher that will answer. `map`, `filter`, `join` and `reduce` apply their function when the result is
    asked for, as pykka's do, in the thread or task that asks.
    """

    def __init__(self, loop_thread: int | None = None) -> None:
        super().__init__()
        self._loop_thread = loop_thread
        self._lock = threading.Lock()
        self._value: Any = _PENDING
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] | None = []

    def __repr__(self) -> str:
        state = "pending" if not self.done() else "failed" if self._error is not None else "done"
        return f"<AsyncFuture {state}>"

    def done(self) -> bool:
        """Whether there is a value or an exception."""
        return self._callbacks is None

    def set(self, value: T | None = None) -> None:
        """Give the value. Raises queue.Full if there already is one, as pykka does."""
        self._settle(value, None)

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """Give an exception: the triple, or the one being handled. Raises queue.Full if settled before."""
        kind, error, trace = exc_info or sys.exc_info()
        if error is None:
            if kind is None:
                raise TypeError("set_exception() needs an exception")
            error = kind()
        self._settle(None, error.with_traceback(trace))

    def get(self, *, timeout: float | None = None) -> T:
        """Block until there is a result; `timeout` in seconds, then pykka.Timeout.

        Raises RuntimeError on a thread that runs a loop, even if the result is there: what works only
        sometimes is found too late.
        """
        refuse_to_block("get()", self._loop_thread)
        return self._wait(timeout)

    def __await__(self) -> Generator[Any, None, T]:
        if not self.done():
            loop = asyncio.get_running_loop()
            waiter = loop.create_future()
            yield from _until_called(self, loop, waiter)
        return self._result()

    # pykka makes its futures iterable for `yield from`; a future that also awaits needs the same generator.
    __iter__ = __await__

    def map(self, func: Callable[[T], M]) -> "AsyncFuture[M]":
        """A future of `func(result)`."""
        return _Derived(self._loop_thread, [self], lambda values: func(values[0]))

    def filter(self: "pykka.Future[Iterable[J]]", func: Callable[[J], bool]) -> "AsyncFuture[Iterable[J]]":
        """A future of the list of those items of the result for which `func` is true."""
        return _derive([self], lambda values: list(filter(func, values[0])))

    def join(self: "pykka.Future[Any]", *futures: "pykka.Future[Any]") -> "AsyncFuture[Iterable[Any]]":
        """A future of the list of all results, in the order of the arguments, this one first."""
        return _derive([self, *futures], list)

    def reduce(self: "pykka.Future[Iterable[J]]", func: Callable[[R, J], R], *args: R) -> "AsyncFuture[R]":
        """A future of functools.reduce over the result; one optional initial value."""
        return _derive([self], lambda values: functools.reduce(func, values[0], *args))

    def set_get_hook(self, func: Callable[[float | None], T]) -> Never:
        """Refused: a hook is a blocking function. `map` does what a hook is good for."""
        raise NotImplementedError("a get hook would block the event loop; use map()")

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call once when settled, on the thread that settles it; at once if it is. Must not raise."""
        with self._lock:
            if self._callbacks is not None:
                self._callbacks.append(callback)
                return
        callback()

    def forget(self, callback: Callable[[], None]) -> None:
        """Take back a `when_done`; nothing happens if it was called already."""
        with self._lock:
            if self._callbacks is not None and callback in self._callbacks:
                self._callbacks.remove(callback)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        with self._lock:
            if self._callbacks is None:
                raise queue.Full
            self._value, self._error = value, error
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks:
            callback()

    def _wait(self, timeout: float | None) -> T:
        if not self.done():
            settled = threading.Event()
            self.when_done(settled.set)
            if not settled.wait(timeout):
                self.forget(settled.set)
                raise pykka.Timeout(f"{timeout} seconds")
        return self._result()

    def _result(self) -> T:
        if self._error is not None:
            raise self._error
        return cast(T, self._value)


def _until_called(
    future: AsyncFuture[Any], loop: asyncio.AbstractEventLoop, waiter: "asyncio.Future[None]"
) -> Generator[Any, None, None]:
    thread = threading.get_ident()

    def release() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def settled() -> None:
        if threading.get_ident() == thread:
            release()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(release)

    future.when_done(settled)
    try:
        yield from waiter
    finally:
        future.forget(settled)


class _Derived(AsyncFuture[T]):
    """A future computed from others when somebody asks. The value is kept, a failure is computed again."""

    def __init__(
        self,
        loop_thread: int | None,
        sources: Sequence[pykka.Future[Any]],
        compute: Callable[[list[Any]], T],
    ) -> None:
        super().__init__(loop_thread)
        self._sources = sources
        self._compute = compute

    def set(self, value: T | None = None) -> None:
        raise queue.Full

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        raise queue.Full

    def get(self, *, timeout: float | None = None) -> T:
        refuse_to_block("get()", self._loop_thread)
        if self._value is _PENDING:
            self._value = self._compute([source.get(timeout=timeout) for source in self._sources])
        return cast(T, self._value)

    def __await__(self) -> Generator[Any, None, T]:
        if self._value is _PENDING:
            values = []
            for source in self._sources:
                if not isinstance(source, AsyncFuture):
                    raise TypeError(f"awaiting a {type(source).__name__} would block the event loop")
                values.append((yield from source.__await__()))
            self._value = self._compute(values)
        return cast(T, self._value)

    __iter__ = __await__

    def done(self) -> bool:
        return self._value is not _PENDING or all(
            isinstance(source, AsyncFuture) and source.done() for source in self._sources
        )


def _derive(sources: Sequence[pykka.Future[Any]], compute: Callable[[list[Any]], T]) -> AsyncFuture[T]:
    first = cast(AsyncFuture[Any], sources[0])
    return _Derived(first._loop_thread, sources, compute)
