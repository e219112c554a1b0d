"""Job functions: registry, context, and calling user code on the loop, in threads and in worker processes."""

from taskengine.functions.calling import Caller, Running
from taskengine.functions.context import CallInfo, SyncTaskContext, TaskContext, current_context
from taskengine.functions.job import JobFunction, Kind, job
from taskengine.functions.joblog import Hearing
from taskengine.functions.outcomes import LogLine, Parked, ProgressNote, Raised, Returned, Sleep
from taskengine.functions.quota import DEFAULT_LOG_CAP
from taskengine.functions.registry import Registry, builtin_registry
from taskengine.functions.results import MAX_RESULT
from taskengine.functions.services import Services

__all__ = [
    "DEFAULT_LOG_CAP",
    "MAX_RESULT",
    "CallInfo",
    "Caller",
    "Hearing",
    "JobFunction",
    "Kind",
    "LogLine",
    "Parked",
    "ProgressNote",
    "Raised",
    "Registry",
    "Returned",
    "Running",
    "Services",
    "Sleep",
    "SyncTaskContext",
    "TaskContext",
    "builtin_registry",
    "current_context",
    "job",
]
