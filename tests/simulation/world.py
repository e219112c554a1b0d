"""A hostile world around one planner: late, reordered and repeated messages, failing and delayed commits, crashes.

One seed decides everything: the workflow, what its bodies do, the order in which anything happens. The planner's
decisions wait in a queue until the world commits them; effects are released by the commit, as the real actor does.
"""

import random
from collections import deque

import msgspec
from simulation.children import Children
from simulation.graphs import Act, Story, added_act, random_batch, random_story, undo_act
from simulation.oracle import expected_states, kind, verdict
from simulation.rows import Rows

from taskengine.clock import Micros
from taskengine.engine.planner import (
    Arm,
    ArmDeadline,
    Decline,
    Effect,
    Ended,
    Interrupt,
    Launch,
    Offer,
    Plan,
    Reply,
    Shape,
    StartChild,
    TellChild,
    decide,
)
from taskengine.model.added import Added, decode_added, encode_added
from taskengine.model.children import ChildOf
from taskengine.model.definition import OnFailure, TaskSpec, canonical_form, version_of
from taskengine.model.ids import CommandId, InstanceId, Ordinal, WorkflowId
from taskengine.model.messages import (
    Add,
    Cancel,
    ChildSettled,
    Command,
    Continue,
    DeadlineDue,
    Granted,
    InstanceMessage,
    Park,
    Pause,
    Recovered,
    Resume,
    Retry,
    RetryScope,
    Settled,
    Signal,
    Start,
    TaskDue,
)
from taskengine.model.records import Decision, InstanceRow, Outcome, ParkKind, TaskFailure, TaskRow
from taskengine.model.states import TASK_FINAL, Hold, InstanceState, Phase, TaskState
from taskengine.model.waits import wait_of

_UNDONE = (TaskState.COMPENSATED, TaskState.COMPENSATION_FAILED)
_UNDOING = (*_UNDONE, TaskState.COMPENSATING)
EPOCH_US = 1_700_000_000_000_000
MAX_RECOVERIES = 3


