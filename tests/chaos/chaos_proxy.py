"""TCP proxies that make a network of loopback: one per link, each a way from one name to another.

Decides what a connection through a link suffers: refused, held back, swallowed, delayed, throttled, reset. Bytes that
arrive are those that were sent, in order and without a gap; a direction that has lost bytes never carries another one,
its connection is broken when the link heals. So a protocol above sees only what TCP allows. Knows nothing of what
passes through.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

HOST: Final = "127.0.0.1"
HELD_BYTES_MAX: Final = 1 << 20
"""What one direction may hold before its sender is made to wait, as a full socket buffer would."""
BACKLOG: Final = 128

Way = Literal["pass", "hold", "swallow"]
"""What becomes of bytes: they go on; they wait until the link heals, then all arrive; they are lost for good."""


@dataclass(frozen=True)
class Weather:
    """What a link is like.

    Attributes:
        refuse: new connections are refused, as by a port that nobody listens on, and those there are reset.
        out, back: what becomes of bytes from the dialler to the server, and from the server to the dialler. What is
            held or swallowed includes the news that the other side has closed: the connection is half open.
        delay_seconds: (least, most) that a piece of a stream takes, each way.
        bytes_per_second: of each direction of each connection; None: no limit.
        resets_per_second: mean rate at which each connection breaks.
        reset_chance: that a connection breaks in place of passing a piece of a stream on: an answer that is lost.
    """

    refuse: bool = False
    out: Way = "pass"
    back: Way = "pass"
    delay_seconds: tuple[float, float] = (0.0, 0.0)
    bytes_per_second: float | None = None
    resets_per_second: float = 0.0
    reset_chance: float = 0.0


FAIR: Final = Weather()
CUT: Final = Weather(refuse=True)
FROZEN: Final = Weather(out="hold", back="hold")
BLACK_HOLE: Final = Weather(out="swallow", back="swallow")


class Mesh:
    """All links, by (from, to).

    Args:
        where: the port of loopback at which a name listens now; None: nowhere.
    """

    def __init__(self, reactor: Any, random: Random, where: Callable[[str], int | None]) -> None:
        self._reactor = reactor
        self._random = random
        self._where = where
        self.links: dict[tuple[str, str], Link] = {}

    def endpoint(self, source: str, target: str) -> str:
        """Where ``source`` dials ``target``: a client endpoint; the link is made when first asked for."""
        link = self.links.get((source, target))
        if link is None:
            link = Link(self._reactor, self._random, lambda: self._where(target))
            self.links[source, target] = link
        return f"tcp:{HOST}:{link.port}"

    def shape(self, weather: Mapping[tuple[str, str], Weather]) -> None:
        """These links are so from now on, all others as they were."""
        for ends, wanted in weather.items():
            if ends in self.links:
                self.links[ends].weather = wanted

    def heal(self, ends: Iterable[tuple[str, str]] | None = None) -> None:
        """These links, or all, are sound again."""
        for each in self.links if ends is None else ends:
            if each in self.links:
                self.links[each].weather = FAIR

    def close(self) -> Deferred[Any]:
        """No link, no connection; fires when no port is left."""
        return gatherResults([link.close() for link in self.links.values()])


class Link(Factory):
    """One way to one server. Its port stays its own for life, also while it refuses."""

    noisy = False

    def __init__(self, reactor: Any, random: Random, where: Callable[[], int | None]) -> None:
        self.reactor = reactor
        self.random = random
        self.where = where
        self.pairs: set[Pair] = set()
        self._weather = FAIR
        self._resetting: Any = None
        self._socket = bound_for_good()
        self._socket.listen(BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        self._listening = reactor.adoptStreamPort(self._socket.fileno(), socket.AF_INET, self)

    def buildProtocol(self, address: Any) -> Protocol:
        return Pair(self).near

    @property
    def weather(self) -> Weather:
        """What the link is like now."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        before, self._weather = self._weather, weather
        if weather.refuse and not before.refuse:
            # The port stays bound, so nobody else gets it; the kernel refuses whoever dials.
            self._listening.stopReading()
            self._socket.shutdown(socket.SHUT_RDWR)
            for pair in list(self.pairs):
                pair.abort()
        if before.refuse and not weather.refuse:
            self._socket.listen(BACKLOG)
            self._listening.startReading()
        for pair in list(self.pairs):
            pair.weather_changed()
        if weather.resets_per_second > 0 and self._resetting is None:
            self._reset_later()

    def close(self) -> Deferred[None]:
        """No more of it; fires when the port is closed."""
        if self._resetting is not None:
            self._resetting.cancel()
        for pair in list(self.pairs):
            pair.abort()
        self._socket.close()
        stopping: Deferred[None] = maybeDeferred(self._listening.stopListening)
        return stopping

    def _reset_later(self) -> None:
        rate = max(self._weather.resets_per_second, 0.01)
        self._resetting = self.reactor.callLater(self.random.expovariate(rate), self._reset)

    def _reset(self) -> None:
        self._resetting = None
        if self._weather.resets_per_second > 0:
            for pair in list(self.pairs):
                if self.random.random() < 0.5:
                    pair.abort()
            self._reset_later()


def bound_for_good() -> socket.socket:
    """A socket on a port that the system chose, and which it keeps while it does not listen.

    A port that was asked for as 0 is given back when listening ends, one that was named is not. So a first socket
    finds it, and a second one names it while the first still holds it.
    """
    with socket.socket() as finder:
        finder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        finder.bind((HOST, 0))
        keeper = socket.socket()
        keeper.setblocking(False)
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(finder.getsockname())
    return keeper


