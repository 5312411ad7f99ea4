"""Seeking: which of several servers leads, and how long to wait before asking again.

Decides from the answers alone: whoever carries a request out is the leader; NotLeading and Unsettled name a node;
answers tell which node sits behind which endpoint (a proxy may stand between, so hints are nodes, not endpoints). A
hint is followed unless that server failed in this round; otherwise the next one is asked; a round without success is
followed by a pause. Scenario 47.

It never says whether a request was carried out: that is for the caller to conclude from NotReached (certainly not) and
NoAnswer (perhaps). Refuses to know what requests mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_kv.codec import Malformed
from twisted_kv.constants import MIB
from twisted_kv.errors import KVError, OutcomeUnknown, Overloaded, Unavailable, by_name
from twisted_kv.interfaces import INetwork, LostAnswer, NotSent, Random
from twisted_kv.transport.wire import ANSWERS, HELD_SECONDS, Busy, NotLeading, Rejected, Unsettled

PATIENCE_SECONDS: Final = 1.0
PATIENCE_DOUBLINGS_MAX: Final = 3
PATIENCE_TIMES: Final = 3
LATENCY_KEPT: Final = 0.9
PATIENCE_UNREACHED_SECONDS: Final = 0.02
BYTES_PER_SECOND_LEAST: Final = 1 * MIB
PAUSE_SECONDS: Final = 0.02
PAUSE_SECONDS_MAX: Final = 0.1
"""Half of it is what a client misses, on average, when somebody leads again."""
FULL_DOUBLINGS_MAX: Final = 2


class NotReached(msgspec.Struct, frozen=True):
    """The attempt certainly reached no server."""

    text: str


class NoAnswer(msgspec.Struct, frozen=True):
    """The attempt may have been carried out; nobody said so."""

    text: str


class Seeker:
    """The leader of one group of servers, as far as one client knows.

    Args:
        endpoints: Twisted client endpoint strings, at least one.
        random: spreads first contacts and pauses.

    Attributes:
        found: whether the server asked last carried a request out.
        latency: seconds that answers took of late, at worst.
    """

    def __init__(self, endpoints: Sequence[str], clock: IReactorTime, random: Random, network: INetwork) -> None:
        assert endpoints, "nobody to ask"
        self._endpoints = tuple(endpoints)
        self._clock = clock
        self._random = random
        self._network = network
        self._at = int(random.random() * len(self._endpoints))
        self._nodes: dict[int, int] = {}
        self._tried: set[int] = set()
        self._unreached: set[int] = set()
        self._rounds = 0
        self._overdue = 0
        self._full = 0
        self.latency = 0.0
        self._not_before = 0.0
        self._attempts = 0
        self._under_way: dict[int, Deferred[Any]] = {}
        self._closed = False
        self.found = False

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._under_way

    def pause(self) -> float:
        """Seconds to wait before the next attempt; 0 unless a round was in vain or a server was busy."""
        return max(0.0, self._not_before - self._clock.seconds())

    def attempt(self, verb: str, body: bytes, seconds_max: float) -> Deferred[Any]:
        """Ask the server that seems to lead, once.

        Fires with an answer of transport/wire, NotReached or NoAnswer; fails only with CancelledError, when cancelled.
        """
        if self._closed:
            return succeed(NotReached("this client is closed"))
        at = self._at
        if at in self._unreached:
            # The network dials on by itself, at growing pauses; meanwhile others may come to lead.
            patience = PATIENCE_UNREACHED_SECONDS
        else:
            # Who asks again before the answer can be there makes a server that is slow slower still.
            patience = max(PATIENCE_SECONDS, PATIENCE_TIMES * self.latency)
            patience *= 2 ** min(self._overdue, PATIENCE_DOUBLINGS_MAX)
            patience += HELD_SECONDS.get(verb, 0.0)
        timeout = max(0.0, min(patience + len(body) / BYTES_PER_SECOND_LEAST, seconds_max))
        asked: Deferred[Any] = self._network.call(self._endpoints[at], verb, body, timeout)
        return self._keep(asked).addBoth(self._heard, verb, at, self._clock.seconds(), timeout)

    async def ask(self, verb: str, body: bytes, deadline: float, changes: bool) -> tuple[Any, bool]:
        """Ask until a server has carried the request out.

        Args:
            deadline: in seconds of the clock.
            changes: whether the request changes anything, so that its outcome may be unknown. A retry has the same
                body: what makes it take effect only once must be inside.

        Returns:
            the answer, and whether an earlier attempt may have been carried out too.
        Raises:
            OutcomeUnknown: some attempt of a change may have been carried out.
            Unavailable, Overloaded: none was.
            KVError: the server rejected the request.
        """
        unsettled = False
        while True:
            left = deadline - self._clock.seconds()
            answer = await self.attempt(verb, body, left)
            kind = type(answer)
            if kind is Rejected:
                raise unknown(trouble_of(answer)) if unsettled and changes else by_name(answer.error, answer.text)
            if kind not in _FRUITLESS:
                return answer, unsettled
            unsettled = unsettled or kind in UNSETTLING
            if self._closed or self._clock.seconds() + self.pause() >= deadline:
                raise given_up(answer, unsettled and changes)
            await self.sleep(self.pause())

    async def sleep(self, seconds: float) -> None:
        """Wait; cut short by close."""
        if seconds > 0 and not self._closed:
            waiting: Deferred[Any] = Deferred(lambda _: timer.cancel())
            timer = self._clock.callLater(seconds, waiting.callback, None)
            await self._keep(waiting).addErrback(self._cut_short)

    def close(self) -> None:
        """End every attempt with NoAnswer, and every sleep."""
        self._closed = True
        for waiting in list(self._under_way.values()):
            waiting.cancel()

    def _keep(self, waiting: Deferred[Any]) -> Deferred[Any]:
        """Count it as under way until it ends."""
        self._attempts += 1
        number = self._attempts
        self._under_way[number] = waiting

        def ended(result: Any) -> Any:
            del self._under_way[number]
            return result

        return waiting.addBoth(ended)

    def _cut_short(self, failure: Failure) -> Any:
        return NoAnswer("this client was closed") if self._closed and failure.check(CancelledError) else failure

    def _heard(self, result: bytes | Failure, verb: str, at: int, asked_at: float, timeout: float) -> Any:
        answer = self._understood(result, at)
        kind = type(answer)
        if kind is Failure:
            return answer
        if kind is NotReached:
            self._unreached.add(at)
        else:
            self._unreached.discard(at)
        node = getattr(answer, "node", None)
        if node is not None:
            self._nodes[node] = at
        if kind is NotLeading or kind is Unsettled:
            self._move_on(at, answer.leader)
        elif kind is NoAnswer or kind is NotReached:
            if kind is NoAnswer and at == self._at and self._clock.seconds() >= asked_at + 0.99 * timeout:
                self._overdue += 1
            self._move_on(at)
        elif kind is Busy:
            self._hold_on(at, answer)
        elif kind is not Rejected:
            if verb not in HELD_SECONDS:
                self.latency = max(self._clock.seconds() - asked_at, LATENCY_KEPT * self.latency)
            if at == self._at or not self.found:
                self._settle_on(at)
        return answer

    def _understood(self, result: bytes | Failure, at: int) -> Any:
        """The answer as a value; anything odd counts as none, since the server may have done what was asked."""
        where = self._endpoints[at]
        if isinstance(result, Failure):
            if result.check(CancelledError):
                return self._cut_short(result)
            if result.check(NotSent):
                return NotReached(str(result.value) or f"{where} could not be reached")
            if result.check(LostAnswer):
                return NoAnswer(str(result.value) or f"{where} did not answer")
            # The text of any other exception may hold keys or values.
            return NoAnswer(f"{where} did not answer as it should")
        try:
            return ANSWERS.decode(result)
        except Malformed as error:
            return NoAnswer(f"{where} answered nonsense: {error}")

    def _settle_on(self, at: int) -> None:
        """This server leads."""
        self._at = at
        self.found = True
        self._tried.clear()
        self._rounds = self._overdue = self._full = 0

    def _hold_on(self, at: int, answer: Busy) -> None:
        """A leader without room is asked again; anybody else who is busy may just not be ready."""
        if at != self._at:
            return
        seconds = answer.retry_after
        if answer.leads:
            # Nobody else could do it. Several that were turned away together count as one.
            if self.pause() == 0:
                seconds *= 2**self._full * (0.5 + 0.5 * self._random.random())
                self._not_before = self._clock.seconds() + seconds
                self._full = min(self._full + 1, FULL_DOUBLINGS_MAX)
            self.found = False
            self._tried.clear()
            return
        if self.found:
            self.found = False
        else:
            self._move_on(at)
        if at == self._at or not self._tried:
            self._not_before = max(self._not_before, self._clock.seconds() + seconds)

    def _move_on(self, at: int, leader: int = 0) -> None:
        """This server cannot do it. Late news of one that was left already changes nothing."""
        if at != self._at:
            return
        self.found = False
        self._tried.add(at)
        if len(self._tried) == len(self._endpoints):
            self._tried = set()
            pause = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS * 2 ** min(self._rounds, 8))
            self._not_before = self._clock.seconds() + pause * (0.5 + 0.5 * self._random.random())
            self._rounds += 1
        hinted = self._nodes.get(leader, at)
        if hinted != at and hinted not in self._tried:
            self._at = hinted
            return
        count = len(self._endpoints)
        following = ((at + step) % count for step in range(1, count + 1))
        self._at = next(place for place in following if place not in self._tried)


UNSETTLING: Final = (Unsettled, NoAnswer)
"""Kinds of answers after which the attempt may have been carried out, or may yet be."""

_FRUITLESS: Final = (NotLeading, Unsettled, Busy, NotReached, NoAnswer)


def trouble_of(answer: Any) -> str:
    """Why an attempt was in vain, for people."""
    match answer:
        case NotReached(text) | NoAnswer(text):
            return text
        case NotLeading(node):
            return f"node {node} does not lead"
        case Unsettled(node):
            return f"node {node} lost leadership"
        case Busy(node):
            return f"node {node} was busy"
        case Rejected(node, _, text):
            return f"node {node} rejected it: {text}"
    return f"an unexpected {type(answer).__name__}"


def given_up(answer: Any, unsettled: bool) -> KVError:
    """The error after the last attempt, which was answered so."""
    trouble = trouble_of(answer)
    if unsettled:
        return unknown(trouble)
    if isinstance(answer, Busy):
        return Overloaded(f"the server had no room: {trouble}", answer.retry_after)
    return Unavailable(f"no server carried it out: {trouble}")


def unknown(trouble: str) -> OutcomeUnknown:
    """Says what to do."""
    return OutcomeUnknown(f"it took effect once or not at all ({trouble}): read, then decide")
