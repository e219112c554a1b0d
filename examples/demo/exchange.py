"""The data service of the demo: HTTP on a free loopback port, a little slow, and busy when it is asked first."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from examples.demo.market import STOCKS, quotes_csv, trading_days

__all__ = ["running_exchange"]

RATE: Final = 7.1
BUSY_S: Final = 2
LATENCY_S: Final = 0.8
LATENCY_STEP_S: Final = 0.3


@contextmanager
def running_exchange() -> Iterator[str]:
    """Serves as long as the context lasts; gives the base URL."""
    with _Exchange(("127.0.0.1", 0), _Request) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Exchange(ThreadingHTTPServer):
    """Counts what was asked, under a lock since each request has a thread."""

    daemon_threads = True

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._lock = threading.Lock()
        self._asked: set[str] = set()

    def first_time(self, path: str) -> bool:
        with self._lock:
            first = path not in self._asked
            self._asked.add(path)
        return first


class _Request(BaseHTTPRequestHandler):
    server: _Exchange
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        match self.path.strip("/").split("/"):
            case ["calendar"]:
                days = [day.isoformat() for day in trading_days()]
                self._json({"days": days, "holidays": [{"name": "春节", "from": "2024-02-09", "to": "2024-02-16"}]})
            case ["stocks"]:
                fields = ("code", "name", "industry")
                self._json([{field: getattr(stock, field) for field in fields} for stock in STOCKS])
            case ["rate", "USDCNY"] if self.server.first_time(self.path):
                self._answer(503, "text/plain", "busy, try again\n", {"Retry-After": str(BUSY_S)})
            case ["rate", "USDCNY"]:
                self._json({"pair": "USDCNY", "rate": RATE})
            case ["quotes", code] if code in {stock.code for stock in STOCKS}:
                self._quotes(code)
            case _:
                self._answer(404, "text/plain", "no such page\n", {})

    def _quotes(self, code: str) -> None:
        place = next(index for index, stock in enumerate(STOCKS) if stock.code == code)
        time.sleep(LATENCY_STEP_S * place)
        self._answer(200, "text/csv", quotes_csv(STOCKS[place]), {})

    def _json(self, value: object) -> None:
        self._answer(200, "application/json", json.dumps(value, ensure_ascii=False), {})

    def _answer(self, status: int, kind: str, text: str, headers: dict[str, str]) -> None:
        time.sleep(LATENCY_S)
        body = text.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the terminal belongs to the progress of the run."""
