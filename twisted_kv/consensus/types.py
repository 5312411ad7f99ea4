"""The values that every consensus core takes and gives, Raft and Paxos alike.

A Raft vote is a Paxos promise: with ballots disjoint per proposer, HardState.term is the promised ballot,
Entry.index the slot and Entry.term the ballot it was accepted in. So one store, one pump and one contract
suite serve both. What one core alone says to its peers is in that core's ``messages``.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

NodeID = int
"""A member of a group, from 1. A directory that was wiped comes back as ``-node``: a copy that never counts."""

NOBODY: NodeID = 0


class Role(enum.Enum):
    """What a replica is at the moment. A COPY follows but never votes, campaigns or counts."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"
    COPY = "copy"


class NotLeader(Exception):
    """Raised by propose and read; ``leader`` is the node to ask, or NOBODY."""

    def __init__(self, leader: NodeID = NOBODY) -> None:
        super().__init__(leader)
        self.leader = leader


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One slot of the log. No commands: a no-op, by which a leader opens its term (Raft §8)."""

    index: int
    term: int
    commands: tuple[bytes, ...] = ()


class HardState(msgspec.Struct, frozen=True, array_like=True):
    """What must survive a crash besides the entries: the term (ballot promised) and the vote in it."""

    term: int = 0
    vote: NodeID = NOBODY


class Position(msgspec.Struct, frozen=True, array_like=True):
    """A place in the log that is known to be committed."""

    index: int = 0
    term: int = 0


class Restored(msgspec.Struct, frozen=True):
    """What a store gives back at start.

    Attributes:
        hard_state: the last one saved.
        boundary: where the log begins: everything at or below is in the data file, and committed.
        entries: the entries above the boundary, ascending; gaps are allowed.
    """

    hard_state: HardState = HardState()
    boundary: Position = Position()
    entries: tuple[Entry, ...] = ()


class Ticket(msgspec.Struct, frozen=True):
    """Where a proposed command stands if it is committed."""

    term: int
    index: int
    position: int


class ReadIndex(msgspec.Struct, frozen=True):
    """A read that is linearizable once the machine has applied ``index``."""

    token: int
    index: int


class SnapshotSource(msgspec.Struct, frozen=True):
    """This replica is behind the log of ``peer``: fetch rows there, then step(SnapshotInstalled)."""

    peer: NodeID
    index: int
    term: int


class Standing(msgspec.Struct, frozen=True):
    """Role, term and leader together: reported in a Ready whenever one of them changed."""

    role: Role
    term: int
    leader: NodeID


class Ready(msgspec.Struct, frozen=True):
    """All that is to be done now, in this order: send ``early``; save; send ``messages``; apply; answer reads.

    Attributes:
        standing: set when role, term or leader changed; waiting proposals and reads of a lost leadership
            are failed by the owner on this.
        hard_state: to be saved, or None if unchanged.
        cut: delete every saved entry at or above this index before the upsert; None: no cut.
        entries: to be saved, upserted by index.
        early: messages that promise nothing about this save; they may leave before it.
        messages: messages that may leave only when the save is durable.
        committed: to be applied, ascending and gap-free, after the save.
        reads: reads confirmed by a quorum; answer each when its index is applied.
        fetch: rows to be fetched from a peer, repeated until SnapshotInstalled or SnapshotFailed is stepped.
    """

    standing: Standing | None = None
    hard_state: HardState | None = None
    cut: int | None = None
    entries: tuple[Entry, ...] = ()
    early: tuple[Any, ...] = ()
    messages: tuple[Any, ...] = ()
    committed: tuple[Entry, ...] = ()
    reads: tuple[ReadIndex, ...] = ()
    fetch: SnapshotSource | None = None

    @property
    def must_save(self) -> bool:
        """Whether anything has to reach the disk."""
        return self.hard_state is not None or self.cut is not None or bool(self.entries)


class Peer(msgspec.Struct, frozen=True):
    """What a leader knows of another member."""

    node: NodeID
    matched: int
    voter: bool
    active: bool


class Status(msgspec.Struct, frozen=True):
    """A look inside, for people and tests; costs no quorum."""

    node: NodeID
    role: Role
    term: int
    leader: NodeID
    commit: int
    applied: int
    last: int
    first: int
    voter: bool
    peers: tuple[Peer, ...] = ()


# Local events: given to step() like messages, never sent.


class SaveStalled(msgspec.Struct, frozen=True):
    """The oldest save has not finished for an election timeout: lead no longer, campaign no more until it has."""


class SaveResumed(msgspec.Struct, frozen=True):
    """Saves finish again."""


class DiskFull(msgspec.Struct, frozen=True):
    """No room to append: neither campaign nor vote nor lead (hazard 28); SaveResumed ends it."""


class SnapshotInstalled(msgspec.Struct, frozen=True):
    """Rows at (index, term) are durable here and the log was reset to begin after them."""

    index: int
    term: int


class SnapshotFailed(msgspec.Struct, frozen=True):
    """The rows could not be fetched; ask again when the leader next offers."""


class TransferLeadership(msgspec.Struct, frozen=True):
    """Hand leadership to ``to``, or to the best follower when NOBODY (Ongaro's thesis §3.10)."""

    to: NodeID = NOBODY


class CopySeen(msgspec.Struct, frozen=True):
    """A wiped member asks to be kept up to date as a copy: id ``-node``, never counted.

    ``is_another``: it has lost its disk once more since it last asked, and holds nothing of what it said it has.
    """

    node: NodeID
    is_another: bool = False


class PeerUnreachable(msgspec.Struct, frozen=True):
    """Sends to this peer are being dropped: probe it, do not stream to it."""

    node: NodeID
