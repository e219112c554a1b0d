"""Bodies in real worker processes: results, kills, deaths."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taskengine.functions import Caller, Raised, Registry, Returned, Services
from taskengine.functions.job import JobFunction
from taskengine.functions.worker_link import ANSWERS, Ended, Frames, encode

SOURCE = """
import asyncio
import os
import signal
import subprocess
import sys
import time

from beside_worker_jobs import VALUE
from taskengine.functions import SyncTaskContext, TaskContext, job

class Database:
    pass

def make_database():
    return "made in " + str(os.getpid())

@job
def square(ctx: SyncTaskContext, 数: int) -> dict:
    ctx.log.info("计算 %d", 数)
    ctx.set_progress(0.5, "一半")
    return {"值": 数 * 数, "value": VALUE, "pid": os.getpid(), "upstream": ctx.upstream("前") if 数 == 7 else None}

@job
async def on_a_loop(ctx: TaskContext, wait: float) -> str:
    assert type(ctx) is TaskContext
    await asyncio.sleep(wait)
    return "slept"

@job
def leave(code: int):
    os._exit(code)

@job
def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)

@job
def fail(text: str):
    raise ValueError(text)

@job
def exits():
    raise SystemExit(4)

@job
def wait_forever(ctx: SyncTaskContext):
    ctx.log.info("entered")
    time.sleep(100)

@job
def cleans_up(ctx: SyncTaskContext, path: str):
    try:
        ctx.log.info("entered")
        time.sleep(100)
    finally:
        open(path, "w").write(str(ctx.cancelled))

@job
def ignores_sigterm(ctx: SyncTaskContext):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "1000"])
    ctx.log.info("%d %d", os.getpid(), child.pid)
    time.sleep(100)

@job
def chatters(ctx: SyncTaskContext):
    while True:
        ctx.log.info("x" * 5000)

@job
def beats_the_cancel(ctx: SyncTaskContext):
    import asyncio
    try:
        ctx.log.info("entered")
        time.sleep(100)
    except asyncio.CancelledError:
        return "kept"

@job
def asks_for(ctx: SyncTaskContext, key: str):
    return ctx.service(key)

@job
def takes_type(db: Database):
    return db

@job
def prints():
    print("来自子进程 stdout")
    print("来自子进程 stderr", file=sys.stderr)

@job
def plays_with_descriptors():
    for fd in range(3, 64):
        try:
            os.write(fd, b"nonsense" * 100)
        except OSError:
            pass
    time.sleep(100)

@job
def environment():
    return [os.environ.get("PYTHONPATH"), os.path.abspath(sys.path[-1])]

@job
def large(n: int):
    return "x" * n
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], JobFunction]]:
    """Functions of a jobs file that only the worker needs to run."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "worker_jobs.py"
    path.write_text(SOURCE, encoding="utf-8")
    (tmp_path / "beside_worker_jobs.py").write_text("VALUE = '旁边'", encoding="utf-8")
    registry = Registry()
    registry.load_file(path)

    def get(name: str) -> JobFunction:
        return msgspec.structs.replace(registry.get(f"worker_jobs:{name}"), kind="process")  # type: ignore[arg-type]

    yield get
    for name in ("worker_jobs", "beside_worker_jobs"):
        sys.modules.pop(name, None)


Jobs = Callable[[str], JobFunction]


async def entered(call: Any) -> str:
    """Wait for the first line of the body."""
    await asyncio.wait_for(call.told.wait(), 20)
    return str(call.frames[0].message)


def alive(pid: int) -> bool:
    """A zombie is dead; in a container nobody may collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_dead(pid: int) -> bool:
    """True when it has gone within ten seconds."""
    for _ in range(2000):
        if not alive(pid):
            return True
        threading.Event().wait(0.005)  # nobody tells of the end of a process that is not our child
    return False


async def test_a_body_runs_elsewhere_and_tells_what_it_does(start: Any, jobs: Jobs) -> None:
    call = start(jobs("square"), {"数": "7"}, upstream={"前": '{"行":1}'.encode()})
    result = msgspec.json.decode((await call.wait()).result)
    assert result["pid"] != os.getpid()
    assert (result["值"], result["value"], result["upstream"]) == (49, "旁边", {"行": 1})
    line, note = call.frames
    assert (line.level, line.message) == ("info", "计算 7")
    assert (note.fraction, note.message) == (0.5, "一半")


async def test_workers_stay_warm_and_are_no_more_than_allowed(start: Any, jobs: Jobs) -> None:
    calls = [start(jobs("square"), {"数": 2}) for _ in range(20)]
    pids = {msgspec.json.decode((await call.wait()).result)["pid"] for call in calls}
    assert 1 <= len(pids) <= 2
    again = msgspec.json.decode((await start(jobs("square"), {"数": 2}).wait()).result)["pid"]
    assert again in pids


