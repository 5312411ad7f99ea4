"""The serving end: who may connect, how long a silent connection is kept, and how all of it is closed.

A connection must negotiate within ``greeting_seconds``, must say something now and then, and must read its answers;
one sweep a second looks at all of them. When ``connections_max`` is reached a newcomer replaces the connection that
has been silent longest, so idle ones can never lock peers out, whose links are never silent (hazards S6).

Decides nothing about what is served (roots.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.logger import Logger
from twisted.spread import pb

from twisted_kv.transport.broker import LIMITS, GuardedBroker, Limits, Unread
from twisted_kv.transport.complaints import Complaints
from twisted_kv.transport.plain import PlainOnly
from twisted_kv.transport.roots import ConnectionRoot, DoorRoot

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IReactorTime

SWEEP_SECONDS: Final = 1.0


class Hospitality(NamedTuple):
    """How a server treats its connections.

    Attributes:
        connections_max: at most this many at once.
        greeting_seconds: time to negotiate.
        idle_seconds: silence, with no call being carried out, after which a connection is closed.
        stuck_seconds: the same with answers unread, or in the middle of a request.
        farewell_seconds: when stopping, time to read what was answered before.
        limits: of one connection.
    """

    connections_max: int = 800
    greeting_seconds: float = 5.0
    idle_seconds: float = 1800.0
    stuck_seconds: float = 30.0
    farewell_seconds: float = 1.0
    limits: Limits = LIMITS


HOSPITALITY: Final = Hospitality()


class DoorFactory(pb.PBServerFactory):
    """Makes and keeps the connections of one listening port."""

    noisy = False

    def __init__(self, root: DoorRoot, clock: IReactorTime, hospitality: Hospitality) -> None:
        pb.PBServerFactory.__init__(self, root, security=PlainOnly())
        self.reserve = root.reserve
        self._clock = clock
        self._hospitality = hospitality
        self._complaints = Complaints(clock)
        self._unread = Unread()
        # Connection → its root and when it was made, in the order of arrival.
        self._connections: dict[GuardedBroker, tuple[ConnectionRoot, float]] = {}
        self._sweeper: IDelayedCall | None = None
        self._farewell: IDelayedCall | None = None
        self._emptied: list[Deferred[None]] | None = None

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    def buildProtocol(self, addr: IAddress | None) -> GuardedBroker | None:
        if self._emptied is not None or not self._has_room():
            return None
        broker = GuardedBroker(False, self._clock, self._complaints, self._hospitality.limits, self._unread)
        broker.factory = self
        root = self.root.rootObject(broker)
        broker.setNameForLocal("root", root)
        broker.notifyOnDisconnect(lambda: self._lost(broker))
        self._connections[broker] = (root, self._clock.seconds())
        if self._sweeper is None:
            self._sweeper = self._clock.callLater(SWEEP_SECONDS, self._sweep)
        return broker

    def stop(self) -> Deferred[None]:
        """Take no more connections and close all; fires when the last one is gone."""
        if self._emptied is None:
            self._emptied = []
            for broker in tuple(self._connections):
                broker.close()
            if self._connections:
                self._farewell = self._clock.callLater(self._hospitality.farewell_seconds, self._abort_all)
        emptied: Deferred[None] = Deferred()
        self._emptied.append(emptied)
        self._tell_if_emptied()
        return emptied

    def _has_room(self) -> bool:
        if len(self._connections) < self._hospitality.connections_max:
            return True
        idle = (broker for broker in self._connections if not broker.calls)
        silent = min(idle, key=lambda broker: broker.heard_at, default=None)
        if silent is None:
            return False
        silent.cut("silent longest, and there are too many connections")
        self._lost(silent)
        return True

    def _lost(self, broker: GuardedBroker) -> None:
        root, _ = self._connections.pop(broker, (None, 0.0))
        if root is not None:
            root.connection_lost()
        self._tell_if_emptied()

    def _tell_if_emptied(self) -> None:
        if self._connections:
            return
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._farewell is not None:
            self._farewell.cancel()
            self._farewell = None
        if self._emptied is not None:
            emptied, self._emptied = self._emptied, []
            for waiting in emptied:
                waiting.callback(None)

    def _abort_all(self) -> None:
        self._farewell = None
        for broker in tuple(self._connections):
            broker.abort()

    def _sweep(self) -> None:
        self._sweeper = self._clock.callLater(SWEEP_SECONDS, self._sweep)
        now = self._clock.seconds()
        for broker, (root, made_at) in tuple(self._connections.items()):
            root.expire()
            if not broker.admitted:
                if now - made_at > self._hospitality.greeting_seconds:
                    broker.cut("it did not negotiate in time")
            elif broker.queued_bytes:
                if now - max(broker.heard_at, broker.drained_at) > self._hospitality.stuck_seconds:
                    broker.cut("it does not read its answers")
            elif broker.half_said:
                if now - broker.heard_at > self._hospitality.stuck_seconds:
                    broker.cut("it does not end what it has begun to say")
            elif not broker.calls and now - broker.heard_at > self._hospitality.idle_seconds:
                broker.close()


class Listening:
    """A port that is being served."""

    log = Logger()

    def __init__(self, port: IListeningPort, factory: DoorFactory) -> None:
        self._port = port
        self._factory = factory
        self.log.info("listening on {address}", address=str(port.getHost()))

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return self._factory.connections

    @property
    def transfer_bytes(self) -> int:
        """Bytes of large requests and answers that are on their way in parts, or being carried out."""
        return self._factory.reserve.taken

    def getHost(self) -> Any:
        """Where: an IPv4Address, IPv6Address or UNIXAddress, with the port that was given if 0 was asked for."""
        return self._port.getHost()

    def stop(self) -> Deferred[None]:
        """Stop listening and close every connection; what was answered before is still written.

        Fires when the port is free and the last connection is gone.
        """
        stopped: Deferred[Any] = maybeDeferred(self._port.stopListening)
        return gatherResults([stopped, self._factory.stop()]).addCallback(lambda _: None)
