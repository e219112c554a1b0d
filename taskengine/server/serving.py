"""The life of a server: listen, start, be ready, drain, end."""

import asyncio
import gc
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import anyio

from taskengine.ambient import Ambient
from taskengine.api.app import make_app
from taskengine.api.gate import AuditLog, FileAudit, HostRules, Limits, MemoryAudit, TokenBook
from taskengine.api.parts import ApiParts
from taskengine.api.stream.hub import Hub
from taskengine.assembly import Assembly, assemble, set_up_log, shown_store, state_folder, token_path
from taskengine.clock import TimerHandle
from taskengine.config import Config, Settings
from taskengine.config.dsn import database_kind
from taskengine.config.presence import ServerNote, live_servers, remove_note, write_note
from taskengine.server.greeting import greeting
from taskengine.server.leaving import Leftovers, leave
from taskengine.server.listening import address_of, is_wildcard, listen, resolve
from taskengine.server.notify import Notifier
from taskengine.server.signals import StopSignals
from taskengine.server.tracing import Tracing
from taskengine.server.web import WebServer, tls_context
from taskengine.telemetry.tracing import open_sink

__all__ = ["serve"]

_READY_LOOK_S: Final = 0.05
_STATUS_S: Final = 10.0
_STALLED_S: Final = 120.0
_SAVING_SHARE: Final = 0.2
_SAVING_S: Final = 5.0
_OVERTIME_S: Final = 3.0
_BURST_S: Final = 10

Say = Callable[[str], object]


