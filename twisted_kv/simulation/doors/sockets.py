"""The two ends of a simulated connection and the ways between them: what is written, under way, arrived and read.

It decides which bytes leave together and which of the faults of a link befall them; who may connect to whom, and when
a process is gone, is for streams.py to say, where all of it is told in words.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, TCPTimedOutError
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_kv.simulation.doors.world import Host, between, chance

if TYPE_CHECKING:
    from twisted_kv.simulation.doors.streams import Connector, Streams

BUFFER_BYTES: Final = 1 << 16
"""With more than this unwritten a producer is told to pause, as Twisted does."""
READ_BYTES: Final = 1 << 16
WINDOW_BYTES: Final = 1 << 17
"""So much may be under way in one direction, or lie unread at the other side."""

AGAIN_SECONDS: Final = (0.2, 0.4)
"""What was lost is sent again after this time, and after twice as long each time it is lost again."""
AGAIN_SECONDS_MAX: Final = 2.0
GIVE_UP_SECONDS: Final = (3.0, 20.0)
"""Whoever sends and gets nothing through breaks the connection after this time."""
CUT_WHOLE: Final = 0.7
"""Of all writes, so many leave in one piece."""

# A stream carries many messages; what befalls one of them befalls all that follow. So few of those faults that a
# message would meet are therefore met by a write: it waits, it stands still, or its connection breaks.
DELAYED_SHARE: Final = 0.1
FROZEN_SHARE: Final = 0.05
BROKEN_SHARE: Final = 0.05


class Way:
    """One direction of a connection: what was put in comes out in the same order, some time later.

    Attributes:
        frozen: nothing comes out until ``thaw``.
    """

    def __init__(self, streams: Streams, source: End) -> None:
        self._streams = streams
        self._source = source
        self.source_name = source.host.name
        self._line: deque[tuple[float, bool, Callable[[], None]]] = deque()
        self._last_due = 0.0
        self._timer: IDelayedCall | None = None
        self._tries = 0
        self._hopeless_at = 0.0
        self.frozen = False

    def put(self, work: Callable[..., None], *arguments: object, delay: float = 0.0, sure: bool = True) -> None:
        """What shall happen at the other side.

        Args:
            delay: seconds besides the usual time on the way.
            sure: sent until it arrives; otherwise it is lost where the link is cut.
        """
        source, target = self.source_name, self._source.peer_name
        now = self._streams.world.clock.seconds()
        due = now + delay + self._streams.hop(source, target, self._source.dialled)
        self._last_due = max(self._last_due, due)
        self._line.append((self._last_due, sure, partial(work, *arguments)))
        self._arrange()

    def thaw(self) -> bool:
        """What stood still goes on; whether there is anything."""
        self.frozen = False
        self._arrange()
        return bool(self._line)

    def clear(self) -> None:
        """Whoever sends has forgotten all of it."""
        self._line.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _arrange(self, wait: float = 0.0) -> None:
        if self._timer is None and self._line and not self.frozen:
            clock = self._streams.world.clock
            delay = max(self._line[0][0] - clock.seconds(), wait)
            self._timer = clock.callLater(delay, self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        if self.frozen:
            return
        clock, random = self._streams.world.clock, self._streams.random
        now = clock.seconds()
        target = self._source.peer_name
        if self._streams.links.severed(self.source_name, target) or self._streams.dark(target):
            while self._line and not self._line[0][1]:
                self._line.popleft()
            if self._tries == 0:
                self._hopeless_at = now + between(random, *GIVE_UP_SECONDS)
            if now > self._hopeless_at:
                self._source.broken(TCPTimedOutError(), "gives up")
                return
            self._tries += 1
            self._arrange(again_seconds(random, self._tries))
            return
        self._tries = 0
        while self._line and self._line[0][0] <= now:
            self._line.popleft()[2]()
        self._arrange()


@implementer(ITransport, IConsumer, IPushProducer)
class End:
    """One end of a connection; what a protocol calls its transport.

    Two lives: the socket (``open``), which belongs to the operating system, and what the program has of it
    (``connected``), from ``begin`` until its protocol is told that the connection is lost.

    Attributes:
        number: of its port.
        dialled: whether this side made the connection.
    """

    other: End
    disconnecting = False

    def __init__(
        self,
        streams: Streams,
        host: Host,
        number: int,
        peer: Host,
        peer_number: int,
        dialled: bool,
        connector: Connector | None = None,
    ) -> None:
        self.host = host
        self.number = number
        self.dialled = dialled
        self.peer_name = peer.name
        self.way = Way(streams, self)
        self.open = True
        self.connected = False
        self._streams = streams
        self._peer_number = peer_number
        self._connector = connector
        self._protocol: Any = None
        self._producer: Any = None
        self._full = False
        self._reading = True
        self._aborted = False
        # Written and not yet given to the operating system; how much that one would take.
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._room = WINDOW_BYTES
        self._flush_due = False
        # Arrived and not yet read; whether the other side has said that nothing follows.
        self._in: list[bytes] = []
        self._in_bytes = 0
        self._read_bytes = 0
        self._read_due = False
        self._ended = False
        streams.opened(self)

    # ── for the protocol, in turns of its host ─────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        if not (self.connected and self.open) or not data:
            return
        self._out.append(data)
        self._out_bytes += len(data)
        if self._producer is not None and not self._full and self._out_bytes > BUFFER_BYTES:
            self._full = True
            self._producer.pauseProducing()
        self._flush_soon()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        for data in iovec:
            self.write(data)

    def loseConnection(self) -> None:
        """Close when all is written; nothing more is read."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._flush_soon()

    def abortConnection(self) -> None:
        if self.connected and not self._aborted:
            self._aborted = True
            self._close(reset=True)
            self.in_a_turn(self._lose, ConnectionAborted())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming and self._producer is None
        if self.connected:
            self._producer = producer
        else:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._flush_soon()

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        if self.connected and not self.disconnecting:
            self._reading = True
            self._read_soon()

    def stopProducing(self) -> None:
        self.loseConnection()

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self.host.name, self.number)

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", self.peer_name, self._peer_number)

    # ── for ports and connectors, in turns of the host ─────────────────────────────────────────────

    def begin(self, protocol: Any) -> None:
        """The program takes the connection."""
        self.connected = True
        self._protocol = protocol
        protocol.makeConnection(self)
        if self.open:
            self._read_soon()
        else:
            self.in_a_turn(self._lose, ConnectionLost())

    def refuse(self) -> None:
        """The program does not take the connection."""
        if self.open:
            self._close(reset=bool(self._in))

    def in_a_turn(self, work: Callable[..., None], *arguments: object) -> None:
        """What the program shall do next."""
        self.host.clock.callLater(0, work, *arguments)

    # ── for the operating system ───────────────────────────────────────────────────────────────────

    def orphaned(self, silent: bool) -> None:
        """The process is gone."""
        self.connected = False
        self._protocol = self._producer = None
        if silent:
            self.way.clear()
            self.open = False
            self._streams.closed(self)
        elif self.open:
            self._close(reset=bool(self._in))

    def broken(self, error: Exception, why: str) -> None:
        """The connection is gone as far as this side knows."""
        if not self.open:
            self.way.clear()
            return
        self._shut(why)
        self.way.clear()
        self.in_a_turn(self._lose, error)

    def data_came(self, data: bytes) -> None:
        if not self.open:
            self.way.put(self.other.reset_came, sure=False)
            return
        self._in.append(data)
        self._in_bytes += len(data)
        self._read_soon()

    def room_came(self, size: int) -> None:
        """The other side has read so much."""
        self._room += size
        if self._out_bytes:
            self._flush_soon()

    def end_came(self) -> None:
        """The other side has closed; all it wrote is here."""
        if self.open:
            self._ended = True
            self._read_soon()

    def reset_came(self) -> None:
        """The other side knows nothing of this connection (any more)."""
        self.broken(ConnectionLost(), "is reset")

    # ── in ─────────────────────────────────────────────────────────────────────────────────────────

    def _read_soon(self) -> None:
        if self.connected and self._reading and not self._read_due and (self._in or self._ended):
            self._read_due = True
            self.in_a_turn(self._read)

    def _read(self) -> None:
        self._read_due = False
        if not (self.connected and self.open and self._reading) or self.disconnecting:
            return
        if self._in:
            data = b"".join(self._in)
            rest = data[READ_BYTES:]
            data = data[:READ_BYTES]
            self._in, self._in_bytes = [rest] if rest else [], len(rest)
            self._read_bytes += len(data)
            if self._read_bytes >= WINDOW_BYTES // 4:
                self.way.put(self.other.room_came, self._read_bytes)
                self._read_bytes = 0
            trace = self._streams.world.trace
            trace.note(self.host.name, "reads", port=self.number, size=len(data), crc=zlib.crc32(data))
            self._protocol.dataReceived(data)
            self._read_soon()
        elif self._ended:
            self._shut("is closed")
            self._lose(ConnectionDone())

    # ── out ────────────────────────────────────────────────────────────────────────────────────────

    def _flush_soon(self) -> None:
        if self.connected and self.open and not self._flush_due:
            self._flush_due = True
            self.in_a_turn(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if not (self.connected and self.open):
            return
        if self._out and self._room:
            data = b"".join(self._out)
            rest = data[self._room :]
            data = data[: self._room]
            self._out, self._out_bytes = [rest] if rest else [], len(rest)
            self._room -= len(data)
            self._send(data)
        if self._out or not self.open:
            return
        if self._producer is not None and self._full:
            self._full = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            # What came and was not read is lost, and the other side told so: a reset may overtake what it has not
            # read. So it is with sockets.
            self._close(reset=bool(self._in))
            self._lose(ConnectionDone())

    def _send(self, data: bytes) -> None:
        random = self._streams.random
        link = self._streams.links.link(self.host.name, self.peer_name)
        loss = link.request_loss if self.dialled else link.reply_loss
        delay = 0.0
        if chance(random, loss * DELAYED_SHARE):
            delay += between(random, *AGAIN_SECONDS)
        if chance(random, link.late * DELAYED_SHARE):
            delay += between(random, *link.late_seconds)
        if chance(random, (loss + link.duplicate) * BROKEN_SHARE):
            self.way.put(self.other.reset_came)
            self._streams.world.clock.callLater(between(random, *link.dead_seconds), self.reset_came)
            return
        while data:
            size = len(data) if chance(random, CUT_WHOLE) else 1 + int(random.random() * len(data))
            self.way.put(self.other.data_came, data[:size], delay=delay)
            data = data[size:]
        if chance(random, link.limbo * FROZEN_SHARE):
            self._streams.still(self.way)

    # ── the end ────────────────────────────────────────────────────────────────────────────────────

    def _close(self, reset: bool) -> None:
        """The operating system closes the socket and tells the other side."""
        self._shut("resets" if reset else "closes")
        if reset:
            self.way.put(self.other.reset_came, sure=False)
        else:
            self.way.put(self.other.end_came)

    def _shut(self, why: str) -> None:
        self.open = False
        self._streams.closed(self)
        self._in.clear()
        self._out.clear()
        self._in_bytes = self._out_bytes = 0
        self._streams.world.trace.note(
            self.host.name, why, port=self.number, peer=f"{self.peer_name}:{self._peer_number}"
        )

    def _lose(self, error: Exception) -> None:
        """The protocol is told; a turn of the host."""
        if not self.connected:
            return
        self.connected = False
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        protocol, self._protocol = self._protocol, None
        reason = Failure(error)
        protocol.connectionLost(reason)
        if self._connector is not None:
            self._connector.lost(reason)


def again_seconds(random: Random, tries: int) -> float:
    """How long until what was lost is sent again, for the how-manieth time."""
    return min(between(random, *AGAIN_SECONDS) * 2.0 ** min(tries, 8), AGAIN_SECONDS_MAX)
