"""How fast a group answers one Clerk, and whether a further call can still be answered in time.

A call that would only wait until its time is up is refused at once, and told when to come again: so what waits is
bounded by what can be done, and what is done is done in time. As long as few wait, or nobody has seen enough of how
fast they are answered, every call is let in. Knows neither calls nor servers.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted.internet.interfaces import IReactorTime

CROWD: Final = 64
"""With fewer calls waiting nothing is measured, and nobody is refused: what is answered then depends on who asks."""
LOOK_SECONDS: Final = 0.3
LOOK_CALLS: Final = 32
LOOKS: Final = 5
LOOKS_MIN: Final = 2
"""One look may hold a pause, in which a leader died perhaps; the next begins behind it. Fewer say nothing."""
SHARE: Final = 0.3
"""Of the time that a call has, for its wait: estimates are wrong by a factor of two easily, and three are too many."""
RETRY_SECONDS_MIN: Final = 0.1


class Pace:
    """Of one group, for calls of one kind.

    Attributes:
        waiting: calls that are not settled.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.waiting = 0
        self._crowded = False
        self._since = 0.0
        self._answered = 0
        # (calls, seconds) of the latest times in which many waited.
        self._looks: deque[tuple[int, float]] = deque(maxlen=LOOKS)

    @property
    def wait(self) -> float | None:
        """Seconds that a call would wait now; None if few wait, or nobody knows."""
        if not self._crowded or len(self._looks) < LOOKS_MIN:
            return None
        return self.waiting * sum(seconds for _, seconds in self._looks) / sum(calls for calls, _ in self._looks)

    def refused(self, deadline: float) -> float | None:
        """Seconds after which a call may come again that cannot be answered by then; None if it can."""
        if self.waiting < CROWD:
            self._crowded = False
            return None
        if not self._crowded:
            # What was seen in another crowd is forgotten: the group may have had trouble then.
            self._crowded, self._since, self._answered = True, self._clock.seconds(), 0
            self._looks.clear()
        wait = self.wait
        if wait is None or wait <= (patience := SHARE * (deadline - self._clock.seconds())):
            return None
        # When half of what may wait is done, not when there is room for one: all who were refused will come.
        return max(RETRY_SECONDS_MIN, wait - patience / 2)

    def answered(self) -> None:
        """A call was answered."""
        self._answered += 1
        if not self._crowded or self._answered < LOOK_CALLS:
            return
        now = self._clock.seconds()
        if now - self._since >= LOOK_SECONDS:
            self._looks.append((self._answered, now - self._since))
            self._since, self._answered = now, 0
