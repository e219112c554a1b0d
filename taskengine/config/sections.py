"""What can be set: a frozen struct per section, a text under each field. The field's name is its key in the file.

How a value is written follows from its type: a timedelta as `30s` or `1h30m`, a `Size` as `256KiB`, a tuple as a list,
pools as a mapping.
"""

from datetime import timedelta
from typing import Literal, NewType

import msgspec

from taskengine.model.pools import Pool

__all__ = [
    "ArtifactsConfig",
    "Config",
    "DatabaseConfig",
    "EngineConfig",
    "ExecutionConfig",
    "FunctionsConfig",
    "GeneralConfig",
    "LimitsConfig",
    "RetentionConfig",
    "RetryConfig",
    "ServerConfig",
    "Size",
    "StorageConfig",
]

Size = NewType("Size", int)
"""A number of bytes."""


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`server`: where it listens, to whom it answers, and how long it waits for them."""

    host: str = "127.0.0.1"
    """The address to listen on. Another one than loopback needs `tls_cert` or `behind_proxy`."""
    port: int = 8080
    """The port to listen on; 0: a free one."""
    read_timeout: timedelta = timedelta(seconds=30)
    """How long a request's head, and then its body, may take to come in."""
    write_timeout: timedelta = timedelta(seconds=30)
    """How long an answer may stand still because its reader takes nothing. Streams have rules of their own."""
    tls_cert: str | None = None
    """A PEM file with the certificate and its chain."""
    tls_key: str | None = None
    """A PEM file with the key of `tls_cert`."""
    behind_proxy: tuple[str, ...] = ()
    """Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    read_only: bool = False
    """Answer questions, change nothing on anybody's request."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names under which clients may ask for it, besides its own address and the loopback names."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may open a stream, such as https://ops.example.com."""
    max_clients: int = 2000
    """WebSocket and event streams at the same time."""
    max_clients_per_token: int = 1200
    """The same for one token."""
    access_log: bool = False
    """A log line for every request. Calls that change something are always logged."""


class GeneralConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`task-engine.general`: its name and its log."""

    instance_name: str = "task-engine"
    """The name of this server, in its log and in what it says about itself."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important messages that are still logged."""
    log_format: Literal["text", "json"] = "text"
    """`text` for people, `json` for one object a line."""


class DatabaseConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`task-engine.storage.database`: where everything is kept."""

    type: Literal["auto", "sqlite", "postgresql", "mysql"] = "auto"
    """The kind of database; `auto`: as `dsn` says, which must be of this kind otherwise. `mysql` is MariaDB too."""
    dsn: str = "./data/task-engine.db"
    """A path, which counts from the folder in which the server is started, or an address: databases.md."""
    pool_size: int = 4
    """Connections that read at the same time, besides those that write."""
    durability: Literal["full", "normal"] = "full"
    """`full`: what was acknowledged survives a power cut. `normal`: it survives a crash of the program only."""


class ArtifactsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`task-engine.storage.artifacts`: where large results are kept."""

    url: str | None = None
    """A folder or an address such as s3://bucket/prefix, of this database alone; `none`: beside the database's file."""
    inline: Size = Size(1024 * 1024)
    """The longest result that is kept in the database itself."""
    limit: Size = Size(64 * 1024 * 1024)
    """The longest result that a task may have."""


class RetentionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`task-engine.storage.retention`: how long ended instances are kept, with all that belongs to them."""

    success: timedelta | None = timedelta(days=30)
    """Those that ended as Success; `none`: for ever. A workflow may say otherwise."""
    failed: timedelta | None = timedelta(days=90)
    """Those that ended in any other way; `none`: for ever."""


class StorageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`task-engine.storage`."""

    database: DatabaseConfig = DatabaseConfig()
    retention: RetentionConfig = RetentionConfig()
    artifacts: ArtifactsConfig = ArtifactsConfig()


class RetryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`task-engine.execution.retry`: for tasks whose definition and job say nothing about it."""

    count: int = 0
    """Further attempts after the first."""
    interval: timedelta = timedelta(seconds=1)
    """Before the first repetition; each next wait is twice as long."""
    max_interval: timedelta = timedelta(seconds=5)
    """The longest wait."""


class ExecutionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`task-engine.execution`: how tasks run."""

    worker_concurrency: int = 20
    """Tasks that run at the same time."""
    pools: tuple[Pool, ...] = ()
    """What tasks share beyond their instances, by name: `{io: 50, api: {slots: 5, rate: 50/s}}`."""
    process_workers: int = 2
    """Worker processes for jobs that run in one."""
    default_task_timeout: timedelta | None = timedelta(seconds=60)
    """For one attempt of a task whose definition and job state none; `none`: no limit."""
    retry: RetryConfig = RetryConfig()
    max_recoveries: int = 5
    """After how many crashes in a row a task is taken for their cause and its instance set aside; 0: never."""
    grace: timedelta = timedelta(seconds=25)
    """How long a stop may take: running tasks get most of it to finish, the rest is saved."""


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`task-engine.limits`: what is refused at the door."""

    definition: Size = Size(1024 * 1024)
    """The longest workflow file."""
    body: Size = Size(256 * 1024)
    """The longest body of any other request."""
    starts_per_second: float = 500.0
    """Instances that may be started, over all clients and on average; short bursts of ten times as many pass."""
    failed_logins: int = 20
    """Wrong tokens per minute and address."""
    log_lines: int = 10_000
    """Log lines that are kept of one attempt of a task."""


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`task-engine`."""

    general: GeneralConfig = GeneralConfig()
    storage: StorageConfig = StorageConfig()
    execution: ExecutionConfig = ExecutionConfig()
    limits: LimitsConfig = LimitsConfig()


class FunctionsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`functions`: which jobs definitions may ask for. An uploaded definition turns nothing on."""

    builtin: tuple[str, ...] = ("http_request", "sleep", "wait_for", "workflow", "transform", "log", "noop", "fail")
    """Built-in jobs. `shell_command` is off until it is listed."""
    modules: tuple[str, ...] = ()
    """Importable modules with jobs."""
    apps: tuple[str, ...] = ()
    """Python files with jobs."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything; the keys of the file are `server`, `task-engine` and `functions`."""

    server: ServerConfig = ServerConfig()
    engine: EngineConfig = msgspec.field(default=EngineConfig(), name="task-engine")
    functions: FunctionsConfig = FunctionsConfig()
