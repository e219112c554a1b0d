"""How a call is repeated, with what patience, and what its errors say. No network: the steps are answered by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from client.clientworld import TestTime

from taskengine.client import Patience, verbs
from taskengine.client.asking import Asking
from taskengine.client.calls import Flow
from taskengine.client.steps import Answer, Fault, Pause, Request, Send
from taskengine.client.target import Target
from taskengine.client.token import Token
from taskengine.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotFound,
    ServerUnreachable,
    TaskEngineError,
    TooManyRequests,
    Unavailable,
)
from taskengine.wire import Envelope, ExecuteReply, ProblemBody

CUT = Fault(reason="the connection was cut", sent=True)
REFUSED = Fault(reason="nothing listens there", sent=False)
UNTRUSTED = Fault(reason="its certificate is not trusted", sent=False, hopeless=True)
ADDRESS = "http://127.0.0.1:1"


def good(data: Any) -> Answer:
    body = msgspec.json.encode(Envelope(data=data))
    return Answer(status=200, headers={"content-type": "application/json"}, body=body)


def bad(status: int, code: str = "", detail: str = "no", **headers: str) -> Answer:
    body = ProblemBody(title="", status=status, detail=detail, code=code, message=detail)
    named = {"content-type": "application/problem+json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return Answer(status=status, headers=named, body=msgspec.json.encode(body))


class Play:
    """Performs the steps of one verb with outcomes written down beforehand; the last one stays."""

    def __init__(self, time: TestTime, patience: Patience | None = None, token: Token | None = None) -> None:
        self.time = time
        target = Target(address=ADDRESS, token=token or Token(secret="te_x", origin="token file /x"))
        self.asking = Asking(target, patience or Patience(), time.pace())
        self.sent: list[Request] = []

    def __call__(self, flow: Flow[Any], *outcomes: Answer | Fault) -> Any:
        steps, outcome = self.asking.conduct(flow), None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                return done.value
            if isinstance(step, Pause):
                self.time.pace().sleep(step.delay_s)
                outcome = None
            elif isinstance(step, Send):
                self.sent.append(step.request)
                outcome = outcomes[min(len(self.sent), len(outcomes)) - 1]


@pytest.fixture
def play(time_of_test: TestTime) -> Play:
    return Play(time_of_test)


STARTED = good(ExecuteReply(instance_id="i-1"))


@pytest.mark.parametrize("trouble", [CUT, REFUSED, bad(503, "unavailable"), bad(429), bad(502), bad(504)])
def test_a_start_is_repeated_with_the_same_key(play: Play, trouble: Answer | Fault) -> None:
    reply = play(verbs.execute("w"), trouble, trouble, STARTED)
    assert reply.instance_id == "i-1"
    assert [request.headers["Idempotency-Key"] for request in play.sent] == ["key-1"] * 3
    assert len({request.body for request in play.sent}) == 1


def test_a_key_of_the_user_is_kept_and_each_call_has_its_own_otherwise(play: Play) -> None:
    play(verbs.execute("w", idempotency_key="mine"), STARTED)
    play(verbs.execute("w"), STARTED)
    play(verbs.execute("w"), STARTED)
    assert [request.headers["Idempotency-Key"] for request in play.sent] == ["mine", "key-1", "key-2"]


def test_reading_carries_no_key(play: Play) -> None:
    play(verbs.functions(), good([]))
    assert "Idempotency-Key" not in play.sent[0].headers


def test_rests_double_up_to_the_longest(time_of_test: TestTime) -> None:
    play = Play(time_of_test, Patience(first_s=1, longest_s=4, total_s=100))
    play(verbs.functions(), CUT, CUT, CUT, CUT, good([]))
    assert time_of_test.rests == [1, 2, 4, 4]


def test_the_servers_own_word_about_a_rest_is_heeded(play: Play) -> None:
    play(verbs.functions(), bad(503, "unavailable", retry_after="7"), good([]))
    assert play.time.rests == [7]


def test_a_rest_longer_than_patience_is_not_begun(play: Play) -> None:
    with pytest.raises(TooManyRequests) as caught:
        play(verbs.functions(), bad(429, "too_many_requests", "slowly", retry_after="31"))
    assert (caught.value.retry_after_s, str(caught.value), play.time.rests) == (31.0, "slowly", [])


def test_patience_ends(play: Play) -> None:
    with pytest.raises(Unavailable, match="full"):
        play(verbs.functions(), bad(503, "unavailable", "full"))
    assert 20 < play.time.now_s <= 30


def test_where_nobody_listens_the_answer_comes_soon_and_says_what_to_do(play: Play) -> None:
    with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1: nothing listens there; .*taskengine serve"):
        play(verbs.functions(), REFUSED)
    assert play.time.now_s <= 1
    assert len(play.sent) > 1


@pytest.mark.parametrize("patience", [Patience(total_s=0), Patience(refused_s=0)])
def test_patience_can_be_none_at_all(time_of_test: TestTime, patience: Patience) -> None:
    play = Play(time_of_test, patience)
    with pytest.raises(ServerUnreachable):
        play(verbs.functions(), REFUSED)
    assert len(play.sent) == 1


def test_what_ends_the_same_way_each_time_is_tried_once(play: Play) -> None:
    with pytest.raises(ServerUnreachable, match="not trusted"):
        play(verbs.functions(), UNTRUSTED)
    assert len(play.sent) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 413, 415, 422, 500])
def test_an_answer_that_would_be_the_same_again_is_not_asked_for_again(play: Play, status: int) -> None:
    with pytest.raises(TaskEngineError):
        play(verbs.functions(), bad(status))
    assert len(play.sent) == 1


def test_a_deletion_that_worked_unseen_has_worked(play: Play) -> None:
    assert play(verbs.delete_workflow("w"), CUT, bad(404, "not_found", "no workflow 'w'")) is None


@pytest.mark.parametrize("before", [[], [REFUSED]])
def test_a_deletion_of_nothing_is_an_error(play: Play, before: list[Fault]) -> None:
    with pytest.raises(NotFound):
        play(verbs.delete_workflow("w"), *before, bad(404, "not_found", "no workflow 'w'"))


def test_a_token_whose_secret_was_lost_is_told_of(play: Play) -> None:
    with pytest.raises(Conflict, match="revoke it"):
        play(verbs.create_token("ci", "read"), CUT, bad(409, "conflict", "there is token 7"))
    with pytest.raises(Conflict, match=r"^there is token 7$"):
        Play(play.time)(verbs.create_token("ci", "read"), bad(409, "conflict", "there is token 7"))


@pytest.mark.parametrize(
    ("flow", "scope"),
    [
        (verbs.workflows, "read"),
        (lambda: verbs.execute("w"), "operate"),
        (lambda: verbs.upload("id: w"), "define"),
        (verbs.tokens, "admin"),
    ],
)
def test_a_refusal_says_which_token_was_used_and_what_is_needed(
    play: Play, flow: Callable[[], Flow[Any]], scope: str
) -> None:
    with pytest.raises(NotAllowed) as caught:
        play(flow(), bad(403, "not_allowed", "this token may not"))
    assert str(caught.value) == (f"this token may not (used: token file /x; this needs a token of scope `{scope}`)")
    assert "te_x" not in str(caught.value)


def test_without_a_token_the_way_to_give_one_is_told(time_of_test: TestTime) -> None:
    play = Play(time_of_test, token=Token())
    with pytest.raises(NotAllowed, match=r"no token was sent.*\$TASKENGINE_TOKEN_FILE"):
        play(verbs.functions(), bad(401, "not_authenticated"))
    assert "Authorization" not in play.sent[0].headers


def test_a_replaced_token_is_read_again_once(time_of_test: TestTime, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("te_old")
    token = Token(path=file, origin="file")
    token.secret()
    file.write_text("te_new")
    play = Play(time_of_test, token=token)
    assert play(verbs.functions(), bad(401), good([])) == []
    assert [request.headers["Authorization"] for request in play.sent] == ["Bearer te_old", "Bearer te_new"]
    with pytest.raises(NotAllowed):
        Play(time_of_test, token=token)(verbs.functions(), bad(401))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(status=200, headers={"content-type": "text/html"}, body=b"<html>"), "no taskengine server"),
        (Answer(status=404, headers={"content-type": "text/html"}, body=b"<html>"), "no taskengine server"),
        (Answer(status=200, headers={"content-type": "application/json"}, body=b'{"hello": 1}'), "as this client"),
        (Answer(status=301, headers={"location": "https://x"}, body=b""), "sends everyone to https://x"),
        (bad(200), "as this client"),
    ],
)
def test_another_server_is_told_from_ours(play: Play, answer: Answer, told: str) -> None:
    with pytest.raises(ServerUnreachable, match=told):
        play(verbs.functions(), answer)


def test_a_proxy_without_its_server_is_told_from_ours(play: Play) -> None:
    with pytest.raises(ServerUnreachable, match="proxy"):
        play(verbs.functions(), Answer(status=502, headers={"content-type": "text/html"}, body=b"<html>"))


def _instance(status: str) -> dict[str, Any]:
    progress = dict.fromkeys(
        ["total", "percent", "completed", "failed", "running", "pending", "skipped", "cancelled", "compensation"], 0
    )
    plain = {"id": "i-1", "workflow_id": "w", "workflow_name": "w", "version": "v", "run": 1, "params": {}}
    return {**plain, "status": status, "progress": progress, "created_at": "2024-01-01T00:00:00Z"}


def test_a_long_wait_is_several_requests_that_outlast_their_own_timeout(play: Play) -> None:
    running = good({"instance_id": "i-1", "instance": _instance("Running")})
    reply = play(verbs.execute("w", wait=130), running, good(_instance("Running")), good(_instance("Running")))
    assert [request.path.partition("?")[2] for request in play.sent] == ["wait=1m", "wait=1m", "wait=10s"]
    assert [request.read_s for request in play.sent] == [120, 120, 70]
    assert reply.instance.status == "Running"


def test_a_wait_ends_with_the_instance(play: Play) -> None:
    assert (
        play(verbs.instance("i-1", wait=500), good(_instance("Running")), good(_instance("Failed"))).status == "Failed"
    )
    assert len(play.sent) == 2


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf")])
def test_a_wait_that_is_none_is_refused(play: Play, wait: float) -> None:
    with pytest.raises(InvalidInput, match="seconds"):
        play(verbs.instance("i-1", wait=wait))


def test_params_without_json_are_refused_here(play: Play) -> None:
    with pytest.raises(InvalidInput, match="JSON"):
        play(verbs.execute("w", {"x": object()}))


def test_no_id_becomes_a_path_of_its_own(play: Play) -> None:
    play(verbs.export("../admin/tokens?x=1"), Answer(status=200, headers={}, body=b"y"))
    assert play.sent[0].path == "/api/v1/workflows/..%2Fadmin%2Ftokens%3Fx%3D1/export"
    play(verbs.export("上海"), Answer(status=200, headers={}, body="名".encode()))
    assert play.sent[1].path == "/api/v1/workflows/%E4%B8%8A%E6%B5%B7/export"


@pytest.mark.parametrize("key", [" x", "two\nlines", "长" * 67])
def test_a_key_that_no_header_can_hold_is_refused(play: Play, key: str) -> None:
    with pytest.raises(InvalidInput, match="idempotency_key"):
        play(verbs.execute("w", idempotency_key=key))


def _line(number: int) -> dict[str, Any]:
    said = {"instance_id": "i", "task": "t", "attempt": 1, "level": "info", "message": "x"}
    return {"id": number, **said, "at": "2024-01-01T00:00:00Z"}


@pytest.mark.parametrize(("tail", "told"), [(None, [3, 7, 9]), (600, [3, 7, 9])])
def test_lines_are_read_page_after_page(play: Play, tail: int | None, told: list[int]) -> None:
    first = good({"items": [_line(3), _line(7)], "has_more": True})
    lines = play(verbs.logs("i", tail=tail), first, good({"items": [_line(9)]}))
    assert [line.id for line in lines] == told
    assert [request.path.partition("?")[2] for request in play.sent] == ["limit=500", "since=7&limit=500"]


def test_a_long_tail_is_the_end_of_everything(play: Play) -> None:
    everything = good({"items": [_line(number) for number in range(1, 1001)]})
    assert [line.id for line in play(verbs.logs("i", tail=501), everything)] == list(range(500, 1001))


def test_a_start_that_has_ended_is_not_waited_for(play: Play) -> None:
    ended = good({"instance_id": "i-1", "instance": _instance("Success")})
    assert play(verbs.execute("w", wait=130), ended).instance.status == "Success"
    assert len(play.sent) == 1
