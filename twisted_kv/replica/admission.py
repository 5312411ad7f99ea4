"""How much a leader takes in at once: what it can carry out in a moment; the rest is turned away while that is cheap.

Whoever takes in more answers when nobody waits any longer, and what is asked again meanwhile is work for nothing: the
throughput of a server that is asked too much would collapse instead of staying as it is. Counted in bytes of requests,
for nothing else is known of them before they are decoded. Knows neither requests nor who asks.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted.internet.interfaces import IReactorTime

from twisted_kv.constants import ELECTION_TICKS, KIB, TICK_SECONDS

QUEUE_SECONDS: Final = 0.3
"""All of it may come in one turn of the reactor, in which no heartbeat leaves: it must be shorter than the time after
which followers elect another leader. And it is well below a client's patience with an answer."""
BYTES_MIN: Final = 128 * KIB
"""So much is taken in however slowly things go."""
LOOK_SECONDS: Final = 0.2
LOOKS: Final = 10
RETRY_SECONDS_MIN: Final = 0.05

assert QUEUE_SECONDS < ELECTION_TICKS * TICK_SECONDS


class Admission:
    """What waits at one leader, and how fast it goes.

    Attributes:
        waiting: bytes of requests that were let in and are not answered.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.waiting = 0
        self._answered = 0
        self._since = 0.0
        # (bytes, seconds) of the latest times in which something waited all the while.
        self._looks: deque[tuple[int, float]] = deque(maxlen=LOOKS)

    def refused(self, size: int) -> float | None:
        """Seconds after which there should be room for a request of that many bytes; None if there is room now."""
        if not self.waiting or self.waiting + size <= BYTES_MIN:
            return None
        if not self._looks:
            return QUEUE_SECONDS
        rate = sum(answered for answered, _ in self._looks) / sum(elapsed for _, elapsed in self._looks)
        if self.waiting + size <= rate * QUEUE_SECONDS:
            return None
        return min(max(RETRY_SECONDS_MIN, self.waiting / (rate or 1.0)), QUEUE_SECONDS)

    def enter(self, size: int) -> None:
        """A request is let in."""
        if not self.waiting:
            self._answered, self._since = 0, self._clock.seconds()
        self.waiting += size

    def leave(self, size: int) -> None:
        """It was answered, whatever the answer."""
        self.waiting -= size
        self._answered += size
        now = self._clock.seconds()
        if now - self._since >= LOOK_SECONDS:
            self._looks.append((self._answered, now - self._since))
            self._answered, self._since = 0, now
