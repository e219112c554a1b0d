"""What a shell can offer behind a word: names that a server, a database or the runs of this machine know.

Whoever pressed the key waits: at most a second, and nothing is said of what goes wrong. Only text that a shell takes
for one plain word is offered, since it lands on a command line.
"""

import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

    from taskengine.cli.options import Where
    from taskengine.cli.targets.interface import Target

__all__ = ["complete"]

_PLAIN: Final = re.compile(r"[\w][\w.:/@+-]*")
_LIMIT: Final = 100

Offers = Callable[["click.Context", "click.Parameter", str], "list[CompletionItem]"]


def complete(kind: str, *, or_file: bool = False) -> Offers:
    """For `shell_complete` of a parameter: `workflows`, `instances`, `tasks`, `functions`, `tokens` or `states`.

    or_file  the name of a file may stand there, too; the shell knows those
    """

    def offer(context: "click.Context", parameter: "click.Parameter", begun: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        files = [CompletionItem(begun, type="file")] if or_file else []
        try:
            found = list(_names(kind, context, begun))
        except Exception:
            return files  # a key was pressed, no question was asked: there is nobody to tell
        shown = [(name, note) for name, note in found if _PLAIN.fullmatch(name)]
        matching = [(name, note) for name, note in shown if name.lower().startswith(begun.lower())]
        return [*(CompletionItem(name, help=_note(note)) for name, note in matching[:_LIMIT]), *files]

    return offer


def _note(text: str) -> str | None:
    from taskengine.cli.safe import one_line

    return one_line(text, 60).replace("\t", " ") or None


def _names(kind: str, context: "click.Context", begun: str) -> Iterable[tuple[str, str]]:
    """Names with a note on each."""
    if kind == "states":
        from taskengine.model.states import InstanceState

        return [(state.value, "") for state in InstanceState]
    from taskengine.ambient import Ambient
    from taskengine.cli.targets.choosing import means_runs, target_of

    where = _where(context)
    if kind == "instances" and means_runs(where):
        return [(name, "") for name in _run_ids()]
    target = target_of(where, Ambient(), hurried=True)
    try:
        return _ask(target, kind, context, begun)
    finally:
        target.close()


def _ask(target: "Target", kind: str, context: "click.Context", begun: str) -> list[tuple[str, str]]:
    match kind:
        case "workflows":
            return [(each.id, each.name) for each in target.workflows()]
        case "instances":
            return [(each.id, f"{each.workflow_id} {each.status}") for each in _instances(target, begun)]
        case "tasks":
            # Behind an option that still lacks its value click leaves arguments where they are.
            prefix = context.params.get("prefix") or context.args[0]
            detail = target.detail(target.find(prefix))
            return [(each.name, each.status) for each in detail.tasks]
        case "functions":
            return [(each.name, each.signature) for each in target.functions(())]
        case _:
            return [(each.id, each.name) for each in target.tokens() if each.revoked_at is None]


def _instances(target: "Target", begun: str) -> Iterable[Any]:
    from taskengine.cli.targets.interface import Wanted

    return target.instances(Wanted(prefix=begun.lower()), _LIMIT)


def _run_ids() -> list[str]:
    """By the names of their folders, the newest first: opening a thousand databases takes too long."""
    from taskengine.config.places import data_folder

    return sorted(os.listdir(data_folder() / "runs"), reverse=True)


def _where(context: "click.Context") -> "Where":
    from taskengine.cli.options import Where

    return Where(**{name: context.params.get(name) or empty for name, empty in Where._field_defaults.items()})
