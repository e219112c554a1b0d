"""The server itself over the wire."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

__all__ = [
    "DatabaseBody",
    "FilledBody",
    "FunctionBody",
    "HealthBody",
    "HolderBody",
    "NodeBody",
    "OldestBody",
    "PoolBody",
    "PruneReply",
    "PruneRequest",
    "RetentionBody",
    "Scope",
    "StatusBody",
    "TableBody",
    "TokenBody",
    "TokenCreated",
    "TokenRequest",
    "VersionInfo",
]

Scope = Literal["read", "operate", "define", "admin"]
"""What a token allows: look; start and change instances; upload and delete definitions; tokens and the store.

Each includes the ones before it.
"""


class HealthBody(msgspec.Struct, frozen=True, kw_only=True):
    """One word for everyone: `ok`, `starting`, `degraded` (the store cannot commit) or `stopping`."""

    status: Literal["ok", "starting", "degraded", "stopping"]


class VersionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What runs here. `started_at` is that of the process."""

    version: str
    python: str
    platform: str
    sqlite: str
    started_at: datetime


class FunctionBody(msgspec.Struct, frozen=True, kw_only=True):
    """A job function that this server can run."""

    name: str
    kind: Literal["async", "thread", "process"]
    signature: str
    doc: str
    path: str
    builtin: bool


class NodeBody(msgspec.Struct, frozen=True, kw_only=True):
    """One running server on this store. `epoch` grows with every start."""

    id: str
    epoch: int
    started_at: datetime
    address: str
    pid: int
    version: str


class PoolBody(msgspec.Struct, frozen=True, kw_only=True):
    """A pool: how many of its tasks may run at once, how often one may start (`50/s`), and how many run and wait."""

    name: str
    slots: int
    rate: str | None
    running: int
    queued: int


class StatusBody(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine is doing now.

    store       address without a password; size_bytes what it occupies; schema the newest migration
    instances   how many are in each state
    slots       bodies that may run at once; running, queued: tasks
    pools       the same of each pool that is configured
    backlog     rows that wait for their commit
    actors      in memory
    loop_lag_s  how late the loop lately came to its work
    """

    store: str
    schema: int
    size_bytes: int
    instances: dict[str, int]
    slots: int
    running: int
    queued: int
    backlog: int
    actors: int
    stream_clients: int
    loop_lag_s: float
    pools: list[PoolBody] = []


class TableBody(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows a table has. `exact` false: estimated from a part of them."""

    name: str
    rows: int
    exact: bool


class OldestBody(msgspec.Struct, frozen=True, kw_only=True):
    """The instance that has been unfinished for longest."""

    id: str
    workflow_id: str
    status: str
    created_at: datetime


class HolderBody(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a database; `host` is empty for this machine, `address` where it serves none."""

    pid: int
    host: str
    address: str


class FilledBody(msgspec.Struct, frozen=True, kw_only=True):
    """The move that has filled a database; `finished_at` null: it has not come to its end."""

    source: str
    started_at: datetime
    finished_at: datetime | None
    rows: int


class RetentionBody(msgspec.Struct, frozen=True, kw_only=True):
    """How long instances are kept that ended as Success, and that ended otherwise, in seconds; null: for ever."""

    success: float | None
    failed: float | None


class DatabaseBody(msgspec.Struct, frozen=True, kw_only=True):
    """A database as whoever looks after it sees it.

    kind           sqlite, postgresql, mysql or memory
    address        without a password
    schema         number of the newest step that it has had
    missing_steps  what this program would do to it before it used it
    size_bytes, instances, tables
                   null where its schema is too old to be read
    holder         null: nobody has it
    filled_from    null: no move has filled it
    retention      of instances whose workflow says nothing itself; null: nobody but its server knows
    """

    kind: str
    address: str
    schema: int
    missing_steps: list[str]
    size_bytes: int | None = None
    instances: dict[str, int] | None = None
    tables: list[TableBody] | None = None
    oldest_unfinished: OldestBody | None = None
    holder: HolderBody | None = None
    filled_from: FilledBody | None = None
    retention: RetentionBody | None = None


class PruneRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which ended instances to remove; with nothing said: those whose retention is over.

    older_than   ended so many seconds ago, whatever their retention says
    status       only in one of these final states; empty: in any
    workflow_id  only of this workflow
    dry_run      only count them
    limit        remove at most so many with this request, so that its answer does not take long
    """

    older_than: float | None = None
    status: list[str] = []
    workflow_id: str | None = None
    dry_run: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000


class PruneReply(msgspec.Struct, frozen=True, kw_only=True):
    """How many instances were removed, or would be; `more`: the limit was reached, and there may be more."""

    instances: int
    more: bool


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`expires_in` in seconds; null: never."""

    name: str
    scope: Scope
    expires_in: float | None = None


class TokenBody(msgspec.Struct, frozen=True, kw_only=True):
    """A token as it is remembered; the secret itself is not."""

    id: str
    name: str
    scope: Scope
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class TokenCreated(TokenBody, frozen=True, kw_only=True):
    """The answer to its making: the only time that `secret` is told."""

    secret: str
