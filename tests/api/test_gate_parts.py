"""The parts of the gate that need no server: rates, host names, origins, proxies, the audit file, the token file."""

import json
import os
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from engine.worlds import Lines
from hypothesis import given
from hypothesis import strategies as st

from taskengine.api.gate import AuditEntry, FileAudit, HostRules
from taskengine.api.gate.hosts import Sender, host_name
from taskengine.api.gate.rates import FailureTable, TokenBucket, neighbourhood
from taskengine.api.gate.secretfile import read_secret, write_secret
from taskengine.api.gate.tokens import allows, digest_of, new_secret
from taskengine.errors import InvalidConfiguration

BOUND = "http://10.1.2.3:8080"
ENTRY = AuditEntry(
    at=datetime(2024, 1, 2, tzinfo=UTC),
    principal_id="1",
    principal="代理",
    method="POST",
    route="/api/v1/workflows/{workflow_id}/execute",
    ids={"workflow_id": "日报"},
    peer="127.0.0.1",
    client="127.0.0.1",
    forwarded="",
    status=202,
)


# -- rates -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 5), max_size=200), st.floats(0.1, 50), st.integers(1, 20))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(steps: list[float], rate_s: float, burst: int) -> None:
    bucket, now_s, given_out = TokenBucket(rate_s, burst), 0.0, 0
    for step in steps:
        now_s += step
        given_out += bucket.take(now_s) == 0.0
    assert given_out <= burst + now_s * rate_s + 1e-6


def test_a_bucket_says_when_to_come_back() -> None:
    bucket = TokenBucket(2.0, 1)
    assert bucket.take(0.0) == 0.0
    wait_s = bucket.take(0.0)
    assert wait_s == pytest.approx(0.5)
    assert bucket.take(wait_s) == 0.0


def test_failures_are_counted_for_each_peer() -> None:
    table = FailureTable(20)
    assert [table.failed("a", 0.0) for _ in range(20)] == [0.0] * 20
    assert table.failed("a", 0.0) > 0
    assert table.failed("b", 0.0) == 0.0
    assert table.failed("a", 60.0) == 0.0


def test_the_table_of_failures_is_bounded() -> None:
    table = FailureTable(1, peers=10)
    for number in range(1000):
        table.failed(f"10.0.{number // 256}.{number % 256}", 0.0)
    assert len(table) == 10


@given(st.lists(st.ip_addresses() | st.text(max_size=20), max_size=300), st.integers(1, 20))
def test_no_crowd_of_peers_makes_the_table_of_failures_grow(crowd: list[object], peers: int) -> None:
    table = FailureTable(20, peers)
    for peer in crowd:
        table.failed(str(peer), 0.0)
        assert len(table) <= peers


def test_the_addresses_of_one_ipv6_network_are_one_peer() -> None:
    """A machine has 2^64 of them; a limit for each would be none."""
    table = FailureTable(20)
    waits = [table.failed(f"2001:db8:1:2:{number:x}::{number:x}", 0.0) for number in range(10_000)]
    assert waits.count(0.0) == 20
    assert len(table) == 1
    assert table.failed("2001:db8:1:3::1", 0.0) == 0.0


@pytest.mark.parametrize(
    ("peer", "whom"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("不是地址", "不是地址"),
        ("", ""),
    ],
)
def test_one_peer_is_an_address_or_a_network_of_ipv6(peer: str, whom: str) -> None:
    assert neighbourhood(peer) == whom


# -- hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:8080", "localhost"),
        ("localhost.", "localhost"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]:8080", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
        (":80", ""),
        ("localhost:", ""),
        ("localhost:80x", ""),
        ("localhost@evil.example", ""),
        ("localhost/x", ""),
        ("evil.example#localhost", ""),
        ("::1", ""),
        ("a,localhost", ""),
        ("[::1", ""),
    ],
)
def test_a_host_header_is_a_name_and_maybe_a_port(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:9", "10.1.2.3:8080", "Engine.Example:443"])
def test_known_hosts_are_allowed(host: str) -> None:
    assert HostRules.of(hosts=["engine.example"]).allows_host(host, BOUND)


@pytest.mark.parametrize("host", ["evil.example", "10.1.2.4", "localhost.evil.example", "xlocalhost", "", "0.0.0.0"])
def test_other_hosts_are_not(host: str) -> None:
    assert not HostRules.of(hosts=["engine.example"]).allows_host(host, BOUND)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:8080", True),
        ("HTTP://LOCALHOST:8080", True),
        ("https://localhost:8080", False),
        ("http://localhost:8081", False),
        ("http://localhost", False),
        ("http://evil.example", False),
        ("http://localhost:8080.evil.example", False),
        ("https://ops.example", True),
        ("https://ops.example:443", True),
        ("http://ops.example", False),
        ("null", False),
        ("", False),
        ("file://", False),
        ("http://localhost:8080@evil.example", False),
    ],
)
def test_an_origin_is_ours_or_configured(origin: str, allowed: bool) -> None:
    rules = HostRules.of(origins=["https://ops.example"])
    sender = Sender(peer="1.2.3.4", client="1.2.3.4", host="localhost:8080", scheme="http")
    assert rules.allows_origin(origin, sender) is allowed


