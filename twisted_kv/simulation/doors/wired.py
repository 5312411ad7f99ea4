"""A hub whose networks are the production transport: PBNetwork on simulated TCP instead of letters.

Everything that can be done to a hub means the same here, as far as it has a meaning for streams (streams.py says how):
conditions, cuts, shapes and limbo are asked for and set where they always were, so a Nemesis sees no difference. It
decides which connections stand still where a message is withheld, and that nothing is left when all is closed; what
crosses is Perspective Broker's. A door may fail here in words that are not ours, as one of another make would.

Endpoints are TCP's: ``tcp:HOST:PORT``, with the name of a simulated host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from twisted_kv.errors import KVError
from twisted_kv.interfaces import Door, INetwork, NotSent
from twisted_kv.simulation.doors.network import RELIABLE, Conditions, Hub
from twisted_kv.simulation.doors.streams import HostReactor, Streams
from twisted_kv.simulation.doors.world import Host, World, chance
from twisted_kv.transport.listening import Listening
from twisted_kv.transport.network import PBNetwork
from twisted_kv.transport.wire import PEER_STEP

STRANGE: Final = "a door of another make has failed"

PEER_PORT: Final = 7000
"""Where members of a group find each other; all others find them at the next ports, one for each move of house."""


class WiredHub(Hub):
    """A Hub of streams.

    Attributes:
        streams: the connections.
    """

    def __init__(self, world: World, conditions: Conditions = RELIABLE) -> None:
        super().__init__(world, conditions)
        self.streams = Streams(world, self)
        self._places: dict[Host, _Place] = {}
        self._served: dict[str, tuple[Host, Listening]] = {}

    def at(self, host: Host) -> INetwork:
        return _Wire(self, host, self._place(host).network)

    def listen(self, endpoint: str, host: Host, doors: Mapping[str, Door]) -> None:
        place = self._place(host)
        found: list[Listening] = []
        strange = {verb: door if verb == PEER_STEP else self._strange(door) for verb, door in doors.items()}
        place.network.listen(f"tcp:{port_of(endpoint)}", strange, {}).addCallback(found.append)
        (listening,) = found
        place.listenings.append(listening)
        self._served[endpoint] = (host, listening)
        self._homes[endpoint] = host.name

    def listens(self, endpoint: str) -> bool:
        return endpoint in self._served

    def unlisten(self, endpoint: str) -> None:
        """A listener is closed as a server closes it; ``closed`` waits for the last connection."""
        host, listening = self._served.pop(endpoint)
        self._place(host).stopping.append(listening.stop())

    def died(self, host: Host, silent: bool = False) -> None:
        self.streams.died(host, silent)
        self._served = {endpoint: served for endpoint, served in self._served.items() if served[0] is not host}
        self._places.pop(host, None)

    def closed(self, host: Host) -> Deferred[None]:
        """Close all that a host has open; fires when it is, and then ``left`` says what was forgotten. Not for the
        dead, who have nothing."""
        place = self._places.get(host)
        if place is None:
            return succeed(None)
        for endpoint in [endpoint for endpoint, served in self._served.items() if served[0] is host]:
            self.unlisten(endpoint)
        closing = gatherResults([*place.stopping, place.network.close()])
        # Calls in flight fail in the turn in which the last connection is gone, some after that is told.
        return closing.addCallback(lambda _: deferLater(host.clock, 0, self._look_back, host, place))

    def heal(self) -> None:
        super().heal()
        self.streams.thaw()

    def release_limbo(
        self, of: Callable[[str], bool] | None = None, twice: bool = False, elected: bool = False
    ) -> None:
        if self.streams.thaw(of) and elected:
            self.world.reach("message out of limbo")

    @property
    def hosts(self) -> Sequence[Host]:
        """Every process that has a network."""
        return list(self._places)

    def _strange(self, door: Door) -> Door:
        """The same door, which at times fails when all is done, in words that are not ours."""

        def perhaps(answer: bytes) -> bytes:
            if chance(self.random, self.conditions.strange):
                self.world.reach("strange error")
                raise StrangeError(STRANGE)
            return answer

        return lambda body: door(body).addCallback(perhaps)

    def _place(self, host: Host) -> _Place:
        place = self._places.get(host)
        if place is None:
            place = self._places[host] = _Place(self.streams.reactor(host))
        return place

    def _look_back(self, host: Host, place: _Place) -> None:
        """What is there of a host that says it has closed everything."""
        for end in self.streams.ends(host):
            if end.connected:
                self.left.append(f"{host.name} has a connection to {end.peer_name}")
        for call in place.reactor.getDelayedCalls():
            self.left.append(f"the transport of {host.name} waits until {call.getTime():.3f} s")
        for listening in place.listenings:
            if listening.transfer_bytes:
                self.left.append(f"{host.name} counts {listening.transfer_bytes} bytes of transfers that have ended")


class StrangeError(KVError):
    """How a program of another make fails: what it says of the outcome is not in our words (transport/faults)."""

    definite = False

    def described(self) -> str:
        return self.text


def port_of(endpoint: str) -> int:
    """The port of ``tcp:HOST:PORT``."""
    return int(endpoint.rpartition(":")[2])


class _Place:
    """What one process has of the transport."""

    def __init__(self, reactor: HostReactor) -> None:
        self.reactor = reactor
        self.network = PBNetwork(reactor)
        self.listenings: list[Listening] = []
        self.stopping: list[Deferred[None]] = []


class _Wire:
    """INetwork for one host: its PBNetwork, counted, noted, and withheld at times."""

    def __init__(self, hub: WiredHub, host: Host, network: PBNetwork) -> None:
        self._hub = hub
        self._host = host
        self._network = network
        self.close = network.close

    def send(self, endpoint: str, verb: str, body: bytes) -> None:
        self._count(verb, body)
        if self._hub.withheld(self._host.name, body):
            self._hub.streams.freeze(self._host.name, self._hub.home(endpoint))
        if not self._host.clock.stopped:
            self._network.send(endpoint, verb, body)

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        self._count(verb, body)
        return self._network.call(endpoint, verb, body, timeout).addErrback(self._look_at, verb)

    def _look_at(self, failure: Failure, verb: str) -> Failure:
        """An error that the other side did not name as one of ours may mean anything (hazard 40)."""
        if failure.check(NotSent) is not None and STRANGE in str(failure.value):
            self._hub.misread.append(f"{self._host.name} takes a {verb} for not sent: {failure.value}")
        return failure

    def _count(self, verb: str, body: bytes) -> None:
        assert isinstance(body, bytes), f"{verb} carries {type(body).__name__}, not bytes"
        self._hub.tally.attempts[verb] += 1
        self._hub.tally.bytes += len(body)
