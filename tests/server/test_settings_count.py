"""Every setting counts: what the file says reaches the engine, and a real server behaves as it was told."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from server.process import PATIENCE_S, ServerProcess

from taskengine import assembly
from taskengine.ambient import Ambient
from taskengine.config import load
from taskengine.config.keys import KEYS
from taskengine.engine.builder import EngineBuilder
from taskengine.model.pools import Pool, Rate

# -- what the engine is told ---------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What the builder is told by these settings: (method, argument) in their order."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counted_module.py").write_text("from taskengine import job\n\n@job\ndef one() -> int:\n    return 1\n")
    (tmp_path / "counted_app.py").write_text("from taskengine import job\n\n@job\ndef two() -> int:\n    return 2\n")

    def ask(**variables: str) -> dict[str, Any]:
        calls: dict[str, Any] = {}

        class Recorded(EngineBuilder):
            def __getattribute__(self, name: str) -> Any:
                found = super().__getattribute__(name)
                if not name.startswith("with_"):
                    return found

                def call(*values: Any, **named: Any) -> Any:
                    calls[name] = named if named else values[0]
                    return found(*values, **named)

                return call

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(assembly, "EngineBuilder", Recorded)
            settings = load(None, {f"TASKENGINE_{name}": text for name, text in variables.items()}, {})
            assembly.assemble(settings, Ambient(), lambda error: None)
        calls.pop("with_on_fatal")
        return calls

    return ask


@pytest.mark.parametrize(
    ("variable", "text", "method", "value"),
    [
        ("STORAGE__DATABASE__DSN", "数据.db", "with_store", "数据.db"),
        ("STORAGE__DATABASE__DURABILITY", "normal", "with_durability", "normal"),
        ("STORAGE__DATABASE__POOL_SIZE", "9", "with_readers", 9),
        ("EXECUTION__WORKER_CONCURRENCY", "3", "with_workers", 3),
        ("EXECUTION__POOLS", "io=50,api=5@50/s", "with_pools", (Pool("io", 50), Pool("api", 5, Rate(50, "s")))),
        ("EXECUTION__PROCESS_WORKERS", "5", "with_processes", 5),
        ("EXECUTION__MAX_RECOVERIES", "0", "with_max_recoveries", 0),
        ("EXECUTION__DEFAULT_TASK_TIMEOUT", "2s", "with_default_timeout", 2.0),
        ("EXECUTION__DEFAULT_TASK_TIMEOUT", "none", "with_default_timeout", None),
        ("FUNCTIONS__BUILTIN", "log,shell_command", "with_builtin", ("log", "shell_command")),
        ("FUNCTIONS__MODULES", "counted_module", "with_module", "counted_module"),
        ("FUNCTIONS__APPS", "counted_app.py", "with_app", "counted_app.py"),
        ("LIMITS__LOG_LINES", "7", "with_log_cap", 7),
        ("STORAGE__ARTIFACTS__URL", "/some/folder", "with_artifacts", "/some/folder"),
        ("STORAGE__ARTIFACTS__INLINE", "1KiB", "with_result_limits", {"inline": 1024, "limit": 64 << 20}),
        ("STORAGE__ARTIFACTS__LIMIT", "2MiB", "with_result_limits", {"inline": 1 << 20, "limit": 2 << 20}),
        ("STORAGE__RETENTION__FAILED", "none", "with_retention", {"success": timedelta(days=30), "failed": None}),
    ],
)
def test_a_setting_reaches_the_engine_and_changes_nothing_else(
    told: Callable[..., dict[str, Any]], variable: str, text: str, method: str, value: Any
) -> None:
    before, after = told(), told(**{variable: text})
    assert after.pop(method) == value
    assert before.pop(method, "nothing") != value
    assert after == before


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("COUNT", "4", "count", 4),
        ("INTERVAL", "2s", "interval_us", 2_000_000),
        ("MAX_INTERVAL", "1h", "max_interval_us", 3_600_000_000),
    ],
)
def test_the_retry_of_tasks_that_state_none_is_that_of_the_settings(
    told: Callable[..., dict[str, Any]], variable: str, text: str, field: str, value: int
) -> None:
    before = told()["with_default_retry"]
    policy = told(**{f"EXECUTION__RETRY__{variable}": text})["with_default_retry"]
    assert (getattr(before, field) == value, getattr(policy, field)) == (False, value)


def test_a_grace_shorter_than_the_usual_one_bounds_that_of_bodies_too(told: Callable[..., dict[str, Any]]) -> None:
    assert told()["with_grace"] == 5.0
    assert told(EXECUTION__GRACE="2s")["with_grace"] == 2.0


# -- what a server does ------------------------------------------------------------------------------------------

CHANGED: Mapping[str, str] = {
    "SERVER__ALLOWED_HOSTS": "tasks.example.com",
    "SERVER__ALLOWED_ORIGINS": "https://ops.example.com",
    "SERVER__BEHIND_PROXY": "127.0.0.0/8",
    "SERVER__MAX_CLIENTS": "2",
    "SERVER__MAX_CLIENTS_PER_TOKEN": "1",
    "SERVER__ACCESS_LOG": "true",
    "GENERAL__INSTANCE_NAME": "行情",
    "GENERAL__LOG_FORMAT": "json",
    "GENERAL__LOG_LEVEL": "info",
    "LIMITS__DEFINITION": "2KiB",
    "LIMITS__BODY": "1KiB",
    "LIMITS__STARTS_PER_SECOND": "0.1",
    "LIMITS__FAILED_LOGINS": "2",
    "FUNCTIONS__BUILTIN": "shell_command,noop",
    "EXECUTION__POOLS": "io=50,api=5@50/s",
}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server in which nearly everything is as nowhere else."""
    with ServerProcess(tmp_path_factory.mktemp("changed"), settings=CHANGED) as server:
        yield server


