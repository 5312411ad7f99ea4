"""What waits in one replica: commands until their entry is applied, reads until their index is.

A command waits under (index, position) with the term it was proposed in: if another term's entry is applied
there, the command was overwritten and never happened (scenario §3.2-18). Nothing waits beyond a lost leadership.
Knows neither consensus nor machines.
"""

from __future__ import annotations

import heapq
from typing import Any

from twisted.internet.defer import Deferred

from twisted_kv.consensus.types import NOBODY, NodeID, Ticket
from twisted_kv.errors import Overloaded

COMMANDS_WAITING_MAX = 20_000
COMMAND_BYTES_WAITING_MAX = 64 << 20


class Overwritten(Exception):
    """The command's place in the log went to another leader's entry: it did not happen."""


class LeadershipLost(Exception):
    """The command is in a log and this replica will not learn what becomes of it."""

    def __init__(self, leader: NodeID = NOBODY) -> None:
        super().__init__(leader)
        self.leader = leader


class ReadAbandoned(Exception):
    """Leadership was lost before the read was confirmed; nothing was read."""

    def __init__(self, leader: NodeID = NOBODY) -> None:
        super().__init__(leader)
        self.leader = leader


class PendingCommands:
    """Commands in the log whose outcome somebody waits for; bounded in number and bytes."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], tuple[int, int, Deferred[Any]]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def check_room(self, size: int) -> None:
        """Raises Overloaded when a command of this many bytes should not enter the log now."""
        if len(self._waiting) >= COMMANDS_WAITING_MAX or (
            self._bytes and self._bytes + size > COMMAND_BYTES_WAITING_MAX
        ):
            raise Overloaded("too many commands wait for this group's log")

    def add(self, ticket: Ticket, size: int) -> Deferred[Any]:
        """Fires with the machine's reply; fails with Overwritten or LeadershipLost. Cancelling stops the
        waiting, not the command."""
        place = (ticket.index, ticket.position)

        def forget(_: Deferred[Any]) -> None:
            self._forget(place)

        done: Deferred[Any] = Deferred(forget)
        self._waiting[place] = (ticket.term, size, done)
        self._bytes += size
        return done

    def settle(self, index: int, term: int, replies: list[Any]) -> None:
        """The entry (index, term) was applied with these replies, one per command."""
        for position, reply in enumerate(replies):
            waiting = self._forget((index, position))
            if waiting is None:
                continue
            expected_term, _, done = waiting
            if expected_term == term:
                done.callback(reply)
            else:
                done.errback(Overwritten())

    def abandon(self, leader: NodeID) -> None:
        """Leadership is lost: release everybody."""
        released, self._waiting, self._bytes = self._waiting, {}, 0
        for _, _, done in released.values():
            done.errback(LeadershipLost(leader))

    def _forget(self, place: tuple[int, int]) -> tuple[int, int, Deferred[Any]] | None:
        waiting = self._waiting.pop(place, None)
        if waiting is not None:
            self._bytes -= waiting[1]
        return waiting


class PendingReads:
    """Reads that wait for a quorum's confirmation, then for the machine to reach an index."""

    def __init__(self) -> None:
        self._tokens = 0
        self._unconfirmed: dict[int, tuple[Any, Deferred[Any]]] = {}
        self._confirmed: list[tuple[int, int, Any, Deferred[Any]]] = []

    def __len__(self) -> int:
        return len(self._unconfirmed) + len(self._confirmed)

    def next_token(self) -> int:
        """A token never used before in this process."""
        self._tokens += 1
        return self._tokens

    def add(self, token: int, query: Any) -> Deferred[Any]:
        """Fires with the machine's answer; fails with ReadAbandoned. Cancelling stops the waiting."""

        def forget(_: Deferred[Any]) -> None:
            self._unconfirmed.pop(token, None)

        done: Deferred[Any] = Deferred(forget)
        self._unconfirmed[token] = (query, done)
        return done

    def confirm(self, token: int, index: int) -> None:
        """The read is linearizable at ``index``."""
        waiting = self._unconfirmed.pop(token, None)
        if waiting is not None:
            heapq.heappush(self._confirmed, (index, token, *waiting))

    def due(self, applied: int) -> list[tuple[Any, Deferred[Any]]]:
        """Take out the (query, Deferred) that can be answered at this applied index."""
        due = []
        while self._confirmed and self._confirmed[0][0] <= applied:
            _, _, query, done = heapq.heappop(self._confirmed)
            if not done.called:
                due.append((query, done))
        return due

    def abandon(self, leader: NodeID) -> None:
        """Leadership is lost: what is not confirmed may be stale; release it. Confirmed reads stay valid."""
        released, self._unconfirmed = self._unconfirmed, {}
        for _, done in released.values():
            done.errback(ReadAbandoned(leader))

    def release(self) -> None:
        """Nothing is answered here any more, or not for a while: release everybody, also who waits for an index."""
        confirmed, self._confirmed = self._confirmed, []
        self.abandon(NOBODY)
        for _, _, _, done in confirmed:
            if not done.called:
                done.errback(ReadAbandoned())
