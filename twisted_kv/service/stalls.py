"""How long the reactor of a server stood still: nothing is answered meanwhile, and no heartbeat leaves.

Whatever takes long in one turn counts: a slow fsync, a large answer, the collector, a process that was suspended. It
is measured by how late a call comes that is due every PROBE_SECONDS, so what is shorter is not seen. Knows nothing of
what the server does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

PROBE_SECONDS: Final = 0.02
RECENT_SECONDS: Final = 60.0
TELL_SECONDS: Final = 0.25
"""From here on an operator is told: a longer one may cost an election."""


class Stalls:
    """Measures from now on.

    Attributes:
        longest: seconds, since the beginning.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.longest = 0.0
        # (when, how long) of those that none after them has outlasted: the first is the longest of all recent ones.
        self._recent: deque[tuple[float, float]] = deque()
        self._due = 0.0
        self._wait()

    def close(self) -> Deferred[None]:
        """Measure no more; more than once does no harm."""
        if self._probe.active():
            self._probe.cancel()
        return succeed(None)

    def status(self) -> Mapping[str, float]:
        """``stall_ms``: the longest of the last minute; ``stall_longest_ms``: since the server started."""
        self._forget_before(self._clock.seconds() - RECENT_SECONDS)
        recent = self._recent[0][1] if self._recent else 0.0
        return {"stall_ms": round(recent * 1000, 1), "stall_longest_ms": round(self.longest * 1000, 1)}

    def beside(self, status: Callable[[], Mapping[str, Any]]) -> Callable[[], dict[str, Any]]:
        """A status that tells this, too."""
        return lambda: {**status(), **self.status()}

    def _wait(self) -> None:
        self._due = self._clock.seconds() + PROBE_SECONDS
        self._probe = self._clock.callLater(PROBE_SECONDS, self._look)

    def _look(self) -> None:
        now = self._clock.seconds()
        late = now - self._due
        self.longest = max(self.longest, late)
        while self._recent and self._recent[-1][1] <= late:
            self._recent.pop()
        self._recent.append((now, late))
        self._forget_before(now - RECENT_SECONDS)
        if late >= TELL_SECONDS:
            self.log.warn("Nothing was answered for {seconds:.2f} s", seconds=late)
        self._wait()

    def _forget_before(self, moment: float) -> None:
        while self._recent and self._recent[0][0] < moment:
            self._recent.popleft()
