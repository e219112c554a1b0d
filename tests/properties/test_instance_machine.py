"""Hypothesis drives one instance through every command, message order, failing commit and crash, and shrinks."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simulation.graphs import random_story
from simulation.world import World

from taskengine.model.states import INSTANCE_FINAL, Phase


class InstanceMachine(RuleBasedStateMachine):
    """The world checks its laws in every step; here is only who chooses the steps."""

    world: World

    @initialize(seed=st.integers(0, 2**32), order=st.randoms(use_true_random=False))
    def begin(self, seed: int, order: random.Random) -> None:
        self.world = World(order, random_story(random.Random(seed)))

    @precondition(lambda self: self.world.plan.unfinished_business)
    @rule()
    def go_on(self) -> None:
        self.world.do_continue()

    @precondition(lambda self: self.world.pending)
    @rule()
    def commit(self) -> None:
        self.world.do_commit()

    @precondition(lambda self: self.world.inbox)
    @rule()
    def deliver(self) -> None:
        self.world.do_deliver()

    @precondition(lambda self: self.world.offers)
    @rule()
    def grant(self) -> None:
        self.world.do_grant()

    @precondition(lambda self: self.world.bodies)
    @rule()
    def end_body(self) -> None:
        self.world.do_finish_body()

    @precondition(lambda self: self.world.timers)
    @rule()
    def let_time_pass(self) -> None:
        self.world.do_advance()

    @rule()
    def command(self) -> None:
        self.world.do_command()

    @rule()
    def repeat_a_message(self) -> None:
        self.world.do_repeat()

    @rule()
    def crash(self) -> None:
        self.world.crash()

    @rule()
    def lose_a_commit(self) -> None:
        self.world.lose_commit()

    @invariant()
    def what_is_seen_is_what_is_committed(self) -> None:
        row = self.world.committed.instance
        if row is not None:
            assert (row.phase is Phase.END) == (row.state in INSTANCE_FINAL)
            assert (row.phase is Phase.END) == (row.finished_us is not None)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.rng = random.Random(0)  # the calm end is not worth shrinking
            self.world.run(chaos_steps=0)


TestInstanceMachine = InstanceMachine.TestCase
TestInstanceMachine.settings = settings(stateful_step_count=40, deadline=None)
