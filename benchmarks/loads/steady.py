"""Puts at a steady rate on ours, until it is ended.

``python -m benchmarks.loads.steady ENDPOINT RATE KEYS VALUE_BYTES``

Says a line of JSON every SAY_SECONDS: when, how many puts were answered so far, how many have failed. Each of CLIENTS
puts when its time has come, if its last one was answered; what is late is not caught up, so what the store cannot take
is missing from the count. Knows nothing of what is done to the store meanwhile.
"""

from __future__ import annotations

import json
import sys
from random import Random
from time import perf_counter, time
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from benchmarks.loads.closed_loop import AFTER_ERROR_SECONDS, key, values_of
from twisted_kv import Clerk

CLIENTS: Final = 256
SAY_SECONDS: Final = 0.1


class Store(Protocol):
    """What is put to."""

    def put(self, key: str, value: str) -> Deferred[Any]: ...


class Steady:
    """The load.

    Args:
        rate: puts a second of all clients together.
        keys: they are drawn from so many.
    Attributes:
        answered, failed: puts, so far.
    """

    def __init__(self, reactor: Any, store: Store, rate: float, keys: int, value_bytes: int) -> None:
        self._reactor = reactor
        self._store = store
        self._interval = CLIENTS / rate
        self._keys = keys
        self._values = values_of(value_bytes)
        self._chance = Random(0)
        self.answered = 0
        self.failed = 0

    def start(self) -> None:
        """Puts from now on, one client after the other."""
        for number in range(CLIENTS):
            ensureDeferred(self._client(self._interval * number / CLIENTS))

    async def _client(self, first: float) -> None:
        due = perf_counter() + first
        while True:
            early = due - perf_counter()
            if early > 0:
                await deferLater(self._reactor, early)
            due = max(due + self._interval, perf_counter())
            try:
                name = key(int(self._chance.random() * self._keys))
                await self._store.put(name, self._values[self.answered % len(self._values)])
                self.answered += 1
            except Exception:
                self.failed += 1
                await deferLater(self._reactor, AFTER_ERROR_SECONDS)


def main(reactor: Any, endpoint: str, rate: float, keys: int, value_bytes: int) -> None:
    """For ever."""
    load = Steady(reactor, Clerk([endpoint], reactor), rate, keys, value_bytes)

    def say() -> None:
        reactor.callLater(SAY_SECONDS, say)
        print(json.dumps({"at": time(), "answered": load.answered, "failed": load.failed}), flush=True)

    load.start()
    say()


if __name__ == "__main__":
    from twisted.internet import reactor as installed

    running: Any = installed
    running.callWhenRunning(main, running, sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    running.run()
