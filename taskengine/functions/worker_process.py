"""One worker process as the engine sees it: its socket, its signals, its end."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Final, Protocol

import msgspec

from taskengine.clock import Clock, TimerHandle
from taskengine.errors import WorkerDied
from taskengine.functions.ending import interrupted, raised
from taskengine.functions.outcomes import CallOutcome, Frame
from taskengine.functions.questions import Answered, OnAnswer, Question
from taskengine.functions.returns import Returns
from taskengine.functions.worker_link import ANSWERS, Asked, BadLine, Ended, Frames, Reply, encode

__all__ = ["Assignment", "WorkerProcess"]

_PIECE: Final = 256 * 1024
_ROOT: Final = Path(__file__).resolve().parents[2]


class Assignment(Protocol):
    """A call as a worker needs it."""

    order: bytes
    cancelled: bool

    def deliver(self, frame: Frame) -> None: ...
    def ask(self, question: Question, on_answer: OnAnswer) -> None: ...
    def finish(self, outcome: CallOutcome) -> None: ...


class WorkerProcess:
    """Starts the process at once; its modules are imported while the first order is on its way. Loop thread only.

    limit                  bytes that one frame from it may have
    on_free(worker, call)  it has answered, `call.finish` comes next
    on_exit(worker, call)  it is gone; `call` is the one it had not answered, and is finished next
    """

    def __init__(
        self,
        hello: bytes,
        limit: int,
        returns: Returns,
        on_free: Callable[["WorkerProcess", Assignment], None],
        on_exit: Callable[["WorkerProcess", Assignment | None], None],
    ) -> None:
        self._on_free = on_free
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._call: Assignment | None = None
        self._frames = Frames(limit)
        self._fault = ""
        self._unsent = bytearray()
        self._timer: TimerHandle | None = None
        self.ending = False
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _start(theirs.fileno())
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._read)
        self._send(hello)
        Thread(target=self._wait, args=(returns,), name=f"worker-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def give(self, call: Assignment) -> None:
        """Hand over a call; the one before must have been answered."""
        self._call = call
        self._send(call.order)

    def terminate(self, clock: Clock, grace_s: float) -> None:
        """SIGTERM, and SIGKILL if it is still there after the grace."""
        if self.ending:
            return
        self.ending = True
        self._signal(signal.SIGTERM)
        self._timer = clock.call_at(clock.monotonic() + grace_s, self.kill)

    def kill(self, *, group: bool = False) -> None:
        """SIGKILL; to the whole group while a body runs, since what it started must end with it."""
        self.ending = True
        if self._process.returncode is not None:
            return
        try:
            if group or self._call is not None:
                os.killpg(self.pid, signal.SIGKILL)
            else:
                self._signal(signal.SIGKILL)
        except ProcessLookupError:  # just reaped
            return

    def _hang_up(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()

    def _signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)  # does nothing to a process that was reaped

    def _wait(self, returns: Returns) -> None:
        """In a thread of its own: no loop on Python 3.11 tells of a child's end without one."""
        returns.put(self._exited, self._process.wait())

    def _exited(self, code: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._read_rest()
        self._hang_up()
        call, self._call = self._call, None
        self._on_exit(self, call)
        if call is None:
            return
        died = f"worker process {self.pid} {self._fault or _how(code)} while it ran the job"
        call.finish(interrupted(died) if call.cancelled else raised(WorkerDied(died), cancelled=False))

    def _read_rest(self) -> None:
        """What it said before it went, its answer perhaps."""
        while self._socket.fileno() >= 0 and self._read():
            pass

    def _read(self) -> bool:
        """Take what has arrived; False when there is nothing more."""
        try:
            data = self._socket.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._line_is_dead()
            return False
        try:
            for frame in self._frames.feed(data):
                self._take(frame)
        except (BadLine, msgspec.DecodeError):
            self._fault = "wrote nonsense into the line to the engine"
            self._line_is_dead()
            return False
        return True

    def _line_is_dead(self) -> None:
        """It is ending, or a body has played with file descriptors."""
        self._hang_up()
        self.kill()

    def _take(self, frame: bytes) -> None:
        answer = ANSWERS.decode(frame)
        call = self._call
        if call is None:
            return
        if isinstance(answer, Asked):
            call.ask(answer.question, lambda answered: self._reply(call, answer.number, answered))
        elif isinstance(answer, Ended):
            self._call = None
            self._on_free(self, call)
            call.finish(answer.outcome)
        else:
            call.deliver(answer.frame)

    def _reply(self, call: Assignment, number: int, answered: Answered) -> None:
        if self._call is call:  # else its body has ended without waiting
            self._send(encode(Reply(number, answered)))

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        self._unsent += data
        self._write()

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
            del self._unsent[:sent]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # it is gone; the waiting thread tells
            self._unsent.clear()
        if self._unsent:
            self._loop.add_writer(self._socket, self._write)
        else:
            self._loop.remove_writer(self._socket)


def _start(line: int) -> subprocess.Popen[bytes]:
    """A fresh interpreter, never a fork: the engine has threads. A session of its own keeps Ctrl-C away from it."""
    command = [sys.executable, "-m", "taskengine.functions.worker", str(line), str(os.getpid())]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=_stderr(),
        stderr=_stderr(),
        pass_fds=(line,),
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_python_path())},
    )


def _python_path() -> list[str]:
    """Enough to import this package; the rest of the path follows with the first frame."""
    return [str(_ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def _stderr() -> int:
    """What the body prints must not mix with the engine's own output."""
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2


def _how(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (by the system, if memory ran out)" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"
