"""Reading definitions that come from outside.

A small text is read on the loop, in a few milliseconds. A larger one is read by a process of its own, one after the
other, which is ended when it takes too long: nobody's upload holds up the others' requests.
"""

import os
import subprocess
import sys
from typing import Final

import anyio

from taskengine.definition import read_json, read_yaml
from taskengine.definition.apart import Request, decode_answer, encode_request
from taskengine.errors import InvalidDefinition, Problem, Unavailable
from taskengine.model.definition import WorkflowDefinition

__all__ = ["DEADLINE_S", "SMALL_BYTES", "Checker"]

SMALL_BYTES: Final = 16 * 1024
DEADLINE_S: Final = 20.0


class Checker:
    """Reads definitions for one server. On the loop only.

    deadline_s   for one large text, from when its turn comes
    small_bytes  up to here texts are read on the loop
    """

    def __init__(self, *, deadline_s: float = DEADLINE_S, small_bytes: int = SMALL_BYTES) -> None:
        self._deadline_s, self._small_bytes = deadline_s, small_bytes
        self._turn = anyio.Lock()

    async def read(self, request: Request) -> WorkflowDefinition:
        """Raises InvalidDefinition with every problem, also when reading takes too long; Unavailable without a process.

        A text over the limit is refused before anything looks into it.
        """
        size = len(request.text)
        if size <= self._small_bytes or size > request.limit_bytes:
            read = read_json if request.form == "json" else read_yaml
            return read(request.text, jobs=request.jobs, pools=request.pools, limit_bytes=request.limit_bytes)
        async with self._turn:
            return decode_answer(await self._ask(encode_request(request)))

    async def _ask(self, request: bytes) -> bytes:
        try:
            with anyio.fail_after(self._deadline_s):
                done = await _run(request)
        except TimeoutError:
            raise _too_slow(self._deadline_s) from None
        except OSError as error:
            raise Unavailable(f"no process could be started to read a large definition: {error}") from error
        if done is None or done.returncode:
            how = "" if done is None else f" with code {done.returncode}"
            raise Unavailable(f"the process that read the definition ended{how} before it had answered; try again")
        return done.stdout


async def _run(request: bytes) -> "subprocess.CompletedProcess[bytes] | None":
    """None: it ended before it had taken the request."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "taskengine.definition.apart"]
    done = None
    try:
        done = await anyio.run_process(command, input=request, stderr=subprocess.DEVNULL, check=False, env=environment)
    except* anyio.BrokenResourceError:
        pass
    return done


def _too_slow(deadline_s: float) -> InvalidDefinition:
    message = f"reading this definition took longer than {deadline_s:g} s and was given up; make it smaller or simpler"
    return InvalidDefinition([Problem(message=message)])
