"""A reactor in memory: virtual time, and connections that carry bytes at once, with TCP's backpressure.

Listeners are found by port number alone. Nothing here knows Perspective Broker.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

BUFFER_BYTES = 64 * 1024
READ_BYTES = 64 * 1024


class FuzzReactor(MemoryReactorClock):
    """Time, listening and connecting, as far as servers and Clerks of ours need them."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: dict[int, Any] = {}

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> DelayedCall:
        # Clock sorts all calls at each new one; this is where a fuzzer would spend its life.
        call = DelayedCall(self.seconds() + delay, callable, args, kw, self.calls.remove, self._moved, self.seconds)
        insort(self.calls, call, key=DelayedCall.getTime)
        return call

    def _moved(self, _: DelayedCall) -> None:
        self.calls.sort(key=DelayedCall.getTime)

    def _sortCalls(self) -> None:
        """They are in order."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        port = port or 20_000 + len(self.listeners)
        assert port not in self.listeners
        self.listeners[port] = factory
        factory.doStart()
        return _Port(self, port)

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        connector = _Connector()
        factory.doStart()
        factory.startedConnecting(connector)
        self.callLater(0, self._connect, port, factory, connector)
        return connector

    def dial(self, port: int, protocol: Protocol) -> End | None:
        """Connect a protocol to a listener now; None if it is turned away."""
        factory = self.listeners.get(port)
        served = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1)) if factory is not None else None
        if served is None:
            return None
        here, there = End(self, protocol, port), End(self, served, 1)
        here.other, there.other = there, here
        served.makeConnection(there)
        protocol.makeConnection(here)
        return here

    def settle(self, turns_max: int = 100_000) -> None:
        """Do all that is due now, and what comes of it."""
        for _ in range(turns_max):
            if not self.calls or self.calls[0].getTime() > self.seconds():
                return
            call = self.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)
        raise AssertionError(f"still busy after {turns_max} calls at one moment")

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, stopping wherever something is due."""
        until = self.seconds() + seconds
        self.settle()
        while self.calls and self.calls[0].getTime() <= until:
            Clock.advance(self, max(0.0, self.calls[0].getTime() - self.seconds()))
            self.settle()
        Clock.advance(self, max(0.0, until - self.seconds()))

    def _connect(self, port: int, factory: Any, connector: Any) -> None:
        if connector.stopped:
            return
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", port)) if port in self.listeners else None
        if protocol is None or self.dial(port, protocol) is None:
            factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))


class _Port:
    def __init__(self, reactor: FuzzReactor, port: int) -> None:
        self._reactor = reactor
        self._port = port

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self._port)

    def stopListening(self) -> Deferred[None]:
        self._reactor.listeners.pop(self._port, None)
        return succeed(None)


class _Connector:
    stopped = False

    def stopConnecting(self) -> None:
        self.stopped = True

    disconnect = stopConnecting


class End:
    """One end of a connection; what a protocol calls its transport."""

    other: End
    disconnecting = False

    def __init__(self, reactor: FuzzReactor, protocol: Any, port: int) -> None:
        self._reactor = reactor
        self.protocol = protocol
        self._port = port
        self._inbox: list[bytes] = []
        self._held = 0
        self._reading = True
        self._due = False
        self._producer: Any = None
        self._full = False
        self.aborted = False

    @property
    def gone(self) -> bool:
        return self.protocol is None

    def write(self, data: bytes) -> None:
        if self.gone or self.other.gone or not data:
            return
        self.other._inbox.append(data)
        self.other._held += len(data)
        if self._producer is not None and not self._full and self.other._held > BUFFER_BYTES:
            self._full = True
            self._producer.pauseProducing()
        self.other._wake()

    def writeSequence(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.write(piece)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        self._reading = True
        self._wake()

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.other._wake()

    def abortConnection(self) -> None:
        if not self.aborted:
            self.aborted = True
            self._inbox.clear()
            self._later(self._lose)

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self._port)

    getHost = getPeer

    def _wake(self) -> None:
        if self._reading and not self._due:
            self._due = True
            self._later(self._deliver)

    def _deliver(self) -> None:
        self._due = False
        data, self._inbox, self._held = b"".join(self._inbox), [], 0
        other = self.other
        if other._full:
            other._full = False
            if other._producer is not None:
                other._producer.resumeProducing()
        for start in range(0, len(data), READ_BYTES):
            if self.gone or self.aborted:
                return
            if not self._reading:
                self._inbox.insert(0, data[start:])
                self._held += len(data) - start
                return
            self.protocol.dataReceived(data[start : start + READ_BYTES])
        if other.disconnecting and not self._inbox:
            self._lose()

    def _lose(self) -> None:
        for end in (self, self.other):
            if end.protocol is not None:
                protocol, end.protocol = end.protocol, None
                protocol.connectionLost(Failure(ConnectionDone()))

    def _later(self, call: Callable[[], None]) -> None:
        self._reactor.callLater(0, call)
