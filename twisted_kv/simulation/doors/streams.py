"""TCP as the simulated world has it: what a reactor offers of it, and bytes that take their time and stay in order.

Each host has a reactor of its own (``HostReactor``): time from the host's clock, listening, connecting. A connection
is two ends and a way in each direction. It decides, from the world's dice and the conditions of each link, when bytes
arrive and in what pieces, and when a connection breaks; a protocol sees what it would see of Twisted's own sockets:

- What is written leaves in the next turn of the host, cut anywhere, as far as the other side's buffers have room; a
  producer that writes more is told to pause.
- What is lost is sent again: on a stream loss is a delay for all that follows, and now and then the end of the
  connection. A message held back in limbo is a way that stands still until it is thawed.
- What crosses a link that is cut is tried again, less and less often; if it heals in time all arrives, else the side
  that tries gives up, and the other one knows nothing of it until it sends.
- A process that ends leaves its sockets to the operating system, which closes them; when the power fails nobody does,
  and the host is silent until it boots.

What programs do happens in turns of their host and can be held; what operating systems do happens always. Nothing
here knows Perspective Broker. TLS and half-closed connections are not there. The ends themselves are in sockets.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectionRefusedError, TimeoutError, UserError
from twisted.internet.interfaces import IConnector, IDelayedCall, IListeningPort, IReactorTCP, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_kv.simulation.doors.network import Conditions
from twisted_kv.simulation.doors.sockets import End, Way, again_seconds
from twisted_kv.simulation.doors.world import Host, World, between


class ILinks(Protocol):
    """What streams ask about links between hosts (simulation/network.Hub)."""

    def link(self, source: str, target: str) -> Conditions: ...
    def severed(self, source: str, target: str) -> bool: ...


class Streams:
    """All connections of a world.

    Args:
        links: the conditions of each link, at any moment.
    """

    def __init__(self, world: World, links: ILinks) -> None:
        self.world = world
        self.links = links
        self.random: Random = world.random_for("streams")
        self.ports: dict[tuple[str, int], Port] = {}
        self._ends: dict[End, None] = {}
        self._frozen: dict[Way, None] = {}
        self._dark: set[str] = set()
        self._last_port = 50_000

    def reactor(self, host: Host) -> HostReactor:
        """The reactor of a process that boots on a host."""
        self._dark.discard(host.name)
        return HostReactor(self, host)

    def ends(self, host: Host) -> Sequence[End]:
        """The sockets that a process has."""
        return [end for end in self._ends if end.host is host]

    def died(self, host: Host, silent: bool = False) -> None:
        """A process is gone: nothing of it runs any more, and its sockets are closed.

        Args:
            silent: its power is gone, so nobody closes them, and nobody answers what comes for them.
        """
        if silent:
            self._dark.add(host.name)
        for address, port in list(self.ports.items()):
            if port.host is host:
                del self.ports[address]
        for end in self.ends(host):
            end.orphaned(silent)

    def freeze(self, source: str, target: str) -> None:
        """All that is under way from source to target now, on connections that there are, stands still until thawed."""
        for end in self._ends:
            if end.host.name == source and end.peer_name == target:
                self.still(end.way)

    def thaw(self, of: Callable[[str], bool] | None = None) -> int:
        """What stands still goes on.

        Args:
            of: only what these hosts sent; None: all.
        Returns:
            on how many ways there was something.
        """
        thawed = [way for way in self._frozen if of is None or of(way.source_name)]
        for way in thawed:
            del self._frozen[way]
        return sum(way.thaw() for way in thawed)

    # What follows is for reactors, ends and ways.

    def dark(self, name: str) -> bool:
        """Whether the host has no power."""
        return name in self._dark

    def free_port(self) -> int:
        self._last_port += 1
        return self._last_port

    def opened(self, end: End) -> None:
        self._ends[end] = None

    def closed(self, end: End) -> None:
        self._ends.pop(end, None)

    def still(self, way: Way) -> None:
        """Nothing more comes out of this way until it is thawed."""
        way.frozen = True
        self._frozen[way] = None

    def hop(self, source: str, target: str, asking: bool) -> float:
        """How long something takes from source to target now; ``asking``: from the side that dialled."""
        link = self.links.link(source, target)
        return between(self.random, *(link.request_seconds if asking else link.reply_seconds))


@implementer(IReactorTime, IReactorTCP)
class HostReactor:
    """What the programs of one host see of the world."""

    def __init__(self, streams: Streams, host: Host) -> None:
        self._streams = streams
        self._host = host
        self.seconds = host.clock.seconds
        self._calls: list[IDelayedCall] = []
        self._calls_max = 100

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> IDelayedCall:
        if len(self._calls) > self._calls_max:
            self._calls_max = 100 + 2 * len(self.getDelayedCalls())
        call = self._host.clock.callLater(delay, callable, *args, **kwargs)
        self._calls.append(call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """Those that were asked for here; the host's clock has others."""
        self._calls = [call for call in self._calls if call.active()]
        return list(self._calls)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Port:
        return Port(self._streams, self._host, port, factory)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30.0, bindAddress: object = None
    ) -> Connector:
        connector = Connector(self._streams, self._host, host, port, factory, timeout)
        connector.connect()
        return connector


