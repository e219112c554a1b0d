"""Seeded histories of one instance. `--seed N` replays one, `--seeds N` runs so many."""

import random

import pytest
from simulation.world import World


def history(seed: int) -> World:
    world = World(seed)
    world.run(chaos_steps=random.Random(seed ^ 0x5EED).choice([0, 20, 100, 300]))
    return world


def test_every_seed_ends_and_keeps_the_laws(simulation_seed_option: int | None, simulation_seed_count: int) -> None:
    seeds = [simulation_seed_option] if simulation_seed_option is not None else range(simulation_seed_count)
    crashes = 0
    for seed in seeds:
        try:
            crashes += history(seed).crashes
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}; replay: pytest tests/simulation --seed {seed}")
    assert simulation_seed_option is not None or crashes > 0, "the world was not hostile"


def test_the_same_seed_is_the_same_history() -> None:
    one, two = history(7), history(7)
    assert one.committed.seq == two.committed.seq
    assert one.committed.tasks == two.committed.tasks


@pytest.mark.parametrize("seed", range(12))
def test_a_crash_after_any_commit_loses_nothing(seed: int) -> None:
    quiet = World(seed)
    quiet.run(chaos_steps=0)
    for boundary in range(1, quiet.commits + 1):
        world = World(seed)
        world.crash_after = {boundary, boundary + 3}
        world.run(chaos_steps=0)
        assert world.crashes >= 1
