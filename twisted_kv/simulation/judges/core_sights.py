"""Sees rare events in one core: elections, replication, reads and snapshots (simulation/doors/rare).

It looks at each message before and after the core takes it, at each Ready, and at the core's own state, which it never
changes. What several cores did is put together in ``sights``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted_kv.consensus.quorum import is_quorum
from twisted_kv.consensus.raft.messages import (
    AppendAck,
    AppendRefused,
    AskVote,
    HeartbeatAck,
    PreVoteAnswer,
    VoteAnswer,
)
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.raft.roles import Leader
from twisted_kv.consensus.types import (
    DiskFull,
    Ready,
    Role,
    SaveStalled,
    SnapshotFailed,
    SnapshotInstalled,
    Standing,
    Ticket,
)
from twisted_kv.simulation.judges.sights import Sights


class CoreSights:
    """What is seen of one core in one life."""

    def __init__(self, sights: Sights, node: RaftNode, gid: int, name: str) -> None:
        self._sights = sights
        self._state = node._state
        self._gid = gid
        self._name = name
        self._led: set[int] = set()
        self._leads = False
        self._asked_votes = 0
        self._handed = 0
        self._reads = 0
        self._proposed: dict[int, int] = {}

    @property
    def role(self) -> Any:
        """As the core has it."""
        return self._state.role

    def ticked(self, was: Any) -> None:
        """A tick is over; ``was``: the role before."""
        if isinstance(was, Leader) and self._state.role is not was:
            self._sights.reach("leader without a quorum")

    def before(self, message: Any) -> Callable[[], None] | None:
        """A message is about to be stepped; what to call when it was."""
        look = _BEFORE.get(type(message))
        return look(self, message) if look is not None else None

    def proposed(self, ticket: Ticket) -> None:
        """A command stands in the open entry."""
        self._proposed[ticket.index] = ticket.term

    def asked(self) -> None:
        """A read waits."""
        self._reads += 1
        state = self._state
        if state.log.term_at(state.commit) != state.term:
            self._sights.reach("read before the first commit")

    def took(self, ready: Ready) -> None:
        """What is to be done now."""
        self._reads -= len(ready.reads)
        if ready.standing is not None:
            self._stood(ready.standing)
        if ready.cut is not None:
            self._sights.reach("log cut on conflict")
        for message in ready.early:
            self._sends(message)
        for message in ready.messages:
            self._sends(message)
        if self._leads and sum(bool(entry.commands) for entry in ready.entries) > 1:
            self._sights.reach("several entries in a turn")
        for entry in ready.committed:
            self._commits(entry.index, entry.term)

    def _stood(self, standing: Standing) -> None:
        sights = self._sights
        if standing.role is Role.LEADER:
            self._leads = True
            self._led.add(standing.term)
            sights.led(self._gid, standing.term, self._name)
            if self._handed == standing.term:
                sights.reach("leadership handed over")
        elif self._leads:
            self._leads = False
            sights.died(self._gid, self._name)
            sights.abandoned.update((self._gid, index, term) for index, term in self._proposed.items())
            if self._reads:
                sights.reach("read abandoned")
            self._reads = 0

    def _sends(self, message: Any) -> None:
        match message:
            case PreVoteAnswer(granted=False):
                self._sights.reach("pre-vote refused")
            case AskVote(term=term, transfer=transfer):
                if 0 < self._asked_votes < term and self._asked_votes not in self._led:
                    self._sights.reach("election without a winner")
                self._asked_votes = term
                if transfer:
                    self._handed = term

    def _commits(self, index: int, term: int) -> None:
        sights = self._sights
        if self._leads and term < self._state.term:
            sights.reach("entry of an older term committed")
        if self._proposed.pop(index, term) != term:
            sights.reach("command overwritten")
        if (self._gid, index, term) in sights.abandoned:
            sights.abandoned.discard((self._gid, index, term))
            sights.reach("abandoned command committed")

    # ── before a message is stepped ────────────────────────────────────────────────────────────────

    def _before_ask(self, message: AskVote) -> Callable[[], None] | None:
        state = self._state
        if (state.log.last_term, state.log.last) <= (message.last_term, message.last_index):
            return None

        def refused() -> None:
            if state.term == message.term and state.vote != message.sender:
                self._sights.reach("vote refused to a shorter log")

        return refused

    def _before_vote(self, message: VoteAnswer) -> None:
        if message.granted and message.term < self._asked_votes:
            self._sights.reach("vote of an earlier term")
        self._before_answer(message)

    def _before_answer(self, message: VoteAnswer | AppendAck | AppendRefused | HeartbeatAck) -> None:
        state = self._state
        if message.term < state.term and message.term in self._led and isinstance(state.role, Leader):
            self._sights.reach("answer to an earlier leadership")

    def _before_ack(self, message: AppendAck) -> Callable[[], None] | None:
        self._before_answer(message)
        state = self._state
        if not isinstance(state.role, Leader) or state.log.term_at(state.commit) == state.term:
            return None

        def counted() -> None:
            role, index = state.role, state.commit + 1
            term = state.log.term_at(index)
            if isinstance(role, Leader) and term is not None and term < state.term:
                holders = {node for node, peer in role.peers.items() if peer.match >= index}
                if is_quorum(holders | ({state.node} if state.log.saved >= index else set()), state.voters):
                    self._sights.reach("majority without commitment")

        return counted

    def _before_stall(self, message: SaveStalled | DiskFull) -> None:
        if isinstance(self._state.role, Leader):
            hung = isinstance(message, SaveStalled)
            self._sights.reach("leader with a hung disk" if hung else "leader with a full disk")

    def _before_installed(self, message: SnapshotInstalled) -> None:
        wanted = self._state.fetching
        self._sights.reach("snapshot installed")
        if wanted is not None and message.index > wanted.index:
            self._sights.reach("snapshot overtaken")
        if self._state.node < 0:
            self._sights.reach("copy caught up by rows")

    def _before_failed(self, message: SnapshotFailed) -> None:
        self._sights.reach("snapshot failed")


_BEFORE: Final[Mapping[type, Callable[[CoreSights, Any], Callable[[], None] | None]]] = {
    AskVote: CoreSights._before_ask,
    VoteAnswer: CoreSights._before_vote,
    AppendAck: CoreSights._before_ack,
    AppendRefused: CoreSights._before_answer,
    HeartbeatAck: CoreSights._before_answer,
    SaveStalled: CoreSights._before_stall,
    DiskFull: CoreSights._before_stall,
    SnapshotInstalled: CoreSights._before_installed,
    SnapshotFailed: CoreSights._before_failed,
}