async def test_an_async_job_runs_on_a_loop_of_its_own(start: Any, jobs: Jobs) -> None:
    assert await start(jobs("on_a_loop"), {"wait": 0.01}).wait() == Returned(b'"slept"')


async def test_exceptions_cross_as_data(start: Any, jobs: Jobs) -> None:
    outcome = await start(jobs("fail"), {"text": "没有数据"}).wait()
    assert (outcome.error.type, outcome.error.message) == ("ValueError", "没有数据")
    assert "worker_jobs.py" in outcome.error.traceback
    assert "taskengine" not in outcome.error.traceback
    assert (await start(jobs("exits")).wait()).error.type == "SystemExit"
    assert "'text'" in (await start(jobs("fail")).wait()).error.message


@pytest.mark.parametrize(
    ("name", "params", "how"), [("leave", {"code": 3}, "exited with code 3"), ("kill_myself", {}, "killed by SIGKILL")]
)
async def test_a_dying_worker_fails_its_own_call_only(
    start: Any, jobs: Jobs, name: str, params: dict[str, Any], how: str
) -> None:
    other = start(jobs("on_a_loop"), {"wait": 0.5})
    outcome = await start(jobs(name), params).wait()
    assert isinstance(outcome, Raised)
    assert (outcome.error.type, outcome.error.retryable, outcome.interrupted) == ("WorkerDied", True, False)
    assert how in outcome.error.message
    assert await other.wait() == Returned(b'"slept"')
    assert isinstance(await start(jobs("square"), {"数": 1}).wait(), Returned)


async def test_an_idle_worker_that_is_killed_is_replaced(start: Any, jobs: Jobs) -> None:
    pid = msgspec.json.decode((await start(jobs("square"), {"数": 1}).wait()).result)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until_dead(pid)
    outcome = await start(jobs("square"), {"数": 1}).wait()
    if isinstance(outcome, Raised):  # it was given the call before its end was noticed
        assert outcome.error.type == "WorkerDied"
        outcome = await start(jobs("square"), {"数": 1}).wait()
    assert msgspec.json.decode(outcome.result)["pid"] != pid


async def test_cancel_lets_the_body_clean_up_and_replaces_the_worker(start: Any, jobs: Jobs, tmp_path: Path) -> None:
    mark = tmp_path / "cleaned"
    call = start(jobs("cleans_up"), {"path": str(mark)})
    await entered(call)
    call.running.cancel()
    outcome = await call.wait()
    assert outcome.interrupted
    assert mark.read_text() == "True"
    assert isinstance(await start(jobs("square"), {"数": 1}).wait(), Returned)


async def test_cancel_ends_an_async_body(start: Any, jobs: Jobs) -> None:
    call = start(jobs("on_a_loop"), {"wait": 100})
    await asyncio.sleep(0.3)  # whether it is caught while it starts or while it sleeps, the outcome is the same
    call.running.cancel()
    assert (await call.wait()).interrupted


async def test_a_body_that_ignores_sigterm_is_killed_with_all_it_started(start: Any, jobs: Jobs) -> None:
    call = start(jobs("ignores_sigterm"))
    worker, child = (int(pid) for pid in (await entered(call)).split())
    call.running.cancel()
    outcome = await call.wait()
    assert outcome.interrupted
    assert wait_until_dead(worker)
    assert wait_until_dead(child)
    assert isinstance(await start(jobs("square"), {"数": 1}).wait(), Returned)


@pytest.mark.parametrize("_", range(5))
async def test_a_signal_in_the_middle_of_a_line_breaks_nothing(start: Any, jobs: Jobs, _: int) -> None:
    call = start(jobs("chatters"))
    await entered(call)
    call.running.cancel()
    outcome = await call.wait()
    assert outcome.interrupted
    assert outcome.error.type == "CancelledError"


async def test_an_outcome_that_beats_the_cancel_is_told_as_it_was(start: Any, jobs: Jobs) -> None:
    call = start(jobs("beats_the_cancel"))
    await entered(call)
    call.running.cancel()
    assert await call.wait() == Returned(b'"kept"')


async def test_a_waiting_call_is_cancelled_at_once(start: Any, jobs: Jobs) -> None:
    blockers = [start(jobs("wait_forever")) for _ in range(2)]
    waiting = start(jobs("square"), {"数": 1})
    waiting.running.cancel()
    assert (await waiting.wait()).interrupted
    assert not any(call.running.ended for call in blockers)
    for call in blockers:
        call.running.cancel()
        assert (await call.wait()).interrupted


