"""The serving end: caps, deadlines, idle connections, and the end of all of them."""

import pytest
from pb_testing import MemoryTransport, Wire, echo, encoded, message
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from twisted_kv.transport.listening import HOSPITALITY, DoorFactory, Listening
from twisted_kv.transport.roots import DoorRoot


def factory_with(clock, doors=None, **how):
    return DoorFactory(DoorRoot(doors or {"echo": echo}, {}, clock), clock, HOSPITALITY._replace(**how))


def advance(clock, seconds):
    """In steps, as a reactor would; a sweep comes once a second."""
    for _ in range(round(seconds * 2)):
        clock.advance(0.5)


@pytest.mark.parametrize("said", [b"", encoded(b"pb"), encoded(b"pb")[:2]])
def test_who_does_not_negotiate_within_five_seconds_is_cut(said):
    """Hazards S6."""
    wire = Wire(raw=True, greeted=False)
    wire.feed(said)
    advance(wire.clock, HOSPITALITY.greeting_seconds - 1)
    assert not wire.cut
    advance(wire.clock, 3)
    assert wire.cut and wire.clock.getDelayedCalls() == []


def test_a_script_that_has_negotiated_may_think_for_minutes_and_is_closed_when_idle_for_long():
    """Hazards S6: a plain script may wait for its user."""
    wire = Wire(doors={"echo": echo})
    advance(wire.clock, 600)
    assert wire.call("echo", b"x") == [b"x"]
    advance(wire.clock, HOSPITALITY.idle_seconds - 5)
    assert not wire.server_transport.disconnecting
    advance(wire.clock, 10)
    assert wire.server_transport.disconnecting


def test_a_connection_that_waits_for_an_answer_is_not_idle():
    wire = Wire(doors={"hang": lambda body: Deferred()})
    wire.call("hang", b"")
    advance(wire.clock, HOSPITALITY.idle_seconds + 10)
    assert not wire.server_transport.disconnecting


def test_who_stops_reading_answers_is_cut():
    """Hazards S5: less than the cap, but for ever."""
    wire = Wire(plain={"get": lambda: b"x" * 500_000}, raw=True)
    wire.feed(message(b"get", []) + message(b"get", []))
    assert 0 < wire.server.queued_bytes < HOSPITALITY.limits.unread_bytes_max
    advance(wire.clock, HOSPITALITY.stuck_seconds - 2)
    assert not wire.cut
    advance(wire.clock, 4)
    assert wire.cut


@pytest.mark.parametrize("length", [1, 20, -1])
def test_who_stops_in_the_middle_of_a_request_is_cut(length):
    """S3: half a request is up to a megabyte, and without this it was kept for half an hour."""
    said = message(b"get", [b"k"])
    wire = Wire(plain={"get": lambda key: b"x"}, raw=True)
    wire.feed(said + said[:length])
    advance(wire.clock, HOSPITALITY.stuck_seconds - 2)
    assert not wire.cut
    advance(wire.clock, 4)
    assert wire.cut
    whole = Wire(plain={"get": lambda key: b"x"}, raw=True)
    whole.feed(said)
    advance(whole.clock, HOSPITALITY.stuck_seconds + 4)
    assert not whole.cut


def test_unfinished_transfers_expire_while_the_connection_stays():
    clock = Clock()
    wire = Wire(doors={"read": lambda body: succeed(b"x" * 1_000_000)}, clock=clock)
    ((number, _),) = wire.call("read", b"")
    advance(clock, 60)
    (failure,) = wire.call("wire_fetch", number, 0)
    assert failure.value.definite and not wire.cut