@pytest.fixture
def asker(changed: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=changed.address, headers=changed.headers, trust_env=False, timeout=PATIENCE_S) as client:
        yield client


def until(holds: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"it should {what}"
        time.sleep(0.01)  # another process has no event to wait for


def upload(asker: httpx.Client, text: str) -> httpx.Response:
    return asker.post("/api/v1/workflows", content=text.encode(), headers={"Content-Type": "application/yaml"})


@pytest.mark.parametrize(("host", "status"), [("tasks.example.com", 200), ("other.example.com", 421)])
def test_allowed_hosts(asker: httpx.Client, host: str, status: int) -> None:
    assert asker.get("/api/v1/workflows", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(("origin", "status"), [("https://ops.example.com", 200), ("https://evil.example", 403)])
def test_allowed_origins(asker: httpx.Client, origin: str, status: int) -> None:
    answer = asker.post(
        "/api/v1/validate", json={"content": "id: a\ntasks: [{name: a, job: noop}]"}, headers={"Origin": origin}
    )
    assert answer.status_code == status, answer.text


def test_behind_proxy_and_the_audit_log(changed: ServerProcess, asker: httpx.Client) -> None:
    """Who is behind a proxy that is believed stands in the audit log."""
    text = "id: 审计\ntasks: [{name: a, job: noop}]"
    answer = asker.post(
        "/api/v1/workflows",
        content=text.encode(),
        headers={"Content-Type": "application/yaml", "X-Forwarded-For": "203.0.113.9"},
    )
    assert answer.status_code in (200, 201)
    audit = changed.folder / "audit.log"

    def noted() -> bool:
        lines = audit.read_text().splitlines() if audit.exists() else []
        return any(json.loads(line)["client"] == "203.0.113.9" for line in lines)

    until(noted, "write its audit log")


def test_instance_name(asker: httpx.Client) -> None:
    assert [node["id"] for node in asker.get("/api/v1/nodes").json()["data"]] == ["行情"]


def test_log_format_and_access_log(changed: ServerProcess, asker: httpx.Client) -> None:
    asker.get("/api/v1/functions?marked=1")
    until(lambda: "marked=1" in changed.log, "log the request")
    lines = [json.loads(line) for line in changed.log.splitlines() if line.startswith("{")]
    assert {"server.ready"} <= {line["event"] for line in lines}
    assert any("marked=1" in line["event"] and line["logger"] == "uvicorn.access" for line in lines)


@pytest.mark.parametrize(("size", "status"), [(1500, (200, 201)), (3000, (413,))])
def test_limit_of_a_definition(asker: httpx.Client, size: int, status: tuple[int, ...]) -> None:
    text = f"id: long\ntasks: [{{name: a, job: noop}}]\n# {'x' * size}"
    assert upload(asker, text).status_code in status


def test_limit_of_a_body(asker: httpx.Client) -> None:
    answer = asker.post("/api/v1/workflows/long/execute", json={"params": {"a": "x" * 1500}})
    assert answer.status_code == 413


def test_builtin_jobs_are_those_that_are_listed(asker: httpx.Client) -> None:
    names = {each["name"] for each in asker.get("/api/v1/functions").json()["data"]}
    assert {"shell_command", "noop"} <= names
    assert not {"http_request", "sleep", "fail"} & names
    assert upload(asker, "id: off\ntasks: [{name: a, job: fail}]").status_code == 422


def test_pools_are_those_that_are_declared(asker: httpx.Client) -> None:
    pools = asker.get("/api/v1/status").json()["data"]["pools"]
    assert [(each["name"], each["slots"], each["rate"]) for each in pools] == [("io", 50, None), ("api", 5, "50/s")]
    assert upload(asker, "id: pooled\ntasks: [{name: a, job: noop, pool: api}]").status_code in (200, 201)
    refused = upload(asker, "id: pooled\ntasks: [{name: a, job: noop, pool: apy}]")
    assert refused.status_code == 422
    assert "unknown pool `apy`, did you mean `api`? If not, declare it in the configuration" in refused.text


def test_clients_of_one_token_are_counted(changed: ServerProcess) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    url = f"ws{changed.address.removeprefix('http')}/api/v1/ws/events"
    with connect(url, additional_headers=changed.headers) as first:
        first.recv(PATIENCE_S)
        with pytest.raises(InvalidStatus) as refused:
            connect(url, additional_headers=changed.headers)
    assert refused.value.response.status_code == 429


def test_starts_per_second(asker: httpx.Client) -> None:
    """One at once, then one in ten seconds."""
    upload(asker, "id: rated\ntasks: [{name: a, job: noop}]")
    answers = [asker.post("/api/v1/workflows/rated/execute", json={}).status_code for _ in range(3)]
    assert answers[0] == 202
    assert 429 in answers[1:]


def test_failed_logins(changed: ServerProcess) -> None:
    """The last test of this server: its address is known for wrong tokens afterwards."""
    with httpx.Client(base_url=changed.address, trust_env=False, timeout=PATIENCE_S) as wrong:
        headers = {"Authorization": "Bearer te_" + "x" * 43}
        answers = [wrong.get("/api/v1/workflows", headers=headers).status_code for _ in range(4)]
    assert answers == [401, 401, 429, 429]


def test_log_level_and_the_default_of_the_others(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, settings={"GENERAL__LOG_LEVEL": "warning"}) as server:
        with httpx.Client(base_url=server.address, headers=server.headers, trust_env=False) as asker:
            names = {each["name"] for each in asker.get("/api/v1/functions").json()["data"]}
            assert [node["id"] for node in asker.get("/api/v1/nodes").json()["data"]] == ["task-engine"]
        assert server.stop() == 0
        assert "server.ready" not in server.log
        assert "GET" not in server.log
    assert "shell_command" not in names
    assert set(KEYS["functions.builtin"].default) <= names
