"""What a leader believes of one peer, and how fast it may send to it.

Source: Raft §5.3 (nextIndex, matchIndex) and thesis §10.2.1 (pipelining). A peer is probed one message at a time
until it agrees, then streamed to within a window, or waits for rows. Knows no log and sends nothing itself.
"""

from __future__ import annotations

import enum
from collections import deque


class Pace(enum.Enum):
    """PROBE: where do we agree? STREAM: we do, send ahead. SNAPSHOT: it must fetch rows first."""

    PROBE = "probe"
    STREAM = "stream"
    SNAPSHOT = "snapshot"


class Progress:
    """One peer, as seen by the leader of one term.

    Attributes:
        match: highest index known to be durable and equal there; never falls.
        next: index of the next entry to send.
        paused: nothing more leaves until an answer comes (PROBE: one question at a time; SNAPSHOT: one offer).
        round: newest read round that the peer has answered.
        silent_ticks: since anything was heard of it.
    """

    __slots__ = ("_flying", "_flying_bytes", "_oldest", "match", "next", "pace", "paused", "round", "silent_ticks")

    def __init__(self, next: int) -> None:
        self.match = 0
        self.next = next
        self.pace = Pace.PROBE
        self.paused = False
        self.round = 0
        self.silent_ticks = 0
        self._flying: deque[tuple[int, int]] = deque()
        self._flying_bytes = 0
        self._oldest = 0

    def may_send(self, last: int, messages_max: int, bytes_max: int) -> bool:
        """Whether an append should leave now, given the leader's last index."""
        if self.pace is Pace.STREAM:
            return self.next <= last and len(self._flying) < messages_max and self._flying_bytes < bytes_max
        return not self.paused

    def sent(self, last: int, size: int) -> None:
        """Entries up to ``last``, ``size`` bytes of them, have left."""
        if self.pace is Pace.STREAM:
            self.next = last + 1
            self._flying.append((last, size))
            self._flying_bytes += size
        else:
            self.paused = True

    def acked(self, index: int, boundary: int) -> bool:
        """The peer has everything up to ``index``; True if that is news.

        ``boundary`` is where the leader's log begins: only beyond it can a peer that awaited rows be streamed to.
        """
        news = index > self.match
        if news:
            self.match = index
            self.next = max(self.next, index + 1)
            while self._flying and self._flying[0][0] <= index:
                self._flying_bytes -= self._flying.popleft()[1]
        if self.pace is Pace.PROBE or (self.pace is Pace.SNAPSHOT and self.match >= boundary):
            self._turn(Pace.STREAM)
        return news

    def refused(self, prev_index: int) -> bool:
        """Whether a refusal of ``prev_index`` says anything new; late and repeated ones do not (hazard 13)."""
        if self.pace is Pace.STREAM:
            return prev_index > self.match
        return self.pace is Pace.PROBE and prev_index == self.next - 1

    def probe(self, next: int) -> None:
        """Ask again from ``next``."""
        self._turn(Pace.PROBE)
        self.next = max(next, self.match + 1)

    def await_rows(self) -> None:
        """The peer needs rows from elsewhere."""
        self._turn(Pace.SNAPSHOT)
        self.paused = True

    def lost(self) -> None:
        """What was under way to the peer has probably not arrived: probe, once it is heard of."""
        if self.pace is Pace.STREAM:
            self.probe(self.match + 1)
            self.paused = True

    def beaten(self) -> bool:
        """A heartbeat was answered. True: the oldest append under way was so at the one before: ask where it stands."""
        self.paused = False
        oldest = self._flying[0][0] if self._flying else 0
        stuck = oldest != 0 and oldest == self._oldest
        self._oldest = oldest
        return stuck

    def _turn(self, pace: Pace) -> None:
        self.pace = pace
        self.paused = False
        self.next = self.match + 1 if pace is Pace.STREAM else self.next
        self._flying.clear()
        self._flying_bytes = self._oldest = 0
