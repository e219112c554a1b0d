"""W6 runs at a tiny size: every event reaches its client once."""

from benchmarks.__main__ import measure
from benchmarks.figures import Settings


def test_every_event_reaches_its_own_client_once() -> None:
    outcome = measure("w6", Settings(runs=1, small=True))
    found = {figure.name: figure.median for figure in outcome.figures}
    assert found["events an own client missed"] == found["gaps while paced"] == 0
    assert found["events told, all connected"] > 0
    assert found["delivery of everything, p99"] > 0
    assert outcome.facts["readers closed"] == [0]
