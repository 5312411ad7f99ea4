"""Calls: what a user waits for, until when, and what may be said when the time is up.

Decides the error of a call that nobody settled: OutcomeUnknown if some attempt of a write may have been carried out,
else Overloaded or Unavailable (contract §6, scenario 20, hazard 40). One timer serves all calls of a Clerk. Knows
neither servers nor batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_kv.client.seeking import unknown
from twisted_kv.errors import KVError, Overloaded, Unavailable
from twisted_kv.machines.rows import Value

if TYPE_CHECKING:
    from twisted_kv.client.pace import Pace
    from twisted_kv.client.sessions import Session

READ: Final = "r"
SECONDS_MAX: Final = 1e9
_ANY_COMPANY: Final = 1 << 30


def is_timeout(seconds: Any) -> bool:
    """Whether it can be waited so long: a number above 0, and not "not a number".

    >>> is_timeout(0.5), is_timeout(float("nan")), is_timeout("5")
    (True, False, False)
    """
    return isinstance(seconds, int | float) and 0 < seconds < SECONDS_MAX


class Call:
    """One call of a user.

    Attributes:
        number: in the order of the calls.
        verb: as in commands.Operation, or READ.
        size: roughly its bytes in a batch.
        shard: where its key belongs.
        session, sequence: by which servers know a repeat; 0 until it is given one, and for reads always.
        flying: an attempt is under way.
        unsettled: some attempt of these (session, sequence) may have been carried out, or may yet be.
        trouble: why the last attempt was in vain.
        busy: retry_after, if a server without room had the last word.
        redirected: it follows a hint of the group asked last.
        company: how many calls it may share a batch with, itself included.
        pace: of the group that it waits for.
    """

    __slots__ = (
        "_calls",
        "busy",
        "company",
        "deadline",
        "default",
        "deferred",
        "flying",
        "key",
        "number",
        "pace",
        "redirected",
        "sequence",
        "session",
        "settled",
        "shard",
        "size",
        "trouble",
        "unsettled",
        "value",
        "verb",
    )

    def __init__(self, calls: Calls, verb: str, key: str, value: Value | None, default: Any, deadline: float) -> None:
        self._calls = calls
        self.number = calls.count
        self.verb = verb
        self.key = key
        self.value = value
        self.default = default
        self.deadline = deadline
        self.size = len(key) + 40 + (len(value) if value else 0)
        self.shard = 0
        self.session: Session | None = None
        self.sequence = 0
        self.flying = False
        self.unsettled = False
        self.settled = False
        self.trouble = ""
        self.busy: float | None = None
        self.redirected = False
        self.company = _ANY_COMPANY
        self.pace: Pace | None = None
        self.deferred: Deferred[Any] = Deferred(self._cancelled)

    def succeed(self, result: Any) -> None:
        """It took effect, and this is the answer."""
        if self.pace is not None:
            self.pace.answered()
        self._leave()
        self.deferred.callback(result)

    def fail(self, error: KVError) -> None:
        """It is over, and this is what is known."""
        self._leave()
        self.deferred.errback(error)

    def give_up(self, why: str) -> None:
        """Nobody will try any more; ``why`` goes before the last trouble."""
        text = f"{why}; {self.trouble or 'no server has answered'}"
        retry_after = self.busy
        if retry_after is None and self.pace is not None:
            retry_after = self.pace.wait
        if self.sequence and (self.flying or self.unsettled):
            self.fail(unknown(text))
        elif retry_after is not None:
            self.fail(Overloaded(text, retry_after))
        else:
            self.fail(Unavailable(text))

    def renew(self) -> None:
        """Forget the ids: no attempt under them was, or will be, carried out."""
        assert not self.unsettled
        session, self.session = self.session, None
        if session is not None:
            session.forget(self)
        self.sequence = 0

    def _leave(self) -> None:
        assert not self.settled
        self.settled = True
        del self._calls.pending[self]
        if self.session is not None:
            self.session.forget(self)
        if self.pace is not None:
            self.pace.waiting -= 1

    def _cancelled(self, _: Deferred[Any]) -> None:
        self._leave()


class Calls:
    """The calls of one Clerk.

    Attributes:
        count: how many were begun.
        pending: those that are not settled.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self.count = 0
        self.pending: dict[Call, None] = {}

    def begin(self, verb: str, key: str, value: Value | None, default: Any, timeout: float) -> Call:
        """A new call; it is given up after ``timeout`` seconds."""
        deadline = self._clock.seconds() + timeout
        self.count += 1
        call = Call(self, verb, key, value, default, deadline)
        self.pending[call] = None
        if self._timer is None or deadline < self._due:
            self._sweep_at(deadline)
        return call

    def close(self, why: str) -> None:
        """Give up every call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for call in list(self.pending):
            if not call.settled:
                call.give_up(why)

    def _sweep_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._sweep)

    def _sweep(self) -> None:
        """Give up what is due. A timer fires at most once per deadline, mostly for calls settled long ago."""
        self._timer = None
        now = self._clock.seconds()
        for call in [call for call in self.pending if call.deadline <= now]:
            if not call.settled:
                call.give_up("the time is up")
        if self.pending:
            self._sweep_at(min(call.deadline for call in self.pending))
