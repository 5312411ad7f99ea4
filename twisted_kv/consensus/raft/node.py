"""One Raft node behind the eight verbs: collects what the rules decided into one Ready.

Source: interfaces.IConsensus. It decides one thing by itself: what may leave before the save and what must wait for it
(Raft Figure 2, "updated on stable storage before responding"; thesis §10.2.1 lets a leader's appends go ahead).
It calls nobody, and knows no clock, disk or network.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted_kv.consensus.raft import dispatch, election, replication, transfer
from twisted_kv.consensus.raft.log import Log
from twisted_kv.consensus.raft.messages import PROMISES, Message
from twisted_kv.consensus.raft.roles import Candidate, Leader
from twisted_kv.consensus.raft.state import DEFAULTS, RaftSettings, State
from twisted_kv.consensus.types import (
    Entry,
    HardState,
    NodeID,
    NotLeader,
    Peer,
    Ready,
    Restored,
    Standing,
    Status,
    Ticket,
)
from twisted_kv.errors import StartRefused

__all__ = ["RaftNode", "RaftSettings"]


class RaftNode:
    """One replica of a group (interfaces.IConsensus).

    Args:
        node: own id. If it is not among the voters, as a negative one never is, this is a copy: it follows, never
            votes, never counts.
        voters: all members that count, fixed for the life of the group.
        restored: what the log store gave back; an empty one at first.
        random: source of election timeouts.
        applied: index that the owner's machine already contains, if that is beyond the log's boundary.
        settings: the same on all members.

    Raises:
        StartRefused: the restored log has a gap; nothing this program does leaves one.
    """

    def __init__(
        self,
        node: NodeID,
        voters: frozenset[NodeID],
        restored: Restored,
        random: Random,
        *,
        applied: int | None = None,
        settings: RaftSettings = DEFAULTS,
    ) -> None:
        assert voters and all(voter > 0 for voter in voters)
        for place, entry in enumerate(restored.entries, restored.boundary.index + 1):
            if entry.index != place:
                raise StartRefused(f"the log holds no entry {place}, but later ones: the directory is damaged")
        self._state = State(node, voters, restored, random, applied or 0, settings)
        self._saved = restored.hard_state
        self._told: Standing | None = None
        self._outstanding: Ready | None = None

    @property
    def log(self) -> Log:
        """What is in the log now, saved or not; to look at, not to change."""
        return self._state.log

    def tick(self) -> None:
        """Time for heartbeats, for giving up on a leader, or on leading."""
        state, role = self._state, self._state.role
        if not isinstance(role, Leader):
            election.await_leader(state)
            return
        transfer.give_up_late(state, role)
        election.check_quorum(state, role)
        if state.role is role:
            replication.beat(state, role)

    def step(self, message: Any) -> None:
        """Take a message of a peer or a local event."""
        dispatch.step(self._state, message)

    def propose(self, command: bytes) -> Ticket:
        """Put a command into the open entry; it is sealed when full, and when a Ready is taken."""
        state, role = self._state, self._state.role
        if not isinstance(role, Leader):
            raise NotLeader(state.leader)
        if role.transfer is not None:
            raise NotLeader(role.transfer.to)
        if role.open and role.open_bytes + len(command) > state.settings.entry_bytes_max:
            replication.seal(state, role)
        role.open.append(command)
        role.open_bytes += len(command)
        return Ticket(state.term, state.log.last + 1, len(role.open) - 1)

    def read(self, token: int) -> None:
        """Let a read wait for the next round of heartbeats."""
        role = self._state.role
        if not isinstance(role, Leader):
            raise NotLeader(self._state.leader)
        role.reads.ask(token)

    def ready(self) -> Ready | None:
        """Seal, send ahead, and collect; what it costs follows what is new."""
        assert self._outstanding is None, "the last Ready was not advanced"
        state = self._state
        if isinstance(state.role, Leader):
            replication.seal(state, state.role)
            replication.begin_reads(state, state.role)
            replication.flush(state, state.role)
        hard_state, standing = self._unsaved_state(), self._untold_standing()
        cut, entries = state.log.take_unsaved()
        early, late = self._sorted_mail(hard_state is not None)
        committed, confirmed, fetch = self._to_apply(), state.confirmed, state.fetch
        news = standing or hard_state or entries or early or late or committed or confirmed or fetch
        if not news and cut is None:
            return None
        state.confirmed, state.fetch = [], None
        self._told = standing or self._told
        self._outstanding = Ready(
            standing=standing,
            hard_state=hard_state,
            cut=cut,
            entries=entries,
            early=early,
            messages=late,
            committed=committed,
            reads=tuple(confirmed),
            fetch=fetch,
        )
        return self._outstanding

    def advance(self, ready: Ready) -> None:
        """Count what is durable now, this node's own vote and entries included (hazards 1 and 16)."""
        assert ready is self._outstanding, "this Ready is not the outstanding one"
        self._outstanding = None
        state = self._state
        if ready.hard_state is not None:
            self._saved = ready.hard_state
        if ready.committed:
            state.applied = max(state.applied, ready.committed[-1].index)
        state.log.saved_what_was_taken()
        if isinstance(state.role, Leader):
            replication.advance_commit(state, state.role)
        elif isinstance(state.role, Candidate) and self._saved == HardState(state.term, state.node):
            election.add_vote(state, state.role, state.node)

    def compact(self, index: int) -> None:
        """Drop what is applied and durable elsewhere; asking for less than is gone already changes nothing."""
        assert index <= self._state.applied, "only what is applied can be compacted"
        log = self._state.log
        index = min(index, log.saved)
        if index > log.boundary.index:
            log.compact(index)

    def status(self) -> Status:
        """A look inside."""
        state, role = self._state, self._state.role
        ticks = state.settings.election_ticks
        peers: tuple[Peer, ...] = ()
        if isinstance(role, Leader):
            peers = tuple(
                Peer(node, peer.match, node in state.voters, peer.silent_ticks < ticks)
                for node, peer in sorted(role.peers.items())
            )
        return Status(
            node=state.node,
            role=role.shown,
            term=state.term,
            leader=state.leader,
            commit=state.commit,
            applied=state.applied,
            last=state.log.last,
            first=state.log.first,
            voter=state.node in state.voters,
            peers=peers,
        )

    def _unsaved_state(self) -> HardState | None:
        state, saved = self._state, self._saved
        return HardState(state.term, state.vote) if (state.term, state.vote) != (saved.term, saved.vote) else None

    def _untold_standing(self) -> Standing | None:
        state, told = self._state, self._told
        role = state.role.shown
        if told is not None and told.role is role and told.term == state.term and told.leader == state.leader:
            return None
        return Standing(role, state.term, state.leader)

    def _sorted_mail(self, unsaved_term: bool) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        """Messages that may leave before the save, and those that rest on it."""
        mail = self._state.outbox
        if not mail:
            return (), ()
        self._state.outbox = []
        if unsaved_term:
            return (), tuple(mail)
        early = tuple([message for message in mail if type(message) not in PROMISES])
        return early, tuple([message for message in mail if type(message) in PROMISES])

    def _to_apply(self) -> tuple[Entry, ...]:
        state = self._state
        if state.commit <= state.applied:
            return ()
        return state.log.span(state.applied + 1, state.commit, state.settings.committed_bytes_max)[0]
