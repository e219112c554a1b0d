"""The engine for programs that have no loop, or have one of their own."""

import asyncio
import inspect
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from engine.worlds import LIMIT_S, flow

from taskengine import BlockingEngine
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.errors import NotFound, StoreLocked, Unavailable, WaitTimeout
from taskengine.model.definition import TaskSpec


def builder(**jobs: Any) -> EngineBuilder:
    made = EngineBuilder()
    for name, function in jobs.items():
        made.with_job_func(name, function)
    return made


async def double() -> int:
    return 42


ONE = flow(TaskSpec(name="加倍", job="double"))


def test_it_has_the_verbs_of_the_engine() -> None:
    mine = {name: f for name, f in vars(BlockingEngine).items() if not name.startswith("_") and callable(f)}
    verbs = set(mine) - {"start", "stop"}
    for name in verbs:
        theirs = inspect.signature(getattr(Engine, name))
        assert inspect.signature(mine[name]) == theirs, name
    inside = {"actors", "drain", "save", "start", "stop"}
    public = {name for name in dir(Engine) if not name.startswith("_") and callable(getattr(Engine, name))}
    assert public - inside == verbs


def test_a_script_starts_and_waits_without_a_loop() -> None:
    with BlockingEngine(builder(double=double)) as engine:
        instance = engine.execute_workflow(ONE)
        assert engine.wait_for_instance(instance, LIMIT_S).status == "Success"
        assert engine.result(instance) == {"加倍": 42}
        assert [view.name for view in engine.get_tasks(instance)] == ["加倍"]
        assert engine.status().store.instances == {"Success": 1}
        assert "double" in [view.name for view in engine.functions()]


async def test_it_works_in_a_thread_whose_loop_runs() -> None:
    with BlockingEngine(builder(double=double)) as engine:
        assert engine.wait_for_instance(engine.execute_workflow(ONE), LIMIT_S).status == "Success"
    assert asyncio.get_running_loop().is_running()


def test_several_threads_may_use_it_at_once() -> None:
    ends: list[str] = []
    with BlockingEngine(builder(double=double)) as engine:

        def use() -> None:
            ends.append(engine.wait_for_instance(engine.execute_workflow(ONE), LIMIT_S).status.value)

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
    assert ends == ["Success"] * 4


def test_errors_come_through() -> None:
    with BlockingEngine(builder()) as engine, pytest.raises(NotFound):
        engine.get_instance("没有")


def test_an_interrupt_while_waiting_leaves_the_engine_usable() -> None:
    gate, waiting = threading.Event(), threading.Event()

    def wait() -> str:
        waiting.set()
        gate.wait(LIMIT_S)
        return "好"

    def interrupt() -> None:
        waiting.wait(LIMIT_S)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with BlockingEngine(builder(wait=wait)) as engine:
        instance = engine.execute_workflow(flow(TaskSpec(name="t", job="wait")))
        thread = threading.Thread(target=interrupt)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # the signal may come as soon as the thread runs
            thread.start()
            engine.wait_for_instance(instance, LIMIT_S)
        assert engine.get_instance(instance).status == "Running"
        gate.set()
        assert engine.wait_for_instance(instance, LIMIT_S).status == "Success"


def test_a_wait_that_takes_too_long_says_so() -> None:
    gate = threading.Event()
    with BlockingEngine(builder(wait=lambda: gate.wait(LIMIT_S))) as engine:
        instance = engine.execute_workflow(flow(TaskSpec(name="t", job="wait")))
        with pytest.raises(WaitTimeout):
            engine.wait_for_instance(instance, 0.01)
        gate.set()


def test_before_its_start_and_after_its_stop_it_is_unavailable_and_leaves_no_thread() -> None:
    engine = BlockingEngine(builder())
    with pytest.raises(Unavailable):
        engine.list_instances()
    engine.stop()
    engine.start()
    engine.start()
    engine.stop()
    engine.stop()
    with pytest.raises(Unavailable):
        engine.list_instances()
    assert "taskengine" not in [thread.name for thread in threading.enumerate()]


def test_a_start_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    path = tmp_path / "引擎.db"
    with BlockingEngine(EngineBuilder().with_store(path)):
        second = BlockingEngine(EngineBuilder().with_store(path))
        with pytest.raises(StoreLocked):
            second.start()
        second.stop()
    assert "taskengine" not in [thread.name for thread in threading.enumerate()]


def test_a_job_on_its_own_loop_cannot_wait_for_it() -> None:
    async def ask() -> str:
        with pytest.raises(Unavailable):
            engine.list_instances()
        return "refused"

    with BlockingEngine(builder(ask=ask)) as engine:
        instance = engine.execute_workflow(flow(TaskSpec(name="t", job="ask")))
        assert engine.wait_for_instance(instance, LIMIT_S).status == "Success"
        assert engine.result(instance) == {"t": "refused"}
