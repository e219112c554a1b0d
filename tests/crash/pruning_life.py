"""One life that removes all ended instances of the workflow `旧`: `pruning_life.py DATABASE [KILL]`."""

import asyncio
import sys
from pathlib import Path

from crash.driver import Killer

from taskengine.ambient import Ambient
from taskengine.engine.builder import EngineBuilder


async def prune(database: Path, kill: str) -> None:
    # Without recovery: what this life writes is only what it removes.
    builder = EngineBuilder(Ambient(probe=Killer(kill))).with_store(database).with_recovery(False)
    async with builder.build() as engine:
        await engine.prune(older_than_s=0, workflow_id="旧")
        await engine.sweep()


if __name__ == "__main__":
    asyncio.run(prune(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
