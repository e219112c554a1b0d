"""How an engine is put together."""

import os
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from taskengine.ambient import Ambient
from taskengine.clock import Micros
from taskengine.engine.engine import Engine
from taskengine.engine.staff import Settings
from taskengine.errors import InvalidConfiguration
from taskengine.functions import MAX_RESULT, Registry, Services, builtin_registry
from taskengine.model.definition import Retention, RetryPolicy
from taskengine.model.durations import parse_duration
from taskengine.model.pools import Pool, make_pool, parse_rate, twins
from taskengine.store.artifacts import open_artifacts
from taskengine.store.interface import DEFAULT_READERS, Durability
from taskengine.store.opening import open_store
from taskengine.telemetry.masking import Mask, secret_values

__all__ = ["EngineBuilder"]

N = TypeVar("N", int, float)
Span = float | str | timedelta
"""Seconds, text such as "30d", or a timedelta."""


class EngineBuilder:
    """Say what the engine shall have, then `build()`. Without `with_store` everything is in memory and ends with it.

    `EngineBuilder().with_store("data/engine.db").with_workers(50).with_job_func("load", load).build()`
    """

    def __init__(self, ambient: Ambient | None = None) -> None:
        self._ambient = ambient or Ambient()
        self._dsn = "memory://"
        self._artifacts = ""
        self._durability: Durability = "full"
        self._readers = DEFAULT_READERS
        self._settings = Settings()
        self._registry: Registry = builtin_registry()
        self._services = Services()
        self._modules: set[str] = set()
        self._restores = False
        self._recovers = True
        self._on_fatal: Callable[[BaseException], object] | None = None

    def with_store(self, dsn: str | Path) -> Self:
        """A path or address: `data/engine.db`, `sqlite:///./engine.db`, `memory://`."""
        self._dsn = str(dsn)
        return self

    def with_durability(self, durability: Durability) -> Self:
        """`full` (the default): what was acknowledged survives a power cut; `normal`: a crash of the program only."""
        self._durability = durability
        return self

    def with_artifacts(self, url: str | Path) -> Self:
        """Where large results of this database lie, and no other's: a folder, or an address of fsspec such as
        `s3://bucket/prefix`. Without it: a folder beside the database's file, or in the data folder."""
        self._artifacts = str(url)
        return self

    def with_result_limits(self, *, inline: int = 1 << 20, limit: int = MAX_RESULT) -> Self:
        """Bytes of JSON up to which a result lies in the database (1 MiB), and that it may have at all (64 MiB)."""
        _at_least(0, inline, "inline")
        return self._with(inline_result=inline, max_result=_at_least(inline, limit, "limit"))

    def with_readers(self, count: int) -> Self:
        """How many reads of the store may go on at the same time (2)."""
        self._readers = _at_least(1, count, "readers")
        return self

    def with_workers(self, count: int) -> Self:
        """How many bodies run at the same time (20)."""
        return self._with(slots=_at_least(1, count, "workers"))

    def with_pool(self, name: str, *, slots: int, rate: str | None = None) -> Self:
        """A pool for tasks of all instances: `slots` attempts at once, `rate` starts such as "50/s", "600/m", "1000/h".

        A rate is kept evenly, with bursts of a tenth of a second's worth, and at least one start. Its slots are not
        workers of their own: an attempt needs one of each. Raises InvalidConfiguration.
        """
        try:
            pool = make_pool(name, _at_least(1, slots, "slots"), None if rate is None else parse_rate(rate))
        except ValueError as error:
            raise InvalidConfiguration(str(error)) from None
        return self.with_pools([pool])

    def with_pools(self, pools: Iterable[Pool]) -> Self:
        """Several at once, as `taskengine.model.pools` makes them. Raises InvalidConfiguration for equal names."""
        together = (*self._settings.pools, *pools)
        if fault := twins(together):
            raise InvalidConfiguration(fault)
        return self._with(pools=together)

    def with_threads(self, count: int) -> Self:
        """Threads for `def` jobs; without it as many as workers, at most 256."""
        return self._with(threads=_at_least(1, count, "threads"))

    def with_processes(self, count: int) -> Self:
        """Worker processes for process jobs (2)."""
        return self._with(processes=_at_least(1, count, "processes"))

    def with_max_recoveries(self, count: int) -> Self:
        """After how many unclean ends in a row a task is taken for the culprit (5); 0: never."""
        return self._with(max_recoveries=_at_least(0, count, "max_recoveries"))

    def with_grace(self, seconds: float) -> Self:
        """How long a body that was asked to end may take before it is abandoned, or killed in a process (5 s)."""
        return self._with(grace_s=_at_least(0, seconds, "grace"))

    def with_default_timeout(self, seconds: float | None) -> Self:
        """Of one attempt, for tasks whose definition and job state none. None: no limit, as without this."""
        if seconds is not None and not _at_least(0, seconds, "default_timeout"):
            raise InvalidConfiguration("a default_timeout of 0 would end every attempt at once; None means no limit")
        return self._with(default_timeout_us=None if seconds is None else Micros(round(seconds * 1_000_000)))

    def with_default_retry(self, policy: RetryPolicy) -> Self:
        """For tasks whose definition and job state none. Never for those that run at most once."""
        return self._with(default_retry=policy)

    def with_builtin(self, names: Collection[str] | None) -> Self:
        """Only these built-in jobs may be run; None: all of them. Raises InvalidConfiguration for an unknown one."""
        self._registry.enable_builtin(names)
        return self

    def with_log_cap(self, lines: int) -> Self:
        """How many log lines are kept of one attempt of a task (10,000); 0: none."""
        return self._with(log_cap=_at_least(0, lines, "log_cap"))

    def with_retention(self, *, success: Span | None = None, failed: Span | None = None) -> Self:
        """How long instances are kept that ended as Success, and that ended in any other way; None: for ever.

        Without this an embedded engine removes nothing but what a workflow's own `retention` gives up: a library does
        not delete what nobody told it to. A server starts with 30 and 90 days.
        """
        kept = Retention(success_us=_kept("success", success), failed_us=_kept("failed", failed))
        return self._with(retention=kept)

    def with_job_func(self, name: str, function: Callable[..., Any], **options: Any) -> Self:
        """Register a function; options as in `@job`: timeout, retry, executor. Raises InvalidConfiguration."""
        self._registry.add(name, function, **options)
        return self

    def with_app(self, path: str | Path) -> Self:
        """Load a file and register every `@job` function in it."""
        self._registry.load_file(path)
        return self

    def with_module(self, name: str) -> Self:
        """Import a module, register its `@job` functions, and allow them to be restored from it."""
        self._registry.load_module(name)
        self._modules.add(name)
        return self

    def with_entry_points(self) -> Self:
        """Register the jobs of installed packages: everything in the entry-point group `taskengine.jobs`."""
        self._registry.load_entry_points()
        return self

    def with_service(self, key: str | type, service: object) -> Self:
        """What jobs get by `ctx.service(key)`, or by an argument annotated with the type."""
        self._services.with_service(key, service)
        return self

    def restore_functions_on_start(self, *modules: str) -> Self:
        """Import functions that an earlier start registered, by path, from these modules and those of `with_module`."""
        self._restores = True
        self._modules.update(modules)
        return self

    def with_recovery(self, enabled: bool) -> Self:
        """False: unfinished instances stay where they are until somebody asks for them."""
        self._recovers = enabled
        return self

    def with_on_fatal(self, callback: Callable[[BaseException], object]) -> Self:
        """Called once, on the loop, when the engine cannot go on; the process should end and start again."""
        self._on_fatal = callback
        return self

    def build(self) -> Engine:
        """The engine, not started. Raises InvalidConfiguration, NotSupportedYet."""
        return Engine(
            self._ambient,
            open_store(self._dsn, self._ambient, durability=self._durability, readers=self._readers),
            open_artifacts(self._artifacts, self._dsn, self._ambient.clock),
            self._registry,
            self._services,
            self._settings,
            recover=self._recovers,
            restore=frozenset(self._modules) if self._restores else None,
            on_fatal=self._on_fatal,
            mask=Mask(secret_values(os.environ, self._dsn)),
        )

    def _with(self, **changes: Any) -> Self:
        self._settings = msgspec.structs.replace(self._settings, **changes)
        return self


def _kept(what: str, span: Span | None) -> Micros | None:
    try:
        return None if span is None else parse_duration(span)
    except ValueError as error:
        raise InvalidConfiguration(f"retention: {what}: {error}; None keeps them for ever") from None


def _at_least(least: int, value: N, what: str) -> N:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
        raise InvalidConfiguration(f"{what} is a number of at least {least}, got {value!r}")
    return value
