"""What to compare a run with: list scheduling, and the time that no schedule can beat."""

from collections import defaultdict
from heapq import heappop, heappush

from examples.wfformat.trace import Trace

__all__ = ["ideal_seconds", "least_seconds"]


def ideal_seconds(trace: Trace, workers: int | None) -> float:
    """How long the trace takes when a free worker always takes the task that has been ready longest.

    workers  None: as many as there are tasks, so that the result is the length of the critical path
    Scheduling itself costs nothing here. A run may be shorter: other ties give another order, maybe a better one.
    Raises   ValueError for a graph with a cycle.
    Source   R. L. Graham, Bounds on Multiprocessing Timing Anomalies, 1969.
    """
    order = {step.id: index for index, step in enumerate(trace.steps)}
    open_parents = [len(step.parents) for step in trace.steps]
    children: dict[str, list[int]] = defaultdict(list)
    for index, step in enumerate(trace.steps):
        for parent in step.parents:
            children[parent].append(index)
    ready = [(0.0, index) for index, count in enumerate(open_parents) if not count]
    running: list[tuple[float, int]] = []
    now, ended = 0.0, 0
    while ready or running:
        while ready and (workers is None or len(running) < workers):
            _, index = heappop(ready)
            heappush(running, (now + trace.steps[index].seconds, index))
        now, index = heappop(running)
        ended += 1
        for child in children[trace.steps[index].id]:
            open_parents[child] -= 1
            if not open_parents[child]:
                heappush(ready, (now, child))
    if ended < len(order):
        raise ValueError(f"{len(order) - ended} tasks are in a cycle or behind one")
    return now


def least_seconds(trace: Trace, workers: int | None) -> float:
    """What no schedule can beat: the critical path, or all work evenly shared, whichever is longer."""
    path = ideal_seconds(trace, None)
    return path if workers is None else max(path, sum(step.seconds for step in trace.steps) / workers)
