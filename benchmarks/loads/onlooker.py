"""Asks each server of a group for its status, again and again, as a plain script would.

``python -m benchmarks.loads.onlooker ENDPOINT…`` says a line of JSON every LOOK_SECONDS until it is ended: when, and
for each endpoint what it said last, or null while it cannot be dialled. Knows nothing of what the figures mean.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.task import deferLater
from twisted.spread import pb

LOOK_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 5.0


class Server:
    """One server, dialled again whenever its connection has gone.

    Attributes:
        status: what it said last, None while there is no connection.
    """

    def __init__(self, reactor: Any, endpoint: str) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._root: Any = None
        self.status: dict[str, Any] | None = None

    async def follow(self) -> None:
        """For ever; one that stands still is waited for, one that was killed may leave a question open for good."""
        while True:
            pause: Deferred[None] = deferLater(self._reactor, LOOK_SECONDS)
            asking: Deferred[Any] = ensureDeferred(self._asked())
            asking.addTimeout(PATIENCE_SECONDS, self._reactor)
            try:
                self.status = plain(await asking)
            except Exception:
                self._root = self.status = None
            await pause

    async def _asked(self) -> Any:
        if self._root is None:
            factory = pb.PBClientFactory()
            await clientFromString(self._reactor, self._endpoint).connect(factory)
            self._root = await factory.getRootObject()
        return await self._root.callRemote("status")


def plain(status: dict[Any, Any]) -> dict[str, Any]:
    """The numbers and words of a status.

    >>> plain({b"role": "leader", "keys": 1, "arriving": []})
    {'role': 'leader', 'keys': 1}
    """
    named = ((name.decode() if isinstance(name, bytes) else name, value) for name, value in status.items())
    return {name: value for name, value in named if isinstance(value, str | int | float)}


def look(reactor: Any, endpoints: list[str]) -> None:
    """For ever."""
    servers = [Server(reactor, endpoint) for endpoint in endpoints]
    for server in servers:
        ensureDeferred(server.follow())

    def say() -> None:
        reactor.callLater(LOOK_SECONDS, say)
        print(json.dumps({"at": time.time(), "members": [server.status for server in servers]}), flush=True)

    say()


if __name__ == "__main__":
    from twisted.internet import reactor as installed

    running: Any = installed
    running.callWhenRunning(look, running, sys.argv[1:])
    running.run()