class World:
    def __init__(self, seed: int | random.Random, story: Story | None = None) -> None:
        self.rng = random.Random(seed) if isinstance(seed, int) else seed
        self.story = story or random_story(self.rng)
        definition = self.story.definition
        self.shape = Shape(definition, version_of(canonical_form(definition)))
        self.chunk = self.rng.choice([1, 3, 11, 256])
        self.now = EPOCH_US
        self.committed = Rows(self.shape.names)
        self.decided = Rows(self.shape.names)
        self.pending: deque[tuple[Decision | None, list[Effect]]] = deque()
        self.inbox: list[InstanceMessage] = []
        self.offers: list[tuple[int, int]] = []
        self.bodies: dict[int, int] = {}  # ordinal -> attempt, really running
        self.interrupted: set[int] = set()
        self.children = Children("i", self.rng)
        self.timers: list[tuple[int, InstanceMessage]] = []
        self.past: list[InstanceMessage] = []
        self.answers: dict[CommandId, object] = {}
        self.launched: dict[tuple[int, int], int] = {}  # (ordinal, run) -> bodies of it
        self.ended: list[InstanceState] = []
        self.paused_for_sure = False
        self.lifts = 0
        self.sure_if: dict[CommandId, int] = {}
        self.meddled = False  # something happened that the simple model of the end does not know
        self.crashes = 0
        self.commits = 0
        self.crash_after: set[int] = set()  # numbers of commits right after which the process dies
        self.killer_alive = True
        self.commands = 0
        self.adds = 0
        self.waits = any(spec.job == "wait_for" for spec in definition.tasks)
        self.plan = Plan.new(
            self.shape,
            InstanceRow(
                id=InstanceId("i"),
                workflow_id=WorkflowId("模拟"),
                version=self.shape.version,
                created_us=Micros(self.now),
            ),
            agenda_limit=self.chunk,
            max_recoveries=MAX_RECOVERIES,
        )
        self.tell(Start())
        self.cut()

    # -- the planner's surroundings ----------------------------------------------------------------------------

    def tell(self, message: InstanceMessage) -> None:
        decide(self.plan, message, Micros(self.now))
        self.past.append(message)

    def cut(self) -> None:
        life = self.plan
        for launch in self.plan.take_launches():
            self.launch(launch)
            if self.plan is not life:
                return  # the body has killed the process
        # A dispatch may wait for the next decision, or for its task's end.
        decision, effects = self.plan.cut(Micros(self.now), lingering=self.rng.random() < 0.3)
        if decision is not None:
            self.decided.apply(decision)
            self.check_memory()
        self.pending.append((decision, effects))
        if decision is None and len(self.pending) == 1:
            self.commit(1)

    def commit(self, count: int) -> None:
        life = self.plan
        while self.pending and (count > 0 or self.pending[0][0] is None):
            decision, effects = self.pending.popleft()
            if decision is not None:
                count -= 1
                self.committed.apply(decision)
                self.commits += 1
                if self.commits in self.crash_after:
                    self.crash()  # committed, and nobody was told
                    return
            for effect in effects:
                self.perform(effect)
                if self.plan is not life:
                    return

    def perform(self, effect: Effect) -> None:
        match effect:
            case Offer():
                self.offers.append((effect.ordinal, effect.attempt))
            case Launch():
                self.launch(effect)
            case Interrupt():
                if self.bodies.get(effect.ordinal) == effect.attempt:
                    self.interrupted.add(effect.ordinal)
            case Arm():
                self.timers.append((effect.due_us, TaskDue(effect.ordinal, effect.attempt)))
            case ArmDeadline():
                self.timers.append((effect.due_us, DeadlineDue(effect.run)))
            case StartChild():
                self.hear(self.children.start(effect))
            case TellChild():
                self.hear(self.children.tell(effect))
            case Reply():
                self.on_reply(effect)
            case Ended():
                self.on_ended(effect)
            case Decline():
                pass

    def hear(self, word: ChildSettled | None) -> None:
        """Of a child. The simple model of the end knows only of those that end well."""
        if word is not None:
            self.meddled = self.meddled or word.outcome is not Outcome.OK
            self.inbox.append(word)

    def launch(self, effect: Launch) -> None:
        ordinal = effect.ordinal
        self.check_launch(ordinal, effect.attempt)
        self.bodies[ordinal] = effect.attempt
        self.interrupted.discard(ordinal)
        if ordinal == self.story.killer and self.killer_alive and not self.plan.ledger.tasks[ordinal].undoing:
            self.meddled = True
            self.crash()

    def crash(self) -> None:
        """The process dies and starts again: only committed rows are left."""
        self.crashes += 1
        self.pending.clear()
        self.offers.clear()
        self.bodies.clear()
        self.interrupted.clear()
        self.timers.clear()
        self.inbox.clear()
        self.reload()

    def lose_commit(self) -> None:
        """A commit fails for good: the actor dies and is rebuilt; its bodies are cancelled, their reports are late."""
        self.pending.clear()
        for ordinal, attempt in self.bodies.items():
            self.inbox.append(Settled(Ordinal(ordinal), attempt, Outcome.INTERRUPTED))
        self.bodies.clear()
        self.interrupted.clear()
        self.reload()

    def reload(self) -> None:
        rows = self.committed
        self.decided = rows.copy()
        if rows.instance is None:
            self.meddled = True
            self.plan = Plan.new(self.shape, self.plan.ledger.row, agenda_limit=self.chunk)
            self.plan.max_recoveries = MAX_RECOVERIES
            self.tell(Start())
        else:
            self.plan = Plan.load(
                self.shape,
                rows.instance,
                rows.tasks.values(),
                rows.commands.values(),
                last_seq=rows.seq,
                agenda_limit=self.chunk,
                max_recoveries=MAX_RECOVERIES,
            )
            self.tell(Recovered())
        self.cut()

    # -- checks ------------------------------------------------------------------------------------------------

    def check_memory(self) -> None:
        """Every row equals memory; a plan built from the rows has the same counters."""
        ledger = self.plan.ledger
        for task in ledger.tasks:
            row = self.decided.tasks.get(task.ordinal)
            if task.ordinal in ledger.lingering:
                assert row is not None, "it was offered"
                assert (row.state, row.attempt) == (TaskState.READY, task.attempt)
                continue
            wanted = ledger.task_row(task)
            if row is None:
                assert task.state is TaskState.PENDING
                assert task.attempt == 0
                assert task.ordinal < len(self.shape.names), "what was added has a row"
            else:
                for field in set(TaskRow.__struct_fields__) - {
                    "result",
                    "error",
                    "reason",
                    "started_us",
                    "finished_us",
                }:
                    assert getattr(row, field) == getattr(wanted, field), (field, row, wanted)
        for link in self.children.running:
            parent = ledger.tasks[link.ordinal]
            assert parent.awaits_child or parent.attempt != link.attempt, "it waits for its child"
        assert ledger.instance_row() == self.decided.instance
        if not self.plan.unfinished_business and not ledger.lingering:
            twin = Plan.load(
                self.shape, ledger.instance_row(), self.decided.tasks.values(), last_seq=self.decided.seq
            ).ledger
            assert (twin.counts, twin.open) == (ledger.counts, ledger.open)
            # A retry may have reset the task that had the highest number.
            assert twin.next_body_seq <= ledger.next_body_seq
            for parent, family in ledger.cast.families.items():
                if family.members:
                    other = twin.cast.families[parent]
                    assert (family.members, family.open) == (other.members, other.open)
            for ordinal in range(len(ledger.tasks)):
                assert sorted(ledger.cast.dependencies[ordinal]) == sorted(twin.cast.dependencies[ordinal])
                assert sorted(ledger.cast.dependents[ordinal]) == sorted(twin.cast.dependents[ordinal])
            for mine, other in zip(ledger.tasks, twin.tasks, strict=True):
                if any(task.state in _UNDOING for task in ledger.tasks):
                    break  # nobody asks any more how dependencies have ended; a retry counts anew
                names = ("ok", "bad", "skipped", "failed")
                assert [getattr(mine, name) for name in names] == [getattr(other, name) for name in names]
        assert ledger.active == sum(task.slot or self.is_offered(task.ordinal) for task in ledger.tasks)
        for family in ledger.cast.families.values():
            mine = [o for o in family.members if not ledger.tasks[o].undoing]
            assert family.active == sum(ledger.tasks[o].slot or self.is_offered(o) for o in mine)

    def is_offered(self, ordinal: int) -> bool:
        task = self.plan.ledger.tasks[ordinal]
        undo = task.undoing and not task.slot and task.due_us is None
        return undo or (task.state is TaskState.READY and not task.queued)

    def check_launch(self, ordinal: int, attempt: int) -> None:
        """Judged from committed rows only."""
        row, instance = self.committed.tasks[ordinal], self.committed.instance
        assert instance is not None
        spec = self.spec_of(row)
        assert row.added_by >= 0, "what is out never starts"
        if row.state is TaskState.COMPENSATING:
            self.check_undo(row, attempt)
            return
        assert row.attempt == attempt, "the offer of this attempt is committed"
        assert row.state in (TaskState.READY, TaskState.RUNNING)
        if spec.at_most_once or row.suspect:
            assert row.state is TaskState.RUNNING, "its Running row had to come first"
        if row.parent >= 0:
            parent = self.committed.tasks[row.parent]
            assert parent.body_seq, "the parent's body has succeeded"
            assert parent.state is TaskState.WAITING
            limit = self.spec_of(parent).max_parallel
            beside = [o for o in self.bodies if self.committed.tasks[o].parent == row.parent]
            assert limit is None or len(beside) < limit
        needs = [self.named(row.parent, name) for name in spec.depends_on]
        kinds = [kind(self.spec_of(need), need.state) for need in needs]
        assert verdict(spec.trigger, kinds) == "run", "dependencies are committed before a task starts"
        assert ordinal not in self.bodies, "no second attempt of a task while one runs"
        assert not self.paused_for_sure, "no launch after the answer to a pause"
        limit = self.shape.max_active
        assert limit is None or len(self.bodies) < limit
        key = (ordinal, instance.run)
        self.launched[key] = self.launched.get(key, 0) + 1
        if spec.at_most_once:
            assert self.launched[key] == 1, "at most once in a run"

    def owed(self) -> list[TaskRow]:
        """What has been done and not undone, as committed rows have it."""
        rows = [row for row in self.committed.tasks.values() if row.added_by >= 0 and row.body_seq]
        owing = (TaskState.SUCCESS, TaskState.FAILED, TaskState.TIMED_OUT, TaskState.CANCELLED)
        return [row for row in rows if row.state in owing and self.spec_of(row).compensation is not None]

    def check_undo(self, row: TaskRow, attempt: int) -> None:
        assert self.committed.instance is not None
        assert self.committed.instance.phase is Phase.COMP
        assert (row.attempt, row.due_us) == (attempt, None), "its intent is committed"
        assert not self.bodies, "nothing runs beside it"
        assert all(other.body_seq < row.body_seq for other in self.owed()), "what was done last is undone first"

    def spec_of(self, row: TaskRow) -> TaskSpec:
        if row.spec is None:
            return self.shape.specs[row.ordinal]
        task = decode_added(row.spec).task
        assert task is not None
        return task

    def named(self, parent: int, name: str) -> TaskRow:
        """A committed sibling."""
        if parent < 0 and name in self.shape.ordinals:
            ordinal = self.shape.ordinals[name]
            return self.committed.tasks.get(ordinal) or TaskRow(ordinal=Ordinal(ordinal), name=name)
        (row,) = [each for each in self.committed.children(parent) if each.name.rpartition("/")[2] == name]
        return row

    def on_reply(self, reply: Reply) -> None:
        if reply.command_id.startswith("add") and not reply.answer.error:
            self.meddled = True
        if reply.command_id.startswith("add by"):
            return  # not remembered: what counts is the attempt
        before = self.answers.setdefault(reply.command_id, reply.answer)
        assert before == reply.answer or before.error, "the same id has the same answer"  # type: ignore[attr-defined]
        if reply.command_id.startswith("pause") and not reply.answer.error:
            # Sure only if nothing that lifts a pause was under way when it was sent, or was sent since.
            self.paused_for_sure = self.sure_if.get(reply.command_id) == self.lifts

    def on_ended(self, effect: Ended) -> None:
        assert not self.bodies, "nothing runs after the end"
        assert not self.children.running, "no child outlives its parent"
        assert self.committed.instance is not None
        if self.committed.instance.run == effect.run:
            self.ended.append(effect.state)

    # -- what may happen next ----------------------------------------------------------------------------------

    def step(self, *, calm: bool) -> None:
        """One thing happens, chosen by the seed among what is possible. Calm: nothing bad any more."""
        choices: list[tuple[int, object]] = []
        if self.plan.unfinished_business or self.plan.ledger.lingering:
            choices.append((6, self.do_continue))
        if self.pending:
            choices.append((6, self.do_commit))
        if self.inbox:
            choices.append((6, self.do_deliver))
        if self.offers:
            choices.append((6, self.do_grant))
        if self.bodies:
            choices.append((6, self.do_finish_body))
        if self.children.running:
            choices.append((3, self.do_end_child))
        if self.timers:
            choices.append((2, self.do_advance))
        if self.bodies and self.story.grows and self.adds < 40:
            choices.append((4, self.do_add))
        if not calm:
            choices += [(1, self.do_command), (1, self.do_repeat)]
            if self.waits:
                choices.append((1, self.do_signal))
            if self.rng.random() < 0.15:
                choices += [(2, self.crash), (2, self.lose_commit)]
        weights = [weight for weight, _ in choices]
        self.rng.choices([action for _, action in choices], weights)[0]()  # type: ignore[operator]

    @property
    def idle(self) -> bool:
        return not (
            self.plan.ledger.lingering
            or self.plan.unfinished_business
            or self.pending
            or self.inbox
            or self.offers
            or self.bodies
            or self.children.running
            or self.timers
        )

    def do_continue(self) -> None:
        self.tell(Continue())
        self.maybe_cut()

    def do_commit(self) -> None:
        self.commit(self.rng.randint(1, len(self.pending)))

    def do_deliver(self) -> None:
        self.tell(self.inbox.pop(self.rng.randrange(len(self.inbox))))
        self.maybe_cut()

    def maybe_cut(self) -> None:
        """Several messages may share a decision, when they come in one burst."""
        while self.inbox and self.rng.random() < 0.3:
            self.tell(self.inbox.pop(self.rng.randrange(len(self.inbox))))
        self.cut()

    def do_grant(self) -> None:
        ordinal, attempt = self.offers.pop(self.rng.randrange(len(self.offers)))
        self.inbox.append(Granted(Ordinal(ordinal), attempt))

    def do_finish_body(self) -> None:
        ordinal = self.rng.choice(list(self.bodies))
        attempt = self.bodies.pop(ordinal)
        if ordinal in self.interrupted and self.rng.random() < 0.8:
            self.inbox.append(Settled(Ordinal(ordinal), attempt, Outcome.INTERRUPTED))
            return
        if (wait := wait_of(self.plan.ledger.cast.specs[ordinal])) is not None:
            due = Micros(self.now + 9_000_000) if self.rng.random() < 0.5 else None
            park = Park(ParkKind.SIGNAL, due, wait.signal)
            self.inbox.append(Settled(Ordinal(ordinal), attempt, Outcome.PARK, park=park))
            return
        act = self.act(ordinal)
        failure = TaskFailure(type="Oops", message="坏了", retryable=act.retryable)
        park = self.park(ordinal, attempt) if act.outcome is Outcome.PARK else None
        self.inbox.append(Settled(Ordinal(ordinal), attempt, act.outcome, result=b"1", error=failure, park=park))

    def park(self, ordinal: int, attempt: int) -> Park:
        if self.rng.random() < 0.5:
            return Park(ParkKind.SLEEP, Micros(self.now + 3_000_000))
        return Park(ParkKind.CHILD, None, ChildOf(InstanceId("i"), Ordinal(ordinal), attempt).child, b"{}")

    def do_end_child(self) -> None:
        self.hear(self.children.end_one())

    def act(self, ordinal: int) -> Act:
        task = self.plan.ledger.tasks[ordinal]
        if task.undoing:
            return undo_act(self.plan.ledger.cast.names[ordinal], task.tries)
        if ordinal < len(self.shape.names):
            return self.story.act(ordinal, task.tries)
        return added_act(self.plan.ledger.cast.names[ordinal], task.tries)

    def do_signal(self) -> None:
        self.commands += 1
        name = self.rng.choice("ab")
        payload = msgspec.Raw(str(self.commands).encode())
        self.inbox.append(Signal(CommandId(f"signal{self.commands}"), name, payload))
        self.meddled = True

    def do_add(self) -> None:
        """A body adds sub-tasks; now and then somebody from outside does."""
        self.adds += 1
        ordinal = self.rng.choice(list(self.bodies))
        attempt = self.bodies[ordinal]
        if ordinal >= len(self.shape.names) and self.rng.random() < 0.7:
            return
        outside = self.rng.random() < 0.15
        tasks = tuple(msgspec.Raw(encode_added(Added(task=spec))) for spec in random_batch(self.rng))
        command = f"add {self.adds}" if outside else f"add by {self.adds}"
        if outside and self.rng.random() < 0.3:
            ordinal = -1
        self.inbox.append(Add(CommandId(command), tasks, ordinal, 0 if outside else attempt))

    def do_advance(self) -> None:
        self.timers.sort(key=lambda timer: timer[0])
        due, message = self.timers.pop(0)
        self.now = max(self.now, due)
        self.inbox.append(message)

    def do_repeat(self) -> None:
        """A copy of any earlier message comes again, also in a later run."""
        message = self.rng.choice(self.past)
        if not isinstance(message, Start | Recovered):
            if isinstance(message, Command) and message.id not in self.answers:
                self.meddled = True
            self.inbox.append(message)
            if isinstance(message, Resume | Cancel | Retry):
                self.lift()

    def do_command(self) -> None:
        self.commands += 1
        self.inbox.append(self._command(self.rng.randrange(12), self.commands))

    def lift(self) -> None:
        self.lifts += 1
        self.paused_for_sure = False

    def _command(self, choice: int, number: int) -> Command:
        self.meddled = self.meddled or choice > 7
        if choice < 3:
            command = Pause(CommandId(f"pause{number}"), now=choice == 0)
            if not any(isinstance(message, Resume | Cancel | Retry) for message in self.inbox):
                self.sure_if[command.id] = self.lifts
            return command
        self.lift()
        match choice:
            case 3 | 4 | 5 | 6 | 7:
                return Resume(CommandId(f"resume{number}"))
            case 8:
                return Cancel(CommandId(f"cancel{number}"), compensate=self.rng.random() < 0.5)
            case _:
                scope = self.rng.choice(list(RetryScope))
                names = [*self.shape.names, *(row.name for row in self.committed.tasks.values() if row.spec)]
                name = self.rng.choice(names) if names else ""
                return Retry(CommandId(f"retry{number}"), scope=scope, task=name)

    # -- the whole story ---------------------------------------------------------------------------------------

    def run(self, chaos_steps: int, calm_steps: int = 4000) -> None:
        for _ in range(chaos_steps):
            self.step(calm=False)
        for _ in range(calm_steps):
            if self.idle and not self.release():
                break
            if not self.idle:
                self.step(calm=True)
        else:
            raise AssertionError(f"did not end within {calm_steps} fair steps: {self.plan.ledger.state}")
        assert self.committed.instance is not None
        assert self.committed.instance.phase is Phase.END, "every instance ends"
        self.check_end()

    def release(self) -> bool:
        """What a user would do with an instance that is held; False when there is nothing to do."""
        hold = self.plan.ledger.hold
        if hold is Hold.NONE:
            return self.release_waits()
        self.commands += 1
        self.lift()
        self.killer_alive = False
        kind_of = Resume if hold is Hold.PAUSED else Retry
        self.inbox.append(kind_of(CommandId(f"release{self.commands}")))
        return True

    def release_waits(self) -> bool:
        """Somebody comes for each task that waits for ever."""
        waiting = [task for task in self.plan.ledger.tasks if task.park is ParkKind.SIGNAL]
        for task in waiting:
            self.commands += 1
            self.inbox.append(Signal(CommandId(f"signal{self.commands}"), task.key))
            self.meddled = True
        return bool(waiting)

    def check_signals(self) -> None:
        """A committed signal was taken at most once, by a task that waited for its name."""
        rows = self.committed.commands
        for row in rows.values():
            if row.kind == "taken":
                assert row.id.removesuffix("/taken") in rows
        takers = [row.answer for row in rows.values() if row.kind == "taken"]
        assert len(takers) == len(set(takers)), "one attempt takes one signal"

    def check_end(self) -> None:
        assert all(self.committed.state_of(ordinal) in TASK_FINAL for ordinal in self.committed.live())
        states = [self.committed.state_of(ordinal) for ordinal in range(len(self.shape.names))]
        self.check_signals()
        for row in self.committed.tasks.values():
            self.check_family(row)
        final = self.committed.instance.final if self.committed.instance is not None else None
        if final in (InstanceState.COMPENSATED, InstanceState.COMPENSATION_FAILED, InstanceState.FAILED):
            assert not self.owed(), "all that was done has been undone, or could not be"
        lost = any(
            row.error is not None and b'"lost"' in row.error for row in self.committed.tasks.values() if row.error
        )
        timed = self.shape.timeout_us is not None
        undone = any(row.attempt and row.state in _UNDONE for row in self.committed.tasks.values())
        if self.shape.on_failure is OnFailure.CONTINUE and not (self.meddled or timed or lost or undone or self.waits):
            assert states == expected_states(self.story)

    def check_family(self, parent: TaskRow) -> None:
        children = self.committed.children(parent.ordinal)
        if not children or parent.added_by < 0:
            return
        bad = [row for row in children if kind(self.spec_of(row), row.state) == "bad"]
        spec = self.spec_of(parent)
        tolerance = self.shape.tolerance if spec.tolerance is None else spec.tolerance
        if parent.state is TaskState.SUCCESS and not any(row.state in _UNDONE for row in children):
            assert parent.body_seq
            assert len(bad) <= tolerance * len(children)
            assert all(row.added_by in (0, parent.attempt) for row in children), "the set is that of the attempt"
        elif not parent.body_seq:
            assert all(
                row.state in (TaskState.UPSTREAM_FAILED, TaskState.CANCELLED, TaskState.SKIPPED) for row in children
            )
            assert not any(row.begun for row in children), "nobody starts before the parent's body has succeeded"
