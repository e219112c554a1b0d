"""The OpenAPI 3.1 document: Litestar reads the handlers, this adds what the gate does to every one of them.

The routes say their parameters, bodies and own errors; who may call them, the answers of the gate and the shapes of
`wire` are the same everywhere and are filled in here, so no route can forget them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.routes import HTTPRoute, WebSocketRoute

from taskengine import wire
from taskengine.api.gate.guard import SAFE_METHODS
from taskengine.version import VERSION
from taskengine.wire import PROBLEM_TYPE, ProblemBody

__all__ = ["SECURITY_SCHEME", "make_document"]

SECURITY_SCHEME: Final = "bearer"
_REFS: Final = "#/components/schemas/{name}"
_PLACE: Final = re.compile(r"taskengine\.[a-z_.]*\.(?=[A-Z])")
_METHODS: Final = ("get", "put", "post", "delete", "patch")

_INTRODUCTION: Final = """\
Starts and watches workflows.

**Authentication.** Every request but those to `/livez`, `/readyz`, `/health` and this document needs a token, as
`Authorization: Bearer te_…`. A token has one scope: `read` looks, `operate` also starts and changes instances, `define`
also uploads and deletes definitions, `admin` also makes tokens. Without a valid token every path answers 401, whether
it exists or not. A token in the query is never looked at.

**Answers.** `{"code": 0, "message": "success", "data": …}`. **Errors** are `application/problem+json` (RFC 9457) with a
stable `code`; programs switch on it.

**Repeating.** Every POST takes an `Idempotency-Key`: the same key, route and token have one effect.
"""

_STREAMS: Final = """
**WebSockets** (OpenAPI has no word for them): the token travels in the header `Authorization`, or, for browsers, as one
of the offered subprotocols: `taskengine.v1, taskengine.token.<token>`; the server chooses `taskengine.v1`. The first
frame is a snapshot, then come updates. `?since=` resumes behind a number or cursor, `?types=` and `?status=` choose
what is told (names with commas between). A refused connection gets an HTTP answer with a problem; one whose token is
revoked or expires is closed with 1008.

