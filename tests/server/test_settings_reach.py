"""No setting is accepted and ignored: each one changes something of what a server is made of."""

import socket
from pathlib import Path
from typing import Any

import pytest

import taskengine.assembly
import taskengine.server.serving
import taskengine.server.web
from taskengine.config import load
from taskengine.config.keys import KEYS
from taskengine.engine.builder import EngineBuilder
from taskengine.server import serve
from tests.unit.config.test_loading import OTHER, PAIRED

# It is held against the address and changes nothing by itself.
ONLY_CHECKED = {"task-engine.storage.database.type"}


class _Enough(Exception):
    """The server is put together."""


class _Builder:
    """Records what the engine shall have, and builds another one."""

    def __init__(self, ambient: Any, seen: list[Any]) -> None:
        self._ambient, self._seen = ambient, seen

    def __getattr__(self, name: str) -> Any:
        def record(value: Any = None, **named: Any) -> "_Builder":
            if name != "with_on_fatal":
                self._seen.append((name, value, named))
            return self

        return record

    def build(self) -> Any:
        return EngineBuilder(self._ambient).build()


def made_with(patch: pytest.MonkeyPatch, settings: dict[str, str]) -> list[Any]:
    """Everything that a server with these settings is made of, up to the moment at which it would begin."""
    seen: list[Any] = []
    modules = {"assembly": taskengine.assembly, "serving": taskengine.server.serving, "web": taskengine.server.web}

    def note(place: str, name: str, *, gives: Any = None) -> None:
        def record(*arguments: Any, **options: Any) -> Any:
            told = [each for each in arguments if isinstance(each, str | int | float)]
            # Of what ends up elsewhere only the plain values tell two servers apart.
            plain = {key: value for key, value in options.items() if isinstance(value, str | int | float | bool)}
            seen.append((name, told, sorted(plain.items())))
            return gives

        patch.setattr(modules[place], name, record)

    def look_at_parts(parts: Any) -> None:
        hosts = parts.hosts
        seen.append(("parts", parts.limits, parts.read_only, parts.node_id))
        seen.append(("hosts", hosts.hosts, hosts.origins, "10.0.0.7" in hosts.proxies))

    def listen(server: Any) -> socket.socket:
        seen.append(("listen", server.host, server.port))
        return socket.create_server(("127.0.0.1", 0))

    def sweeper(clock: Any, connections: Any, *limits: float) -> None:
        seen.append(("sweeper", limits))
        raise _Enough

    note("assembly", "set_up_logging")
    patch.setattr(modules["assembly"], "EngineBuilder", lambda ambient: _Builder(ambient, seen))
    patch.setattr(modules["serving"], "make_app", look_at_parts)
    patch.setattr(modules["serving"], "listen", listen)
    patch.setattr(modules["serving"], "tls_context", lambda server: seen.append((server.tls_cert, server.tls_key)))
    patch.setattr(modules["web"], "Sweeper", sweeper)
    note("web", "_Quiet")
    real = taskengine.server.web.uvicorn.Config

    def config(app: Any, **options: Any) -> Any:
        seen.append(("uvicorn", options["access_log"], options["limit_concurrency"]))
        return real(app, **options)

    patch.setattr(modules["web"].uvicorn, "Config", config)  # type: ignore[attr-defined]
    with pytest.raises(_Enough):
        serve(load(None, {KEYS[name].variable: text for name, text in settings.items()}, {}))
    return seen


@pytest.mark.parametrize("name", sorted(set(KEYS) - ONLY_CHECKED))
def test_each_setting_changes_what_a_server_is_made_of(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    partner = PAIRED.get(name, {})
    with monkeypatch.context() as patch:
        before = made_with(patch, dict(partner) if name not in ("server.tls_cert", "server.tls_key") else {})
    with monkeypatch.context() as patch:
        after = made_with(patch, {**partner, name: OTHER[name]})
    assert before != after


def test_the_same_settings_make_the_same_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else the law above would hold for anything."""
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        one = made_with(patch, {})
    with monkeypatch.context() as patch:
        two = made_with(patch, {})
    assert one == two
