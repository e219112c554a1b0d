"""The state diagrams of the documentation, printed from the tables that the engine runs on."""

from collections import defaultdict
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from taskengine.model.states import PHASE_EDGES, TASK_EDGES, TASK_FINAL, Phase, TaskState

__all__ = ["phase_diagram", "task_diagram"]


def task_diagram() -> str:
    """Mermaid: every state of a task and every move between them."""
    return _diagram(TASK_EDGES, start=TaskState.PENDING, final=[state for state in TaskState if state in TASK_FINAL])


def phase_diagram() -> str:
    """Mermaid: the phases of an instance. What users see is derived from phase and hold."""
    return _diagram(PHASE_EDGES, start=Phase.NEW, final=[Phase.END])


State = TypeVar("State", bound=StrEnum)
Move = TypeVar("Move", bound=StrEnum)


def _diagram(edges: Mapping[tuple[State, Move], State], *, start: State, final: list[State]) -> str:
    ways: defaultdict[tuple[State, State], list[str]] = defaultdict(list)
    for (before, move), after in edges.items():
        ways[before, after].append(move.value)
    lines = ["stateDiagram-v2", f"    [*] --> {start}"]
    lines += [f"    {before} --> {after}: {', '.join(moves)}" for (before, after), moves in ways.items()]
    lines += [f"    {state} --> [*]" for state in final]
    return "\n".join(lines)
