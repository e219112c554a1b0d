"""What `taskengine instance fork` does."""

from collections.abc import Sequence

from taskengine.ambient import Ambient
from taskengine.cli.options import Where
from taskengine.cli.output import Output
from taskengine.cli.targets.choosing import choose_for
from taskengine.cli.verbs.executing import say_started, types_of
from taskengine.cli.verbs.following import Since, follow
from taskengine.cli.verbs.tasks import must_have_task
from taskengine.model.params import parse_assignments

__all__ = ["fork"]


def fork(
    ambient: Ambient | None,
    prefix: str,
    from_task: str,
    *,
    params: Sequence[str],
    version: str | None,
    logs: bool,
    key: str | None,
    where: Where,
    output: Output,
) -> int:
    """`logs`: of `--follow`; the exit code is then that of the new instance's end.

    Raises NotFound, InvalidParams, and Conflict with what cannot be taken over.
    """
    ambient = ambient or Ambient()
    with choose_for(where, prefix, ambient) as (target, instance_id):
        if version is None:
            must_have_task(target, instance_id, from_task)
        types = types_of(target, target.detail(instance_id).workflow_id) if params else {}
        new = target.fork(instance_id, from_task, parse_assignments(types, params), version, key).instance_id
        if logs:
            return follow(ambient, target, new, logs=True, output=output, since=Since())
        return say_started(target, new, output)
