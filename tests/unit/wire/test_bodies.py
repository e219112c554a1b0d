"""Bodies that travel: strict where somebody types, lenient where versions meet, and the same there and back."""

import inspect
from typing import Any

import msgspec
import pytest

from taskengine import wire

STRUCTS = [each for _, each in sorted(vars(wire).items()) if inspect.isclass(each) and issubclass(each, msgspec.Struct)]
REQUESTS = [each for each in STRUCTS if each.__name__.endswith("Request")]
ANSWERS = [each for each in STRUCTS if each not in REQUESTS]


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_an_unknown_field_of_a_request_is_an_error(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.forbid_unknown_fields
    assert kind.__struct_config__.frozen


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_an_unknown_field_of_an_answer_is_passed_over(kind: type[msgspec.Struct]) -> None:
    assert not kind.__struct_config__.forbid_unknown_fields
    assert kind.__struct_config__.frozen


def test_there_are_requests_and_answers() -> None:
    assert {"ExecuteRequest", "PauseRequest", "RetryRequest", "UploadRequest"} <= {each.__name__ for each in REQUESTS}
    assert len(ANSWERS) > 20


@pytest.mark.parametrize(
    ("request_", "written"),
    [
        (wire.RetryRequest(from_task="a"), {"from": "a", "only": None}),
        (wire.PauseRequest(now=True), {"now": True}),
        (wire.ExecuteRequest(params={"天": [1, None]}), {"params": {"天": [1, None]}}),
        (wire.ResumeRequest(), {}),
    ],
    ids=repr,
)
def test_requests_are_written_under_the_names_of_the_api(request_: Any, written: dict[str, Any]) -> None:
    encoded = msgspec.json.encode(request_)
    assert msgspec.json.decode(encoded) == written
    assert msgspec.json.decode(encoded, type=type(request_)) == request_


def test_an_edge_leads_from_and_to() -> None:
    edge = wire.GraphEdge(before="a", after="b")
    assert msgspec.json.encode(edge) == b'{"from":"a","to":"b"}'


def test_an_envelope_says_success() -> None:
    body = msgspec.json.decode(msgspec.json.encode(wire.Envelope(data=wire.HealthBody(status="ok"))))
    assert body == {"data": {"status": "ok"}, "code": 0, "message": "success"}
