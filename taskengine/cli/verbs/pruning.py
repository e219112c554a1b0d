"""What `taskengine db prune` does: remove ended instances now."""

import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from taskengine.ambient import Ambient
from taskengine.cli import exits
from taskengine.cli.live.counter import Counter
from taskengine.cli.options import Where
from taskengine.cli.output import Format, Output, write_data, write_text
from taskengine.cli.safe import clean
from taskengine.cli.targets.choosing import choose
from taskengine.cli.targets.naming import retention_of, where_of
from taskengine.cli.verbs.confirming import confirm
from taskengine.cli.verbs.instances import state_of
from taskengine.engine.retention import KEY_US
from taskengine.errors import InvalidConfiguration
from taskengine.model.states import INSTANCE_FINAL
from taskengine.wire import PruneRequest

__all__ = ["prune_database"]

_AT_ONCE: Final = 1_000


class PruneBody(msgspec.Struct, frozen=True, kw_only=True):
    """How many instances were removed; with `dry_run`: how many would be."""

    instances: int
    dry_run: bool


def prune_database(
    ambient: Ambient | None,
    *,
    older_than: float | None,
    statuses: Sequence[str],
    workflow: str | None,
    dry_run: bool,
    yes: bool,
    where: Where,
    config: str,
    output: Output,
) -> int:
    """1 when the question was answered with No."""
    ambient = ambient or Ambient()
    asked = PruneRequest(
        older_than=older_than, status=[_final(typed) for typed in statuses], workflow_id=workflow, limit=_AT_ONCE
    )
    retention = retention_of(where, config)
    with choose(where_of(where, config), ambient) as target:
        due = target.prune(msgspec.structs.replace(asked, dry_run=True), retention).instances
        if dry_run or not due:
            _show(PruneBody(instances=due, dry_run=dry_run), output)
            _tell_of_keys(older_than, output)
            return exits.OK
        if not confirm(f"Remove {_many(due)} of {target.place}, with all that is stored of them?", yes=yes):
            return exits.ERROR
        removed, more = 0, True
        with Counter(sys.stderr, ambient.clock, quiet=output.quiet, unit="instances") as counter:
            while more:
                reply = target.prune(asked, retention)
                removed, more = removed + reply.instances, reply.more
                counter.told("", removed, due)
    _show(PruneBody(instances=removed, dry_run=False), output)
    _tell_of_keys(older_than, output)
    return exits.OK


def _final(typed: str) -> str:
    state = state_of(typed)
    if state not in INSTANCE_FINAL:
        final = ", ".join(sorted(INSTANCE_FINAL))
        raise InvalidConfiguration(f"--status: {state} is not an end, and only ended instances are removed: {final}")
    return state.value


def _show(body: PruneBody, output: Output) -> None:
    verb = "would be removed" if body.dry_run else "removed"
    write_data(
        body,
        output.form or Format.TABLE,
        table=lambda stream: write_text(clean(f"{_many(body.instances)} {verb}"), stream),
        key="instances",
    )


def _tell_of_keys(older_than_s: float | None, output: Output) -> None:
    if older_than_s is not None and older_than_s < KEY_US / 1_000_000:
        output.hint(
            "Those of the last 24 hours that were started with an idempotency key stay, as all are that a command or a "
            "client starts: the key tells a repeated request from a new one."
        )


def _many(instances: int) -> str:
    return f"{instances:,} ended instance{'' if instances == 1 else 's'}"
