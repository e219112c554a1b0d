"""A TCP proxy in front of a database server that delays, swallows, cuts and refuses when a test says so.

It lives in a thread with a loop of its own, so it serves engines in this process and in others. A commit is
recognized by what a store of ours sends: PostgreSQL's is one call with the events of the batch in it, MySQL's ends with
a COMMIT.
"""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from databases.asking import kind_of

__all__ = ["Proxy"]

Cut = Literal["before", "after"]
PATIENCE_S = 20.0
_MARKS = {"postgresql": b'"seq":', "mysql": b";COMMIT"}
_PORTS = {"postgresql": 5432, "mysql": 3306}


class _Line:
    """One client's connection and the one to the server behind it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.answer_cut = False  # what comes next from the server is not passed on, and at its end the line is cut
        self.answer = b""

    def cut(self, *, reset: bool) -> None:
        for writer in (self.client, self.server):
            if writer.transport.is_closing():
                continue
            if reset:
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()


class Proxy:
    """Use it in a `with` block; `dsn` is the server's address through it.

    delay_s     before every piece that passes, in each direction
    commits     how many commits it has seen go out
    """

    def __init__(self, dsn: str) -> None:
        self._kind, self._target = kind_of(dsn), urlsplit(dsn)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._cut: Cut | None = None
        self._was_cut = threading.Event()
        self._half_open = False
        self._passes = asyncio.Event()
        self._passes.set()
        self.delay_s, self.commits, self.port = 0.0, 0, 0

    @property
    def dsn(self) -> str:
        parts = self._target
        user = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{user}@127.0.0.1:{self.port}").geturl()

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._do(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    # -- faults ------------------------------------------------------------------------------------------------------

    def cut_commit(self, when: Cut) -> None:
        """Cut the next commit: before it reaches the server, or after the server has done it and before it says so."""
        self._was_cut.clear()
        self._cut = when

    def until_cut(self) -> None:
        """Until `cut_commit` has happened."""
        assert self._was_cut.wait(PATIENCE_S), "no commit came by"

    def cut_all(self, *, reset: bool = True) -> None:
        """End every connection, by RST or by FIN."""
        self._do(lambda: self._cut_all(reset))

    def swallow(self) -> None:
        """From now on nothing passes, and nobody is told: a black hole."""
        self._do(self._passes.clear)

    def let_pass(self) -> None:
        """What was swallowed goes on."""
        self._do(self._passes.set)

    def hide_the_dead(self) -> None:
        """From now on the server does not hear that a client has gone: as when a machine loses its power."""
        self._half_open = True

    def refuse(self) -> None:
        """Listen no more, and end what is there."""
        self._do(self._refuse)

    def accept(self) -> None:
        """Listen, again at the same port."""
        self._do(self._accept)

    # -- on its own loop ---------------------------------------------------------------------------------------------

    def _do(self, work: Callable[[], Any]) -> None:
        async def run() -> None:
            done = work()
            if asyncio.iscoroutine(done):
                await done

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE_S)

    async def _accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self._cut_all(reset=True)

    async def _end(self) -> None:
        await self._refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut_all(self, reset: bool) -> None:
        for line in list(self._lines):
            line.cut(reset=reset)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line: _Line | None = None
        try:
            server_in, server_out = await asyncio.open_connection(
                self._target.hostname, self._target.port or _PORTS[self._kind]
            )
            line = _Line(client_out, server_out)
            self._lines.add(line)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._up(line, client_in))
                both.create_task(self._down(line, server_in))
        except (OSError, ExceptionGroup):
            pass
        finally:
            self._tasks.discard(task)
            self._lines.discard(line)  # type: ignore[arg-type]
            client_out.close()
            if line is not None:
                line.server.close()

    async def _up(self, line: _Line, source: asyncio.StreamReader) -> None:
        """What the client says. A mark may lie across two pieces."""
        mark, tail = _MARKS[self._kind], b""
        while piece := await self._read(source):
            await self._pass_time()
            seen = tail + piece
            if mark in seen:
                self.commits += 1
                if self._cut == "before":
                    self._note_cut()
                    line.cut(reset=True)
                    return
                if self._cut == "after":
                    self._cut = None
                    line.answer_cut = True
            tail = b"" if mark in seen else seen[-len(mark) :]
            line.server.write(piece)
            await line.server.drain()
        if line.server.can_write_eof():
            line.server.write_eof()

    async def _read(self, source: asyncio.StreamReader) -> bytes:
        """What a client says next, nothing: it has gone."""
        try:
            piece = await source.read(1 << 16)
        except OSError:
            if not self._half_open:
                raise
            piece = b""
        if not piece and self._half_open:
            await asyncio.Event().wait()  # until the test ends
        return piece

    async def _down(self, line: _Line, source: asyncio.StreamReader) -> None:
        """What the server says."""
        while piece := await source.read(1 << 16):
            await self._pass_time()
            if line.answer_cut:
                line.answer += piece
                if self._kind == "mysql" and not _mysql_is_done(line.answer):
                    continue
                self._note_cut()
                line.cut(reset=True)
                return
            try:
                line.client.write(piece)
                await line.client.drain()
            except OSError:
                if not self._half_open:
                    raise
        line.client.close()

    def _note_cut(self) -> None:
        self._cut = None
        self._was_cut.set()

    async def _pass_time(self) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        await self._passes.wait()


def _mysql_is_done(answer: bytes) -> bool:
    """Has the server answered the last of several statements, none of which gives rows? It answers one by one."""
    while len(answer) >= 4:
        length = int.from_bytes(answer[:3], "little")
        packet, answer = answer[4 : 4 + length], answer[4 + length :]
        if len(packet) == length and (packet[0] == 0xFF or not _has_more(packet)):
            return True
    return False


def _has_more(ok: bytes) -> bool:
    """An OK packet: 0, two numbers of varying length, the status of the server."""
    at = 1
    for _ in range(2):
        at += {0xFC: 3, 0xFD: 4, 0xFE: 9}.get(ok[at], 1)
    return bool(int.from_bytes(ok[at : at + 2], "little") & 0x0008)


def wait_for(holds: Callable[[], bool], what: str, limit_s: float = PATIENCE_S) -> None:
    """Another thread or process has no event of ours."""
    deadline_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)
