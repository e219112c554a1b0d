"""One life of an engine, as a program: it goes on with what an earlier life left, puts load on it, and may be killed.

The exit code is 0 when every instance has come to rest in its final state. With `--kill point:n` the process sends
SIGKILL to itself when it reaches that point for the n-th time.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from crash.ledger import ClientLedger, Deed, read_deeds
from crash.sabotage import SABOTAGES
from crash.workload import definition, key_of, kind_of

from taskengine.ambient import Ambient
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.errors import Conflict, TaskEngineError
from taskengine.model.states import INSTANCE_FINAL, InstanceState
from taskengine.probe import Probe
from taskengine.store.interface import InstanceQuery

JOBS = Path(__file__).with_name("jobs.py")
DATABASE = "TASKENGINE_TEST_DATABASE"
AT_ONCE = 10
UNFINISHED = InstanceQuery(states=frozenset(InstanceState) - INSTANCE_FINAL)


class Killer(Probe):
    """Ends the process at a named moment, and notes when instances went on.

    unfinished  how many the last life left; later ones came back from a rest and not from a kill
    """

    __slots__ = ("began_s", "left", "point", "recovered_s", "unfinished")

    def __init__(self, kill: str) -> None:
        self.point, _, times = kill.partition(":")
        self.left = int(times or 1)
        self.began_s = time.monotonic()
        self.recovered_s: list[float] = []
        self.unfinished = 0

    def reach(self, point: str) -> None:
        if point == "recovery.committed":
            self.recovered_s.append(time.monotonic() - self.began_s)
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Client:
    """Asks for starts, pauses, cancels and retries, and notes every answer.

    What was asked for and not answered is asked for again by the next life, as a client with a cut connection does.
    """

    def __init__(self, engine: Engine, folder: Path, seed: int, patience_s: float) -> None:
        self.engine, self.seed, self.patience_s = engine, seed, patience_s
        self.done = {(deed.what, deed.number): deed for deed in read_deeds(folder / "client.log") if not deed.asked}
        self.ledger = ClientLedger(folder / "client.log")

    async def look_after(self, number: int) -> None:
        """Everything that shall happen to one instance."""
        workflow, kind = definition(self.seed, number), kind_of(number)

        async def start() -> str:
            return await self.engine.execute_workflow(workflow, idempotency_key=key_of(number))

        instance = (await self.do("start", number, start)).instance
        match kind:
            case "pause":
                await self.do("pause", number, lambda: self.engine.pause_instance(instance))
                await self.do("resume", number, lambda: self.engine.resume_instance(instance))
            case "cancel":
                await self.do("cancel", number, lambda: self.engine.cancel_instance(instance, "不要了"))
            case "retry":
                await self.engine.wait_for_instance(instance, self.patience_s)
                await self.do("retry", number, lambda: self.engine.retry_instance(instance))
        await self.engine.wait_for_instance(instance, self.patience_s)

    async def do(self, what: str, number: int, ask: Callable[[], Awaitable[object]]) -> Deed:
        """Once; a refusal counts as an answer to what an earlier life asked and was not told."""
        known = self.done.get((what, number))
        if known is not None:
            return known
        self.ledger.note(what=what, number=number, asked=True)
        try:
            answer = await ask()
        except Conflict:
            answer = what = f"{what} refused"
        instance = str(answer) if what == "start" else ""
        self.ledger.note(what=what, number=number, asked=False, instance=instance)
        return Deed(what, number, False, instance)


async def all_at_rest(engine: Engine, patience_s: float) -> bool:
    """Wait for whatever is unfinished, also for what no client of this life has asked for.

    False: some are held, or have not moved for all the patience there is, as after a commit that was lost.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while found := await engine.list_instances(UNFINISHED, limit=500):
                moving = [view.id for view in found if view.status is not InstanceState.QUARANTINED]
                if not moving:
                    return False
                # Not its end: one that is being held just now has none.
                await engine.wait_until_resting(moving[0], patience_s)
            return True
    return False


async def live(options: argparse.Namespace, probe: Killer) -> bool:
    folder: Path = options.folder
    builder = EngineBuilder(Ambient(probe=probe)).with_store(os.environ[DATABASE]).with_app(JOBS).with_workers(8)
    engine = builder.with_processes(1).with_max_recoveries(options.max_recoveries).build()
    async with engine:
        probe.unfinished = len(await engine.list_instances(UNFINISHED, limit=10_000))
        client, slots = Client(engine, folder, options.seed, options.patience), asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with slots:
                await client.look_after(number)

        await asyncio.gather(*(one(number) for number in range(options.instances)))
        return await all_at_rest(engine, options.patience)


def parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--kill", default="")
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES), action="append", default=[])
    parser.add_argument("--max-recoveries", type=int, default=0)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for anything that is waited for")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = parsed(argv)
    for name in options.sabotage:
        SABOTAGES[name]()
    probe = Killer(options.kill)
    try:
        rested = asyncio.run(live(options, probe))
    except TaskEngineError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"recovered_s": probe.recovered_s[: probe.unfinished]}))
    return 0 if rested else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
