"""Load on a bare Perspective Broker: a call that carries the value there and back.

``python -m benchmarks.loads.echo TASK``; ``python -m benchmarks.loads.echo serve PORT`` is the other side. What PB
costs when nothing is replicated, stored or decided.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.spread import pb

from benchmarks.loads.closed_loop import Client, main
from benchmarks.tasks import Task


class Echo(pb.Root):
    """Answers with what it was sent."""

    def remote_echo(self, value: bytes) -> bytes:
        return value


class Caller:
    """One connection."""

    def __init__(self, root: Any, factory: Any) -> None:
        self._root = root
        self._factory = factory

    def put(self, key: str, value: str) -> Deferred[Any]:
        """One call, the value there and back."""
        answer: Deferred[Any] = self._root.callRemote("echo", value.encode())
        return answer

    async def get(self, key: str) -> Any:
        """Nothing is kept, so nothing is found."""
        raise LookupError(key)

    async def close(self) -> None:
        """Hang up."""
        self._factory.disconnect()


async def connect(reactor: Any, task: Task) -> Client:
    """One connection."""
    factory = pb.PBClientFactory()
    await clientFromString(reactor, task.endpoints[0]).connect(factory)
    return Caller(await factory.getRootObject(), factory)


def serve(port: str) -> None:
    """Answer until a signal ends it."""
    from twisted.internet import reactor

    serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1").listen(pb.PBServerFactory(Echo()))
    reactor.run()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        main(connect)
