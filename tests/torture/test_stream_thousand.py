"""A thousand stream clients, one of which never reads: the others hear in time, and memory stays bounded."""

import asyncio
import os
import time
from statistics import quantiles

import msgspec
import pytest
from api.stream_rig import moved, stream_world, until
from torture.figures import note

from benchmarks.rig import resident_mb
from benchmarks.w6 import Clients
from taskengine.clock import Micros
from taskengine.definition import TaskBuilder, WorkflowBuilder

pytestmark = pytest.mark.torture

CLIENTS = int(os.environ.get("TASKENGINE_TEST_STREAM_CLIENTS", "1000"))
ROUNDS = 40
CHUNK = 50
FLOOD = 10
TEXT = "x" * 4000


async def test_a_thousand_clients_do_not_notice_the_one_that_never_reads() -> None:
    nap = WorkflowBuilder("nap").with_task(TaskBuilder("nap").with_job_function("sleep", {"duration": "2h"})).build()
    async with stream_world() as world:
        bus, hub = world.engine.bus, world.parts.hub
        names = [await world.engine.execute_workflow(nap) for _ in range(CLIENTS)]
        await asyncio.gather(*[world.engine.wait_until_resting(name, 120) for name in names])
        numbers = {name: len(await world.engine.get_events(name)) for name in names}
        clients = Clients()
        order = {"port": world.port, "token": world.secrets["read"]}
        await clients.connect(**order, instances=names, everything=0, deaf=0)
        await clients.connect(**order, instances=[], everything=0, deaf=1)
        await until(lambda: hub.clients == CLIENTS + 1)
        before_mb, most_mb, busy = resident_mb(), 0.0, 0
        for start in range(0, CLIENTS * ROUNDS, CHUNK):
            began_s = time.monotonic()
            for number in range(start, start + CHUNK):
                name = names[number % CLIENTS]
                numbers[name] += 1
                now = Micros(time.time_ns() // 1000)
                bus.publish(msgspec.structs.replace(moved(numbers[name], name), at_us=now))
            for _ in range(FLOOD):
                busy += 1
                bus.publish(moved(busy, "busy", text=TEXT))
            most_mb = max(most_mb, resident_mb())
            # The pace of the load: a thousand updates a second, and a flood that only the deaf one should hear.
            await asyncio.sleep(max(0.0, CHUNK / 1000 - (time.monotonic() - began_s)))
        await asyncio.sleep(2)  # what is on its way
        seen = await clients.report()
        clients.close()
        p50, p99 = (quantiles(seen.own, n=100)[at] * 1e3 for at in (49, 98))
        note("stream", clients=CLIENTS, updates=len(seen.own), p50_ms=p50, p99_ms=p99, grown_mb=most_mb - before_mb)
        print(
            f"\n{CLIENTS} clients, {len(seen.own)} updates: p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest "
            f"{max(seen.own) * 1e3:.0f} ms; memory +{most_mb - before_mb:.0f} MB; "
            f"gaps {seen.gaps}, closed {seen.closed}"
        )
        assert world.metrics.total("stream.closed", reason="too_slow") == 1, "the one that never reads had to go"
        assert len(seen.own) == CLIENTS * ROUNDS
        assert seen.gaps == seen.closed == 0
        assert p99 < 1000
        assert most_mb - before_mb < 250
