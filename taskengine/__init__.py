"""taskengine: a durable workflow engine that ships as one file.

What a program needs is here: `from taskengine import EngineBuilder, TaskBuilder, WorkflowBuilder, job`. The parts are
imported when they are asked for, so that `import taskengine` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from taskengine.version import VERSION

if TYPE_CHECKING:
    from taskengine.client import AsyncClient, Client
    from taskengine.definition import TaskBuilder, WorkflowBuilder, read_file, read_yaml
    from taskengine.engine.blocking import BlockingEngine
    from taskengine.engine.builder import EngineBuilder
    from taskengine.engine.engine import Engine
    from taskengine.engine.views import InstanceView, TaskView
    from taskengine.errors import NonRetryable, RetryAfter, TaskEngineError
    from taskengine.functions import SyncTaskContext, TaskContext, job
    from taskengine.model.definition import RetryPolicy, TaskSpec, WorkflowDefinition
    from taskengine.model.progress import Progress
    from taskengine.model.states import InstanceState, TaskState

__all__ = [
    "VERSION",
    "AsyncClient",
    "BlockingEngine",
    "Client",
    "Engine",
    "EngineBuilder",
    "InstanceState",
    "InstanceView",
    "NonRetryable",
    "Progress",
    "RetryAfter",
    "RetryPolicy",
    "SyncTaskContext",
    "TaskBuilder",
    "TaskContext",
    "TaskEngineError",
    "TaskSpec",
    "TaskState",
    "TaskView",
    "WorkflowBuilder",
    "WorkflowDefinition",
    "job",
    "read_file",
    "read_yaml",
]

_HOMES: Final = {
    "AsyncClient": "client",
    "BlockingEngine": "engine.blocking",
    "Client": "client",
    "Engine": "engine.engine",
    "EngineBuilder": "engine.builder",
    "InstanceState": "model.states",
    "InstanceView": "engine.views",
    "NonRetryable": "errors",
    "Progress": "model.progress",
    "RetryAfter": "errors",
    "RetryPolicy": "model.definition",
    "SyncTaskContext": "functions",
    "TaskBuilder": "definition",
    "TaskContext": "functions",
    "TaskEngineError": "errors",
    "TaskSpec": "model.definition",
    "TaskState": "model.states",
    "TaskView": "engine.views",
    "WorkflowBuilder": "definition",
    "WorkflowDefinition": "model.definition",
    "job": "functions",
    "read_file": "definition",
    "read_yaml": "definition",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'taskengine' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"taskengine.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
