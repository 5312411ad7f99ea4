"""Linearizable reads without a log entry: which waiting reads has a quorum confirmed?

Source: Ongaro's thesis §6.4 (ReadIndex). All reads that wait when a round begins share it; a round is confirmed when
a quorum has answered heartbeats sent *after* it began (hazard 22), and begins only once an entry of the leader's own
term is committed (hazard 21). No clock is trusted, so there are no lease reads (hazard 23).
"""

from __future__ import annotations

from collections import deque

from twisted_kv.consensus.types import ReadIndex


class Reads:
    """The reads of one leadership; they end with it.

    Attributes:
        round: number of the newest round; heartbeats carry it.
    """

    __slots__ = ("_rounds", "_waiting", "round")

    def __init__(self) -> None:
        self.round = 0
        self._waiting: list[int] = []
        self._rounds: deque[tuple[int, int, list[int]]] = deque()

    def ask(self, token: int) -> None:
        """Let a read wait for the next round."""
        self._waiting.append(token)

    def begin(self, commit: int) -> bool:
        """Begin a round for all that wait, to be read at ``commit``; False if nobody does."""
        if not self._waiting:
            return False
        self.round += 1
        self._rounds.append((self.round, commit, self._waiting))
        self._waiting = []
        return True

    def confirm(self, round: int) -> list[ReadIndex]:
        """A quorum has answered this round, and with it every earlier one."""
        confirmed = []
        while self._rounds and self._rounds[0][0] <= round:
            _, index, tokens = self._rounds.popleft()
            confirmed += [ReadIndex(token, index) for token in tokens]
        return confirmed
