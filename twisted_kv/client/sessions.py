"""The client's side of a session: which number a write carries, and how many may be in flight.

A session belongs to one shard and moves with it. Its writes are numbered once, before they are first sent, and keep
their numbers over all retries (scenario 11). The floor is the lowest number whose answer is still wanted: cancelled
and timed-out calls let it pass, after which a late copy of them is refused by the servers. Not more than half of what
a server stores may stand above the floor; the rest waits here. Source: Ongaro's thesis §6.3, widened to many calls in
flight. Knows nothing of groups.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted_kv.client.calls import Call
from twisted_kv.constants import SESSION_RESULTS_MAX

SEQUENCES_IN_FLIGHT_MAX: Final = SESSION_RESULTS_MAX // 2


class Session:
    """One session in one shard.

    Args:
        nonce: 16 random bytes, by which a repeated request to open finds the same session.
        go: takes a call out of ``waiting`` that has its number now.

    Attributes:
        number: 0 until the servers gave one.
        opening: a request to open is under way or queued.
        waiting: calls that have no number yet.
    """

    __slots__ = ("_floor", "_go", "_in_flight", "_next", "nonce", "number", "opening", "shard", "waiting")

    def __init__(self, shard: int, nonce: bytes, go: Callable[[Call], None]) -> None:
        self.shard = shard
        self.nonce = nonce
        self.number = 0
        self.opening = False
        self.waiting: deque[Call] = deque()
        self._go = go
        self._next = 1
        self._floor = 1
        self._in_flight: dict[int, Call] = {}

    @property
    def floor(self) -> int:
        """The lowest sequence still wanted."""
        while self._floor < self._next and self._floor not in self._in_flight:
            self._floor += 1
        return self._floor

    def admit(self, call: Call) -> bool:
        """Give the call its number, unless too many are in flight."""
        sequence = self._next
        if not self.number or sequence - self.floor >= SEQUENCES_IN_FLIGHT_MAX:
            return False
        self._next = sequence + 1
        self._in_flight[sequence] = call
        call.session = self
        call.sequence = sequence
        return True

    def opened(self, number: int) -> None:
        """The servers gave it a number."""
        self.opening = False
        self.number = number
        self._release()

    def forget(self, call: Call) -> None:
        """Its answer is wanted no longer."""
        del self._in_flight[call.sequence]
        if self.waiting:
            self._release()

    def take_waiting(self) -> list[Call]:
        """Empty the queue: those who wait must find another way."""
        waiting = [call for call in self.waiting if not call.settled]
        self.waiting.clear()
        return waiting

    def _release(self) -> None:
        while self.waiting:
            if self.waiting[0].settled:
                self.waiting.popleft()
            elif self.admit(self.waiting[0]):
                self._go(self.waiting.popleft())
            else:
                return
