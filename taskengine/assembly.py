"""From settings to the parts of a server below its API: engine, log, metrics, the places where it keeps things."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from taskengine.ambient import Ambient, SilentMetrics
from taskengine.clock import seconds
from taskengine.config import Config, ExecutionConfig, Settings
from taskengine.config.dsn import database_kind, password_of, shown_dsn
from taskengine.config.places import data_folder
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.model.definition import RetryPolicy
from taskengine.telemetry.logs import set_up_logging
from taskengine.telemetry.looplag import LoopLag
from taskengine.telemetry.metrics import PrometheusMetrics

__all__ = ["Assembly", "assemble", "database_file", "set_up_log", "shown_store", "state_folder", "token_path"]

_GRACE_OF_BODIES_S: Final = 5.0
_BACKOFF: Final = 2.0


class Assembly(msgspec.Struct, frozen=True, kw_only=True):
    """What is put together for one server. Nothing of it is started.

    ambient   of the whole process
    metrics   what `ambient.metrics` counts into
    loop_lag  measures once it is started, on the loop's thread
    """

    settings: Settings
    ambient: Ambient
    engine: Engine
    metrics: PrometheusMetrics
    loop_lag: LoopLag


def assemble(settings: Settings, ambient: Ambient, on_fatal: Callable[[BaseException], object]) -> Assembly:
    """Put the parts together; jobs are imported here, so that a mistake in them is found before anything starts.

    on_fatal  called on the loop when the engine cannot go on
    Raises    InvalidConfiguration, NotSupportedYet.
    """
    metrics = PrometheusMetrics()
    if isinstance(ambient.metrics, SilentMetrics):
        ambient = msgspec.structs.replace(ambient, metrics=metrics)
    builder = _builder(settings.config, ambient).with_on_fatal(on_fatal)
    return Assembly(
        settings=settings, ambient=ambient, engine=builder.build(), metrics=metrics, loop_lag=LoopLag(ambient)
    )


def _builder(config: Config, ambient: Ambient) -> EngineBuilder:
    engine, functions = config.engine, config.functions
    execution, database, artifacts = engine.execution, engine.storage.database, engine.storage.artifacts
    retention = engine.storage.retention
    timeout = execution.default_task_timeout
    builder = (
        EngineBuilder(ambient)
        .with_store(database.dsn)
        .with_durability(database.durability)
        .with_readers(database.pool_size)
        .with_retention(success=retention.success, failed=retention.failed)
        .with_artifacts(artifacts.url or "")
        .with_result_limits(inline=artifacts.inline, limit=artifacts.limit)
        .with_workers(execution.worker_concurrency)
        .with_pools(execution.pools)
        .with_processes(execution.process_workers)
        .with_max_recoveries(execution.max_recoveries)
        .with_grace(min(_GRACE_OF_BODIES_S, execution.grace.total_seconds()))
        .with_default_timeout(None if timeout is None else timeout.total_seconds())
        .with_default_retry(_retry(execution))
        .with_builtin(functions.builtin)
        .with_log_cap(engine.limits.log_lines)
    )
    if functions.modules:
        _import_from_here()
    for module in functions.modules:
        builder.with_module(module)
    for app in functions.apps:
        builder.with_app(app)
    return builder


def _import_from_here() -> None:
    """Modules of the current folder can be named. Behind all others, so that none of them hides one of ours."""
    here = os.getcwd()
    if here not in (os.path.abspath(entry) for entry in sys.path):
        sys.path.append(here)


def _retry(execution: ExecutionConfig) -> RetryPolicy:
    retry = execution.retry
    return RetryPolicy(
        count=retry.count,
        interval_us=seconds(retry.interval.total_seconds()),
        backoff=_BACKOFF,
        max_interval_us=seconds(retry.max_interval.total_seconds()),
    )


def set_up_log(config: Config, shown: Callable[[str], str]) -> None:
    """Send the log of the whole process to stderr, as the settings want it. `shown` makes its text fit for there."""
    general = config.engine.general
    password = password_of(config.engine.storage.database.dsn)

    def without_password(text: str) -> str:
        return shown(text.replace(password, "***") if password else text)

    set_up_logging(general.log_level, without_password, form=general.log_format, access=config.server.access_log)


def database_file(dsn: str) -> Path | None:
    """The file of a SQLite address, absolute; None for a store without one."""
    if "://" not in dsn:
        return Path(dsn).expanduser().resolve()
    if database_kind(dsn) != "sqlite":
        return None
    path = unquote(urlsplit(dsn).path)
    if path.startswith(("/./", "/../", "/~")):
        path = path[1:]
    return Path(path).expanduser().resolve()


def state_folder(config: Config) -> Path:
    """Where the token and the audit log lie: beside the database's file, else in the data folder."""
    file = database_file(config.engine.storage.database.dsn)
    return data_folder() if file is None else file.parent


def token_path(config: Config) -> Path:
    """The file with the plain local token, 0600. Databases in one folder share it: it opens each of them."""
    return state_folder(config) / "token"


def shown_store(config: Config) -> str:
    """The database for people: its file, or its address without a password."""
    dsn = config.engine.storage.database.dsn
    return str(database_file(dsn) or shown_dsn(dsn))
