"""The long form: minutes of generated requests, with new seeds each time."""

import random
import time
from pathlib import Path

import pytest
from api.apiworld import background_server
from api.fuzzing import answers, fuzz
from torture.figures import note

pytestmark = pytest.mark.torture


@pytest.mark.parametrize("scope", ["admin", "operate", None])
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_no_request_breaks_the_server(tmp_path: Path, scope: str | None, store: str) -> None:
    seed = str(random.randrange(2**31))
    dsn = "memory://" if store == "memory" else tmp_path / "引擎.db"
    with background_server(dsn=dsn) as world:
        budget = ("--seed", seed, "-n", "100", "--max-time", "45")
        began_s = time.monotonic()
        report = fuzz(world, tmp_path / "out", scope, *budget, limit_s=900)
        note(
            "schemathesis",
            scope=scope or "none",
            store=store,
            seed=seed,
            requests=sum(count for (name, _), count in world.metrics.counted.items() if name == "http.requests"),
            duration_s=round(time.monotonic() - began_s, 1),
            clean=report == "",
        )
        assert report == "", f"seed {seed}\n{report}"
        assert world.log.events("error") == [], f"seed {seed}"
        assert not {status for statuses in answers(world).values() for status in statuses} & {0, 500}, f"seed {seed}"
