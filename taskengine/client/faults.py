"""What went wrong on the way, in words, from the exceptions of httpx, websockets and the system."""

import socket
import ssl
from collections.abc import Iterator
from typing import Final

from taskengine.client.steps import Fault

__all__ = ["fault_of"]

_UNSENT: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"})
"""Exceptions of httpx after which nothing of the request can have reached the server."""


def fault_of(error: BaseException, *, connecting: bool = False) -> Fault:
    """A Fault for an exception of the transport; `connecting` where nothing was sent yet."""
    chain = list(_chain(error))
    sent = not connecting and not _UNSENT & {type(each).__name__ for each in chain[:1]}
    for each in chain:
        told = _known(each)
        if told is not None:
            return Fault(reason=told[0], sent=sent, hopeless=told[1])
    kind = type(error).__name__
    if kind in ("InvalidURL", "InvalidURI"):
        return Fault(reason=f"this is no address ({error})", sent=False, hopeless=True)
    if "Timeout" in kind or isinstance(error, TimeoutError):
        return Fault(reason="no answer in time" if sent else "no connection in time", sent=sent)
    what = "the connection was cut" if sent else "no connection"
    return Fault(reason=f"{what} ({str(error) or kind})", sent=sent)


def _known(error: BaseException) -> tuple[str, bool] | None:
    """The reason, and whether the same again would end the same way."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); give its authority's file as ca_file=", True
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"):
        return "it does not speak TLS; use http:// if it is a server of this machine", True
    if isinstance(error, socket.gaierror):
        return f"no such host ({error.strerror})", False
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there (connection refused)", False
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it came from, groups opened; each once."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
        waiting += getattr(each, "exceptions", ())
