"""Scientific workflows, run by the real program: all succeed, and no task starts before what it depends on has ended.

TASKENGINE_TRACES=DIR takes the WfFormat files of a folder; without it, graphs of the same shapes are made up.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

ROOT = Path(__file__).parents[2]
# Read at import: each test runs in an environment without our variables.
GIVEN = os.environ.get("TASKENGINE_TRACES", "")
LONGEST_S = 1.2
TIMEOUT_S = 120
NEAR = 1.2
ATTEMPTS_AT_THE_BOUND = 3


class Graph:
    """A trace in the making: seeded runtimes in seconds, edges towards earlier tasks only."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._chance = random.Random(name)
        self._parents: dict[str, Sequence[str]] = {}
        self._seconds: dict[str, float] = {}

    def add(self, kind: str, low_s: float, high_s: float, parents: Sequence[str] = ()) -> str:
        id_ = f"{kind}_ID{len(self._parents) + 1:07}"
        self._parents[id_] = list(parents)
        self._seconds[id_] = round(self._chance.uniform(low_s, high_s), 3)
        return id_

    def wfformat(self) -> Mapping[str, Any]:
        children: dict[str, list[str]] = {id_: [] for id_ in self._parents}
        for id_, parents in self._parents.items():
            for parent in parents:
                children[parent].append(id_)
        graph = [
            {"name": id_, "id": id_, "parents": parents, "children": children[id_]}
            for id_, parents in self._parents.items()
        ]
        ran = [{"id": id_, "runtimeInSeconds": seconds} for id_, seconds in self._seconds.items()]
        self._chance.shuffle(graph)  # the order of a file is no order of execution
        workflow = {"specification": {"tasks": graph}, "execution": {"tasks": ran}}
        return {"name": self._name, "schemaVersion": "1.5", "workflow": workflow}


def montage(graph: Graph, bands: int = 3, images: int = 7, overlaps: int = 15) -> None:
    """A mosaic of the sky in three colours: projections, differences of neighbours, one model, corrections."""
    shown = []
    for _ in range(bands):
        projected = [graph.add("mProject", 15, 18) for _ in range(images)]
        pairs = [(a, b) for a in range(images) for b in range(a + 1, images)][:overlaps]
        fits = [graph.add("mDiffFit", 0.05, 0.9, [projected[a], projected[b]]) for a, b in pairs]
        model = graph.add("mBgModel", 0.4, 0.8, [graph.add("mConcatFit", 0.1, 0.2, fits)])
        flat = [graph.add("mBackground", 0.2, 0.9, [image, model]) for image in projected]
        added = graph.add("mAdd", 0.3, 0.5, [*flat, graph.add("mImgtbl", 0.1, 0.2, flat)])
        graph.add("mViewer", 0.5, 1.5, [added])
        shown.append(added)
    graph.add("mViewer", 0.5, 1.5, shown)


def epigenomics(graph: Graph, lanes: int = 9) -> None:
    """Chains side by side between a split and a merge, and a chain behind."""
    split = graph.add("fastqSplit", 1, 2)
    mapped = []
    for _ in range(lanes):
        last = split
        for kind, low_s, high_s in (("filterContams", 0.5, 1.2), ("sol2sanger", 0.1, 0.7), ("fast2bfq", 0.2, 0.9)):
            last = graph.add(kind, low_s, high_s, [last])
        mapped.append(graph.add("map", 30, 60, [last]))
    last = graph.add("mapMerge", 5, 6, mapped)
    for kind, seconds in (("mapMerge", 3.2), ("chr21", 2.8), ("pileup", 30.5)):
        last = graph.add(kind, seconds, seconds, [last])


def genomes(graph: Graph, chromosomes: int = 2, parts: int = 10, populations: int = 7) -> None:
    """Per chromosome a wide merge, a quick sifting beside it, and two kinds of readers of both."""
    for _ in range(chromosomes):
        merged = graph.add("individuals_merge", 37, 39, [graph.add("individuals", 50, 56) for _ in range(parts)])
        sifted = graph.add("sifting", 0.3, 0.4)
        for _ in range(populations):
            graph.add("mutation_overlap", 2, 34, [merged, sifted])
            graph.add("frequency", 99, 113, [merged, sifted])


