"""uvicorn inside our own loop: our signals, our log, our socket."""

import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import anyio
import uvicorn

from taskengine.api.stream.protocol import uvicorn_options
from taskengine.clock import Clock
from taskengine.config import ServerConfig
from taskengine.errors import InvalidConfiguration
from taskengine.server.connections import HttpConnection, Sweeper

__all__ = ["WebServer", "tls_context"]

_SPARE_CONNECTIONS: Final = 2_000
_PING_S: Final = 20.0
_LOGGER: Final = logging.getLogger("uvicorn.error")


def tls_context(server: ServerConfig) -> ssl.SSLContext | None:
    """The certificate and its key, loaded; None without one. Raises InvalidConfiguration."""
    if server.tls_cert is None or server.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(server.tls_cert, server.tls_key, password=_no_password)
    except ssl.SSLError as error:
        raise InvalidConfiguration(
            f"{server.tls_cert} and {server.tls_key} are no certificate and its key in PEM form: {error.reason}"
        ) from None
    except OSError as error:
        raise InvalidConfiguration(
            f"server.tls_cert, server.tls_key: {error.strerror or error} ({server.tls_cert}, {server.tls_key})"
        ) from None
    return context


def _no_password() -> str:
    raise InvalidConfiguration("server.tls_key: the key is locked with a password; use one without")


class _Quiet(uvicorn.Server):
    """Leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Answers on a listening socket, which it closes. Start once; `stop` may be called again."""

    def __init__(
        self, app: Any, sock: socket.socket, server: ServerConfig, context: ssl.SSLContext | None, clock: Clock
    ) -> None:
        self._sock = sock
        config = uvicorn.Config(
            app,
            **uvicorn_options() | {"http": HttpConnection},
            ws_ping_interval=_PING_S,
            ws_ping_timeout=_PING_S,
            lifespan="off",
            log_config=None,
            access_log=server.access_log,
            proxy_headers=False,  # the gate looks at them, and knows whom to believe
            server_header=False,
            limit_concurrency=server.max_clients + _SPARE_CONNECTIONS,
            ssl_context_factory=None if context is None else lambda config, default: context,
            timeout_graceful_shutdown=1,
        )
        self._server = _Quiet(config)
        self._sweeper = Sweeper(
            clock,
            lambda: self._server.server_state.connections,
            server.read_timeout.total_seconds(),
            server.write_timeout.total_seconds(),
        )
        self._ended = anyio.Event()

    async def run(self) -> None:
        """Serve until `stop`."""
        self._sweeper.start()
        try:
            await self._server.serve(sockets=[self._sock])
        finally:
            self._sweeper.stop()
            _LOGGER.setLevel(logging.NOTSET)
            self._ended.set()

    async def stop(self, within_s: float) -> None:
        """Take no more requests, close what is open, WebSockets with 1012; what is left after `within_s` is cut."""
        _LOGGER.setLevel(logging.CRITICAL)  # that answers are cut short now is no error
        self._server.should_exit = True
        with anyio.move_on_after(within_s):
            await self._ended.wait()
        for connection in list(self._server.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        self._server.force_exit = True
        await self._ended.wait()
