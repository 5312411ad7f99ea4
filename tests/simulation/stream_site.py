"""Two hosts and a TCP connection between them, for tests of the simulated one."""

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol

from twisted_kv.simulation.doors.network import Conditions, Hub
from twisted_kv.simulation.doors.streams import Streams
from twisted_kv.simulation.doors.world import World

LARGE = bytes(range(256)) * 4_000


class Speaker(Protocol):
    """Keeps what it hears, and how it ended."""

    def __init__(self):
        self.heard = []
        self.reason = None
        self.paused = []
        self.stopped = False

    @property
    def text(self):
        return b"".join(self.heard)

    def dataReceived(self, data):
        self.heard.append(data)

    def connectionLost(self, reason):
        self.reason = reason.type

    def pauseProducing(self):
        self.paused.append(True)

    def resumeProducing(self):
        self.paused.append(False)

    def stopProducing(self):
        self.stopped = True


class Site:
    """A client "c" and a server "s" that listens at port 7."""

    def __init__(self, conditions=None, seed=1):
        self.world = World(seed)
        self.hub = Hub(self.world, conditions or Conditions())
        self.streams = Streams(self.world, self.hub)
        self.client = self.world.host("c")
        self.reactor = self.streams.reactor(self.client)
        self.served = []
        self.boot()

    def boot(self):
        self.server = self.world.host("s")
        self.listen()

    def listen(self):
        listening = []
        endpoint = serverFromString(self.streams.reactor(self.server), "tcp:7")
        endpoint.listen(Factory.forProtocol(self.accept)).addCallback(listening.append)
        (self.port,) = listening

    def accept(self):
        self.served.append(Speaker())
        return self.served[-1]

    def dial(self):
        """What becomes of an attempt: a list that is empty until it is known."""
        told = []
        attempt = clientFromString(self.reactor, "tcp:s:7").connect(Factory.forProtocol(Speaker))
        attempt.addBoth(told.append)
        return told

    def connected(self):
        told = self.dial()
        assert self.until(lambda: told and self.served)
        return told[0], self.served[-1]

    def until(self, predicate, seconds=60.0):
        return self.world.run_until(lambda: bool(predicate()), seconds)

    def die(self, silent=False):
        self.streams.died(self.server, silent)
        self.server.clock.stop()
