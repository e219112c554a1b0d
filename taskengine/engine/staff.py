"""Who serves an instance: the long-lived parts that its actor talks to."""

import msgspec

from taskengine.actors import Timers
from taskengine.ambient import Ambient, Metrics
from taskengine.bus import Bus
from taskengine.clock import Micros
from taskengine.engine.blueprint import Blueprints
from taskengine.engine.children import Children
from taskengine.engine.directory import Directory
from taskengine.engine.linger import Linger
from taskengine.engine.logbook import Logbook
from taskengine.engine.pruner import Pruner
from taskengine.engine.recovery import Recovery
from taskengine.engine.retention import FOR_EVER
from taskengine.engine.runner import Runner
from taskengine.functions import DEFAULT_LOG_CAP, MAX_RESULT, Caller, Registry
from taskengine.model.definition import Retention, RetryPolicy
from taskengine.model.pools import Pool
from taskengine.store.artifacts import Artifacts
from taskengine.store.checkpointer import Checkpointer
from taskengine.store.interface import Store
from taskengine.telemetry.masking import Mask

__all__ = ["Settings", "Staff"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine works.

    slots             bodies that run at the same time
    pools             what tasks may name as their pool
    threads           threads for `def` jobs; None: as many as slots, at most 256
    processes         worker processes for process jobs
    max_recoveries    unclean ends in a row after which an instance is Quarantined; 0: never
    grace_s           how long a body that was asked to end may take before it is abandoned
    cache_result      bytes up to which a result stays in memory until its dependents have ended
    max_backlog       rows waiting for their commit above which new starts are refused
    unload_after_s    an instance whose next timer is farther away leaves memory
    default_timeout_us, default_retry   for tasks whose definition and job state none; None: none
    log_cap           lines that are kept of one attempt
    inline_result     bytes of JSON up to which a result lies in its task's row; a larger one is an artifact
    max_result        bytes of JSON that a result may have at all
    retention         how long ended instances are kept whose version says nothing
    """

    slots: int = 20
    pools: tuple[Pool, ...] = ()
    threads: int | None = None
    processes: int = 2
    max_recoveries: int = 5
    grace_s: float = 5.0
    cache_result: int = 4096
    max_backlog: int = 200_000
    unload_after_s: float = 5.0
    default_timeout_us: Micros | None = None
    default_retry: RetryPolicy | None = None
    log_cap: int = DEFAULT_LOG_CAP
    inline_result: int = 1 << 20
    max_result: int = MAX_RESULT
    retention: Retention = FOR_EVER

    @property
    def thread_count(self) -> int:
        return self.threads if self.threads is not None else max(1, min(self.slots, 256))


class Staff(msgspec.Struct, frozen=True, kw_only=True):
    """Made once by the engine; handed to the supervisor and, by it, to each instance.

    counts  the metrics of the ambient record; None where nobody counts, which spares a fiftieth of a task
    """

    ambient: Ambient
    settings: Settings
    store: Store
    artifacts: Artifacts
    checkpointer: Checkpointer
    directory: Directory
    blueprints: Blueprints
    registry: Registry
    caller: Caller
    timers: Timers
    bus: Bus
    runner: Runner
    linger: Linger
    recovery: Recovery
    logbook: Logbook
    children: Children
    pruner: Pruner
    mask: Mask
    counts: Metrics | None
