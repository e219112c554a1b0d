"""The long form: minutes of generated requests, with new seeds each time."""

import random
from pathlib import Path

import pytest
from api.apiworld import background_server
from api.fuzzing import answers, fuzz

pytestmark = pytest.mark.torture


@pytest.mark.parametrize("scope", ["admin", "operate", None])
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_no_request_breaks_the_server(tmp_path: Path, scope: str | None, store: str) -> None:
    seed = str(random.randrange(2**31))
    dsn = "memory://" if store == "memory" else tmp_path / "引擎.db"
    with background_server(dsn=dsn) as world:
        budget = ("--seed", seed, "-n", "100", "--max-time", "90")
        report = fuzz(world, tmp_path / "out", scope, *budget, limit_s=900)
        assert report == "", f"seed {seed}\n{report}"
        assert world.log.events("error") == [], f"seed {seed}"
        assert not {status for statuses in answers(world).values() for status in statuses} & {0, 500}, f"seed {seed}"
