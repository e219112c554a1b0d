"""What `taskengine explain` does: one sentence, the tasks behind it, and what to type or to wait for."""

from datetime import UTC
from typing import Final, TextIO

from taskengine.ambient import Ambient
from taskengine.cli.listing import show_table
from taskengine.cli.options import Where
from taskengine.cli.output import Format, Output, write_data, write_text
from taskengine.cli.safe import clean
from taskengine.cli.targets.choosing import choose_for
from taskengine.cli.verbs.instances import say_if_left_lying
from taskengine.wire import Explanation, Release

__all__ = ["explain"]

_HEADS: Final = ("TASK", "STATUS", "BECAUSE")
_RELEASE_HEADS: Final = ("IT GOES ON WHEN", "AT (UTC), OR TYPE")


def explain(ambient: Ambient | None, prefix: str, task: str | None, *, where: Where, output: Output) -> None:
    """Raises NotFound, of the instance or of the task."""
    with choose_for(where, prefix, ambient) as (target, instance_id):
        found = target.explain(instance_id, task)
        form = output.form or Format.TABLE
        write_data(found, form, table=lambda stream: _show(found, target.flags, stream), key="instance_id")
        if form is Format.TABLE:
            say_if_left_lying(target, instance_id, found.instance_status, output)


def _show(found: Explanation, flags: str, stream: TextIO) -> None:
    about = f"task {found.task} of instance {found.instance_id}" if found.task else f"instance {found.instance_id}"
    write_text(clean(f"{found.status}: {about}"), stream)
    write_text(clean(found.why[:1].upper() + found.why[1:]), stream)
    if found.because:
        write_text("", stream)
        show_table(_HEADS, [(cause.task, cause.status, cause.reason) for cause in found.because], stream)
    if found.more:
        write_text(f"and {found.more:,} more", stream)
    if found.releases:
        write_text("", stream)
        show_table(_RELEASE_HEADS, [(release.what, _how(release, flags)) for release in found.releases], stream)


def _how(release: Release, flags: str) -> str:
    """`flags` lead the command to whom this one has asked."""
    if release.command is not None:
        return release.command + flags
    return "" if release.at is None else release.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
