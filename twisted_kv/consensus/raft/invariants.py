"""What must hold of all nodes of a group at every moment, whatever the network and the disks do.

Source: Raft Figure 3. Checked from outside, after every step of a test or a simulation; no rule of the core relies on
it. It looks only at what is new since it last looked, so that looking after every step stays cheap.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import Entry, NodeID, Role, Status


class InvariantViolated(AssertionError):
    """One of the five properties of Figure 3 does not hold; ``name`` says which."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


def check_cluster(nodes: Iterable[RaftNode]) -> None:
    """Check what can be seen at one moment. ``Invariants`` sees more: it remembers.

    Raises:
        InvariantViolated: with the name of the property.
    """
    Invariants().observe(nodes)


class _Seen:
    """What was last seen of one node, and the entries it held."""

    __slots__ = ("commit", "entries", "last", "led", "node")

    def __init__(self, node: RaftNode) -> None:
        self.node = node
        self.commit = 0
        self.led = 0
        self.last = 0
        self.entries: dict[int, Entry] = {}


class Invariants:
    """Remembers leaders, entries and what was committed, over the whole life of a group and all its restarts."""

    def __init__(self) -> None:
        self._leaders: dict[int, NodeID] = {}
        self._entries: dict[tuple[int, int], tuple[Entry, int | None]] = {}
        self._committed: dict[int, tuple[int, int]] = {}
        self._seen: dict[NodeID, _Seen] = {}

    def observe(self, nodes: Iterable[RaftNode]) -> None:
        """Look at every node that is up.

        Raises:
            InvariantViolated: with the name of the property.
        """
        for node in nodes:
            status = node.status()
            seen = self._seen.get(status.node)
            if seen is None or seen.node is not node:
                seen = self._seen[status.node] = _Seen(node)
            leads = status.role is Role.LEADER
            if leads:
                self._election_safety(status)
                if seen.led == status.term:
                    self._leader_append_only(status, seen)
            self._log_matching(status, seen)
            self._state_machine_safety(status, seen)
            if leads and seen.led != status.term:
                self._leader_completeness(status, node)
            seen.led = status.term if leads else 0

    def _election_safety(self, status: Status) -> None:
        """At most one leader can be elected in a given term."""
        leader = self._leaders.setdefault(status.term, status.node)
        if leader != status.node:
            raise InvariantViolated("Election Safety", f"{leader} and {status.node} both led term {status.term}")

    def _leader_append_only(self, status: Status, seen: _Seen) -> None:
        """A leader never overwrites or deletes entries in its log."""
        log, last = seen.node.log, seen.last
        if log.last < last or (log.first <= last and log.entry_at(last) is not seen.entries[last]):
            raise InvariantViolated("Leader Append-Only", f"{status.node} changed entry {last} in term {status.term}")

    def _log_matching(self, status: Status, seen: _Seen) -> None:
        """Two logs that hold an entry with the same index and term are equal up to it."""
        log = seen.node.log
        known = min(seen.last, log.last)
        while known >= log.first and seen.entries.get(known) is not log.entry_at(known):
            known -= 1
        for index in range(max(known + 1, log.first), log.last + 1):
            entry = log.entry_at(index)
            before = log.term_at(index - 1)
            other, other_before = self._entries.setdefault((index, entry.term), (entry, before))
            if (other is not entry and other != entry) or other_before != before:
                raise InvariantViolated("Log Matching", f"{status.node} holds another entry {index}/{entry.term}")
            seen.entries[index] = entry
        seen.last = log.last

    def _state_machine_safety(self, status: Status, seen: _Seen) -> None:
        """What one node has committed at an index, every node commits there."""
        if status.commit < seen.commit:
            raise InvariantViolated("State Machine Safety", f"{status.node} took back the commit of {seen.commit}")
        log = seen.node.log
        for index in range(max(seen.commit + 1, log.boundary.index), status.commit + 1):
            term = log.term_at(index)
            if term is None:
                raise InvariantViolated("State Machine Safety", f"{status.node} commits {index}, which it lacks")
            committed, _ = self._committed.setdefault(index, (term, status.term))
            if committed != term:
                text = f"{status.node} commits entry {index} of term {term}, another node of {committed}"
                raise InvariantViolated("State Machine Safety", text)
        seen.commit = status.commit

    def _leader_completeness(self, status: Status, node: RaftNode) -> None:
        """What was committed in an earlier term is in the log of every later leader.

        By Log Matching the highest such entry speaks for all below it.
        """
        log = node.log
        for index in range(max(self._committed, default=0), log.boundary.index, -1):
            term, committed_in = self._committed.get(index, (0, status.term))
            if committed_in < status.term:
                if log.term_at(index) != term:
                    raise InvariantViolated("Leader Completeness", f"{status.node} leads without entry {index}/{term}")
                return
