"""What `taskengine instance pause`, `cancel`, `signal`, `resume` and `retry` do."""

from collections.abc import Callable
from typing import Any

from taskengine.ambient import Ambient
from taskengine.cli import exits
from taskengine.cli.options import EngineOptions, Where
from taskengine.cli.output import Format, Output
from taskengine.cli.targets.choosing import choose_for
from taskengine.cli.targets.interface import Ended, Target
from taskengine.cli.verbs.following import Since, follow
from taskengine.cli.verbs.report import report_end, show_detail
from taskengine.cli.verbs.tasks import must_have_task

__all__ = ["cancel", "pause", "resume", "retry", "signal"]


def pause(ambient: Ambient | None, prefix: str, *, now: bool, where: Where, output: Output) -> None:
    """`now` also interrupts what runs."""
    ambient = ambient or Ambient()
    with choose_for(where, prefix, ambient) as (target, instance_id):
        detail = target.pause(instance_id, now=now)
        show_detail(detail, output.form or Format.TABLE, ambient.clock)
        output.hint(f"Go on with it:  taskengine instance resume {instance_id}{target.flags}")


def cancel(
    ambient: Ambient | None, prefix: str, *, reason: str, compensate: bool, where: Where, output: Output
) -> None:
    ambient = ambient or Ambient()
    with choose_for(where, prefix, ambient) as (target, instance_id):
        detail = target.cancel(instance_id, reason, compensate=compensate, quiet=output.quiet)
        show_detail(detail, output.form or Format.TABLE, ambient.clock)


def signal(
    ambient: Ambient | None,
    prefix: str,
    name: str,
    payload: Any,
    *,
    engine: EngineOptions,
    where: Where,
    output: Output,
) -> int:
    """Raises NotFound for a name that nobody waits for."""

    def send(target: Target, instance_id: str) -> Ended:
        return target.signal(instance_id, name, payload, engine, quiet=output.quiet)

    return _go_on(ambient or Ambient(), prefix, send, engine=engine, where=where, output=output)


def resume(ambient: Ambient | None, prefix: str, *, engine: EngineOptions, where: Where, output: Output) -> int:
    """Raises Conflict for one that has ended."""

    def wake(target: Target, instance_id: str) -> Ended:
        return target.resume(instance_id, engine, quiet=output.quiet)

    return _go_on(ambient or Ambient(), prefix, wake, engine=engine, where=where, output=output)


def retry(
    ambient: Ambient | None,
    prefix: str,
    from_task: str | None,
    only_task: str | None,
    *,
    engine: EngineOptions,
    where: Where,
    output: Output,
) -> int:
    """What failed, or `from_task` and all below, or `only_task`. Raises NotFound for a task that is not there."""
    task = from_task if from_task is not None else only_task

    def begin_again(target: Target, instance_id: str) -> Ended:
        return target.retry(instance_id, from_task, only_task, engine, quiet=output.quiet)

    return _go_on(ambient or Ambient(), prefix, begin_again, task=task, engine=engine, where=where, output=output)


def _go_on(
    ambient: Ambient,
    prefix: str,
    act: Callable[[Target, str], Ended],
    *,
    task: str | None = None,
    engine: EngineOptions,
    where: Where,
    output: Output,
) -> int:
    """After `act` the instance goes on: here until it rests, or on a server. Raises NotFound without such a `task`."""
    with choose_for(where, prefix, ambient) as (target, instance_id):
        if task is not None:
            must_have_task(target, instance_id, task)
        before = _before(target, instance_id, engine)
        ended = act(target, instance_id)
        return _report(ambient, target, instance_id, ended, before, output)


def _before(target: Target, instance_id: str, engine: EngineOptions) -> Since | None:
    """Where the instance stands, for who follows what comes now. Not asked for where nobody will."""
    if not (engine.follow and target.lasts):
        return None
    last = target.logs(instance_id, task=None, since=0, tail=1)
    return Since(target.detail(instance_id).tasks, last[-1].id if last else 0)


def _report(
    ambient: Ambient, target: Target, instance_id: str, ended: Ended, before: Since | None, output: Output
) -> int:
    """What a server goes on with is followed only where somebody asked for it."""
    if ended.ran:
        return report_end(ended.detail, instance_id, target.flags, output, ambient.clock)
    if before is not None:
        return follow(ambient, target, instance_id, logs=True, output=output, since=before)
    assert ended.detail is not None, "a server always answers"
    show_detail(ended.detail, output.form or Format.TABLE, ambient.clock)
    output.hint(f"It goes on. Watch it:  taskengine instance watch {instance_id}{target.flags}")
    return exits.OK
