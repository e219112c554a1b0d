"""The two clients are one: the same verbs, the same signatures, the same words."""

import inspect
import subprocess
import sys

import pytest

from taskengine.client import AsyncClient, Client, verbs

CONTRACT = {
    *("upload", "validate", "workflows", "workflow", "versions", "delete_workflow", "export", "graph", "execute"),
    *("instances", "iter_instances", "instance", "detail", "tasks", "task", "history", "pause", "resume", "cancel"),
    *("retry", "fork", "add_tasks", "signal", "logs", "follow_logs", "events", "stream", "functions"),
    *(
        "status",
        "nodes",
        "version",
        "health",
        "database",
        "prune",
        "tokens",
        "create_token",
        "revoke_token",
        "rotate_token",
    ),
    *("watch", "close", "explain"),
}


def _public(kind: type) -> dict[str, object]:
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}


def _shape(method: object) -> list[tuple[str, object, object, object]]:
    assert callable(method)
    return [
        (each.name, each.kind, each.default, each.annotation) for each in inspect.signature(method).parameters.values()
    ]


def test_both_have_the_verbs_that_were_promised() -> None:
    assert _public(Client).keys() == _public(AsyncClient).keys() == CONTRACT | {"address"}


@pytest.mark.parametrize("name", sorted(CONTRACT | {"__init__"}))
def test_a_verb_has_one_signature_and_one_text(name: str) -> None:
    blocking, asynchronous = getattr(Client, name), getattr(AsyncClient, name)
    assert _shape(blocking) == _shape(asynchronous)
    assert (blocking.__doc__ or "").replace("`close()`", "`await aclose()`") == asynchronous.__doc__ or (
        blocking.__doc__ == asynchronous.__doc__
    )


@pytest.mark.parametrize("name", [name for name in verbs.__all__ if name != "is_final"])
def test_every_described_verb_is_offered_under_its_name(name: str) -> None:
    for kind in (Client, AsyncClient):
        method = getattr(kind, name)
        assert method.__name__ == name
        assert method.__doc__ == getattr(verbs, name).__doc__
        assert list(inspect.signature(method).parameters)[1:] == list(
            inspect.signature(getattr(verbs, name)).parameters
        )


def test_a_verb_says_what_it_does() -> None:
    assert [name for name in sorted(CONTRACT) if not (getattr(Client, name).__doc__ or "").strip()] == []


def test_importing_the_client_loads_no_network_library() -> None:
    code = (
        "import sys; import taskengine.client as c; c.Client('http://127.0.0.1:1');"
        "print([n for n in ('httpx', 'websockets', 'litestar', 'taskengine.engine') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_client_never_shows_its_token() -> None:
    with Client("http://127.0.0.1:1", token="te_secret") as client:
        assert "te_secret" not in repr(client)
        assert "the token that the program gave" in repr(client)
