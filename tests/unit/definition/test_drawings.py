"""Drawings of a graph show every task and every dependency, whatever the names are."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskengine.definition import read_json, to_ascii, to_dot, to_svg
from taskengine.model.definition import TaskSpec, WorkflowDefinition
from taskengine.model.ids import WorkflowId

DOWN, SIDEWAYS = set("│╷╮├┤╭┬┼●"), {"left": set("╴╯╮┤─┴┬┼"), "right": set("╶╰╭├─┴┬┼")}
HOSTILE = '</text><script>alert("1")</script>\\N\n\x1b[31m'


def _workflow(needs: Mapping[str, str]) -> WorkflowDefinition:
    tasks = [{"name": name, "job": "noop", "depends_on": before.split()} for name, before in needs.items()]
    return read_json(json.dumps({"id": "w", "tasks": tasks}))


@st.composite
def graphs(draw: Any) -> WorkflowDefinition:
    size = draw(st.integers(1, 12))
    needs = {}
    for at in range(size):
        before = draw(st.lists(st.integers(0, at - 1), unique=True, max_size=3)) if at else []
        needs[f"t{at}"] = " ".join(f"t{other}" for other in before)
    return _workflow(needs)


def _reached(lines: list[str], row: int, column: int) -> set[str]:
    """Names of the tasks at which the ways that leave a task arrive. A way goes on straight where it can; it may turn
    right below its task, and must where the stroke ends. A crossing may be a junction, too: both are followed.
    """
    found, seen, todo = set(), set(), [(row + 1, column, "start")]
    while todo:
        y, x, came = step = todo.pop()
        if step in seen or not (0 <= y < len(lines) and 0 <= x < len(lines[y])):
            continue
        seen.add(step)
        stroke = lines[y][x]
        if stroke == "●":
            found.add(lines[y].split()[-1])
            continue
        turns = came != "down" or stroke not in DOWN or stroke == "┼"
        if stroke in DOWN:
            todo.append((y + 1, x, "down"))
        if turns and stroke in SIDEWAYS["left"] and came != "right":
            todo.append((y, x - 1, "left"))
        if turns and stroke in SIDEWAYS["right"] and came != "left":
            todo.append((y, x + 1, "right"))
    return found


def test_a_diamond_is_drawn_as_one() -> None:
    drawn = to_ascii(_workflow({"start": "", "left": "start", "right": "start", "end": "left right"}))
    assert drawn == "●    start\n├─╮\n● │  left\n│ ●  right\n├─╯\n●    end\n"


def test_names_stand_in_one_column_behind_the_ways() -> None:
    lines = to_ascii(_workflow({"获取": "", "解析": "获取", "b": "获取", "c": "解析 b"})).splitlines()
    assert {line.index(name) for line in lines for name in ("获取", "解析", " b", " c") if name in line} <= {4, 5}


@given(graphs())
def test_every_task_has_one_line_and_every_dependency_a_way(definition: WorkflowDefinition) -> None:
    lines = to_ascii(definition).splitlines()
    places = {line.split()[-1]: (y, line.index("●")) for y, line in enumerate(lines) if "●" in line}
    assert set(places) == {task.name for task in definition.tasks}
    for task in definition.tasks:
        for before in task.depends_on:
            assert places[before][0] < places[task.name][0]
            assert task.name in _reached(lines, *places[before])


@given(graphs())
def test_without_crossings_there_is_no_way_that_is_no_dependency(definition: WorkflowDefinition) -> None:
    text = to_ascii(definition)
    lines = text.splitlines()
    if "┼" in text:
        return
    after = {task.name: {other.name for other in definition.tasks if task.name in other.depends_on}
             for task in definition.tasks}  # fmt: skip
    for y, line in enumerate(lines):
        if "●" in line:
            assert _reached(lines, y, line.index("●")) == after[line.split()[-1]]


def test_too_many_ways_side_by_side_become_a_list() -> None:
    wide = {f"t{n}": "" for n in range(60)}
    text = to_ascii(_workflow({"start": "", **{f"t{n}": "start" for n in range(60)}, "end": " ".join(wide)}))
    assert "  ● t7  after start\n" in text
    assert text.count("●") == 62


def test_a_workflow_without_tasks_has_drawings() -> None:
    empty = WorkflowDefinition(id=WorkflowId("empty"))
    assert to_ascii(empty) == "(no tasks)\n"
    assert ET.fromstring(to_svg(empty)).tag.endswith("svg")
    assert to_dot(empty).startswith('digraph "empty" {')


def test_hostile_texts_stay_texts() -> None:
    """The reader refuses such names; a drawing must not depend on it."""
    hostile = WorkflowDefinition(
        id=WorkflowId(HOSTILE), name=HOSTILE, tasks=(TaskSpec(name=HOSTILE, job=HOSTILE), TaskSpec(name="b", job="j"))
    )
    svg = to_svg(hostile)
    assert {element.tag.rpartition("}")[2] for element in ET.fromstring(svg).iter()} == {
        "svg", "title", "style", "defs", "marker", "path", "g", "rect", "text"
    }  # fmt: skip
    assert "\x1b" not in svg
    dot = to_dot(hostile)
    assert "\x1b" not in dot
    assert [re.sub(r'"(\\.|[^"\\])*"', "S", line) for line in dot.splitlines()] == [
        "digraph S {", "  rankdir=LR;", "  node [shape=box, style=rounded];",
        "  n0 [label=S, tooltip=S];", "  n1 [label=S, tooltip=S];", "}",
    ]  # fmt: skip
    assert (
        to_ascii(hostile, label=lambda name: name.encode("ascii", "replace").decode().split("\n")[0][:5]).count("●")
        == 2
    )


@given(graphs())
def test_a_picture_has_a_box_for_each_task_and_an_arrow_for_each_dependency(definition: WorkflowDefinition) -> None:
    picture = ET.fromstring(to_svg(definition))
    ns = "{http://www.w3.org/2000/svg}"
    assert [text.text for text in picture.iter(f"{ns}text")] == [task.name for task in definition.tasks]
    ways = [path for path in picture.iter(f"{ns}path") if path.get("marker-end")]
    assert len(ways) == sum(len(task.depends_on) for task in definition.tasks)


@given(graphs())
def test_boxes_do_not_overlap(definition: WorkflowDefinition) -> None:
    ns = "{http://www.w3.org/2000/svg}"
    boxes = [
        tuple(float(rect.get(key) or 0) for key in ("x", "y", "width", "height"))
        for rect in ET.fromstring(to_svg(definition)).iter(f"{ns}rect")
    ]
    for at, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[:at]:
            apart_x = x + width <= other_x or other_x + other_width <= x
            apart_y = y + height <= other_y or other_y + other_height <= y
            assert apart_x or apart_y