class Pair:
    """A connection through a link: from the dialler to us (near), from us to the server (far)."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.near, self.far = End(self), End(self)
        self.out = Flow(self, self.near, self.far)
        self.back = Flow(self, self.far, self.near)
        self.near.flow, self.far.flow = self.out, self.back
        self._gone = False
        link.pairs.add(self)

    def connected(self, end: End) -> None:
        """One of the two is up; the far one is dialled by the near one."""
        if end is self.far:
            self.out.open()
            self.back.open()
            return
        self._dial()

    def ended(self, end: End) -> None:
        """One side is gone: the other learns it behind all bytes that are still on the way, if those get through."""
        flow = self.out if end is self.near else self.back
        flow.finish()
        if not (self.near.up or self.far.up):
            self._forget()

    def weather_changed(self) -> None:
        """The link is another one now."""
        for flow in (self.out, self.back):
            if flow.way == "pass" and flow.has_lost:
                self.abort()
                return
        for flow in (self.out, self.back):
            if self.link.weather == FAIR:
                flow.hurry()
            flow.pump()

    def abort(self) -> None:
        """Reset both sides."""
        self._forget()
        for end in (self.near, self.far):
            if end.up:
                end.transport.abortConnection()

    def _dial(self) -> None:
        port = self.link.where()
        if port is None:
            self.abort()
            return
        factory = Factory.forProtocol(lambda: self.far)
        factory.noisy = False
        dialled = TCP4ClientEndpoint(self.link.reactor, HOST, port, timeout=10).connect(factory)
        dialled.addCallbacks(lambda _: self.abort() if self._gone else None, lambda _: self.abort())

    def _forget(self) -> None:
        self._gone = True
        self.link.pairs.discard(self)
        self.out.stop()
        self.back.stop()


class End(Protocol):
    """One of the two sockets of a pair."""

    flow: Flow

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.up = False

    def connectionMade(self) -> None:
        self.up = True
        self.transport.setTcpNoDelay(True)
        self._pair.connected(self)

    def dataReceived(self, data: bytes) -> None:
        self.flow.take(data)

    def connectionLost(self, reason: Any) -> None:
        self.up = False
        self._pair.ended(self)


@implementer(IPushProducer)
class Flow:
    """One direction of a pair: bytes wait here until they are due, in order."""

    def __init__(self, pair: Pair, source: End, target: End) -> None:
        self._pair = pair
        self._source = source
        self._target = target
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0
        self._due = 0.0
        self._timer: Any = None
        self._opened = False
        self._blocked = False
        self._finished = False
        self._slowed = False
        self.has_lost = False

    @property
    def way(self) -> Way:
        """What becomes of its bytes now."""
        weather = self._pair.link.weather
        return weather.out if self is self._pair.out else weather.back

    def open(self) -> None:
        """The target is up."""
        self._opened = True
        self._target.transport.registerProducer(self, True)
        self.pump()

    def take(self, data: bytes) -> None:
        """Bytes from the source."""
        if self.way == "swallow" or self.has_lost:
            self.has_lost = True
            return
        clock, weather = self._pair.link.reactor, self._pair.link.weather
        if weather.reset_chance and self._pair.link.random.random() < weather.reset_chance:
            self._pair.abort()
            return
        least, most = weather.delay_seconds
        arrival = clock.seconds() + least + (most - least) * self._pair.link.random.random()
        # Nothing overtakes: this is one stream.
        self._due = max(self._due, arrival)
        if weather.bytes_per_second is not None:
            self._due += len(data) / weather.bytes_per_second
        self._waiting.append((self._due, data))
        self._held_bytes += len(data)
        self.pump()
        if self._held_bytes > HELD_BYTES_MAX and not self._slowed and self._source.up:
            self._slowed = True
            self._source.transport.pauseProducing()

    def finish(self) -> None:
        """The source is gone."""
        self._finished = True
        self.pump()

    def hurry(self) -> None:
        """All that waits is due now."""
        self._due = 0.0
        self._waiting = deque((0.0, data) for _, data in self._waiting)

    def pump(self) -> None:
        """Pass on what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._opened or self._blocked or self.way != "pass":
            return
        now = self._pair.link.reactor.seconds()
        while self._waiting and not self._blocked and self._target.up:
            due, data = self._waiting[0]
            if due > now:
                self._timer = self._pair.link.reactor.callLater(due - now, self._wake)
                return
            self._waiting.popleft()
            self._held_bytes -= len(data)
            self._target.transport.write(data)
        if self._slowed and self._held_bytes < HELD_BYTES_MAX // 2 and self._source.up:
            self._slowed = False
            self._source.transport.resumeProducing()
        if self._finished and not self._waiting and self._target.up:
            self._target.transport.unregisterProducer()
            self._target.transport.loseConnection()

    def stop(self) -> None:
        """Pass on nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._opened = False
        self._waiting.clear()

    # What a transport says whose buffer is full.

    def pauseProducing(self) -> None:
        self._blocked = True

    def resumeProducing(self) -> None:
        self._blocked = False
        self.pump()

    def stopProducing(self) -> None:
        self.stop()

    def _wake(self) -> None:
        self._timer = None
        self.pump()
