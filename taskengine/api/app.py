"""The application: all routes behind the gate."""

from collections.abc import Sequence
from typing import Any

from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute, WebSocketRoute
from litestar.types import Scope

from taskengine.api import functions, instances, page, system, tokens, workflows
from taskengine.api.gate.gate import Gate, GateParts
from taskengine.api.gate.guard import Guard, require_scopes
from taskengine.api.gate.passage import passage_of
from taskengine.api.gate.tokens import Principal
from taskengine.api.parts import ApiParts, Parts
from taskengine.api.problems import Refusal, allowed_methods
from taskengine.api.stream import routes as stream_routes
from taskengine.wire import PROBLEM_TYPE

__all__ = ["make_app", "own_handlers", "routes"]


class _Asked(Request[Any, Any, Any]):
    """A request whose JSON may be broken in ways that Litestar does not expect: that is no failure of ours."""

    async def json(self) -> Any:
        try:
            return await super().json()
        except RecursionError:
            raise Refusal(400, "the body is nested too deeply") from None
        except UnicodeDecodeError as error:
            raise Refusal(400, f"the body is not UTF-8: {error.reason} at byte {error.start}") from None


def routes() -> list[Any]:
    """Every handler of the API, as its module lists it."""
    rooms = (workflows, instances, system, functions, tokens, page, stream_routes)
    return [handler for room in rooms for handler in room.ROUTES]


def make_app(parts: ApiParts, handlers: Sequence[Any] | None = None) -> Litestar:
    """The whole API of one engine, which must be started before the first request.

    handlers  instead of all routes; for tests of the gate
    Raises    ValueError when a handler says no scope: then nobody knows who may call it.
    """
    guard = Guard(parts.limits, parts.clock, parts.tokens, read_only=parts.read_only)
    handlers = routes() if handlers is None else list(handlers)
    app = Litestar(
        handlers,
        middleware=[guard.at],
        dependencies={
            "parts": Provide(lambda: parts, sync_to_thread=False),
            "principal": Provide(_principal, sync_to_thread=False),
        },
        exception_handlers={Exception: _answer_error},
        after_exception=[_remember],
        request_class=_Asked,
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,  # the guard counts what is read, by the kind of the route
    )
    require_scopes(own_handlers(app))
    guard.allow = {
        route.path_format: allowed_methods(", ".join(route.methods))
        for route in app.routes
        if isinstance(route, HTTPRoute)
    }
    gate_parts = GateParts(
        tokens=parts.tokens,
        limits=parts.limits,
        hosts=parts.hosts,
        audit=parts.audit,
        address=parts.address,
        ambient=parts.ambient,
    )
    gate = Gate(app.asgi_router, gate_parts)  # which answers the errors of the router by itself
    app.asgi_handler = gate
    app.state.answer_error = gate.answer
    app.state.handlers = handlers
    return app


def own_handlers(app: Litestar) -> list[BaseRouteHandler]:
    """All handlers but those for OPTIONS, which the router adds by itself."""
    found: list[BaseRouteHandler] = []
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            found += [handler for handler in route.route_handlers if handler.http_methods != {"OPTIONS"}]
        elif isinstance(route, WebSocketRoute):
            found.append(route.route_handler)
        else:
            found.append(route.route_handler)
    return found


def _principal(request: Request[Any, Any, Any], parts: Parts) -> Principal:
    """Takes `parts` so that the two have an order: Litestar opens a task group for what has none, which costs more than
    all the rest of a request."""
    principal: Principal = request.scope["user"]
    return principal


def _answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    answer = request.app.state.answer_error(error)
    return Response(
        answer.encoded(), status_code=answer.body.status, media_type=PROBLEM_TYPE, headers=dict(answer.headers)
    )


async def _remember(error: Exception, scope: Scope) -> None:
    """Litestar turns the error of a WebSocket into a closing code; the gate answers with the error itself."""
    passage_of(scope).error = error
