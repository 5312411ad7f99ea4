"""The kinds of core that can be explored: for each, what holds time, what names nodes, and how to look at it.

A kind is one class and one line in ``CORES``. What is said here of a core is believed by the explorer, so each claim
has its test: that the fields left out change nothing, and that exchanging names changes nothing but names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from twisted_kv.consensus.raft.messages import AppendAck, AskPreVote, AskVote, VoteAnswer
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.raft.progress import Progress
from twisted_kv.consensus.raft.roles import Leader, Transfer
from twisted_kv.consensus.raft.state import RaftSettings, State
from twisted_kv.consensus.types import Restored, Role
from twisted_kv.constants import MIB
from twisted_kv.interfaces import IConsensus
from twisted_kv.simulation.explorer.frozen import LATEST, Neutral
from twisted_kv.simulation.explorer.node import Core, Disk, View

ELECTION_TICKS: Final = 8
"""As long as may be: no number of ticks enters a state."""


def _none(ticks: int) -> int:
    return 0


def _distinct(outbox: list[Any]) -> list[Any]:
    """Each message once, in one order."""
    return sorted(dict.fromkeys(outbox), key=repr)


class RaftCore:
    """Raft.

    Time is left out. Of each field that holds ticks, what depends on it, and why nothing is lost:

    elapsed, timeout: when a follower campaigns ("timeout", at any moment), and whether it still listens to a leader
        and so ignores candidates ("late" takes a message after a wait that is long enough, at any moment).
    beat_ticks: when heartbeats leave ("heartbeat", at any moment).
    silent_ticks: when a leader gives up ("silence", at any moment, or never).
    Transfer.ticks: when a handing over is given up; that is not explored.

    What waits in the outbox for the end of a save is kept without order and repetition: the network has neither.

    Args:
        made: the class of the core; another one to plant a fault.
        append_bytes_max: a small number sends entries one by one.
    """

    name: ClassVar[str] = "raft"
    symmetric: ClassVar[bool] = True
    node_fields: ClassVar[frozenset[str]] = frozenset(
        {"node", "voters", "others", "vote", "leader", "granted", "peers", "sender", "to", "peer"}
    )
    neutral: ClassVar[Neutral] = {
        State: {"elapsed": _none, "timeout": lambda ticks: 2 * ELECTION_TICKS - 1, "outbox": _distinct},
        Leader: {"beat_ticks": _none},
        Progress: {"silent_ticks": _none},
        Transfer: {"ticks": _none},
    }

    def __init__(self, made: type[RaftNode] = RaftNode, append_bytes_max: int = MIB) -> None:
        self._made = made
        self._settings = RaftSettings(
            heartbeat_ticks=1, election_ticks=ELECTION_TICKS, append_bytes_max=append_bytes_max
        )

    def boot(self, node: int, voters: frozenset[int], restored: Restored, applied: int) -> IConsensus:
        return self._made(node, voters, restored, LATEST, applied=applied, settings=self._settings)

    def elapse(self, core: RaftNode, what: str) -> bool:
        leads = core.status().role is Role.LEADER
        if leads != (what in ("heartbeat", "silence")):
            return False
        if what == "timeout":
            # The longest that the timer may run; the first tick after which it fires ends it.
            for _ in range(2 * ELECTION_TICKS - 1):
                core.tick()
        else:
            for _ in range(1 if what == "heartbeat" else ELECTION_TICKS):
                core.tick()
        return True

    def look(self, core: RaftNode) -> View:
        status, log = core.status(), core.log
        entries = tuple([log.entry_at(index) for index in range(log.first, log.last + 1)])
        return View(status.role is Role.LEADER, status.term, status.commit, log.boundary, entries)

    def unbacked(self, message: Any, disk: Disk) -> str:
        """Votes, terms and acknowledged entries (Figure 2, "updated on stable storage before responding")."""
        kind, (term, vote) = type(message), (disk.hard_state.term, disk.hard_state.vote)
        if kind is not AskPreVote and message.term > term:
            return f"{message.sender} speaks in term {message.term}, and has {term} on disk"
        voted = message.sender if kind is AskVote else message.to if kind is VoteAnswer and message.granted else 0
        if voted and message.term == term and vote != voted:
            return f"{message.sender} votes for {voted} in term {term}, and has a vote for {vote} on disk"
        if kind is AppendAck and message.index > disk.last:
            return f"{message.sender} acknowledges {message.index}, and has {disk.last} on disk"
        return ""


CORES: Final[Mapping[str, Core]] = {"raft": RaftCore()}
