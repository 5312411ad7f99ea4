"""What the transport tests share: a bounded reactor test, a network on loopback, and two brokers on a wire of lists."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest_twisted
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.spread import banana, pb

from twisted_kv.transport.broker import LIMITS, GuardedBroker
from twisted_kv.transport.complaints import Complaints
from twisted_kv.transport.listening import HOSPITALITY, DoorFactory, Hospitality
from twisted_kv.transport.network import PBNetwork
from twisted_kv.transport.roots import DoorRoot

WRITE_BUFFER_BYTES = 64 * 1024


def reactor_test(timeout: float = 10.0) -> Callable[[Any], Any]:
    """Run an async test on the real reactor, and fail it when it hangs (pytest-timeout cannot)."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Any:
        @pytest_twisted.ensureDeferred
        @functools.wraps(test)
        async def bounded(*args: Any, **kwargs: Any) -> None:
            from twisted.internet import reactor

            await Deferred.fromCoroutine(test(*args, **kwargs)).addTimeout(timeout, reactor)

        return bounded

    return decorate


async def turns(count: int = 1) -> None:
    """Let the reactor turn."""
    from twisted.internet import reactor

    for _ in range(count):
        turned: Deferred[None] = Deferred()
        reactor.callLater(0, turned.callback, None)
        await turned


async def until(true: Callable[[], bool]) -> None:
    """Let the reactor turn until something holds; the test's own timeout bounds it."""
    while not true():
        await turns()


class Served:
    """A network door and one listening port on loopback, for ``async with``."""

    def __init__(self, doors: Any = None, plain: Any = None, **how: Any) -> None:
        from twisted.internet import reactor

        self.reactor = reactor
        self.doors = doors or {}
        self.plain = plain or {}
        self.network = PBNetwork(reactor, **how)

    async def __aenter__(self) -> Served:
        self.listening = await self.network.listen("tcp:0:interface=127.0.0.1", self.doors, self.plain)
        self.port = self.listening.getHost().port
        self.endpoint = f"tcp:127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *ignored: object) -> None:
        await self.network.close()
        await self.listening.stop()

    def call(self, verb: str, body: bytes = b"", timeout: float = 5.0) -> Deferred[bytes]:
        return self.network.call(self.endpoint, verb, body, timeout)


async def stock_root(served: Served) -> pb.RemoteReference:
    """The root as a script gets it that knows nothing of ours."""
    factory = pb.PBClientFactory()
    factory.noisy = False
    served.reactor.connectTCP("127.0.0.1", served.port, factory)
    return await factory.getRootObject()


def echo(body: bytes) -> Deferred[bytes]:
    return succeed(body)


class MemoryTransport:
    """One end of a wire: collects what is written, tells its producer when it is full, as TCP does."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.written: list[bytes] = []
        self.producer: Any = None
        self.full = False
        self.reading = True
        self.aborted = False
        self.disconnecting = False

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if self.producer and not self.full and sum(map(len, self.written)) > WRITE_BUFFER_BYTES:
            self.full = True
            self.producer.pauseProducing()

    def writeSequence(self, data: list[bytes]) -> None:
        for piece in data:
            self.write(piece)

    def taken(self) -> bytes:
        """What the other end reads now."""
        data = b"".join(self.written)
        self.written.clear()
        if self.full:
            self.full = False
            if self.producer:
                self.producer.resumeProducing()
        return data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.lose()

    def lose(self) -> None:
        if self.protocol is not None:
            protocol, self.protocol = self.protocol, None
            protocol.connectionLost(Failure(ConnectionDone()))

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.7", 4242)


class Wire:
    """A served broker and a client's on a wire in memory, under one clock.

    Args:
        doors, plain: what is served.
        stock: the client is Twisted's own broker.
        raw: there is no client; bytes are fed by ``feed`` (after the greeting, unless told otherwise).
    """

    def __init__(
        self,
        doors: Any = None,
        plain: Any = None,
        stock: bool = False,
        raw: bool = False,
        greeted: bool = True,
        hospitality: Hospitality = HOSPITALITY,
        clock: Clock | None = None,
        factory: DoorFactory | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.factory = factory or DoorFactory(DoorRoot(doors or {}, plain or {}, self.clock), self.clock, hospitality)
        server = self.factory.buildProtocol(None)
        assert server is not None
        self.server = server
        self.server_transport = MemoryTransport(server)
        server.makeConnection(self.server_transport)
        self.client: Any = None
        if raw:
            if greeted:
                self.feed(encoded(b"pb") + encoded([b"version", 6]))
                self.server_transport.taken()
            return
        client_factory = pb.PBClientFactory()
        if stock:
            self.client = client_factory.buildProtocol(None)
        else:
            self.client = GuardedBroker(True, self.clock, Complaints(self.clock), LIMITS)
            self.client.factory = client_factory
        self.client_transport = MemoryTransport(self.client)
        self.client.makeConnection(self.client_transport)
        self.pump()
        self.root = self.client.remoteForName("root")

    @property
    def cut(self) -> bool:
        return self.server_transport.aborted

    def feed(self, data: bytes, piece_bytes: int = 65_536) -> int:
        """Send raw bytes to the server as TCP would; returns how many it took before it cut the connection."""
        for start in range(0, len(data), piece_bytes):
            if self.cut:
                return start
            self.server.dataReceived(data[start : start + piece_bytes])
        return len(data)

    def pump(self) -> None:
        """Carry bytes both ways until none are left."""
        moved = True
        while moved:
            moved = False
            for source, target in ((self.client_transport, self.server), (self.server_transport, self.client)):
                data = source.taken()
                if data:
                    moved = True
                    for start in range(0, len(data), 65_536):
                        target.dataReceived(data[start : start + 65_536])

    def call(self, name: str, *args: Any, **kw: Any) -> list[Any]:
        """callRemote, carried there and back; the list gets what it fired with."""
        fired: list[Any] = []
        self.root.callRemote(name, *args, **kw).addBoth(fired.append)
        self.pump()
        return fired


def encoded(expression: Any) -> bytes:
    """Stock Banana, without vocabulary and with room for huge integers."""
    return banana.encode(expression)


def message(name: bytes, args: list[Any], request: int = 1, answered: int = 1) -> bytes:
    """A call as a stock client would send it, from jelly."""
    return encoded([b"message", request, b"root", name, answered, [b"tuple", *args], [b"dictionary"]])
