"""Runs a program or a shell script in a process group of its own."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from taskengine.errors import BadArguments, JobError
from taskengine.functions.builtin.line_capture import LineCapture
from taskengine.functions.context import TaskContext

__all__ = ["CommandFailed", "shell_command"]

_SHELL: Final = ("/bin/sh", "-c")
_SECRETS: Final = "TASKENGINE_SECRET_"
_TAIL: Final = 2000
_LINGER_S: Final = 0.5
_POLL_S: Final = 0.02

Word = str | int | float


class CommandFailed(JobError):
    """The program ended with a code that `ok_exit_codes` does not list, or by a signal."""

    code = "command_failed"


async def shell_command(
    ctx: TaskContext,
    argv: Sequence[Word] | None = None,
    script: str | None = None,
    env: Mapping[str, Word | bool | None] | None = None,
    cwd: str | None = None,
    stdin: str | None = None,
    ok_exit_codes: Sequence[int] = (),
) -> dict[str, Any]:
    """Runs `argv`, or `script` with /bin/sh, and gives `{exit_code, stdout, stderr}`.

    The program has the engine's environment with `env` on top (null takes a name away), without the engine's
    secrets. Its output goes to the log line by line, and into the result, of each at most the last 1 MiB. Cancel and
    timeout end the whole process group: SIGTERM, after the grace SIGKILL.
    """
    command = _command(argv, script)
    run = _Run(ctx)
    try:
        await run.begin(command, _environment(env or {}), cwd)
    except OSError as error:
        raise CommandFailed(f"{command[0]!r} cannot be started: {error}") from None
    except ValueError as error:  # a null byte, or a name with an equals sign
        raise BadArguments(f"the command cannot be started: {error}") from None
    try:
        run.feed(stdin)
        await run.ended.wait()
        await run.linger()
    except BaseException:
        await run.end_group()
        raise
    finally:
        run.close()
    return _result(run, ok_exit_codes)


class _Run(asyncio.SubprocessProtocol):
    """One program: its output, its end. The end of the program and the end of its output are two things."""

    def __init__(self, ctx: TaskContext) -> None:
        self._grace_s = ctx.grace_s
        self._transport: asyncio.SubprocessTransport | None = None
        self._silent = asyncio.Event()
        self._pid = 0
        self.captures = {1: LineCapture(ctx, "stdout"), 2: LineCapture(ctx, "stderr")}
        self.ended = asyncio.Event()
        self.exit_code = 0

    async def begin(self, command: Sequence[str], env: Mapping[str, str], cwd: str | None) -> None:
        loop = asyncio.get_running_loop()
        await loop.subprocess_exec(lambda: self, *command, env=env, cwd=cwd, start_new_session=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Here and not after `subprocess_exec`: a short program has ended by then.
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._pid = self._transport.get_pid()

    def feed(self, text: str | None) -> None:
        """Write all of the program's input, and close it."""
        pipe = cast(asyncio.WriteTransport, self._pipe(0))
        if text:
            pipe.write(text.encode("utf-8", "surrogateescape"))
        pipe.write_eof()

    async def linger(self) -> None:
        """The rest of the output. What was left in the background and holds the pipe is not waited for."""
        try:
            await asyncio.wait_for(self._silent.wait(), _LINGER_S)
        except TimeoutError:
            return

    def close(self) -> None:
        """Let go of the pipes."""
        for capture in self.captures.values():
            capture.close()
        if self._transport is not None:
            self._transport.close()

    async def end_group(self) -> None:
        """SIGTERM to the program and all it started, SIGKILL to what is left after the grace."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._grace_s
        try:
            # The leader may be gone while others of its group still clean up; nothing tells of their end.
            alive = self._kill(signal.SIGTERM)
            while alive and loop.time() < until_s:
                await asyncio.sleep(_POLL_S)
                alive = self._kill(0)
        finally:
            self._kill(signal.SIGKILL)
        await self.ended.wait()

    def _kill(self, number: int) -> bool:
        """Whether there was anybody to get the signal."""
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:
            return False
        return True

    def _pipe(self, fd: int) -> asyncio.BaseTransport | None:
        return self._transport.get_pipe_transport(fd) if self._transport else None

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        self.captures[fd].feed(cast(bytes, data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd in self.captures:
            self.captures[fd].close()
        if all(capture.closed for capture in self.captures.values()):
            self._silent.set()

    def process_exited(self) -> None:
        code = self._transport.get_returncode() if self._transport else None
        self.exit_code = code if code is not None else 0
        self.ended.set()


def _command(argv: Sequence[Word] | None, script: str | None) -> list[str]:
    if (argv is None) == (script is None):
        raise BadArguments("give either argv or script")
    if script is not None:
        return [*_SHELL, script]
    assert argv is not None
    if not argv:
        raise BadArguments("argument 'argv': the list is empty")
    return [str(word) for word in argv]


def _environment(given: Mapping[str, Word | bool | None]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}
    for name, value in given.items():
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = _text(value)
    return kept


def _text(value: Word | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _result(run: _Run, ok_exit_codes: Sequence[int]) -> dict[str, Any]:
    out, err = run.captures[1].text, run.captures[2].text
    if run.exit_code != 0 and run.exit_code not in ok_exit_codes:
        raise CommandFailed(_failure(run.exit_code, err or out))
    return {"exit_code": run.exit_code, "stdout": out, "stderr": err}


def _failure(code: int, said: str) -> str:
    how = f"the command ended with exit code {code}"
    if code < 0:
        how = f"the command was ended by {signal.Signals(-code).name}"
    tail = said.strip()[-_TAIL:]
    return f"{how}: {tail}" if tail else how
