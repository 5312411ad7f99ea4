"""Perspective Broker's broker, with its doors guarded: one connection, either end.

Stays wire-compatible with the stock broker (profile "pb", version 6), so plain scripts need nothing of ours, and
takes only what our protocol uses of it: a server hears *version* and *message* for the object "root", a client
hears *version*, *answer* and *error*. Everything else, and everything beyond a budget, cuts the connection.

What differs from the stock broker, and why (hazards §0.4, S3, S5, S13; the four traps of ecosystem §1.1):

- Expressions are decoded under a budget, a tiny one until the other side has said its version.
- Nothing but plain values crosses; no registry of classes is ever asked (plain.py).
- callRemote never raises: it fails its Deferred, and leaves nothing in the table of pending calls.
- An answer that does not fit becomes an error instead of a dead connection or an endless wait.
- What the socket takes is sent at once (sending.py).
- The transport's backpressure is heeded: what the other side does not read waits here, counted and bounded,
  and a server stops reading from who does not read.
- Calls in flight are bounded in number and bytes; beyond that the answer is Overloaded.
- What strangers do wrong is logged at a bounded rate.

Decides nothing about remote names (roots.py) nor when to connect (links.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.spread import banana, pb

from twisted_kv.constants import MIB, WIRE_PART_BYTES
from twisted_kv.errors import BadRequest, KVError, Overloaded, ValueTooLarge, WrongType
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.transport import shapes
from twisted_kv.transport.banana import Budget, Decoder, Expression, Violation, encode
from twisted_kv.transport.faults import from_wire, internal_error, refusal, to_wire
from twisted_kv.transport.plain import Jelly, PlainOnly, PlainValue, from_jelly, to_jelly
from twisted_kv.transport.sending import sender

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from twisted_kv.transport.complaints import Complaints

ROOT: Final = b"root"

UNREAD_BY_OURS_BYTES: Final = 2 * WIRE_PART_BYTES

GREETING: Final = Budget(bytes_max=256, items_max=8, depth_max=1)
REQUEST: Final = Budget(bytes_max=1 * MIB, items_max=16_384, depth_max=16)
ANSWER: Final = Budget(bytes_max=8 * MIB, items_max=1 << 19, depth_max=32)


class Limits(NamedTuple):
    """What one connection may hold at a server.

    Attributes:
        calls_max: calls that are being carried out.
        call_bytes_max: the bytes of their requests.
        unread_bytes_max: answers that the other side does not read, for longer than ``unread_seconds``.
        unread_bytes_ceiling: the same, at any moment.
        unread_seconds: patience with a reader who is behind.
        unread_bytes_together: answers that no connection of this server reads; beyond it, one that has more waiting
            than a caller of ours ever asks for at once is cut.
        reading_stops_bytes: with more than this unread, no further requests are read.
    """

    calls_max: int = 4096
    call_bytes_max: int = 32 * MIB
    unread_bytes_max: int = 8 * MIB
    unread_bytes_ceiling: int = 32 * MIB
    unread_seconds: float = 1.0
    unread_bytes_together: int = 128 * MIB
    reading_stops_bytes: int = 1 * MIB


LIMITS: Final = Limits()


class Unread:
    """Bytes of answers that wait at all connections of a server."""

    def __init__(self) -> None:
        self.bytes = 0


class GuardedBroker(pb.Broker):
    """One end of a connection.

    Attributes:
        admitted: the other side has negotiated and said its version.
        heard_at: when bytes last came.
        drained_at: when the transport last had room again.
        queued_bytes: what waits here because the transport is full.
        calls: how many calls are being carried out for the other side.
    """

    transport: Any
    factory: Any
    _write: Callable[[bytes], None]
    # Number of a call → the Deferred that waits for its answer; None once the connection is lost.
    waitingForAnswers: Any

    def __init__(
        self,
        isClient: bool,
        clock: IReactorTime,
        complaints: Complaints,
        limits: Limits,
        unread: Unread | None = None,
    ) -> None:
        pb.Broker.__init__(self, isClient, PlainOnly())
        self.knownDialects = [b"pb"]
        self._clock = clock
        self._complaints = complaints
        self._limits = limits
        self._decoder = Decoder(GREETING, self.callExpressionReceived, shapes.recognized)
        self._acts: dict[bytes, tuple[int, Callable[..., None]]] = {b"version": (1, self._version)}
        if isClient:
            self._acts |= {b"answer": (2, self._answer), b"error": (2, self._error)}
        else:
            self._acts[b"message"] = (6, self._message)
        self.admitted = False
        self.heard_at = self.drained_at = clock.seconds()
        self.calls = 0
        self._call_bytes = 0
        self._queue: deque[bytes] = deque()
        self.queued_bytes = 0
        self._unread = unread or Unread()
        self._transport_full = False
        self._reading_stopped = False
        self._patience: Any = None

    # ── the life of a connection ───────────────────────────────────────────────────────────────────

    def connectionMade(self) -> None:
        for switch in ("setTcpNoDelay", "setTcpKeepAlive"):
            getattr(self.transport, switch, lambda on: None)(True)
        self.transport.registerProducer(self, True)
        self._write = sender(self.transport)
        pb.Broker.connectionMade(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._decoder.closed = True
        self._forget_queue()
        self._forget_patience()
        waiting, self.waitingForAnswers = self.waitingForAnswers, {}
        pb.Broker.connectionLost(self, reason)
        for request in tuple(waiting):
            # What hears of one loss may cancel another call meanwhile.
            answer = waiting.pop(request, None)
            if answer is not None:
                answer.errback(LostAnswer(f"the connection was lost: {reason.getErrorMessage()}"))

    @property
    def half_said(self) -> bool:
        """Whether the other side has begun to say something and not ended."""
        return self._decoder.unfinished

    def close(self) -> None:
        """Take nothing more in, write out what is queued, then close. For a reader who never reads: ``abort``."""
        if self.disconnected:
            return
        self._decoder.closed = True
        self._forget_patience()
        self.transport.unregisterProducer()
        self.transport.writeSequence(list(self._queue))
        self._forget_queue()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        self._decoder.closed = True
        if not self.disconnected:
            self.transport.abortConnection()

    def cut(self, reason: str) -> None:
        """Abort because of what the other side did, and say so in the log (at a bounded rate)."""
        if not self._decoder.closed:
            self._complaints.warn("cut the connection of {peer}: {reason}", peer=self._peer(), reason=reason)
            self.abort()

    # ── in ─────────────────────────────────────────────────────────────────────────────────────────

    def dataReceived(self, data: bytes) -> None:
        self.heard_at = self._clock.seconds()
        if self._decoder.closed:
            return
        try:
            self._decoder.feed(data)
        except Violation as violation:
            self.cut(str(violation))
        except Exception:
            self._complaints.failure("cut the connection of {peer}: a bug", Failure(), peer=self._peer())
            self.abort()

    def callExpressionReceived(self, expression: Expression) -> None:
        if self.currentDialect is not None:
            self.expressionReceived(expression)
        elif self.isClient and isinstance(expression, list) and b"pb" in expression:
            self.sendEncoded(b"pb")
            self._selectDialect(b"pb")
        elif not self.isClient and expression == b"pb":
            self._selectDialect(b"pb")
        else:
            raise Violation("it does not speak Perspective Broker")

    def expressionReceived(self, expression: Expression) -> None:
        if type(expression) is not list or not expression or type(expression[0]) is not bytes:
            raise Violation("an expression that is no command")
        length, act = self._acts.get(expression[0], (-1, _refuse))
        if len(expression) - 1 != length:
            raise Violation("a command that has no place here")
        act(*expression[1:])

    def _version(self, version: Expression) -> None:
        if version != self.version:
            raise Violation("another version of Perspective Broker")
        self.admitted = True
        self._decoder.budget = ANSWER if self.isClient else REQUEST

    # ── calls of the other side (server) ───────────────────────────────────────────────────────────

    def _message(self, request: int, target: bytes, name: bytes, answered: int, args: Jelly, kw: Jelly) -> None:
        if not (self.admitted and type(request) is int and type(target) is bytes and type(name) is bytes):
            raise Violation("a malformed call")
        size = self._decoder.size
        self.calls += 1
        self._call_bytes += size
        result: Any
        try:
            if self.calls > self._limits.calls_max or self._call_bytes > self._limits.call_bytes_max:
                raise Overloaded("too many calls in flight on one connection")
            if target != ROOT:
                raise BadRequest("there is no such object")
            result = self.localObjects[ROOT].object.remoteMessageReceived(self, name, args, kw)
        except Exception:
            result = Failure()
        if isinstance(result, Deferred):
            result.addBoth(self._settle, request, answered, size)
        else:
            self._settle(result, request, answered, size)

    def _settle(self, result: Any, request: int, answered: int, size: int) -> None:
        """A call has been carried out: send its answer, or the error it failed with."""
        self.calls -= 1
        self._call_bytes -= size
        if isinstance(result, Failure):
            self._settle_failure(result, request, answered)
        elif answered:
            try:
                self._send(b"answer", request, result)
            except banana.BananaError:
                self._send(b"error", request, to_wire(ValueTooLarge("the answer is beyond what one message carries")))

    def _settle_failure(self, failure: Failure, request: int, answered: int) -> None:
        assert failure.value is not None
        error = refusal(failure.value)
        if error is None:
            self._complaints.failure("a call failed unexpectedly", failure)
            error = internal_error()
        elif not answered:
            self._complaints.warn("a one-way call of {peer} failed: {error}", peer=self._peer(), error=str(error))
        if answered:
            self._send(b"error", request, to_wire(error))

    # ── our calls (client) ─────────────────────────────────────────────────────────────────────────

    def _sendMessage(
        self, prefix: bytes, perspective: object, target: bytes, name: bytes, args: Any, kw: dict[str, Any]
    ) -> Deferred[PlainValue] | None:
        """What callRemote comes down to. ``pbanswer=False``: one way, returns None and drops what cannot be sent.

        The Deferred fires with a plain value, and fails with the KVError that the other side answered, with
        NotSent or with LostAnswer. It may be cancelled; an answer that comes later is dropped.
        """
        answered = kw.pop("pbanswer", True)
        request = self.newRequestID()
        try:
            if self.disconnected or self._decoder.closed:
                raise NotSent("the connection is closed")
            self._send(prefix + b"message", request, target, name, int(answered), to_jelly(args), to_jelly(kw))
        except banana.BananaError as error:
            return fail(WrongType(str(error))) if answered else None
        except (NotSent, KVError) as error:
            return fail(error) if answered else None
        if not answered:
            return None
        table = self.waitingForAnswers
        waiting: Deferred[PlainValue] = Deferred(lambda _: table.pop(request, None))
        table[request] = waiting
        return waiting

    def _answer(self, request: int, result: Jelly) -> None:
        waiting = self._waiting(request)
        if waiting is None:
            return
        try:
            value = result if type(result) is bytes else from_jelly(result)
        except KVError as error:
            waiting.errback(LostAnswer(f"an answer that cannot be read: {error}"))
        else:
            waiting.callback(value)

    def _error(self, request: int, jelly: Jelly) -> None:
        waiting = self._waiting(request)
        if waiting is not None:
            waiting.errback(from_wire(jelly))

    def _waiting(self, request: int) -> Deferred[PlainValue] | None:
        """Who waits for this answer; nobody if it was cancelled."""
        if type(request) is not int or not 0 < request <= self.currentRequestID:
            raise Violation("an answer to nothing")
        waiting: Deferred[PlainValue] | None = self.waitingForAnswers.pop(request, None)
        return waiting

    # ── out ────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, *expression: Any) -> None:
        self.sendEncoded(expression)

    def sendEncoded(self, obj: Any) -> None:
        """Encode and write, or queue while the transport is full.

        Raises:
            BananaError: it cannot be encoded; nothing was written.
        """
        if self._decoder.closed:
            return
        data = shapes.written(obj) or encode(obj) if self.currentDialect == b"pb" else encode(obj, {})
        if not self._transport_full:
            self._write(data)
            return
        self._queue.append(data)
        self.queued_bytes += len(data)
        self._unread.bytes += len(data)
        if not self.isClient:
            self._heed_slow_reader()

    def pauseProducing(self) -> None:
        """The transport is full."""
        self._transport_full = True

    def resumeProducing(self) -> None:
        """The transport has room again."""
        self._transport_full = False
        self.drained_at = self._clock.seconds()
        while self._queue and not self._transport_full:
            data = self._queue.popleft()
            self.queued_bytes -= len(data)
            self._unread.bytes -= len(data)
            self._write(data)
        if self.queued_bytes <= self._limits.unread_bytes_max:
            self._forget_patience()
        if self._reading_stopped and self.queued_bytes <= self._limits.reading_stops_bytes:
            self._reading_stopped = False
            self.transport.resumeProducing()

    def _heed_slow_reader(self) -> None:
        """Answers pile up: read no more requests, then wait a moment, then cut (hazards S5)."""
        if self.queued_bytes > self._limits.reading_stops_bytes and not self._reading_stopped:
            self._reading_stopped = True
            self.transport.pauseProducing()
        if self.queued_bytes > self._limits.unread_bytes_ceiling:
            self.cut(f"{self.queued_bytes} bytes of answers unread")
        elif self._unread.bytes > self._limits.unread_bytes_together and self.queued_bytes > UNREAD_BY_OURS_BYTES:
            self.cut(f"{self.queued_bytes} bytes of answers unread, {self._unread.bytes} by all together")
        elif self.queued_bytes > self._limits.unread_bytes_max and self._patience is None:
            self._patience = self._clock.callLater(self._limits.unread_seconds, self._patience_ended)

    def _patience_ended(self) -> None:
        self._patience = None
        self.cut(f"{self.queued_bytes} bytes of answers unread")

    def _forget_queue(self) -> None:
        self._queue.clear()
        self._unread.bytes -= self.queued_bytes
        self.queued_bytes = 0

    def _forget_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _peer(self) -> str:
        return str(self.transport.getPeer())

    # Stock ways in and out that nothing above uses; they are closed, in case something does.

    def serialize(
        self, object: Any, perspective: Any = None, method: Any = None, args: Any = None, kw: Any = None
    ) -> Jelly:
        return to_jelly(object)

    def unserialize(self, sexp: Jelly, perspective: Any = None) -> PlainValue:
        return from_jelly(sexp)


def _refuse(*ignored: object) -> NoReturn:
    raise Violation("an unknown command")
