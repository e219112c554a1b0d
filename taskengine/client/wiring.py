"""How connections are made, for both kinds of transport: timeouts, trust, proxies."""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taskengine.client.address import is_loopback, websocket_address
from taskengine.client.faults import fault_of
from taskengine.client.pace import Patience
from taskengine.client.steps import Answer, Closed, Fault, Request
from taskengine.errors import InvalidConfiguration

if TYPE_CHECKING:
    import httpx

__all__ = ["GOODBYE_S", "Wiring", "answer_of", "end_of", "refusal_of"]

MAX_FRAME: Final = 64 * 1024 * 1024
"""Bytes of one message: the snapshot of an instance with 100,000 tasks fits."""
TOO_BIG: Final = 1009

GOODBYE_S: Final = 0.25
"""For the other side's goodbye when we leave a stream. websockets does not read while its queue is full, so that who
leaves a busy stream would wait for all of it, in vain."""


class Wiring:
    """Of one client. Certificates are those that the system trusts, or of `ca_file`.

    A proxy of the environment is used for other machines and never for this one.
    """

    def __init__(self, address: str, patience: Patience, ca_file: Path | None) -> None:
        self.address, self._patience = address, patience
        self._local = is_loopback(address)
        self._secure = address.startswith("https://")
        # Loading what the system trusts takes a while and is of no use for plain http within this machine.
        self._trust = _trust(ca_file) if self._secure or not self._local else None

    def client_options(self) -> dict[str, Any]:
        """For httpx.Client and httpx.AsyncClient."""
        import httpx

        return {
            "verify": self._trust if self._trust is not None else False,
            # As many as there are callers: each may be waiting for a minute, and nobody behind it should.
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
            "trust_env": not self._local,
            "follow_redirects": False,  # the token is for this server and no other
        }

    def request_options(self, request: Request) -> dict[str, Any]:
        """For `build_request` of these."""
        import httpx

        patience = self._patience
        timeout = httpx.Timeout(request.read_s, connect=patience.connect_s, pool=patience.connect_s)
        return {
            "method": request.method,
            "url": self.address + request.path,
            # Bytes: httpx takes text in ASCII only, and a key of the user may have any letters.
            "headers": {name: value.encode() for name, value in request.headers.items()},
            "content": request.body,
            "timeout": timeout,
        }

    def socket_options(self, request: Request) -> dict[str, Any]:
        """For the `connect` of websockets, of either kind."""
        headers = dict(request.headers)
        agent = headers.pop("User-Agent", None)
        return {
            "uri": websocket_address(self.address) + request.path,
            "additional_headers": headers,
            "user_agent_header": agent,
            "proxy": None if self._local else True,
            "compression": None if self._local else "deflate",
            "open_timeout": self._patience.connect_s,
            "close_timeout": GOODBYE_S,
            "ping_interval": self._patience.ping_s,
            "ping_timeout": self._patience.ping_s,
            "max_size": MAX_FRAME,
            **({"ssl": self._trust} if self._secure else {}),
        }


def answer_of(response: "httpx.Response") -> Answer:
    """An answer whose body has been read."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status_code, headers=headers, body=response.content)


def refusal_of(error: BaseException) -> Answer | Fault:
    """What a WebSocket that could not be opened says: the server's answer, or that there was none."""
    response = getattr(error, "response", None)
    if response is None:
        return fault_of(error, connecting=True)
    headers = {name.lower(): value for name, value in response.headers.raw_items()}
    return Answer(status=response.status_code, headers=headers, body=bytes(response.body or b""))


def end_of(error: BaseException) -> Closed | Fault:
    """What the exception of a closed WebSocket says."""
    close, ours = getattr(error, "rcvd", None), getattr(error, "sent", None)
    if ours is not None and ours.code == TOO_BIG and not getattr(error, "rcvd_then_sent", False):
        return Fault(reason=f"a message is larger than {MAX_FRAME // 2**20} MiB", sent=True, hopeless=True)
    if close is None:
        return fault_of(error)
    return Closed(code=close.code, reason=close.reason)


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise InvalidConfiguration(f"ca_file {ca_file}: no certificates can be read from it: {error}") from None
