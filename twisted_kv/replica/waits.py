"""Questions that are held back until there is something to say: bounded in number, and each in time.

Level-triggered: a question says what it waits for, and is looked at again whenever something has changed here. Whoever
would ask ten times a second asks once in a while instead. Knows neither questions nor answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

HELD_MAX: Final = 10_000
"""Beyond it nobody waits: strangers could fill the memory with questions."""


class Waits:
    """All questions that wait at one member."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._held: dict[Deferred[bool], tuple[Callable[[], bool], IDelayedCall]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._held)

    def until(self, come: Callable[[], bool], seconds: float) -> Deferred[bool]:
        """Wait until ``come()``, at most so long.

        Fires with True, or with False when nothing more will come: the member stops. May be cancelled.
        """
        if self._closed or come() or len(self._held) >= HELD_MAX:
            return succeed(not self._closed)
        waiting: Deferred[bool] = Deferred(self._forget)
        late = self._clock.callLater(seconds, self._release, waiting)
        self._held[waiting] = (come, late)
        return waiting

    def look(self) -> None:
        """Something has changed."""
        for waiting, (come, _) in list(self._held.items()):
            if come():
                self._release(waiting)

    def close(self) -> None:
        """Release everybody."""
        self._closed = True
        for waiting in list(self._held):
            self._release(waiting)

    def _release(self, waiting: Deferred[bool]) -> None:
        if waiting in self._held:
            self._forget(waiting)
            waiting.callback(not self._closed)

    def _forget(self, waiting: Deferred[bool]) -> None:
        _, late = self._held.pop(waiting)
        if late.active():
            late.cancel()
