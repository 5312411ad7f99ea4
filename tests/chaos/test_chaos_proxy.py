"""The proxies let through what TCP allows, and nothing else: late, or broken, never changed (issue: real processes)."""

from random import Random

import pytest
import pytest_twisted
from chaos_proxy import BLACK_HOLE, CUT, FAIR, FROZEN, HELD_BYTES_MAX, Mesh, Weather
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

ENDS = ("one", "other")
WAIT_SECONDS = 20.0


class Mouth(Protocol):
    """Remembers what it heard."""

    def __init__(self):
        self.heard = b""
        self.closed = False
        self._wanted = []

    def dataReceived(self, data):
        self.heard += data
        self._look()

    def connectionLost(self, reason):
        self.closed = True
        self._look()

    def until(self, holds):
        """Fires when this holds of what was heard."""
        from twisted.internet import reactor

        done = Deferred()
        self._wanted.append((holds, done))
        self._look()
        return done.addTimeout(WAIT_SECONDS, reactor)

    def _look(self):
        wanted, self._wanted = self._wanted, []
        for holds, done in wanted:
            if holds():
                done.callback(None)
            else:
                self._wanted.append((holds, done))


class Stage:
    """A server behind a link."""

    def __init__(self, reactor):
        self.reactor = reactor
        self.servers = []
        self.mesh = Mesh(reactor, Random(7), lambda name: self.port.getHost().port)
        self.endpoint = self.mesh.endpoint(*ENDS)
        self.link = self.mesh.links[ENDS]
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = self._serve
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    def _serve(self, address):
        server = Mouth()
        self.servers.append(server)
        return server

    async def dial(self):
        factory = Factory.forProtocol(Mouth)
        factory.noisy = False
        return await clientFromString(self.reactor, self.endpoint).connect(factory)

    async def talk(self):
        """A client and its server, who have spoken."""
        client = await self.dial()
        client.transport.write(b"hello")
        while not self.servers or not self.servers[-1].heard:
            await self.turn()
        server = self.servers[-1]
        server.heard = b""
        return client, server

    def turn(self):
        return deferLater(self.reactor, 0.002)


@pytest.fixture
def stage():
    from twisted.internet import reactor

    stage = Stage(reactor)
    yield stage
    pytest_twisted.blockon(stage.mesh.close())
    pytest_twisted.blockon(stage.port.stopListening())


BAD_WEATHER = {
    "fair": FAIR,
    "slow": Weather(delay_seconds=(0.0, 0.01)),
    "narrow": Weather(bytes_per_second=3e6),
    "both": Weather(delay_seconds=(0.001, 0.005), bytes_per_second=5e6),
}


@pytest.mark.parametrize("weather", BAD_WEATHER.values(), ids=BAD_WEATHER)
@pytest_twisted.ensureDeferred
async def test_a_stream_arrives_as_it_was_sent(stage, weather):
    """Megabytes both ways, whatever delays the pieces; more than a link holds, so the sender is made to wait."""
    client, server = await stage.talk()
    stage.link.weather = weather
    random = Random(11)
    there, back = random.randbytes(2 * HELD_BYTES_MAX), random.randbytes(HELD_BYTES_MAX)
    client.transport.write(there)
    server.transport.write(back)
    await server.until(lambda: len(server.heard) >= len(there))
    await client.until(lambda: len(client.heard) >= len(back))
    assert (server.heard, client.heard) == (there, back)


@pytest_twisted.ensureDeferred
async def test_what_was_on_the_way_arrives_before_the_end(stage):
    """A side that closes is heard to the last byte, then it is gone."""
    client, server = await stage.talk()
    stage.link.weather = Weather(delay_seconds=(0.01, 0.02))
    client.transport.write(b"goodbye")
    client.transport.loseConnection()
    await server.until(lambda: server.closed)
    assert server.heard == b"goodbye"


@pytest_twisted.ensureDeferred
async def test_a_cut_link_refuses_and_its_port_stays_its_own(stage):
    """Connections break, new ones are refused by the kernel, and later the same port serves again."""
    client, server = await stage.talk()
    stage.link.weather = CUT
    await client.until(lambda: client.closed)
    await server.until(lambda: server.closed)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await stage.dial()
    stage.link.weather = FAIR
    await stage.talk()


@pytest_twisted.ensureDeferred
async def test_a_frozen_link_delivers_all_when_it_thaws(stage):
    """Bytes and the news of the end wait; a new connection waits too."""
    client, server = await stage.talk()
    stage.link.weather = FROZEN
    client.transport.write(b"one ")
    client.transport.write(b"two")
    other = await stage.dial()
    other.transport.write(b"three")
    client.transport.loseConnection()
    for _ in range(20):
        await stage.turn()
    assert (server.heard, server.closed) == (b"", False)
    stage.link.weather = FAIR
    await server.until(lambda: server.closed)
    assert server.heard == b"one two"
    [newcomer] = stage.servers[1:]
    await newcomer.until(lambda: newcomer.heard == b"three")


@pytest.mark.parametrize("weather", [BLACK_HOLE, Weather(out="swallow")], ids=["both", "one-way"])
@pytest_twisted.ensureDeferred
async def test_a_direction_that_lost_bytes_never_carries_another(stage, weather):
    """Nothing arrives and nobody is told, until the link heals; then the connection breaks, and a new one is sound."""
    client, server = await stage.talk()
    stage.link.weather = weather
    client.transport.write(b"lost")
    server.transport.write(b"back")
    if weather.back == "pass":
        await client.until(lambda: client.heard == b"back")
    for _ in range(20):
        await stage.turn()
    assert (server.heard, server.closed, client.closed) == (b"", False, False)
    client.transport.write(b"later")
    stage.link.weather = FAIR
    await client.until(lambda: client.closed)
    await server.until(lambda: server.closed)
    assert server.heard == b""
    await stage.talk()


@pytest_twisted.ensureDeferred
async def test_a_connection_that_lost_nothing_survives_a_black_hole(stage):
    """Only lost bytes break it."""
    client, server = await stage.talk()
    stage.link.weather = BLACK_HOLE
    stage.link.weather = FAIR
    client.transport.write(b"still here")
    await server.until(lambda: server.heard == b"still here")


@pytest_twisted.ensureDeferred
async def test_a_link_that_resets_breaks_connections(stage):
    client, server = await stage.talk()
    stage.link.weather = Weather(resets_per_second=200.0)
    await client.until(lambda: client.closed)
    await server.until(lambda: server.closed)
    stage.link.weather = FAIR
    await stage.talk()


@pytest_twisted.ensureDeferred
async def test_nobody_behind_the_link(stage):
    """A server that is down: whoever dials is connected and broken off."""
    stage.mesh.links[ENDS].where = lambda: None
    client = await stage.dial()
    await client.until(lambda: client.closed)