def serve(
    settings: Settings,
    ambient: Ambient | None = None,
    *,
    shown: Callable[[str], str] = str,
    program: str = "taskengine",
) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP; gives the exit code: 0 after an orderly end, 1 when the engine failed.

    The process is its own: it does not return but ends it, with that code, when a job has left a thread or a coroutine
    behind that would hold up the end; with 1 when the end takes longer than the grace and some; with 130 at the
    second signal.

    shown    makes text fit for a terminal
    program  how this program is called, for the commands that are shown
    Raises   InvalidConfiguration, NotSupportedYet, StoreLocked and other StoreErrors, OSError for a taken port.
    """
    config = settings.config
    set_up_log(config, shown)
    context = tls_context(config.server)
    ambient, leftovers = ambient or Ambient(), Leftovers()

    def give_up() -> None:
        ambient.log.error("server.would_not_end", advice="what was committed is safe, the next start recovers the rest")
        leave(1)

    signals = StopSignals(config.engine.execution.grace.total_seconds() + _OVERTIME_S, give_up)

    async def live(sock: socket.socket) -> int:
        life = _Life(settings, ambient, context, lambda text: _say(shown(text)), program, signals)
        code = await life.live(sock)
        if leftovers.found():
            leave(code)
        return code

    with signals, listen(config.server) as sock, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(live(sock))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not there on every platform
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class _Life:
    """One server. Everything is done on its loop."""

    def __init__(
        self,
        settings: Settings,
        ambient: Ambient,
        context: ssl.SSLContext | None,
        say: Say,
        program: str,
        signals: StopSignals,
    ) -> None:
        self._config: Config = settings.config
        self._assembly: Assembly = assemble(settings, ambient, self._on_fatal)
        self._ambient, self._engine = self._assembly.ambient, self._assembly.engine
        self._context, self._say, self._program, self._signals = context, say, program, signals
        self._started_us = self._ambient.clock.now_us()
        self._notifier = Notifier()
        self._tokens = TokenBook(self._engine, self._ambient)
        self._audit: AuditLog = MemoryAudit()
        self._hub = Hub(self._engine.bus, ambient=self._ambient)
        self._tracing = Tracing(self._engine, open_sink(self._ambient), self._ambient)
        self._address = ""
        self._web: WebServer | None = None
        self._note: Path | None = None
        self._fatal: BaseException | None = None
        self._failure: Exception | None = None
        self._draining = anyio.CancelScope()
        self._told = anyio.Event()
        self._stopping = False
        self._stalled_since_s: float | None = None
        self._beats: dict[Callable[[], None], TimerHandle] = {}

    async def live(self, sock: socket.socket) -> int:
        """The whole life; gives the exit code."""
        server = self._config.server
        self._address = address_of(sock, tls=self._context is not None, host=server.host)
        app = make_app(self._parts())
        self._web = WebServer(app, sock, server, self._context, self._ambient.clock)
        self._signals.on_first(self._told.set)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._noting, self._web.run)
            tasks.start_soon(self._tracing.run)
            async with anyio.create_task_group() as starting:
                starting.start_soon(self._noting, self._begin)
                await self._told.wait()  # a signal, or something failed; either may come at any time
                starting.cancel_scope.cancel()
            await self._end()
        if self._failure is not None:
            raise self._failure
        return 0 if self._fatal is None else 1

    async def _noting(self, part: Callable[[], Awaitable[None]]) -> None:
        """Run a part of the life; what it raises ends the life and is raised by it, alone and not in a group."""
        try:
            await part()
        except Exception as error:
            self._failure = self._failure or error
            self._told.set()

    # -- beginning -------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        self._assembly.loop_lag.start()
        self._notifier.status("starting")
        await self._engine.start()
        await self._engine.store.note_address(self._address)
        await self._hub.start()
        await self._tokens.load()
        token = token_path(self._config)
        first = not token.exists()
        await self._tokens.ensure_local(token)
        self._open_audit()
        self._greet(token, first=first)
        self._leave_note(token)
        while not self._engine.ready:
            await self._ambient.clock.sleep(_READY_LOOK_S)
        _settle_memory()
        self._ambient.log.info("server.ready", address=self._address, name=self._config.engine.general.instance_name)
        self._notifier.ready(f"serves {self._address}")
        self._beat_status()
        self._beat_watchdog()

    def _open_audit(self) -> None:
        """From here on into a file; what is in memory only is gone with the process anyway."""
        if database_kind(self._config.engine.storage.database.dsn) != "memory":
            path = state_folder(self._config) / "audit.log"
            self._audit = FileAudit(path, self._ambient.log)

    def _greet(self, token: Path, *, first: bool) -> None:
        store, alone = shown_store(self._config), not live_servers()
        lines = greeting(self._address, token, store, program=self._program, first=first, alone=alone)
        self._say("\n".join(lines))
        server = self._config.server
        if is_wildcard(resolve(server.host)[1]) and not server.allowed_hosts:
            self._ambient.log.warning(
                "server.only_local_names",
                advice="server.allowed_hosts names nobody: clients that ask for this machine by its name are refused",
            )

    def _leave_note(self, token: Path) -> None:
        note = ServerNote(
            address=self._address,
            pid=os.getpid(),
            token_file=str(token),
            store=shown_store(self._config),
            started_us=self._started_us,
        )
        try:
            self._note = write_note(note)
        except OSError as error:  # a home that cannot be written: commands need --server, all else works
            self._ambient.log.warning("server.no_note", error=str(error))

    # -- being -----------------------------------------------------------------------------------------------------

    def _health(self) -> Literal["ok", "starting", "degraded", "stopping"]:
        if self._stopping:
            return "stopping"
        if not self._engine.ready:
            return "starting"
        return "degraded" if self._engine.stalled else "ok"

    def _on_fatal(self, error: BaseException) -> None:
        self._fatal = self._fatal or error
        self._draining.cancel()
        self._told.set()

    def _beat_status(self) -> None:
        self._notifier.status(f"serves {self._address}, {self._hub.clients} streams, {self._health()}")
        self._again(_STATUS_S, self._beat_status)

    def _beat_watchdog(self) -> None:
        """That this is called shows that the loop lives; a store that has stalled for too long shows the contrary."""
        if self._notifier.watchdog_s is None:
            return
        now_s = self._ambient.clock.monotonic()
        if not self._engine.stalled:
            self._stalled_since_s = None
        elif self._stalled_since_s is None:
            self._stalled_since_s = now_s
        if self._stalled_since_s is None or now_s - self._stalled_since_s < _STALLED_S:
            self._notifier.alive()
        self._again(self._notifier.watchdog_s, self._beat_watchdog)

    def _again(self, delay_s: float, beat: Callable[[], None]) -> None:
        clock = self._ambient.clock
        self._beats[beat] = clock.call_at(clock.monotonic() + delay_s, beat)

    # -- ending ----------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Within the configured grace: what runs may finish, the rest is interrupted and saved."""
        clock, grace_s = self._ambient.clock, self._config.engine.execution.grace.total_seconds()
        until_s = clock.monotonic() + grace_s
        self._signals.end_begins()
        self._stopping = True
        if self._note is not None:
            remove_note(self._note)
        if self._failure is None and self._fatal is None:
            self._ambient.log.info("server.stopping", grace_s=grace_s)
            self._notifier.stopping("stopping: running tasks may finish")
            with self._draining:
                await self._engine.drain(grace_s - min(_SAVING_S, grace_s * _SAVING_SHARE))
        if self._fatal is not None:
            self._tell_why(self._fatal)
        await self._close(max(0.0, until_s - clock.monotonic()))
        self._ambient.log.info("server.stopped")

    async def _close(self, left_s: float) -> None:
        """Everything that was started, in the end by force; the engine has all the time that the others leave."""
        assert self._web is not None
        until_s = self._ambient.clock.monotonic() + left_s
        await self._hub.stop(min(1.0, left_s / 4))
        await self._web.stop(min(1.0, left_s / 4))
        await self._tracing.stop(min(2.0, left_s / 8))
        await self._engine.stop(grace_s=max(0.0, until_s - self._ambient.clock.monotonic() - left_s / 5))
        self._audit.close()
        self._assembly.loop_lag.stop()
        for beat in self._beats.values():
            beat.cancel()

    def _tell_why(self, error: BaseException) -> None:
        self._notifier.failed(f"failed: {error}")
        self._say(
            f"The engine cannot go on: {error or repr(error)}\n"
            "What was acknowledged is saved; start the server again and it goes on."
        )

    # -- for the API -----------------------------------------------------------------------------------------------

    def _parts(self) -> ApiParts:
        server = self._config.server
        return ApiParts(
            engine=self._engine,
            tokens=self._tokens,
            limits=_limits(self._config),
            hosts=HostRules.of(server.allowed_hosts, server.allowed_origins, server.behind_proxy),
            read_only=server.read_only,
            audit=_Audit(lambda: self._audit),
            started_at=datetime.fromtimestamp(self._started_us / 1_000_000, UTC),
            address=lambda: self._address,
            node_id=self._config.engine.general.instance_name,
            health=self._health,
            metrics=self._assembly.metrics.render,
            loop_lag=lambda: self._assembly.loop_lag.lag_s,
            clock=self._ambient.clock,
            hub=self._hub,
            ambient=self._ambient,
        )


class _Audit:
    """The audit log of the moment: in memory until the database's folder is there."""

    def __init__(self, current: Callable[[], AuditLog]) -> None:
        self._current = current

    def record(self, entry: Any) -> None:
        self._current().record(entry)

    def close(self) -> None:
        self._current().close()


def _limits(config: Config) -> Limits:
    server, limits = config.server, config.engine.limits
    return Limits(
        definition_bytes=limits.definition,
        body_bytes=limits.body,
        read_timeout_s=server.read_timeout.total_seconds(),
        failed_logins_per_minute=limits.failed_logins,
        starts_per_s=limits.starts_per_second,
        starts_burst=max(1, round(limits.starts_per_second * _BURST_S)),
        websockets=server.max_clients,
        websockets_per_principal=server.max_clients_per_token,
    )


def _settle_memory() -> None:
    """What is in memory now stays: the collector need not look at it again, and may look less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
