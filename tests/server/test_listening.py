"""taskengine/server/listening.py: who may be listened to, and what is said when it cannot be."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskengine.config import ServerConfig
from taskengine.errors import InvalidConfiguration
from taskengine.server.listening import address_of, exposure_fault, listen, resolve, who_listens


def server(**fields: object) -> ServerConfig:
    return ServerConfig(**{"port": 0, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8"])
def test_loopback_is_open_without_more(host: str) -> None:
    assert exposure_fault(server(host=host), resolve(host)[1]) == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "2001:db8::1"])
@pytest.mark.parametrize("fields", [{}, {"read_only": True}, {"allowed_hosts": ("x.example",)}])
def test_any_other_address_is_refused_without_tls_or_a_proxy(host: str, fields: dict[str, object]) -> None:
    fault = exposure_fault(server(host=host, **fields), resolve(host)[1])
    assert all(advice in fault for advice in ("--host 127.0.0.1", "--tls-cert", "--behind-proxy"))


@pytest.mark.parametrize("fields", [{"tls_cert": "c", "tls_key": "k"}, {"behind_proxy": ("10.0.0.7",)}])
def test_tls_or_a_named_proxy_opens_it(fields: dict[str, object]) -> None:
    assert exposure_fault(server(host="0.0.0.0", **fields), "0.0.0.0") == ""


def test_an_exposed_address_is_not_even_bound() -> None:
    with pytest.raises(InvalidConfiguration, match="without TLS"):
        listen(server(host="0.0.0.0"))


def test_an_unknown_host_is_told() -> None:
    with pytest.raises(InvalidConfiguration, match=r"server\.host: nobody knows the address of 'no\.such\.invalid'"):
        listen(server(host="no.such.invalid"))


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def test_a_taken_port_is_told_with_its_holder_and_a_way_out(taken: int) -> None:
    with pytest.raises(OSError, match=rf"port {taken} of 127\.0\.0\.1 is taken.*--port") as caught:
        listen(server(port=taken))
    assert not isinstance(caught.value, PermissionError)


def test_who_has_a_port_is_found_out(taken: int) -> None:
    if not Path("/proc/net/tcp").exists():
        pytest.skip("only Linux tells who listens")
    assert who_listens(taken).startswith(f"pid {os.getpid()} (")
    assert who_listens(1) == ""


@pytest.mark.parametrize(
    ("host", "tls", "wanted"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:{port}"),
        ("localhost", True, "https://localhost:{port}"),
        ("", False, "http://127.0.0.1:{port}"),
    ],
)
def test_the_address_is_one_that_this_machine_can_use(host: str, tls: bool, wanted: str) -> None:
    with listen(server(host=host or "127.0.0.1")) as sock:
        assert address_of(sock, tls=tls, host=host) == wanted.format(port=sock.getsockname()[1])


def test_all_addresses_are_shown_as_loopback() -> None:
    with listen(server(host="0.0.0.0", behind_proxy=("10.0.0.7",))) as sock:
        assert address_of(sock, tls=False, host="0.0.0.0") == f"http://127.0.0.1:{sock.getsockname()[1]}"


async def test_small_answers_do_not_wait_for_more() -> None:
    """asyncio switches Nagle's delay off for connections of a socket that says that it is TCP."""
    taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made = writer.get_extra_info("socket")
        taken.set_result(made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listen(server()) as sock:
        async with await asyncio.start_server(accept, sock=sock):
            _, writer = await asyncio.open_connection(*sock.getsockname())
            assert await taken
            writer.close()
            await writer.wait_closed()