async def test_factories_are_called_in_the_worker_and_objects_are_refused_with_advice(
    make_caller: Callable[..., Caller], start: Any, jobs: Jobs
) -> None:
    database = sys.modules["worker_jobs"].Database
    services = Services().with_service_factory("db", "worker_jobs:make_database").with_service("object", 1)
    services.with_service_factory(database, "worker_jobs:make_database")
    caller = make_caller(services, processes=1, grace_s=0.3)
    try:
        made = msgspec.json.decode((await start(jobs("asks_for"), {"key": "db"}, caller=caller).wait()).result)
        assert made.startswith("made in ")
        assert str(os.getpid()) not in made
        assert isinstance(await start(jobs("takes_type"), caller=caller).wait(), Returned)
        outcome = await start(jobs("asks_for"), {"key": "object"}, caller=caller).wait()
        assert outcome.error.type == "NotSupportedYet"
        assert "with_service_factory" in outcome.error.message
    finally:
        await caller.stop(1)


async def test_prints_go_to_the_standard_error_of_the_engine(
    start: Any, jobs: Jobs, capfd: pytest.CaptureFixture[str]
) -> None:
    await start(jobs("prints")).wait()
    out, err = capfd.readouterr()
    assert out == ""
    assert "来自子进程 stdout" in err
    assert "来自子进程 stderr" in err


async def test_a_body_that_writes_into_every_descriptor_dies_alone(start: Any, jobs: Jobs) -> None:
    outcome = await start(jobs("plays_with_descriptors")).wait()
    assert outcome.error.type == "WorkerDied"
    assert "wrote nonsense" in outcome.error.message
    assert isinstance(await start(jobs("square"), {"数": 1}).wait(), Returned)


async def test_the_worker_has_the_path_and_the_environment_of_the_engine(
    start: Any, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    outcome = await start(jobs("environment")).wait()
    assert msgspec.json.decode(outcome.result) == [None, str(tmp_path)]


async def test_large_params_and_results_cross(make_caller: Callable[..., Caller], start: Any, jobs: Jobs) -> None:
    outcome = await start(jobs("large"), {"n": 5_000_000}).wait()
    assert len(outcome.result) == 5_000_002
    outcome = await start(jobs("fail"), {"text": "y" * 5_000_000}).wait()
    assert outcome.error.type == "ValueError"


async def test_the_limit_of_a_result_holds_in_the_worker(
    make_caller: Callable[..., Caller], start: Any, jobs: Jobs
) -> None:
    caller = make_caller(processes=1, max_result=1000)
    outcome = await start(jobs("large"), {"n": 2000}, caller=caller).wait()
    assert "2,002 bytes of JSON, the limit is 1,000 bytes" in outcome.error.message
    await caller.stop(1)


async def test_stop_leaves_no_worker(make_caller: Callable[..., Caller], start: Any, jobs: Jobs) -> None:
    caller = make_caller(processes=2, grace_s=0.2)
    idle = msgspec.json.decode((await start(jobs("square"), {"数": 1}, caller=caller).wait()).result)["pid"]
    busy = start(jobs("ignores_sigterm"), caller=caller)
    worker = int((await entered(busy)).split()[0])
    await caller.stop(0.05)
    assert (await busy.wait()).interrupted
    assert not alive(idle)
    assert not alive(worker)


@pytest.fixture
async def orphan_line(tmp_path: Path, jobs: Jobs) -> AsyncIterator[tuple[int, int]]:
    """An engine in a process of its own, with a worker that is busy: pids of both."""
    script = tmp_path / "engine.py"
    script.write_text(
        f"""
import asyncio, sys
from taskengine.ambient import Ambient
from taskengine.functions import Caller, CallInfo, Registry, Services
from taskengine.model.definition import Executor

async def main():
    registry = Registry()
    registry.load_file({str(tmp_path / "worker_jobs.py")!r})
    caller = Caller(Ambient(), asyncio.get_running_loop().create_task, Services())
    info = CallInfo(instance_id="i", workflow_id="w", ordinal=0, task_name="t")
    caller.start(registry.get("ignores_sigterm"), info, print, lambda line: print(line.message, flush=True),
                 Executor.PROCESS)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    )
    command = [sys.executable, str(script)]
    engine = await asyncio.to_thread(lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    assert engine.stdout is not None
    with engine.stdout:
        line = await asyncio.to_thread(engine.stdout.readline)
        yield engine.pid, int(line.split()[0])
        engine.kill()
        engine.wait()


async def test_workers_end_with_a_killed_engine(orphan_line: tuple[int, int]) -> None:
    engine, worker = orphan_line
    assert alive(worker)
    os.kill(engine, signal.SIGKILL)
    assert await asyncio.to_thread(wait_until_dead, worker)


def test_frames_are_found_whatever_pieces_they_arrive_in() -> None:
    messages = [Ended(Returned(b"1" * size)) for size in (0, 1, 1000)]
    stream = b"".join(encode(message) for message in messages)
    for size in (1, 2, 3, 7, len(stream)):
        frames = Frames()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [ANSWERS.decode(frame) for piece in pieces for frame in frames.feed(piece)] == messages
