"""Decides when a peer must fetch rows instead of entries, and what a log is after they have come.

Source: Raft §7. The core moves no rows: the leader offers, the owner fetches (SnapshotSource), and tells the end of it
(SnapshotInstalled, SnapshotFailed). Neither term nor vote nor commit is ever lowered here (hazard 2).
"""

from __future__ import annotations

from twisted_kv.consensus.raft.messages import AppendAck, SnapshotOffer
from twisted_kv.consensus.raft.progress import Progress
from twisted_kv.consensus.raft.roles import Copy, Follower
from twisted_kv.consensus.raft.state import State
from twisted_kv.consensus.types import NOBODY, NodeID, Position, SnapshotFailed, SnapshotInstalled, SnapshotSource


def offer(state: State, node: NodeID, peer: Progress) -> None:
    """Tell a peer that its next entry is compacted here; repeated with each heartbeat it answers."""
    boundary = state.log.boundary
    peer.await_rows()
    state.outbox.append(SnapshotOffer(state.node, node, state.term, boundary.index, boundary.term))


def take_offer(state: State, role: Follower | Copy, message: SnapshotOffer) -> None:
    """Fetch, unless this log reaches the boundary by itself or a fetch is under way."""
    role.leader = message.sender
    state.elapsed = 0
    if state.fetching is not None:
        return
    index, term = message.index, message.boundary_term
    if index > state.commit:
        if state.log.term_at(index) != term:
            state.fetching = state.fetch = SnapshotSource(message.sender, index, term)
            return
        # What a leader has compacted is committed, and this log holds it (§5.3, Log Matching).
        state.commit = index
    state.outbox.append(AppendAck(state.node, message.sender, state.term, index))


def installed(state: State, event: SnapshotInstalled) -> None:
    """Begin the log after the rows that are durable here now, and tell the leader."""
    state.fetching = state.fetch = None
    if event.index <= state.commit or not isinstance(state.role, (Follower, Copy)):
        return
    if event.term > state.term:
        # Rows of a leader that this node has not heard of yet: the log must not end beyond the term.
        state.term, state.vote = event.term, NOBODY
    state.log.reset(Position(event.index, event.term))
    state.commit = state.applied = event.index
    leader = state.role.leader
    if leader != NOBODY:
        state.outbox.append(AppendAck(state.node, leader, state.term, event.index))


def failed(state: State, event: SnapshotFailed) -> None:
    """Take entries again, and the next offer."""
    state.fetching = state.fetch = None