def sra_search(graph: Graph, accessions: int = 10) -> None:
    """Long downloads, each followed by a search that also needs the one index."""
    index = graph.add("bowtie2-build", 6, 7)
    found = [graph.add("bowtie2", 30, 90, [index, graph.add("fasterq-dump", 390, 930)]) for _ in range(accessions)]
    graph.add("merge", 0.1, 0.2, found)


SHAPES: Final[Mapping[str, Callable[[Graph], None]]] = {
    "montage": montage,
    "epigenomics": epigenomics,
    "1000genome": genomes,
    "srasearch": sra_search,
}


def given_traces() -> Iterator[Path]:
    for path in sorted(Path(GIVEN).glob("*.json")):
        document = json.loads(path.read_bytes())
        if isinstance(document, dict) and isinstance(document.get("workflow"), dict):
            yield path


def traces() -> Sequence[Path | str]:
    if not GIVEN:
        return list(SHAPES)
    found = list(given_traces())
    if not found:
        raise pytest.UsageError(f"TASKENGINE_TRACES={GIVEN} has no WfFormat file")
    return found


def named(trace: Path | str) -> str:
    return trace if isinstance(trace, str) else trace.stem


@pytest.fixture(params=traces(), ids=named)
def trace_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    trace = request.param
    if isinstance(trace, Path):
        return trace
    graph = Graph(trace)
    SHAPES[trace](graph)
    path = tmp_path / f"{trace}.json"
    path.write_text(json.dumps(graph.wfformat()), encoding="utf-8")
    return path


def scale_of(path: Path) -> float:
    """So that the longest task takes about a second: long enough to see an early start, short enough for a test."""
    ran = re.findall(r'"runtimeInSeconds":\s*([0-9.eE+-]+)', path.read_text(encoding="utf-8"))
    return min(0.01, LONGEST_S / max(map(float, ran)))


def replayed(path: Path, *options: str) -> Mapping[str, str]:
    """Runs the trace; the lines of the summary by their first word. Fails with what the program said."""
    command = [sys.executable, "-m", "examples.wfformat", str(path), "--scale", str(scale_of(path)), "--run", *options]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert process.returncode == 0, process.stderr[-2_000:]
    return dict(line.split(maxsplit=1) for line in process.stdout.splitlines())


def assert_right(said: Mapping[str, str]) -> None:
    assert said["status"] == "Success"
    assert said["faults"] == "none, every dependency was respected"
    # Less than the least would mean that the recorded times are wrong; half a millisecond is lost in print.
    assert float(said["makespan"].split()[0]) >= float(said["least"].split()[0]) - 0.001


def test_every_dependency_is_respected_when_tasks_are_durable_waits(trace_file: Path) -> None:
    assert_right(replayed(trace_file, "--body", "wait", "-j", "8"))


def test_every_dependency_is_respected_and_the_makespan_is_near_list_scheduling(trace_file: Path) -> None:
    ratios = []
    # The machine is shared: what counts is that the engine can, not that nothing else ran.
    for _ in range(ATTEMPTS_AT_THE_BOUND):
        said = replayed(trace_file, "--body", "hold", "-j", "8")
        assert_right(said)
        ratios.append(float(said["ratio"]))
        if ratios[-1] <= NEAR:
            break
    assert min(ratios) <= NEAR, ratios


def test_the_shapes_have_the_sizes_of_the_recorded_ones() -> None:
    sizes = {}
    for name, shape in SHAPES.items():
        graph = Graph(name)
        shape(graph)
        tasks = graph.wfformat()["workflow"]["specification"]["tasks"]
        sizes[name] = (len(tasks), sum(len(task["parents"]) for task in tasks))
    assert sizes == {"montage": (103, 231), "epigenomics": (41, 48), "1000genome": (52, 76), "srasearch": (22, 30)}
