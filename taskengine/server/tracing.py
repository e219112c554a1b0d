"""Traces of what the engine does, sent away while the server runs; without a configured address nothing happens."""

from typing import Final

import anyio
import anyio.to_thread

from taskengine.ambient import Ambient
from taskengine.engine.engine import Engine
from taskengine.engine.traces import export_traces
from taskengine.telemetry.tracing import SpanSink

__all__ = ["Tracing"]

_SENDING_SHARE: Final = 0.5


class Tracing:
    """Exports the runs that end. `run` once, `stop` before the engine stops: what is missing is read from its store.

    sink  None: there is nobody to send to
    """

    def __init__(self, engine: Engine, sink: SpanSink | None, ambient: Ambient) -> None:
        self._engine, self._sink, self._ambient = engine, sink, ambient
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()

    async def run(self) -> None:
        """Until the bus closes or `stop`. Never fails: no work may depend on this."""
        try:
            with self._scope:
                if self._sink is not None:
                    await export_traces(self._engine, self._sink, self._ambient)
        except Exception as error:
            self._ambient.log.error("traces.ended", exc=error)
        finally:
            self._ended.set()

    async def stop(self, within_s: float) -> None:
        """Close the bus, read what is left to trace, send it. What takes longer is left out. `run` must be running."""
        self._engine.bus.close()
        with anyio.move_on_after(within_s * (1 - _SENDING_SHARE)):
            await self._ended.wait()
        self._scope.cancel()
        await self._ended.wait()
        if self._sink is not None:
            with anyio.move_on_after(within_s * _SENDING_SHARE):
                await anyio.to_thread.run_sync(self._sink.close, abandon_on_cancel=True)
