"""Tasks that a body or a caller adds: from what they say to what the planner takes in. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from taskengine.definition import added_task
from taskengine.errors import InvalidInput
from taskengine.model.added import Added, encode_added
from taskengine.model.definition import TaskSpec
from taskengine.model.graph import Graph
from taskengine.model.spelling import quoted
from taskengine.model.waits import WAIT_JOB

__all__ = ["Known", "batch"]

Known = Mapping[str, bytes]
"""What the same attempt has added before: source by name."""

_BUILT: Final = msgspec.json.Decoder(TaskSpec)
_SAID: Final = msgspec.json.Decoder(dict[str, Any])


class _Built(msgspec.Struct):
    spec: msgspec.Raw


_ENVELOPE: Final = msgspec.json.Decoder(_Built)


def batch(tasks: Sequence[msgspec.Raw], known: Known | None = None) -> dict[str, bytes]:
    """Sources by name, dependencies first. Raises InvalidInput that names the task; then none of them is good.

    Looks at all of them at once, so that none is taken in before the last one was found to be good.

    known  None: the planner knows what else there is, and judges the dependencies on it
    """
    specs = [_spec(at, task) for at, task in enumerate(tasks)]
    found: dict[str, bytes] = {}
    for spec in specs:
        if spec.name in found:
            raise InvalidInput(f"there are two sub-tasks {quoted(spec.name)}; nothing was added")
        source = found[spec.name] = encode_added(Added(task=spec))
        if known and known.get(spec.name, source) != source:
            raise InvalidInput(f"there is a sub-task {quoted(spec.name)} already, another one; nothing was added")
    return {specs[at].name: found[specs[at].name] for at in _order(specs, known)}


def _spec(at: int, task: msgspec.Raw) -> TaskSpec:
    where = f"sub-task {at + 1}"
    try:
        said = _SAID.decode(task)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{where} is no task: {error}; nothing was added") from None
    try:
        spec = _BUILT.decode(_ENVELOPE.decode(task).spec) if said.keys() == {"spec"} else added_task(said)
    except (InvalidInput, msgspec.DecodeError) as error:
        raise InvalidInput(f"{where}: {error}; nothing was added") from None
    return _checked(spec, where)


def _checked(spec: TaskSpec, where: str) -> TaskSpec:
    for key, given in (
        ("when", spec.when),
        ("for_each", spec.for_each is not msgspec.UNSET),
        ("wait_for", spec.job == WAIT_JOB),
    ):
        if given:
            raise InvalidInput(f"{where}, {quoted(spec.name)}: `{key}` is not supported yet in an added sub-task")
    return spec


def _order(specs: Sequence[TaskSpec], known: Known | None) -> Sequence[int]:
    if not any(spec.depends_on for spec in specs):
        return range(len(specs))
    positions = {spec.name: at for at, spec in enumerate(specs)}
    rows: list[list[int]] = []
    for spec in specs:
        for name in spec.depends_on:
            if known is not None and name not in positions and name not in known:
                raise InvalidInput(
                    f"{quoted(spec.name)} depends on {quoted(name)}, which is no sub-task of the same task; "
                    "nothing was added"
                )
        rows.append([positions[name] for name in dict.fromkeys(spec.depends_on) if name in positions])
    graph = Graph(rows)
    if cycle := graph.find_cycle():
        way = " → ".join(specs[at].name for at in [*cycle, cycle[0]][:12])
        raise InvalidInput(f"the dependencies go round in a circle: {way}; nothing was added")
    return sorted(range(len(specs)), key=graph.levels().__getitem__)
