"""An error of the engine is the same error on the other side of the wire."""

import pickle

import pytest

from taskengine.api.problems import problem_of
from taskengine.client.problems import error_of
from taskengine.client.steps import Answer
from taskengine.errors import (
    CommitFailed,
    Conflict,
    DuplicateKey,
    IllegalMove,
    InvalidConfiguration,
    InvalidDefinition,
    InvalidExpression,
    InvalidInput,
    InvalidParams,
    LostInstance,
    NotFound,
    NotSupportedYet,
    Problem,
    StoreUnavailable,
    TaskEngineError,
    Unavailable,
)

HERE = "http://127.0.0.1:1"


def travel(error: Exception) -> TaskEngineError:
    """Through the server's problem and back."""
    problem = problem_of(error, "occ-1")
    headers = {name.lower(): value for name, value in problem.headers.items()}
    headers["content-type"] = "application/problem+json"
    return error_of(Answer(status=problem.body.status, headers=headers, body=problem.encoded()), HERE)


@pytest.mark.parametrize(
    "error",
    [
        NotFound("workflow", "nightly", "did you mean 'nightly2'?"),
        NotFound("instance", "上海"),
        NotFound("task", "it's"),
        Conflict("it is running"),
        InvalidInput("limit is 1..100"),
        InvalidConfiguration("no"),
        NotSupportedYet("later"),
        Unavailable("stopping"),
        CommitFailed("disk full"),
        StoreUnavailable("locked"),
    ],
    ids=repr,
)
def test_kind_code_and_text_survive(error: TaskEngineError) -> None:
    arrived = travel(error)
    assert isinstance(arrived, type(error))
    assert arrived.code == error.code
    assert str(arrived) == str(error)
    again = pickle.loads(pickle.dumps(arrived))
    assert (type(again), str(again)) == (type(arrived), str(arrived))


@pytest.mark.parametrize("kind", [InvalidDefinition, InvalidParams])
def test_every_problem_arrives_with_its_place(kind: type[InvalidDefinition] | type[InvalidParams]) -> None:
    problems = [
        Problem(message="no job `x`", path="tasks[0].job", file="w.yaml", line=3, column=5, excerpt="    job: x"),
        Problem(message="a second one"),
    ]
    arrived = travel(kind(problems))
    assert isinstance(arrived, kind)
    assert arrived.problems == tuple(problems)
    assert str(arrived) == str(kind(problems))


@pytest.mark.parametrize(
    ("error", "family"),
    [
        (IllegalMove("task", "Success", "dispatch"), Conflict),
        (DuplicateKey("w", "k"), Conflict),
        (InvalidExpression("1 +", "unexpected end"), InvalidInput),
        (LostInstance("somebody else has it"), CommitFailed),
    ],
    ids=repr,
)
def test_an_error_with_more_parts_than_its_text_arrives_as_its_family(
    error: TaskEngineError, family: type[TaskEngineError]
) -> None:
    arrived = travel(error)
    assert isinstance(arrived, family)
    assert str(error) in str(arrived)


def test_a_fault_of_the_server_names_its_place_in_the_log() -> None:
    arrived = travel(RuntimeError("secret inside"))
    assert type(arrived) is TaskEngineError
    assert "occ-1" in str(arrived)
    assert "secret" not in str(arrived)


def test_a_problem_without_a_list_keeps_its_text() -> None:
    arrived = travel(InvalidDefinition([]))
    assert isinstance(arrived, InvalidDefinition)
    assert str(arrived) == "the definition cannot be used"
