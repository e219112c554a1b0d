"""Why an instance or a task is where it is, and what would move it on. `gathering` reads, all else is pure."""

from taskengine.engine.explanation.facts import InstanceFacts, Seen, TaskFacts, Trail
from taskengine.engine.explanation.gathering import Gathering
from taskengine.engine.explanation.instances import explain_instance
from taskengine.engine.explanation.tasks import explain_task

__all__ = ["Gathering", "InstanceFacts", "Seen", "TaskFacts", "Trail", "explain_instance", "explain_task"]