@implementer(IListeningPort)
class Port:
    """Where a process listens."""

    def __init__(self, streams: Streams, host: Host, port: int, factory: Any) -> None:
        self.host = host
        self.factory = factory
        self._streams = streams
        self._address = (host.name, port)
        self.startListening()

    def startListening(self) -> None:
        if self._address in self._streams.ports:
            raise CannotListenError("", self._address[1], OSError("in use"))
        self.factory.doStart()
        self._streams.ports[self._address] = self

    def stopListening(self) -> Deferred[None]:
        if self._streams.ports.get(self._address) is self:
            del self._streams.ports[self._address]
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", *self._address)

    def accept(self, end: End) -> None:
        """The operating system has taken a connection; the process looks at it in its next turn."""
        end.in_a_turn(self._build, end)

    def _build(self, end: End) -> None:
        if self._streams.ports.get(self._address) is self:
            protocol = self.factory.buildProtocol(end.getPeer())
            if protocol is not None:
                end.begin(protocol)
                return
        end.refuse()


@implementer(IConnector)
class Connector:
    """One attempt to connect."""

    def __init__(self, streams: Streams, host: Host, name: str, port: int, factory: Any, timeout: float) -> None:
        self._streams = streams
        self._host = host
        self._address = (name, port)
        self._factory = factory
        self._timeout = timeout
        self._timer: IDelayedCall | None = None
        self._end: End | None = None
        self.connecting = False

    def connect(self) -> None:
        self.connecting = True
        self._factory.doStart()
        self._factory.startedConnecting(self)
        self._timer = self._host.clock.callLater(self._timeout, self._failed, TimeoutError())
        self._host.clock.callLater(0, self._dial)

    def stopConnecting(self) -> None:
        self._failed(UserError())

    def disconnect(self) -> None:
        if self.connecting:
            self.stopConnecting()
        elif self._end is not None:
            self._end.loseConnection()

    def getDestination(self) -> IPv4Address:
        return IPv4Address("TCP", *self._address)

    def established(self, end: End) -> None:
        """The other side has answered; a turn of the host."""
        if not self.connecting:
            end.refuse()
            return
        self._settle()
        self._end = end
        protocol = self._factory.buildProtocol(end.getPeer())
        if protocol is None:
            end.refuse()
        else:
            end.begin(protocol)

    def lost(self, reason: Failure) -> None:
        """The connection that was made is gone."""
        self._factory.clientConnectionLost(self, reason)
        self._factory.doStop()

    def _dial(self) -> None:
        self._send_later(self._arrive, 0, self._host.name, self._address[0])

    def _arrive(self, tries: int) -> None:
        """The other host is asked; an attempt that was given up meanwhile is not known there."""
        streams, (name, number) = self._streams, self._address
        if not self.connecting or self._host.clock.stopped:
            return
        if streams.links.severed(self._host.name, name) or streams.dark(name):
            self._again(tries)
        elif (port := streams.ports.get(self._address)) is None:
            self._send_later(self._refused, tries, name, self._host.name)
        else:
            here = End(streams, self._host, streams.free_port(), port.host, number, True, self)
            there = End(streams, port.host, number, self._host, here.number, False)
            here.other, there.other = there, here
            streams.world.trace.note(self._host.name, "connects", to=f"{name}:{number}", port=here.number)
            # The answer goes before all that this side will say.
            there.way.put(here.in_a_turn, self.established, here)
            port.accept(there)

    def _refused(self, tries: int) -> None:
        if self._streams.links.severed(self._address[0], self._host.name):
            self._again(tries)
        else:
            self._host.clock.callLater(0, self._failed, ConnectionRefusedError())

    def _again(self, tries: int) -> None:
        wait = again_seconds(self._streams.random, tries)
        self._streams.world.clock.callLater(wait, self._arrive, tries + 1)

    def _send_later(self, work: Callable[[int], None], tries: int, source: str, target: str) -> None:
        delay = self._streams.hop(source, target, source == self._host.name)
        self._streams.world.clock.callLater(delay, work, tries)

    def _failed(self, error: Exception) -> None:
        if self.connecting:
            self._settle()
            self._factory.clientConnectionFailed(self, Failure(error))
            self._factory.doStop()

    def _settle(self) -> None:
        self.connecting = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
