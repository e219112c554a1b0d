"""How one call is carried through: sent, repeated with patience, read. Decisions only; a transport performs them."""

from collections.abc import Generator
from typing import Final, TypeVar

import msgspec

from taskengine.client.calls import Call, Flow, whole_path
from taskengine.client.pace import Pace, Patience
from taskengine.client.problems import error_of, foreign, retry_after
from taskengine.client.steps import Answer, Fault, Outcome, Pause, Request, Send, Step
from taskengine.client.target import Target
from taskengine.errors import NotAllowed, ServerUnreachable, TaskEngineError
from taskengine.version import VERSION

__all__ = ["BUSY", "Asking", "Steps"]

T = TypeVar("T")

Steps = Generator[Step, Outcome, T]

BUSY: Final = frozenset({429, 502, 503, 504})
"""Answers after which the same request may do better: ours that is busy, or a proxy whose server is being replaced."""

START_ONE: Final = "start a server: taskengine serve; or give the address of one that runs"


class Asking:
    """What all calls to one server share. Holds no connection."""

    def __init__(self, target: Target, patience: Patience, pace: Pace) -> None:
        self.target, self.patience, self.pace = target, patience, pace

    def conduct(self, flow: Flow[T]) -> Steps[T]:
        """The steps of a whole verb. Its result is returned; raises errors of `taskengine.errors`."""
        given: object = None
        while True:
            try:
                call = flow.send(given)
            except StopIteration as done:
                result: T = done.value
                return result
            given = yield from self.perform(call)

    def perform(self, call: Call[T]) -> Steps[T]:
        """The steps of one call.

        It is repeated after a cut connection and while the server is busy, with rests that double, until an answer
        comes or patience ends. POSTs can be repeated since they carry an Idempotency-Key, the same one each time.
        """
        key = call.key or (self.pace.new_key() if call.method == "POST" else "")
        began_s, uncertain, tries = self.pace.monotonic(), False, 0
        fresh_token = False
        while True:
            outcome = yield Send(self.request(call, key))
            if isinstance(outcome, Answer) and outcome.status == 401 and not fresh_token:
                fresh_token = True
                if self.target.token.refresh():
                    continue
            if isinstance(outcome, Answer) and outcome.status not in BUSY:
                return self._read(call, outcome, uncertain=uncertain)
            delay_s = self._rest_s(outcome, tries, self.pace.monotonic() - began_s)
            if delay_s is None:
                raise self.failure(outcome, call)
            uncertain = uncertain or not isinstance(outcome, Fault) or outcome.sent
            tries += 1
            yield Pause(delay_s)

    def request(self, call: Call[T], key: str = "") -> Request:
        """A call as it goes over the wire, with the token of this moment."""
        headers = {"Accept": f"{call.accept}, application/problem+json", **self.headers()}
        if call.content_type:
            headers["Content-Type"] = call.content_type
        if key:
            headers["Idempotency-Key"] = key
        return Request(
            method=call.method,
            path=whole_path(call.path, call.query),
            headers=headers,
            body=call.body,
            read_s=self.patience.read_s + call.wait_s,
        )

    def headers(self) -> dict[str, str]:
        """Who asks, and with which token."""
        secret = self.target.token.secret()
        shown = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return {"User-Agent": f"taskengine-client/{VERSION}", **shown}

    def failure(self, outcome: Outcome, call: Call[T]) -> TaskEngineError:
        """The error of an outcome that is not an answer to be read."""
        address = self.target.address
        if isinstance(outcome, Answer):
            error = error_of(outcome, address)
            return NotAllowed(self._token_story(str(error), call)) if isinstance(error, NotAllowed) else error
        if isinstance(outcome, Fault):
            remedy = "" if outcome.hopeless or outcome.sent else f"; {START_ONE}"
            return ServerUnreachable(address, f"{outcome.reason}{remedy}")
        raise TypeError(f"no outcome of a sending: {outcome!r}")

    def _read(self, call: Call[T], answer: Answer, *, uncertain: bool) -> T:
        if not 200 <= answer.status < 300:
            error = self.failure(answer, call)
            if uncertain and call.repeated is not None:
                return call.repeated(error)
            raise error
        try:
            return call.decode(answer.body)
        except msgspec.ValidationError as error:
            # JSON of an envelope, but not the one we know: another release. Anything else is not ours at all.
            raise ServerUnreachable(
                self.target.address,
                f"the answer to {call.method} {call.path} is not as this client ({VERSION}) knows it ({error}); "
                "use the release that the server has",
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise foreign(answer, self.target.address) from None

    def _rest_s(self, outcome: Outcome, tries: int, elapsed_s: float) -> float | None:
        """How long to rest before the same is sent again; None: no more."""
        patience = self.patience
        budget_s, least_s = patience.total_s, 0.0
        if isinstance(outcome, Fault):
            if outcome.hopeless:
                return None
            budget_s = patience.total_s if outcome.sent else min(patience.refused_s, patience.total_s)
        elif isinstance(outcome, Answer):
            least_s = retry_after(outcome) or 0.0
        grown_s = min(patience.first_s * 2.0 ** min(tries, 30), patience.longest_s)
        delay_s = max(least_s, self.pace.spread(grown_s))
        return delay_s if elapsed_s + delay_s <= budget_s else None

    def _token_story(self, detail: str, call: Call[T]) -> str:
        token = self.target.token
        used = f"used: {token.origin}" if token.known else "no token was sent"
        needed = "" if call.scope == "open" else f"; this needs a token of scope `{call.scope}`"
        remedy = "" if token.known else "; name its file with token_file= or $TASKENGINE_TOKEN_FILE"
        return f"{detail} ({used}{needed}{remedy})"
