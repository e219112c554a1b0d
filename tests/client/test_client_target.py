"""Which server, which token."""

import os
from pathlib import Path

import pytest

from taskengine.client import connect
from taskengine.client.address import is_loopback, parse_address, same_server, websocket_address
from taskengine.client.target import find_target
from taskengine.clock import Micros
from taskengine.config.presence import ServerNote, write_note
from taskengine.errors import InvalidConfiguration, ServerUnreachable

HERE = "http://127.0.0.1:8080"


def _note(tmp_path: Path, port: int, started_us: int = 1, secret: str = "te_local") -> ServerNote:
    file = tmp_path / f"token{port}"
    file.write_text(secret + "\n")
    note = ServerNote(
        address=f"http://127.0.0.1:{port}",
        pid=os.getpid(),
        token_file=str(file),
        store=f"store{port}.db",
        started_us=Micros(started_us),
    )
    write_note(note)
    return note


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("http://localhost:8080/", "http://localhost:8080"),
        ("https://Host.Example:443", "https://host.example"),
        ("http://[::1]:99", "http://[::1]:99"),
        ("https://host/engine/", "https://host/engine"),
    ],
)
def test_an_address_has_one_spelling(said: str, written: str) -> None:
    assert parse_address(said) == written


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("http://x" + "y" * 63, "no machine has such a name"),
        ("http://a..b", "no machine has such a name"),
        ("127.0.0.1:8080", "say http:// or https://"),
        ("ftp://host", "http or https"),
        ("http://", "host and port"),
        ("http://two words", "host and port"),
        ("http://host:99999", "0-65535"),
        ("http://host/?token=x", "host and port"),
        ("http://me:hidden@host", "no user or password"),
    ],
)
def test_a_bad_address_is_explained(said: str, complaint: str) -> None:
    with pytest.raises(InvalidConfiguration, match=complaint) as caught:
        parse_address(said)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("http://127.8.9.1", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("http://localhost.example", False),
        ("http://10.0.0.1", False),
        ("http://127.0.0.1.example", False),
    ],
)
def test_loopback_is_this_machine_only(address: str, local: bool) -> None:
    assert is_loopback(address) is local


def test_names_of_this_machine_lead_to_one_server() -> None:
    assert same_server("http://localhost:80", "http://127.0.0.1")
    assert not same_server("http://localhost:81", "http://127.0.0.1")
    assert not same_server("http://one.example", "http://two.example")


def test_websocket_addresses_keep_the_kind_of_transport() -> None:
    assert websocket_address("https://host:1/x") == "wss://host:1/x"
    assert websocket_address("http://host") == "ws://host"


def test_no_server_here_says_how_to_start_one() -> None:
    with pytest.raises(ServerUnreachable, match="taskengine serve"):
        find_target(None, None, None, {})


def test_the_only_server_here_is_found_with_its_token(tmp_path: Path) -> None:
    note = _note(tmp_path, 8080)
    target = find_target(None, None, None, {})
    assert (target.address, target.token.secret()) == (HERE, "te_local")
    assert note.token_file in target.token.origin


def test_connecting_is_making_a_client(tmp_path: Path) -> None:
    note = _note(tmp_path, 8080)
    with connect() as client:
        assert (client.address, note.token_file in repr(client)) == (HERE, True)
    with connect("http://localhost:1", "te_x") as client:
        assert client.address == "http://localhost:1"


def test_several_servers_here_are_listed(tmp_path: Path) -> None:
    _note(tmp_path, 8080), _note(tmp_path, 8081, 2)
    with pytest.raises(InvalidConfiguration, match=r"8081.*store8081[\s\S]*8080.*store8080"):
        find_target(None, None, None, {})


def test_a_named_local_server_gets_its_own_token(tmp_path: Path) -> None:
    _note(tmp_path, 8080, 1, "te_one"), _note(tmp_path, 8081, 2, "te_two")
    assert find_target("http://localhost:8081", None, None, {}).token.secret() == "te_two"
    assert not find_target("http://localhost:8082", None, None, {}).token.known


def test_another_machine_never_gets_the_local_token(tmp_path: Path) -> None:
    _note(tmp_path, 443)
    assert not find_target("https://server.example", None, None, {}).token.known


def test_the_nearest_token_wins(tmp_path: Path) -> None:
    _note(tmp_path, 8080)
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("te_one"), two.write_text("te_two")
    environ = {"TASKENGINE_TOKEN_FILE": str(two)}
    assert find_target(HERE, "te_given", None, environ).token.secret() == "te_given"
    assert find_target(HERE, None, one, environ).token.secret() == "te_one"
    assert find_target(HERE, None, None, environ).token.secret() == "te_two"
    assert find_target(HERE, None, None, {"TASKENGINE_TOKEN_FILE": ""}).token.secret() == "te_local"


def test_token_and_token_file_together_are_a_mistake() -> None:
    with pytest.raises(InvalidConfiguration, match="not both"):
        find_target(HERE, "te_x", "file", {})


@pytest.mark.parametrize("content", [b"", b"two words", b"te_1\nte_2", b"\xff\xfe"])
def test_a_file_without_a_token_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(InvalidConfiguration, match="holds no token") as caught:
        find_target(HERE, None, file, {}).token.secret()
    assert "te_2" not in str(caught.value)


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"nowhere.*No such file"):
        find_target(HERE, None, tmp_path / "nowhere", {}).token.secret()


def test_a_token_does_not_travel_readable_to_another_machine() -> None:
    with pytest.raises(InvalidConfiguration, match="travels readable"):
        find_target("http://server.example:8080", "te_x", None, {})
    assert find_target("http://server.example:8080", "te_x", None, {}, allow_plain_http=True).token.known
    assert find_target("https://server.example", "te_x", None, {}).token.known
    assert not find_target("http://server.example:8080", None, None, {}).token.known


def test_a_replaced_token_file_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("te_one")
    token = find_target(HERE, None, file, {}).token
    assert token.secret() == "te_one"
    assert not token.refresh()
    file.write_text("te_two")
    assert token.refresh()
    assert token.secret() == "te_two"
