"""Job functions over HTTP."""

from typing import Final

from litestar import get

from taskengine.api.parts import Parts
from taskengine.api.replies import Reply
from taskengine.api.shapes import function_body
from taskengine.wire import Envelope, FunctionBody

__all__ = ["ROUTES"]


@get("/api/v1/functions", opt={"scope": "read"}, tags=["functions"], summary="List job functions")
async def list_functions(parts: Parts) -> Reply[Envelope[list[FunctionBody]]]:
    """What the tasks of a definition may name as their job, by name."""
    return Reply(Envelope(data=[function_body(view) for view in parts.engine.functions()]))


ROUTES: Final = [list_functions]
