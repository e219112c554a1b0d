"""The worker process: `python -m taskengine.functions.worker LINE PARENT`.

LINE is the file descriptor of a socket to the engine, PARENT its process id. The main thread runs bodies, one after
the other; a second thread reads the line and ends the process when the engine has gone.
"""

import asyncio
import inspect
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from queue import SimpleQueue
from threading import Lock, Thread, get_ident
from types import FrameType
from typing import Any, Final

from taskengine.clock import SystemClock
from taskengine.functions.binding import Binder
from taskengine.functions.context import JobContext, SyncTaskContext, TaskContext, activate
from taskengine.functions.ending import outcome_of, raised
from taskengine.functions.job import is_async
from taskengine.functions.joblog import Hearing
from taskengine.functions.loading import resolve
from taskengine.functions.outcomes import CallOutcome, Frame
from taskengine.functions.questions import Question, settle
from taskengine.functions.services import Services
from taskengine.functions.solo import Solo
from taskengine.functions.worker_link import REQUESTS, Asked, Ended, Frames, Hello, Order, Reply, Told, encode

__all__ = ["Worker", "main"]

_PIECE: Final = 256 * 1024
_PR_SET_PDEATHSIG: Final = 1


class Line:
    """Sends frames to the engine, from any thread, each in one piece even if a signal comes in between."""

    def __init__(self, line: socket.socket) -> None:
        self._socket = line
        self._lock = Lock()
        self.main_thread = get_ident()
        self.sending = False
        """The main thread is inside of a frame."""

    def send(self, message: Told | Asked | Ended) -> None:
        data = encode(message)
        if get_ident() == self.main_thread:
            self.sending = True
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError:  # the engine has gone; the reading thread notices too
            return
        finally:
            if get_ident() == self.main_thread:
                self.sending = False


class Worker:
    """Carries out orders. SIGTERM becomes a CancelledError in the body."""

    def __init__(self, line: socket.socket) -> None:
        self._socket = line
        self._line = Line(line)
        self._requests: SimpleQueue[Hello | Order] = SimpleQueue()
        self._functions: dict[tuple[str, str], tuple[Callable[..., Any], Binder]] = {}
        self._services = Services()
        self._max_result = 0
        self._grace_s = 0.0
        self._log_cap = 0
        self._log_level = logging.WARNING
        self._context: JobContext | None = None
        self._solo: Solo | None = None
        self._terminated = False
        self._in_body = False
        self._owed = False
        self._asked: dict[int, Future[Any]] = {}
        self._questions = count(1)

    def serve(self) -> None:
        """Work until the engine hangs up or SIGTERM comes; does not return."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        Thread(target=self._read, name="line", daemon=True).start()
        while not self._terminated:
            request = self._requests.get()
            if isinstance(request, Hello):
                self._settle_in(request)
            else:
                self._carry_out(request)
        _leave()

    def _settle_in(self, hello: Hello) -> None:
        sys.path[:] = hello.sys_path
        if hello.pythonpath is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = hello.pythonpath
        self._services = Services.elsewhere(hello.factories, hello.objects)
        self._max_result, self._grace_s = hello.max_result, hello.grace_s
        self._log_cap, self._log_level = hello.log_cap, hello.log_level

    def _carry_out(self, order: Order) -> None:
        # Again for each body: the one before may have changed it.
        signal.signal(signal.SIGTERM, self._on_sigterm)
        outcome = self._outcome(order)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        if self._context is not None:
            self._context.sum_up()
        self._line.send(Ended(outcome))
        self._context = None

    def _outcome(self, order: Order) -> CallOutcome:
        try:
            self._in_body = True
            value = self._call(order)
            self._in_body = False
            return outcome_of(value, order.nan, self._max_result)
        except BaseException as error:
            self._in_body = False
            return raised(error, self._terminated)

    def _call(self, order: Order) -> Any:
        function, binder = self._function(order.path, order.origin)
        kind = TaskContext if is_async(function) else SyncTaskContext
        context = kind(
            order.info,
            self._services,
            SystemClock(),
            self._tell,
            self._grace_s,
            log_cap=self._log_cap,
            asker=self._ask,
        )
        context.begun = True
        self._context = context
        activate(context)
        # Around each body and not for good: the modules of the next one may want to configure logging themselves.
        with Hearing(self._log_level):
            return self._run(function, binder, context)

    def _run(self, function: Callable[..., Any], binder: Binder, context: JobContext) -> Any:
        args, kwargs = binder.bind(context.params, context, self._services)
        value = function(*args, **kwargs)
        if inspect.isawaitable(value):
            self._solo = Solo()
            try:
                return self._solo.run(value)
            finally:
                self._solo = None
        return value

    def _function(self, path: str, origin: str) -> tuple[Callable[..., Any], Binder]:
        key = (path, origin)
        if key not in self._functions:
            function = resolve(path, origin)
            self._functions[key] = (function, Binder(function))
        return self._functions[key]

    def _tell(self, frame: Frame) -> None:
        self._line.send(Told(frame))
        if self._owed and get_ident() == self._line.main_thread:
            self._owed = False
            raise asyncio.CancelledError("the worker process got SIGTERM")

    def _ask(self, question: Question) -> "Future[Any]":
        """From any thread of the body; the second thread brings the answer."""
        future: Future[Any] = Future()
        number = next(self._questions)
        self._asked[number] = future
        self._line.send(Asked(number, question))
        return future

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        self._terminated = True
        if self._context is not None:
            self._context.mark_cancelled()
        if self._solo is not None:
            self._solo.cancel()
        elif self._in_body:
            self._in_body = False  # once: a second signal must not hit the clean-up
            if self._line.sending:
                self._owed = True
                return
            raise asyncio.CancelledError("the worker process got SIGTERM")
        elif self._context is None:
            _leave()

    def _read(self) -> None:
        """In the second thread."""
        frames = Frames()
        while data := _receive(self._socket):
            for frame in frames.feed(data):
                request = REQUESTS.decode(frame)
                if isinstance(request, Reply):
                    settle(self._asked.pop(request.number), request.answered)
                else:
                    self._requests.put(request)
        _end_group()


def _receive(line: socket.socket) -> bytes:
    try:
        return line.recv(_PIECE)
    except OSError:
        return b""


def _end_group() -> None:
    """The engine has gone: nobody waits for the body, and a second copy of it may start any moment."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _leave() -> None:
    # Without the interpreter's farewell: threads of a body would keep it waiting.
    os._exit(0)


def _tie_to(parent: int) -> None:
    """On Linux the kernel ends us with the engine, even while a body holds the interpreter lock."""
    if sys.platform != "linux":
        return
    import ctypes  # only here: a few milliseconds

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before we asked
        _end_group()


def main() -> None:
    line, parent = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(line, False)
    _tie_to(parent)
    Worker(socket.socket(fileno=line)).serve()


if __name__ == "__main__":
    main()
