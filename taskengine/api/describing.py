"""What the OpenAPI document says of the routes, where their signatures do not say it: bodies and errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)

from taskengine.wire import PROBLEM_TYPE, ProblemBody, UploadRequest

__all__ = ["UNCHANGED", "UploadOperation", "also", "describe_body", "describe_forms", "problems"]


def describe_body(kind: type[msgspec.Struct], example: Mapping[str, Any]) -> type[Operation]:
    """An operation that takes `kind` as JSON, or nothing where all its fields have defaults."""
    schema = _schema_of(kind)
    content = {"application/json": OpenAPIMediaType(schema=schema, examples={"example": Example(value=dict(example))})}

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.request_body = RequestBody(content=content, required=bool(schema.required))

    return Described


_EXAMPLE: Final = """\
id: hello
tasks:
  - name: greet
    job: log
    params: {message: Hello}
"""


@dataclass
class UploadOperation(Operation):
    """An operation that takes a definition."""

    def __post_init__(self) -> None:
        text = OpenAPIMediaType(
            schema=Schema(
                type=OpenAPIType.STRING, description="The definition; docs/workflow-format.md has the format."
            ),
            examples={"hello": Example(value=_EXAMPLE)},
        )
        whole = Schema(
            type=OpenAPIType.OBJECT, required=["id"], description="The definition itself, with the same keys."
        )
        json = OpenAPIMediaType(
            schema=Schema(any_of=[_schema_of(UploadRequest), whole]),
            examples={"wrapped": Example(value={"content": _EXAMPLE}), "itself": Example(value={"id": "hello"})},
        )
        kinds = ("application/yaml", "text/yaml", "application/x-yaml")
        self.request_body = RequestBody(required=True, content={**dict.fromkeys(kinds, text), "application/json": json})


_NAMES: Final = {"additionalProperties": "additional_properties", "anyOf": "any_of"}


def _schema_of(kind: type[msgspec.Struct]) -> Schema:
    _, parts = msgspec.json.schema_components([kind], ref_template="{name}")
    return _schema(parts[kind.__name__])


def _schema(shape: Mapping[str, Any]) -> Schema:
    """A plain JSON Schema as Litestar's record of one."""
    fields: dict[str, Any] = {}
    for key, value in shape.items():
        name = _NAMES.get(key, key)
        if key == "properties":
            fields[name] = {each: _schema(inner) for each, inner in value.items()}
        elif key == "anyOf":
            fields[name] = [_schema(inner) for inner in value]
        elif key == "type":
            fields[name] = OpenAPIType(value)
        else:
            fields[name] = _schema(value) if isinstance(value, dict) and key != "default" else value
    return Schema(**fields)


_MEANINGS: Final[Mapping[int, str]] = {
    400: "The request cannot be understood: a parameter or the body has a wrong form.",
    404: "There is no such thing; `detail` names it.",
    409: "Its state does not allow this, or an idempotency key was used for something else.",
    412: "The version in If-Match is not the current one.",
    413: "The body is larger than this server takes.",
    415: "The body has a type that this route does not read.",
    422: "A definition, an expression or params that cannot be used; `errors` has each problem with its place.",
    503: "The store cannot commit at the moment, or the server starts or stops. Retry-After says when to ask again.",
}


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """The errors that a route itself answers with; those of the gate are the same everywhere."""
    return {
        status: ResponseSpec(
            data_container=ProblemBody,
            description=_MEANINGS[status],
            media_type=PROBLEM_TYPE,
            generate_examples=False,
        )
        for status in statuses
    }


def also(status: int, kind: Any, description: str) -> dict[int, ResponseSpec]:
    """Another status with which a route succeeds."""
    spec = ResponseSpec(data_container=kind, description=description, generate_examples=False)
    return {status: spec}


UNCHANGED: Final = {
    304: ResponseSpec(data_container=None, description="If-None-Match names this version.", generate_examples=False)
}


def describe_forms(forms: Mapping[str, str]) -> type[Operation]:
    """An operation that also answers with other media types, given with what they are."""

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            answer = (self.responses or {}).get("200")
            if isinstance(answer, OpenAPIResponse):
                texts = {kind: Schema(type=OpenAPIType.STRING, description=about) for kind, about in forms.items()}
                media = {kind: OpenAPIMediaType(schema=schema) for kind, schema in texts.items()}
                answer.content = {**(answer.content or {}), **media}

    return Described
