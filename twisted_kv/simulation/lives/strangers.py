"""Strangers at the ports of a cluster: programs of another make, which keep to no rule of ours. On the wire only.

A stranger dials a server now and then and asks something that must not be carried out:

- a call in parts that do not come one after the other, each once (docs/protocol: in order, whole or not at all);
- a call of many arguments, each within the bytes that one expression may have, and all of them beyond it.

Whoever is answered as if that were a proper call has found something. It decides what strangers say and what they may
be told; what their connections suffer is the wire's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.spread.banana import encode

from twisted_kv.constants import KIB, WIRE_PART_BYTES
from twisted_kv.simulation.doors.streams import HostReactor
from twisted_kv.simulation.doors.world import between, one_of, shuffled
from twisted_kv.transport.banana import Decoder
from twisted_kv.transport.broker import ANSWER, REQUEST
from twisted_kv.transport.chunks import PART, WHOLE
from twisted_kv.transport.wire import WHO

PAUSE_SECONDS: Final = (0.1, 1.0)
VISIT_SECONDS: Final = 5.0
"""After this time a stranger goes, whether or not it was answered."""
PARTS: Final = (3, 4, 6)
PIECE_BYTES: Final = 40
ARGUMENT_BYTES: Final = (60 * KIB, 250 * KIB, 600 * KIB)


class Stranger:
    """Visits one server after the other.

    Args:
        servers: endpoints, as they are at the moment.

    Attributes:
        wrong: what was answered and should not have been.
        refusals: how many calls were refused in so many words; of others the connection ended first.
    """

    def __init__(self, reactor: HostReactor, random: Random, servers: Callable[[], Sequence[str]]) -> None:
        self._reactor = reactor
        self._random = random
        self._servers = servers
        self.refusals = 0
        self._next: IDelayedCall | None = None
        self._here: list[Protocol] = []
        self.wrong: list[str] = []

    def start(self) -> None:
        """From now on."""
        self._next = self._reactor.callLater(between(self._random, *PAUSE_SECONDS), self._visit)

    def stop(self) -> None:
        """No more visits."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        for protocol in list(self._here):
            self._leave(protocol)

    def _visit(self) -> None:
        where = one_of(self._random, self._servers())
        make = one_of(self._random, (self._caller, self._talker))
        dialled = clientFromString(self._reactor, where).connect(make(where))
        dialled.addCallbacks(self._arrived, lambda failure: None)
        self.start()

    def _arrived(self, protocol: Any) -> None:
        self._here.append(protocol)
        self._reactor.callLater(VISIT_SECONDS, self._leave, protocol)

    def _leave(self, protocol: Protocol) -> None:
        if protocol in self._here:
            self._here.remove(protocol)
            if protocol.transport is not None:
                cast("Any", protocol.transport).abortConnection()

    # ── parts in any order ─────────────────────────────────────────────────────────────────────────

    def _caller(self, where: str) -> Any:
        """The stock client of Perspective Broker, which knows our names."""
        factory = pb.PBClientFactory()
        factory.noisy = False
        factory.getRootObject().addCallbacks(self._say_parts, lambda failure: None, callbackArgs=(where,))
        return factory

    def _say_parts(self, root: Any, where: str) -> None:
        count = one_of(self._random, PARTS)
        order = list(disordered(self._random, count))
        for index in order:
            self._unheard(root.callRemote(PART, 1, index, count, bytes(min(PIECE_BYTES, WIRE_PART_BYTES))))
        whole: Deferred[Any] = root.callRemote(WHOLE, WHO, 1)
        whole.addCallbacks(self._was_answered, self._turned_away, callbackArgs=(f"{where}: parts {order} of {count}",))

    def _unheard(self, answer: Deferred[Any]) -> None:
        answer.addErrback(lambda failure: None)

    def _turned_away(self, failure: Failure) -> None:
        if isinstance(failure, pb.CopiedFailure):
            self.refusals += 1

    def _was_answered(self, _: object, what: str) -> None:
        self.wrong.append(f"{what} were carried out")

    # ── beyond the budget of one expression ────────────────────────────────────────────────────────

    def _talker(self, where: str) -> Any:
        size = one_of(self._random, ARGUMENT_BYTES)

        def heard(how: object) -> None:
            self.wrong.append(f"{where}: arguments of {size} bytes each, together too many, were answered: {how!r}")

        return Factory.forProtocol(lambda: _Talker(size, heard))


class _Talker(Protocol):
    """Greets as Perspective Broker does, then says one call of far too much; whatever answers it is told."""

    def __init__(self, size: int, heard: Callable[[object], None]) -> None:
        self._size = size
        self._tell = heard
        self._decoder = Decoder(ANSWER, self._received)
        self._greeted = False

    def dataReceived(self, data: bytes) -> None:
        self._decoder.feed(data)

    def _received(self, expression: Any) -> None:
        """What the server can do, then its version; an answer should not come."""
        if not self._greeted:
            self._greeted = True
            count = 2 + REQUEST.bytes_max // self._size
            arguments = [b"tuple", *[bytes(self._size)] * count]
            call = [b"message", 1, b"root", WHO.encode(), 1, arguments, [b"dictionary"]]
            for said in (b"pb", [b"version", pb.Broker.version], call):
                cast("Any", self.transport).write(encode(said))
        elif expression[0] in (b"answer", b"error"):
            self._tell(expression[0])


def disordered(random: Random, count: int) -> Iterator[int]:
    """So many parts, some of them twice, none of them or all in another order; the first one first, so that there is an
    upload. Never as they should come."""
    order = [0, *shuffled(random, range(1, count))]
    if random.random() < 0.3:
        order[-1] = order[1]
    if order == list(range(count)):
        order[1], order[2] = order[2], order[1]
    return iter(order)