"""

_GATE: Final[Mapping[int, str]] = {
    400: "The request cannot be understood: a parameter, a header or the body has a wrong form.",
    401: "A token is needed, or this one is unknown, was revoked or has expired.",
    403: "The token's scope does not allow this, the server is read-only, or the call comes from a foreign page.",
    408: "The body did not arrive in time.",
    413: "The body is larger than this server takes.",
    415: "The body has a type that this route does not read.",
    421: "The server does not answer to the name in the Host header.",
    429: "Too many wrong tokens from this address, or too many starts or streams.",
    503: "As many streams are open as this server allows.",
}
_SUCCESSES: Final[Mapping[int, str]] = {
    200: "As asked for.",
    201: "It is made.",
    202: "It is accepted and stored.",
    204: "It is done; there is nothing to say.",
}
_HEADERS: Final[Mapping[int, Mapping[str, Any]]] = {
    401: {"WWW-Authenticate": {"description": "Always `Bearer`.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
}

_OF_INSTANCE: Final = (
    *("get_instance", "list_tasks", "list_events", "get_logs"),
    *("pause_instance", "resume_instance", "cancel_instance", "retry_instance", "add_tasks", "signal_instance"),
)
_OF_WORKFLOW: Final = (
    "get_workflow",
    "list_versions",
    "get_graph",
    "export_workflow",
    "execute_workflow",
    "get_history",
)
_LINKS: Final[Mapping[str, tuple[str, str, Sequence[str]]]] = {
    "execute_workflow": ("instance_id", "$response.body#/data/instance_id", _OF_INSTANCE),
    "upload_workflow": ("workflow_id", "$response.body#/data/id", _OF_WORKFLOW),
    "create_token": ("token_id", "$response.body#/data/id", ("revoke_token",)),
}
"""Where an id of an answer is asked for next."""

_EXAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "create_token": {"name": "dashboard", "scope": "read", "expires_in": 2592000}
}
"""Bodies of routes that cannot say an example themselves."""

_TAGS: Final[Sequence[tuple[str, str, str]]] = (
    ("/api/v1/workflows", "workflows", "Definitions, their versions, and starting them."),
    ("/api/v1/validate", "workflows", ""),
    ("/api/v1/instances", "instances", "What was started: state, tasks, logs, commands."),
    ("/api/v1/events", "streams", "What happens, as it happens."),
    ("/api/v1/functions", "functions", "The job functions that this server can run."),
    ("/api/v1/admin/tokens", "tokens", "Who may do what."),
    ("/schema", "document", "This document, for programs and for people."),
    ("/", "server", "The server itself, for people, load balancers and monitoring."),
)


def make_document(handlers: Sequence[Any]) -> dict[str, Any]:
    """The document of an application with these handlers, as plain data. Takes some tenths of a second."""
    app = Litestar(
        handlers,
        dependencies={name: Provide(lambda: None, sync_to_thread=False) for name in ("parts", "principal")},
        openapi_config=OpenAPIConfig(
            title="taskengine",
            path="/litestar",  # where this application, which nobody serves, would show its document
            version=VERSION,
            use_handler_docstrings=True,
            render_plugins=[JsonRenderPlugin()],
            operation_id_creator=lambda handler, _method, _path: handler.handler_name,
        ),
        logging_config=None,
    )
    document: dict[str, Any] = _without_module_names(app.openapi_schema.to_schema())
    sockets = sorted(_sockets(app))
    document["info"]["description"] = _introduction(sockets)
    document["info"]["license"] = {"name": "MIT", "identifier": "MIT"}
    document["tags"] = [{"name": name, "description": text} for _, name, text in _TAGS if text]
    document["x-websockets"] = [{"path": path, "x-scope": scope, "description": text} for path, scope, text in sockets]
    found = dict(_operations(app))
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                _complete(path, method, item[method], found[path, method.upper()])
    _complete_components(document.setdefault("components", {}))
    return document


def _introduction(sockets: Sequence[tuple[str, str, str]]) -> str:
    lines = [f"- `{path}` (scope `{scope}`): {text}" for path, scope, text in sockets]
    return _INTRODUCTION + (_STREAMS + "\n".join(lines) if lines else "")


def _without_module_names(schema: Mapping[str, Any]) -> Any:
    """Litestar calls a generic shape by its modules; nobody outside knows them."""
    text = msgspec.json.encode(schema).decode()
    return msgspec.json.decode(_PLACE.sub("", text))


def _operations(app: Litestar) -> Iterator[tuple[tuple[str, str], BaseRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                yield (route.path_format, str(method)), handler


def _sockets(app: Litestar) -> Iterator[tuple[str, str, str]]:
    for route in app.routes:
        if isinstance(route, WebSocketRoute):
            text = " ".join((route.route_handler.fn.__doc__ or "").split())
            yield route.path_format, str(route.route_handler.opt.get("scope")), text


def _complete(path: str, method: str, operation: dict[str, Any], handler: BaseRouteHandler) -> None:
    scope = str(handler.opt.get("scope"))
    operation.pop("deprecated", None)
    operation.setdefault("tags", [next(name for start, name, _ in _TAGS if path.startswith(start))])
    if " " not in operation.get("summary", ""):  # Litestar's own, made of the function's name
        operation["summary"] = operation["operationId"].replace("_", " ").capitalize()
    operation["security"] = [] if scope == "open" else [{SECURITY_SCHEME: []}]
    operation["x-scope"] = scope
    need = "Open to everyone." if scope == "open" else f"Needs the scope `{scope}`."
    operation["description"] = f"{operation.get('description', '').strip()}\n\n{need}".strip()
    for parameter in operation.get("parameters", ()):
        parameter.pop("deprecated", None)
        _say_times(parameter.get("schema", {}))
    if operation["operationId"] in _EXAMPLES:
        operation["requestBody"]["content"]["application/json"]["example"] = _EXAMPLES[operation["operationId"]]
    responses: dict[str, Any] = operation["responses"]
    _add_links(operation)
    for status in _gate_answers(handler.opt, method.upper()):
        responses.setdefault(str(status), {"description": _GATE[status]})
    for code, response in responses.items():
        for media_type, content in response.get("content", {}).items():
            if "yaml" in media_type:
                content["schema"] = {"description": "A definition, with the keys of docs/workflow-format.md."}
        if int(code) >= 400:
            _as_problem(int(code), response)
        else:
            _describe_success(int(code), response)
    operation["responses"] = dict(sorted(responses.items()))


def _gate_answers(opt: Mapping[str, Any], method: str) -> Iterator[int]:
    yield from (400, 421)
    if opt.get("scope") != "open":
        yield from (401, 403, 429)
    if opt.get("stream"):
        yield 503
    if method not in SAFE_METHODS:
        yield from (403, 408, 413, 415)


def _as_problem(status: int, response: dict[str, Any]) -> None:
    """Every error has the one shape, whatever Litestar thought it would be."""
    if status in _GATE and status == 400:
        response["description"] = _GATE[status]
    response["content"] = {PROBLEM_TYPE: {"schema": {"$ref": _REFS.format(name="ProblemBody")}}}
    if status in _HEADERS:
        response.setdefault("headers", {}).update(_HEADERS[status])


def _say_times(schema: dict[str, Any]) -> None:
    """A time in a query may also be a number."""
    for each in schema.get("oneOf", []):
        if each.get("format") == "date-time":
            schema["oneOf"].append({"type": "number", "description": "Seconds since 1970, UTC."})
            return


def _add_links(operation: dict[str, Any]) -> None:
    """Where a success leads, for those who follow."""
    if operation["operationId"] in _LINKS:
        place, value, others = _LINKS[operation["operationId"]]
        links = {other: {"operationId": other, "parameters": {place: value}} for other in others}
        for code, response in operation["responses"].items():
            if code < "300":
                response["links"] = links


def _describe_success(code: int, response: dict[str, Any]) -> None:
    """In our words, where the route has none and Litestar took those of the HTTP standard."""
    if response.get("description") == HTTPStatus(code).description and code in _SUCCESSES:
        response["description"] = _SUCCESSES[code]


def _complete_components(components: dict[str, Any]) -> None:
    """The shapes of `wire` as msgspec itself reads and writes them: it knows defaults, unknown fields and renaming."""
    shapes = components.setdefault("schemas", {})
    named = {name: getattr(wire, name) for name in wire.__all__ if isinstance(getattr(wire, name), type)}
    used = [named[name] for name in shapes if name in named and not _is_generic(named[name])]
    _, exact = msgspec.json.schema_components([*used, ProblemBody], ref_template=_REFS)
    shapes.update(exact)
    components["schemas"] = dict(sorted(shapes.items()))
    components["securitySchemes"] = {
        SECURITY_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "te_ and 43 characters",
            "description": "`taskengine token create` makes one; the local one stands in the server's token file.",
        }
    }


def _is_generic(kind: type) -> bool:
    return bool(getattr(kind, "__parameters__", ()))