def test_a_newcomer_replaces_who_has_been_silent_longest_and_not_who_is_busy():
    """Hazards S6: idle sockets, however many, cannot lock out peers, whose links are never silent."""
    clock = Clock()
    factory = factory_with(clock, {"echo": echo, "hang": lambda body: Deferred()}, connections_max=3)
    busy, peer, idle = (Wire(clock=clock, factory=factory) for _ in range(3))
    busy.call("hang", b"")
    for _ in range(5):
        clock.advance(1)
        peer.call("echo", b"beat")
    newcomer = Wire(clock=clock, factory=factory)
    assert (busy.cut, peer.cut, idle.cut) == (False, False, True)
    assert newcomer.call("echo", b"x") == [b"x"]
    assert factory.connections == 3


def test_five_thousand_idle_sockets_do_not_stop_a_peer():
    """Hazards S6."""
    clock = Clock()
    factory = factory_with(clock, connections_max=50)
    peer = Wire(clock=clock, factory=factory)
    for number in range(5_000):
        broker = factory.buildProtocol(None)
        broker.makeConnection(MemoryTransport(broker))
        if number % 20 == 0:
            clock.advance(0.01)
            assert peer.call("echo", b"beat") == [b"beat"]
    assert factory.connections == 50 and not peer.cut


def test_connections_that_were_cut_and_are_not_gone_yet_are_replaced_only_once():
    """A real transport tells of its end a turn later; many newcomers may come in one turn."""
    clock = Clock()
    factory = factory_with(clock, connections_max=3)
    aborted = []
    for _ in range(10):
        broker = factory.buildProtocol(None)
        transport = MemoryTransport(broker)
        transport.abortConnection = lambda transport=transport: aborted.append(transport)
        broker.makeConnection(transport)
        clock.advance(0.01)
    assert factory.connections == 3 and len(aborted) == len(set(aborted)) == 7
    for transport in aborted:
        transport.lose()
    assert factory.connections == 3


def test_a_newcomer_is_refused_when_all_are_busy():
    clock = Clock()
    factory = factory_with(clock, {"hang": lambda body: Deferred()}, connections_max=1)
    Wire(clock=clock, factory=factory).call("hang", b"")
    assert factory.buildProtocol(None) is None


def test_stop_closes_every_connection_and_fires_when_the_last_is_gone():
    """Ecosystem fact 10: Twisted's own services leave live connections."""
    clock, stopped = Clock(), []
    factory = factory_with(clock)
    wires = [Wire(clock=clock, factory=factory) for _ in range(3)]
    factory.stop().addCallback(stopped.append)
    factory.stop().addCallback(stopped.append)
    assert all(wire.server_transport.disconnecting for wire in wires)
    assert factory.buildProtocol(None) is None
    for wire in wires:
        assert stopped == []
        wire.server_transport.lose()
    assert stopped == [None, None] and clock.getDelayedCalls() == []


def test_stop_does_not_wait_for_who_never_closes():
    """Contract §1: SIGTERM stops within 10 s."""
    clock, stopped = Clock(), []
    factory = factory_with(clock)
    wire = Wire(clock=clock, factory=factory)
    factory.stop().addCallback(stopped.append)
    clock.advance(HOSPITALITY.farewell_seconds)
    assert wire.cut and stopped == [None] and clock.getDelayedCalls() == []


def test_stop_without_connections_fires_at_once():
    clock, stopped = Clock(), []
    factory_with(clock).stop().addCallback(stopped.append)
    assert stopped == [None]


class Port:
    """A port that closes when told to."""

    def __init__(self):
        self.closed = Deferred()

    def getHost(self):
        return "here"

    def stopListening(self):
        return self.closed


def test_listening_stops_when_the_port_is_free_and_the_connections_are_gone():
    clock, port, stopped = Clock(), Port(), []
    factory = factory_with(clock)
    listening = Listening(port, factory)
    wire = Wire(clock=clock, factory=factory)
    assert listening.getHost() == "here" and listening.connections == 1
    listening.stop().addCallback(stopped.append)
    wire.server_transport.lose()
    assert stopped == []
    port.closed.callback(None)
    assert stopped == [None]
