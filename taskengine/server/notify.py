"""Telling a service manager how it goes: the datagrams of sd_notify(3). Without `$NOTIFY_SOCKET` nothing is sent."""

import os
import socket
from collections.abc import Mapping
from typing import Final

__all__ = ["Notifier"]

_SOCKET: Final = "NOTIFY_SOCKET"


class Notifier:
    """Sends to the service manager that started this process. A lost message is no reason to fail.

    watchdog_s  how often the manager wants to hear that we are alive; None: it does not ask
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        name = environ.get(_SOCKET, "")
        # `@name` is Linux's abstract namespace: the name begins with a zero byte there.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self.watchdog_s = _watchdog_s(environ)

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={status}")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """To be called at least once in `watchdog_s`."""
        self._send("WATCHDOG=1")

    def failed(self, reason: str) -> None:
        self._send(f"STATUS={reason}")

    def _send(self, *lines: str) -> None:
        if not self._address.startswith(("/", "\0")):
            return
        message = "\n".join(line.replace("\n", " ") for line in lines)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(message.encode(errors="replace"), self._address)
        except OSError:
            pass  # the manager has gone, or is too busy to listen


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Half of what the manager allows, if it means this process (sd_watchdog_enabled(3))."""
    pid, span = environ.get("WATCHDOG_PID", ""), environ.get("WATCHDOG_USEC", "")
    if not span.isdigit() or int(span) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(span) / 2_000_000
