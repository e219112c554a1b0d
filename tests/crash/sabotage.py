"""Ways to break the engine on purpose. Each must turn the checker red, or the checker proves nothing."""

from collections.abc import Callable
from typing import Any

__all__ = ["SABOTAGES"]


def ack_early() -> None:
    """Callers hear of a commit before it has begun."""
    from taskengine.store.checkpointer import Checkpointer

    save = Checkpointer.save

    def hasty(self: Checkpointer, write: Any, ack: Any, **named: Any) -> None:
        ack(None)
        save(self, write, lambda error: None, **named)

    Checkpointer.save = hasty  # type: ignore[method-assign]


def forget_last_batch() -> None:
    """A commit returns although its batch is still in memory: what a disk does that lies about fsync."""
    from taskengine.store.sqlite import SqliteStore

    commit = SqliteStore.commit
    held: list[Any] = []

    async def lazy(self: SqliteStore, batch: Any) -> None:
        held.append(batch)
        if len(held) > 1:
            await commit(self, held.pop(0))

    SqliteStore.commit = lazy  # type: ignore[method-assign]


def no_sync() -> None:
    """SQLite leaves it to the system when its writes reach the disk."""
    from taskengine.store import sqlite

    set_up = sqlite._set_up_writer

    def careless(db: Any, synchronous: str) -> None:
        set_up(db, synchronous)
        db.execute("PRAGMA synchronous = OFF")

    sqlite._set_up_writer = careless


def repeat_messages() -> None:
    """Every grant and every report arrives twice. The fence must make this harmless."""
    from taskengine.engine.instance import InstanceActor
    from taskengine.model.messages import Granted, Settled

    receive = InstanceActor.on_receive

    def twice(self: InstanceActor, message: Any) -> None:
        receive(self, message)
        if isinstance(message, Granted | Settled):
            receive(self, message)

    InstanceActor.on_receive = twice  # type: ignore[method-assign]


def no_fence() -> None:
    """A grant counts whatever the task's state and attempt are."""
    from taskengine.engine.planner import decision as module
    from taskengine.model.messages import Granted
    from taskengine.model.states import TaskState

    fenced = module.on_granted

    def trusting(plan: Any, message: Granted, now_us: Any) -> None:
        task = plan.ledger.tasks[message.ordinal]
        if task.slot and task.state is TaskState.RUNNING:
            plan.launches.append(module.Launch(message.ordinal, message.attempt))
            return
        fenced(plan, message, now_us)

    module.on_granted = trusting


def start_early() -> None:
    """Offers leave with the decision and not with its commit."""
    from taskengine.engine.instance import InstanceActor
    from taskengine.engine.planner import Offer

    cut = InstanceActor._cut

    def hasty(self: InstanceActor, **named: Any) -> None:
        effects = self._plan.effects
        self._plan.effects = [effect for effect in effects if not isinstance(effect, Offer)]
        cut(self, **named)
        self._perform([effect for effect in effects if isinstance(effect, Offer)])

    InstanceActor._cut = hasty  # type: ignore[method-assign]


def run_again() -> None:
    """Recovery forgets a success and runs the task again."""
    from taskengine.engine.planner import plan as module
    from taskengine.model.states import TaskMove, TaskState

    load = module.Plan.load.__func__  # type: ignore[attr-defined]

    def forgetful(cls: Any, shape: Any, row: Any, tasks: Any, commands: Any = (), **named: Any) -> Any:
        plan = load(cls, shape, row, tasks, commands, **named)
        for task in plan.ledger.tasks:
            if task.state is TaskState.SUCCESS and not plan.ledger.at_end:
                plan.ledger.move(task, TaskMove.RESET, 0)
                plan.ledger.recount()
                break
        return plan

    module.Plan.load = classmethod(forgetful)  # type: ignore[assignment, method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    "ack_early": ack_early,
    "forget_last_batch": forget_last_batch,
    "no_fence": no_fence,
    "no_sync": no_sync,
    "repeat_messages": repeat_messages,
    "run_again": run_again,
    "start_early": start_early,
}
