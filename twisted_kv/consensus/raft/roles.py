"""What a node is, with the data that only then exists.

Source: Raft §5.1, Figure 4; PreCandidate from the thesis §9.6, Copy is a non-voting server (§4.2.1). Which role comes
after which is decided in ``election``; a role changes nothing but itself.
"""

from __future__ import annotations

from typing import ClassVar

from twisted_kv.consensus.raft.progress import Progress
from twisted_kv.consensus.raft.reads import Reads
from twisted_kv.consensus.types import NOBODY, NodeID, Role


class Follower:
    """Takes entries from ``leader``, or from whoever wins next when NOBODY."""

    __slots__ = ("leader",)
    shown: ClassVar[Role] = Role.FOLLOWER

    def __init__(self, leader: NodeID = NOBODY) -> None:
        self.leader = leader


class Copy:
    """Follows, and never votes, campaigns or counts (hazard 9)."""

    __slots__ = ("leader",)
    shown: ClassVar[Role] = Role.COPY

    def __init__(self, leader: NodeID = NOBODY) -> None:
        self.leader = leader


class PreCandidate:
    """Asks whether a campaign would be won; has not left its term."""

    __slots__ = ("granted",)
    shown: ClassVar[Role] = Role.CANDIDATE
    leader: ClassVar[NodeID] = NOBODY

    def __init__(self, granted: set[NodeID]) -> None:
        self.granted = granted


class Candidate:
    """Has voted for itself in its term and collects votes."""

    __slots__ = ("granted",)
    shown: ClassVar[Role] = Role.CANDIDATE
    leader: ClassVar[NodeID] = NOBODY

    def __init__(self, granted: set[NodeID]) -> None:
        self.granted = granted


class Transfer:
    """Leadership on its way to another node (thesis §3.10)."""

    __slots__ = ("ticks", "to", "told")

    def __init__(self, to: NodeID) -> None:
        self.to = to
        self.ticks = 0
        self.told = False


class Leader:
    """Leads its term.

    Attributes:
        leader: itself.
        peers: every other voter and every copy that asked, by id.
        open: commands of the entry that is not sealed yet; ``open_bytes`` their size.
        beat_ticks: since the last heartbeats.
        transfer: set while leadership is being handed over; nothing is proposed meanwhile.
    """

    __slots__ = ("beat_ticks", "leader", "open", "open_bytes", "peers", "reads", "transfer")
    shown: ClassVar[Role] = Role.LEADER

    def __init__(self, node: NodeID, peers: dict[NodeID, Progress]) -> None:
        self.leader = node
        self.peers = peers
        self.reads = Reads()
        self.open: list[bytes] = []
        self.open_bytes = 0
        self.beat_ticks = 0
        self.transfer: Transfer | None = None


RoleState = Follower | Copy | PreCandidate | Candidate | Leader
