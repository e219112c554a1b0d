"""Bad weather for a database server and the line to it: a fault every few seconds, as the seed has it."""

import random
import threading
from collections import Counter

from databases.asking import ask, kind_of
from databases.private import PrivateServer

from faults.proxy import Proxy

__all__ = ["Weather"]

FAULTS = ("cut", "cut", "commit after", "commit before", "hole", "refuse", "slow", "end backends", "restart", "kill")


class Weather:
    """In a `with` block, in a thread of its own; at the end the sky is clear.

    happened  how often each fault was made
    """

    def __init__(self, server: PrivateServer, proxy: Proxy, *, seed: int, every_s: float = 3.0) -> None:
        self._server, self._proxy, self._every_s = server, proxy, every_s
        self._rng = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.happened: Counter[str] = Counter()

    def __enter__(self) -> "Weather":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the weather does not end"

    def _run(self) -> None:
        pack: list[str] = []
        while not self._over.wait(self._rng.uniform(0.5, 1.5) * self._every_s):
            if not pack:  # each of them comes before one comes again
                pack = self._rng.sample(FAULTS, k=len(FAULTS))
            fault = pack.pop()
            self.happened[fault] += 1
            self._make(fault)

    def _make(self, fault: str) -> None:
        proxy = self._proxy
        match fault:
            case "cut":
                proxy.cut_all(reset=self._rng.random() < 0.5)
            case "commit after" | "commit before":
                proxy.cut_commit("after" if fault == "commit after" else "before")
            case "hole":
                proxy.swallow()
                self._over.wait(self._rng.uniform(0.5, 3))
                proxy.cut_all()
                proxy.let_pass()
            case "refuse":
                proxy.refuse()
                self._over.wait(self._rng.uniform(0.5, 3))
                proxy.accept()
            case "slow":
                proxy.delay_s = self._rng.uniform(0.05, 2)
                self._over.wait(2)
                proxy.delay_s = 0.0
            case "end backends":
                self._end_backends()
            case _:
                self._server.restart(kill=fault == "kill")

    def _end_backends(self) -> None:
        dsn = self._server.dsn
        if kind_of(dsn) == "postgresql":
            ask(dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'taskengine'")  # fmt: skip
            return
        for (number,) in ask(dsn, "SELECT id FROM information_schema.processlist WHERE db = 'taskengine'")[0]:
            ask(dsn, f"KILL {number}")
