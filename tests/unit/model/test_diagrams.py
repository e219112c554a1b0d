from pathlib import Path

from taskengine.model.diagrams import phase_diagram, task_diagram
from taskengine.model.states import TASK_EDGES, TaskState

ARCHITECTURE = Path(__file__).parents[3] / "docs" / "architecture.md"


def test_the_documentation_shows_the_tables_as_they_are() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert f"```mermaid\n{task_diagram()}\n```" in text
    assert f"```mermaid\n{phase_diagram()}\n```" in text


def test_every_state_and_every_move_is_drawn() -> None:
    drawing = task_diagram()
    for state in TaskState:
        assert state in drawing
    for (before, move), after in TASK_EDGES.items():
        assert any(
            line.strip().startswith(f"{before} --> {after}:") and move in line.split(": ")[1].split(", ")
            for line in drawing.splitlines()
            if ": " in line
        )
