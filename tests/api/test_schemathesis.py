"""The document is true: whatever fits it or does not is answered as it says, and never with a failure of the server."""

from pathlib import Path

import pytest
from api.apiworld import background_server
from api.fuzzing import answers, fuzz

OPEN = {"/livez", "/readyz", "/health", "/schema", "/schema/openapi.json"}


@pytest.mark.parametrize(
    ("scope", "examples"), [("admin", "8"), ("read", "3"), (None, "3")], ids=["admin", "read", "nobody"]
)
def test_the_api_is_what_its_document_says(tmp_path: Path, scope: str | None, examples: str) -> None:
    with background_server() as world:
        report = fuzz(world, tmp_path, scope, "--seed", "7", "-n", examples, limit_s=120)
        assert report == "", report
        assert world.log.events("error") == []
        found = answers(world)
        assert not {status for statuses in found.values() for status in statuses} & {0, 500}
        successes = {route for (_, route), statuses in found.items() if any(status < 400 for status in statuses)}
        if scope is None:
            assert successes == OPEN
        if scope == "read":
            assert not {
                (m, r) for (m, r), s in found.items() if m != "GET" and r != "/api/v1/validate" and min(s) < 400
            }
        if scope == "admin":
            assert "/api/v1/workflows/{workflow_id}/execute" in successes
            assert "/api/v1/instances/{instance_id}" in successes


def test_a_route_that_lies_about_its_answers_is_found(tmp_path: Path) -> None:
    from litestar import get

    from taskengine.api.page import ROUTES
    from taskengine.wire import Envelope

    @get("/lie", opt={"scope": "read"}, sync_to_thread=False)
    def lie() -> Envelope[int]:
        return Envelope(data="no number")  # type: ignore[arg-type]

    with background_server(handlers=[*ROUTES, lie]) as world:
        report = fuzz(world, tmp_path, "read", "--seed", "7", "-n", "2", limit_s=120)
    assert "Response violates schema" in report
