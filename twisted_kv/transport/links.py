"""A link: one connection to one endpoint, made when it is wanted, remade when it is lost, closed when it is not used.

Nothing is dialled that nobody asked for: a call or a send makes the link dial, and after a failure it waits a
little longer each time (0.05 s × 1.5ⁿ, at most 1 s). Who calls meanwhile waits for the outcome of the next attempt,
within the timeout of the call; who sends one way is heard only if an attempt is under way.

A link that is used and hears nothing asks for a sign of life, and is torn down without one: TCP alone notices a
broken path too late, and after minutes of trying it comes back later than a fresh connection would.

What was asked and not answered when a link goes down is LostAnswer; what was not handed over whole is NotSent.

Twisted's ClientService is not used: it dials for ever, wanted or not, says so in the log each time, and with
Perspective Broker it hangs when a connection is lost in preparation (ecosystem §1.7). Knows no verbs but those of
chunks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb

from twisted_kv.constants import OUTBOX_BYTES_MAX, WIRE_BODY_BYTES_MAX, WIRE_PART_BYTES
from twisted_kv.errors import KVError
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.transport.broker import LIMITS, GuardedBroker
from twisted_kv.transport.chunks import PARTS_IN_FLIGHT, PING, WHOLE, collect, hand_over
from twisted_kv.transport.plain import PlainOnly

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IStreamClientEndpoint

    from twisted_kv.transport.complaints import Complaints


class Patience(NamedTuple):
    """How long a link waits, in seconds.

    Attributes:
        greeting: to connect and negotiate.
        retry_first, retry_factor, retry_max: between attempts that failed.
        settled: a link that stood this long is dialled again at once when lost.
        idle: until a link that nobody uses is closed.
        silence: without a word from the other side, on a link in use, until a sign of life is asked for.
        sign: for that sign.
        farewell: for the other side to close, when closing.
    """

    greeting: float = 3.0
    retry_first: float = 0.05
    retry_factor: float = 1.5
    retry_max: float = 1.0
    settled: float = 1.0
    idle: float = 60.0
    silence: float = 1.5
    sign: float = 5.0
    farewell: float = 1.0


PATIENCE: Final = Patience()


WATCH_SECONDS: Final = 0.5


class Link:
    """The way to one endpoint.

    Args:
        reactor: for time; the endpoint was made with it.
        name: the endpoint's text, for errors and the log.
        retired: called once when the link has closed itself for want of use, and must not be used any more.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        name: str,
        endpoint: IStreamClientEndpoint,
        patience: Patience,
        complaints: Complaints,
        retired: Callable[[Link], None],
    ) -> None:
        self._clock = reactor
        self._name = name
        self._endpoint = endpoint
        self._patience = patience
        self._complaints = complaints
        self._retired = retired
        self._slots = DeferredSemaphore(PARTS_IN_FLIGHT)
        self._uploads = 0
        # Who waits for the link to stand, and what is to be sent one way when it does.
        self._waiting: list[Deferred[pb.RemoteReference]] = []
        self._outbox: list[tuple[str, bytes]] = []
        self._held_bytes = 0
        # At most one of these: an attempt, a pause before the next one, a standing link. None of them: at rest.
        self._attempt: Deferred[Any] | None = None
        self._pause: IDelayedCall | None = None
        self._root: pb.RemoteReference | None = None
        self._broker: GuardedBroker | None = None
        self._timer: IDelayedCall | None = None
        self._failures = 0
        self._not_before = 0.0
        self._stood_from = 0.0
        self._used_at = 0.0
        self._asked_at: float | None = None
        self._gone: list[Deferred[None]] | None = None

    # ── use ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def backlog(self) -> int:
        """Bytes taken and not yet given to the transport."""
        return self._held_bytes + (self._broker.queued_bytes if self._broker is not None else 0)

    def send(self, verb: str, body: bytes) -> None:
        """One way: may be lost, never raises. Dropped when the backlog would pass OUTBOX_BYTES_MAX."""
        if self._gone is not None or self.backlog + len(body) > OUTBOX_BYTES_MAX:
            return
        self._used_at = self._clock.seconds()
        if self._root is not None:
            self._send_now(self._root, verb, body)
            return
        self._dial()
        if self._attempt is not None:
            self._held_bytes += len(body)
            self._outbox.append((verb, body))

    def call(self, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        """Ask and wait: a Deferred of the answer, as INetwork.call says. May be cancelled."""
        if self.backlog + len(body) > OUTBOX_BYTES_MAX:
            return fail(NotSent(f"{self._name}: {self.backlog} bytes are waiting already"))
        if len(body) > WIRE_BODY_BYTES_MAX:
            return fail(NotSent(f"a body of {len(body)} bytes; at most {WIRE_BODY_BYTES_MAX} can cross"))
        exchange = _Exchange(self._name)
        if self._root is not None and len(body) <= WIRE_PART_BYTES:
            exchange.handed_over = True
            self._used_at = self._clock.seconds()
            answer: Deferred[Any] = self._root.callRemote(verb, body)
        else:
            answer = Deferred.fromCoroutine(self._hand_over(exchange, verb, body))
        answer.addCallbacks(self._received, exchange.failed)
        return answer.addTimeout(timeout, self._clock, exchange.timed_out)

    def ask(self, name: str, arguments: tuple[Any, ...], timeout: float) -> Deferred[Any]:
        """Call a plain name: a Deferred of a plain value; fails as ``call`` does, or with the server's KVError."""
        exchange = _Exchange(self._name)

        async def asked() -> Any:
            root = await self._standing()
            exchange.handed_over = True
            return await root.callRemote(name, *arguments)

        return Deferred.fromCoroutine(asked()).addTimeout(timeout, self._clock, exchange.timed_out)

    def close(self) -> Deferred[None]:
        """Close for good; fires when the connection is gone. Calls in flight fail."""
        gone: Deferred[None] = Deferred()
        if self._gone is not None:
            self._gone.append(gone)
        else:
            self._gone = [gone]
            self._stop_timer()
            if self._broker is not None:
                self._timer = self._clock.callLater(self._patience.farewell, self._broker.abort)
                self._broker.close()
            elif self._attempt is not None:
                self._attempt.cancel()
        self._tell_if_gone()
        return gone

    async def _hand_over(self, exchange: _Exchange, verb: str, body: bytes) -> Any:
        """Get a request to the other side, large or before the link stands; returns the first answer."""
        self._held_bytes += len(body)
        try:
            root = await self._standing()
            if len(body) > WIRE_PART_BYTES:
                upload = self._next_upload()
                await hand_over(root.callRemote, self._slots, upload, body)
        finally:
            self._held_bytes -= len(body)
        exchange.handed_over = True
        if len(body) > WIRE_PART_BYTES:
            return await root.callRemote(WHOLE, verb, upload)
        return await root.callRemote(verb, body)

    def _received(self, answer: Any) -> bytes | Deferred[bytes]:
        """The first answer: the whole one, or the number and size of a large one."""
        if type(answer) is bytes:
            return answer
        if self._root is None or type(answer) is not tuple or [type(part) for part in answer] != [int, int]:
            raise LostAnswer(f"{self._name}: the link is down, or the answer is none of ours")
        return Deferred.fromCoroutine(collect(self._root.callRemote, self._slots, *answer))

    def _send_now(self, root: pb.RemoteReference, verb: str, body: bytes) -> None:
        if len(body) <= WIRE_PART_BYTES:
            root.callRemote(verb, body, pbanswer=False)
        elif len(body) <= WIRE_BODY_BYTES_MAX:
            Deferred.fromCoroutine(self._send_large(root, verb, body)).addErrback(lambda failure: failure.trap(NotSent))

    async def _send_large(self, root: pb.RemoteReference, verb: str, body: bytes) -> None:
        self._held_bytes += len(body)
        try:
            upload = self._next_upload()
            await hand_over(root.callRemote, self._slots, upload, body)
        finally:
            self._held_bytes -= len(body)
        root.callRemote(WHOLE, verb, upload, pbanswer=False)

    def _next_upload(self) -> int:
        self._uploads += 1
        return self._uploads

    # ── up and down ────────────────────────────────────────────────────────────────────────────────

    def _standing(self) -> Deferred[pb.RemoteReference]:
        """The root of the other side, when the link stands; NotSent if the attempt fails."""
        self._used_at = self._clock.seconds()
        if self._root is not None:
            return succeed(self._root)
        if self._gone is not None:
            return fail(NotSent(f"the link to {self._name} is closed"))
        waiting: Deferred[pb.RemoteReference] = Deferred(lambda deferred: self._waiting.remove(deferred))
        self._waiting.append(waiting)
        self._dial()
        return waiting

    def _dial(self) -> None:
        if self._attempt is not None or self._pause is not None:
            return
        wait = self._not_before - self._clock.seconds()
        if wait > 0:
            # At most the longest pause, even if the clock was set back.
            self._pause = self._clock.callLater(min(wait, self._patience.retry_max), self._paused)
            return
        self._timer = self._clock.callLater(self._patience.greeting, self._overdue)
        self._attempt = maybeDeferred(self._endpoint.connect, _LinkFactory(self))
        self._attempt.addErrback(self._refused)

    def _paused(self) -> None:
        self._pause = None
        self._not_before = 0.0
        self._dial()

    def _overdue(self) -> None:
        self._timer = None
        if self._broker is not None:
            self._broker.abort()
        elif self._attempt is not None:
            self._attempt.cancel()

    def _refused(self, failure: Failure) -> None:
        self._went_down(failure.getErrorMessage())

    def build(self) -> GuardedBroker:
        """The connection is there: make its broker."""
        broker = GuardedBroker(True, self._clock, self._complaints, LIMITS)
        broker.notifyOnDisconnect(lambda: self._went_down("it closed the connection"))
        self._broker = broker
        return broker

    def came_up(self, broker: GuardedBroker) -> None:
        """The other side has negotiated."""
        self._attempt = None
        self._stop_timer()
        self._root = root = broker.remoteForName("root")
        self._stood_from = self._clock.seconds()
        self._asked_at = None
        self._timer = self._clock.callLater(WATCH_SECONDS, self._watch)
        self.log.info("link to {endpoint} is up", endpoint=self._name)
        outbox, self._outbox = self._outbox, []
        for verb, body in outbox:
            self._held_bytes -= len(body)
            self._send_now(root, verb, body)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(root)

    def _went_down(self, reason: str) -> None:
        now = self._clock.seconds()
        if self._root is not None:
            self.log.info("link to {endpoint} is down: {reason}", endpoint=self._name, reason=reason)
        if self._root is not None and now - self._stood_from >= self._patience.settled:
            self._failures = 0
        else:
            pause = self._patience.retry_first * self._patience.retry_factor ** min(self._failures, 50)
            self._not_before = now + min(pause, self._patience.retry_max)
            self._failures += 1
        self._attempt = self._root = self._broker = None
        self._stop_timer()
        self._held_bytes -= sum(len(body) for _, body in self._outbox)
        self._outbox.clear()
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.errback(NotSent(f"{self._name} cannot be reached: {reason}"))
        self._tell_if_gone()

    def _watch(self) -> None:
        """The link stands: is the other side there, and is the link still wanted?"""
        broker, root, now = self._broker, self._root, self._clock.seconds()
        assert broker is not None and root is not None
        self._timer = self._clock.callLater(WATCH_SECONDS, self._watch)
        if self._asked_at is not None:
            if now - self._asked_at > self._patience.sign:
                self._complaints.warn("{endpoint} gives no sign of life", endpoint=self._name)
                broker.abort()
        elif broker.waitingForAnswers or self.backlog or self._used_at >= broker.heard_at:
            if now - broker.heard_at > self._patience.silence:
                self._asked_at = now
                root.callRemote(PING).addBoth(self._heard)
        elif now - self._used_at > self._patience.idle:
            self.close()
            self._retired(self)

    def _heard(self, result: object) -> None:
        self._asked_at = None

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _tell_if_gone(self) -> None:
        if self._gone is None or self._broker is not None or self._attempt is not None:
            return
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.errback(NotSent(f"the link to {self._name} is closed"))
        gone, self._gone = self._gone, []
        for closed in gone:
            closed.callback(None)


class _Exchange:
    """One call: whether the request has been handed over, which decides what a failure says."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.handed_over = False

    def failed(self, failure: Failure) -> Failure:
        """A definite error of the other side means that nothing happened there; others may mean anything."""
        error = failure.value
        if not isinstance(error, KVError):
            return failure
        return Failure((NotSent if error.definite else LostAnswer)(f"{self._name}: {error.described()}"))

    def timed_out(self, result: Any, seconds: float) -> Any:
        if not isinstance(result, Failure) or not result.check(CancelledError):
            return result
        kind = LostAnswer if self.handed_over else NotSent
        raise kind(f"{self._name}: no answer within {seconds:g} s")


class _LinkFactory(pb.PBClientFactory):
    """One attempt: hands the link its broker, and tells it when the other side has negotiated."""

    noisy = False

    def __init__(self, link: Link) -> None:
        pb.PBClientFactory.__init__(self, security=PlainOnly())
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> GuardedBroker:
        broker = self._link.build()
        broker.factory = self
        return broker

    def clientConnectionMade(self, broker: GuardedBroker) -> None:
        self._link.came_up(broker)
