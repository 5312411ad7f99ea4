"""Everything one node knows, and its settings: the ground on which the rules stand.

The rules (election, replication, snapshots, transfer) are functions of this state and a message; ``dispatch`` chooses
among them and ``node`` turns the result into a Ready. This module decides nothing.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import msgspec

from twisted_kv import constants
from twisted_kv.consensus.raft.log import Log
from twisted_kv.consensus.raft.roles import Copy, Follower
from twisted_kv.consensus.types import NodeID, ReadIndex, Restored, SnapshotSource

if TYPE_CHECKING:
    from twisted_kv.consensus.raft.messages import Message
    from twisted_kv.consensus.raft.roles import RoleState
    from twisted_kv.consensus.types import DiskFull, SaveStalled


class RaftSettings(msgspec.Struct, frozen=True):
    """Lengths and limits of one group, the same on all its nodes.

    Attributes:
        heartbeat_ticks: a leader speaks at least this often.
        election_ticks: silence after which a leader is given up, by a follower after a random time between this and
            its double, by itself (check-quorum) after exactly this.
        window_messages, window_bytes: appends under way to one peer; one message may pass beyond the bytes.
        append_bytes_max: entries in one message: about this much, or one larger entry.
        entry_bytes_max: commands in one entry: about this much, or one larger command.
        committed_bytes_max: entries applied in one Ready, so that no turn is endless.
    """

    heartbeat_ticks: int = constants.HEARTBEAT_TICKS
    election_ticks: int = constants.ELECTION_TICKS
    window_messages: int = 64
    window_bytes: int = 8 * constants.MIB
    append_bytes_max: int = 1 * constants.MIB
    entry_bytes_max: int = constants.ENTRY_BYTES_MAX
    committed_bytes_max: int = constants.APPLY_BYTES_MAX

    def __post_init__(self) -> None:
        assert 0 < self.heartbeat_ticks < self.election_ticks
        assert min(self.window_messages, self.window_bytes, self.append_bytes_max, self.entry_bytes_max) > 0


DEFAULTS = RaftSettings()


class State:
    """One node.

    Attributes:
        node: own id, negative for a copy; ``voters`` all members, ``others`` those but itself.
        term, vote: what must survive a crash, with the log (Raft Figure 2).
        commit, applied: derived anew after each start (hazard 19).
        elapsed: ticks since the timer was restarted; ``timeout``: where it fires.
        held: the disk stalls or is full.
        fetching: rows were asked for from this peer; no entries are taken until they are here.
        fetch: the same, until a Ready has told it.
        outbox, confirmed: messages and reads for the next Ready.
    """

    __slots__ = (
        "applied",
        "commit",
        "confirmed",
        "elapsed",
        "fetch",
        "fetching",
        "held",
        "log",
        "node",
        "others",
        "outbox",
        "random",
        "role",
        "settings",
        "term",
        "timeout",
        "vote",
        "voters",
    )

    def __init__(
        self,
        node: NodeID,
        voters: frozenset[NodeID],
        restored: Restored,
        random: Random,
        applied: int,
        settings: RaftSettings,
    ) -> None:
        self.node = node
        self.voters = voters
        self.others = tuple(sorted(voters - {node}))
        self.settings = settings
        self.random = random
        self.term = restored.hard_state.term
        self.vote = restored.hard_state.vote
        self.log = Log(restored.boundary, restored.entries)
        self.applied = max(applied, restored.boundary.index)
        self.commit = max(restored.boundary.index, min(self.applied, self.log.last))
        self.role: RoleState = Follower() if node in voters else Copy()
        self.held: SaveStalled | DiskFull | None = None
        self.fetching: SnapshotSource | None = None
        self.fetch: SnapshotSource | None = None
        self.outbox: list[Message] = []
        self.confirmed: list[ReadIndex] = []
        self.elapsed = 0
        self.timeout = 0
        self.restart_timer()

    @property
    def leader(self) -> NodeID:
        """Who leads the present term, or NOBODY."""
        return self.role.leader

    def restart_timer(self) -> None:
        """Draw a new election timeout (§5.2); a node alone in its group has nobody to wait for."""
        ticks = self.settings.election_ticks
        self.elapsed = 0
        self.timeout = ticks + int(self.random.random() * ticks) if self.others else 1
