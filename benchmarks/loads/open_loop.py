"""An open loop on Twisted: calls are made at a fixed rate, whatever becomes of those before.

Decides that a latency counts from the moment at which a call was due, so that a load that falls behind cannot flatter
what it measures. Knows no system, and not what is called.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

TURN_SECONDS: Final = 0.002


class Book:
    """What was answered, and what failed, of calls of one kind.

    Attributes:
        at: when each answer came, in seconds of ``perf_counter``, ascending.
        latencies_us: of the same answers.
        errors: name of the class → how many calls failed with it.
        first_errors: name of the class → the text of the first.
        error_latencies_us: of the calls that failed.
        retry_after: what they were told to wait, in seconds, where they were told.
    """

    def __init__(self) -> None:
        self.at = array("d")
        self.latencies_us = array("q")
        self.errors: Counter[str] = Counter()
        self.first_errors: dict[str, str] = {}
        self.error_latencies_us = array("q")
        self.retry_after: list[float] = []

    def enter(self, due: float, call: Deferred[Any]) -> Deferred[Any]:
        """Note what becomes of a call that was due at that moment; fires with whether it was answered."""
        return call.addCallbacks(self._answered, self._failed, callbackArgs=(due,), errbackArgs=(due,))

    def between(self, begins: float, ends: float) -> list[int]:
        """Latencies of what was answered then, ascending."""
        pairs = zip(self.at, self.latencies_us, strict=True)
        return sorted(latency for at, latency in pairs if begins <= at < ends)

    def longest_gap(self, begins: float, ends: float) -> float:
        """The longest time without a single answer, in seconds, from one moment to another."""
        latest, longest = begins, 0.0
        for at in self.at:
            if begins < at < ends:
                longest, latest = max(longest, at - latest), at
        return max(longest, ends - latest)

    def _answered(self, _: Any, due: float) -> bool:
        now = perf_counter()
        self.at.append(now)
        self.latencies_us.append(int(1_000_000 * (now - due)))
        return True

    def _failed(self, failure: Failure, due: float) -> bool:
        name = failure.type.__name__ if failure.type is not None else "?"
        self.errors[name] += 1
        self.first_errors.setdefault(name, failure.getErrorMessage())
        self.error_latencies_us.append(int(1_000_000 * (perf_counter() - due)))
        retry_after = getattr(failure.value, "retry_after", None)
        if retry_after is not None:
            self.retry_after.append(retry_after)
        return False


class Pace:
    """Makes calls at a rate until it is stopped.

    Args:
        issue: makes one call, given its number and the moment at which it is due.

    Attributes:
        issued: how many calls were made.
        late: seconds by which the latest call at worst came behind its moment: what the load itself is to blame for.
    """

    def __init__(self, reactor: Any, rate: float, issue: Callable[[int, float], object]) -> None:
        self._reactor = reactor
        self._rate = rate
        self._issue = issue
        self._stopped = False
        self.issued = 0
        self.late = 0.0

    async def run(self) -> None:
        """Returns when it was stopped."""
        began = perf_counter()
        while not self._stopped:
            now = perf_counter()
            while (due := began + self.issued / self._rate) <= now:
                self.late = max(self.late, now - due)
                self._issue(self.issued, due)
                self.issued += 1
            await deferLater(self._reactor, TURN_SECONDS)

    def stop(self) -> None:
        """Make no more."""
        self._stopped = True