@given(st.text(max_size=40))
def test_no_text_breaks_the_rules_of_hosts(text: str) -> None:
    rules = HostRules()
    sender = Sender(peer=text, client=text, host="localhost", scheme="http")
    assert isinstance(rules.allows_host(text, BOUND), bool)
    assert isinstance(rules.allows_origin(text, sender), bool)
    assert text not in HostRules.of(proxies=["10.0.0.0/8"]).proxies or text.strip()


FORWARDED = [
    (b"host", b"inner:8080"),
    (b"x-forwarded-for", b"6.6.6.6, 203.0.113.7, 10.0.0.9"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"engine.example"),
]


def test_forwarded_headers_of_strangers_mean_nothing() -> None:
    sender = Sender.of("203.0.113.1", "http", "inner:8080", FORWARDED, HostRules.of(proxies=["10.0.0.0/8"]))
    assert (sender.client, sender.host, sender.scheme, sender.forwarded) == ("203.0.113.1", "inner:8080", "http", "")


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_behind_a_proxy_the_client_is_the_last_hop_that_is_no_proxy(peer: str) -> None:
    sender = Sender.of(peer, "http", "inner:8080", FORWARDED, HostRules.of(proxies=["10.0.0.0/8"]))
    assert (sender.client, sender.host, sender.scheme) == ("203.0.113.7", "engine.example", "https")


@pytest.mark.parametrize("wrong", [{"proxies": ["10.0.0.0/99"]}, {"origins": ["ops.example"]}, {"proxies": ["x"]}])
def test_rules_that_cannot_be_are_refused(wrong: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match=r"."):
        HostRules.of(**wrong)


# -- scopes and secrets ----------------------------------------------------------------------------------------------


def test_each_scope_includes_the_ones_before_it() -> None:
    order = ["read", "operate", "define", "admin"]
    assert all(allows(a, b) is (order.index(a) >= order.index(b)) for a in order for b in order)
    assert not any(allows(scope, needed) for scope in (*order, "", "root") for needed in ("", "root", "None"))


def test_secrets_are_long_and_never_the_same() -> None:
    made = {new_secret() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(secret) == 46 and secret.startswith("te_") for secret in made)
    assert digest_of("\ud800") != digest_of("")


# -- the token file --------------------------------------------------------------------------------------------------


def test_the_token_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "状态" / "token"
    secret = new_secret()
    write_secret(path, secret)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_secret(path) == secret
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]


def test_no_file_is_no_token(tmp_path: Path) -> None:
    assert read_secret(tmp_path / "token") is None


@pytest.mark.parametrize("content", [b"", b"te_short", b"\xff" * 46, b"te_" + b"x" * 5000])
def test_a_file_with_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(InvalidConfiguration, match="holds no token"):
        read_secret(path)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_secret(path, new_secret())
    path.chmod(0o640)
    with pytest.raises(InvalidConfiguration, match="others may read"):
        read_secret(path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    write_secret(tmp_path / "real", new_secret())
    (tmp_path / "token").symlink_to(tmp_path / "real")
    with pytest.raises(OSError, match=r"."):
        read_secret(tmp_path / "token")


# -- the audit file --------------------------------------------------------------------------------------------------


def test_audit_lines_are_json_and_private(tmp_path: Path) -> None:
    audit = FileAudit(tmp_path / "audit.jsonl", Lines())
    for status in range(5):
        audit.record(msgspec.structs.replace(ENTRY, status=status))
    audit.close()
    audit.close()
    path = tmp_path / "audit.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line["status"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[0]["ids"] == {"workflow_id": "日报"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_audit_lines_are_appended(tmp_path: Path) -> None:
    for _ in range(2):
        audit = FileAudit(tmp_path / "audit.jsonl", Lines())
        audit.record(ENTRY)
        audit.close()
    assert len((tmp_path / "audit.jsonl").read_text("utf-8").splitlines()) == 2


def test_audit_lines_are_written_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "audit.fifo"
    os.mkfifo(path)
    audit = FileAudit(path, Lines(), flush_s=0.01)
    audit.record(ENTRY)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(path.read_text("utf-8")))
    reader.start()
    reader.join(10)
    audit.close()
    assert json.loads(got[0])["status"] == 202


def test_a_failing_disk_is_logged_once_and_fails_nothing(tmp_path: Path) -> None:
    log = Lines()
    audit = FileAudit(tmp_path / "absent" / "audit.jsonl", log, flush_s=0.0)
    for _ in range(20):
        audit.record(ENTRY)
    audit.close()
    assert log.events("error") == ["audit.not_written"]
