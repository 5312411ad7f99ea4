"""What a small group of cores promises besides Raft's Figure 3: judged as it happens, over all members and boots.

What is committed stands on the disks of a majority (a disk that was wiped counts as it was then). Machines that stand
at one entry contain the same. Who is told "done" finds its commands there. No read is answered by a machine that
lacks what somebody was told before it was asked. A node that hears nobody enters no term (hazard 8), and a leader that
hears no quorum for two election timeouts of its own ticks leads no longer (hazard 7). Raft's own rules are judged by
``judges.invariants``; the arithmetic of what is committed and of reads is that of the explorer's past.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from twisted_kv.consensus.quorum import is_quorum
from twisted_kv.consensus.types import Entry, Position, Role
from twisted_kv.simulation.explorer.node import Disk, View
from twisted_kv.simulation.explorer.past import Past, durable, grown, lost
from twisted_kv.simulation.judges.checkers import (
    DURABLE,
    EQUAL,
    KEPT,
    LINEARIZABLE,
    ONE_ORDER,
    STALE_LEADER,
    TERM_STAYS,
)
from twisted_kv.simulation.small.member import Member, Rows


class Promises:
    """The judge of one group (member.Judge).

    Args:
        found: told of what does not hold: the checker, and the words.
        look: sees into the core of a member.
        voters: of the group.
        election_ticks: after which a silent leader is given up.

    Attributes:
        past: what was committed, and how fresh a read must be.
        machines: index → what every machine contains that stands there.
        done: commands and reads that were answered.
    """

    def __init__(
        self,
        found: Callable[[str, str], None],
        look: Callable[[Member], View],
        voters: frozenset[int],
        election_ticks: int,
    ) -> None:
        self._found = found
        self._look = look
        self._voters = voters
        self._election_ticks = election_ticks
        self._lost_disks: dict[int, Disk] = {}
        self._led_since: dict[int, tuple[int, int]] = {}
        self.members: Sequence[Member] = ()
        self.past = Past()
        self.machines: dict[int, Rows] = {0: Rows()}
        self.done = 0

    # ── cores ──────────────────────────────────────────────────────────────────────────────────────

    def changed(self, member: Member) -> None:
        """The commit index may have risen."""
        if member.status.commit > len(self.past.committed):
            # Who leads is judged elsewhere.
            self._grow(member, self._look(member)._replace(leads=False), 0, ())
            self._count_disks()

    def ticked(self, member: Member) -> None:
        """A tick of its own clock is over."""
        standing, election = member.standing, self._election_ticks
        if member.silence < election and standing.role is not Role.LEADER:
            return
        status = member.status
        # The standing is that before the tick: whatever came before it was acted upon, but for a save under way.
        if member.silence >= election and member.saving is None and status.term > standing.term:
            text = f"{member.name} enters term {status.term} by itself; it heard nobody for {member.silence} ticks"
            self._found(TERM_STAYS, text)
        if status.role is not Role.LEADER:
            return
        led, since = self._led_since.get(member.number, (0, 0))
        if led != status.term or since > member.ticks:
            since = member.ticks
            self._led_since[member.number] = status.term, since
        latest = {node: max(member.heard.get(node, 0), since) for node in self._voters}
        heard = {node for node, tick in latest.items() if member.ticks - tick <= 2 * election}
        if not is_quorum(heard | {member.node}, self._voters):
            text = f"{member.name} leads term {status.term} and has heard no quorum for {2 * election} ticks"
            self._found(STALE_LEADER, text)

    # ── machines and clients ───────────────────────────────────────────────────────────────────────

    def applied(self, member: Member, entry: Entry) -> None:
        """The same at every member that stands there."""
        known = self.machines.setdefault(entry.index, member.machine)
        if known != member.machine:
            self._found(EQUAL, f"{member.name} contains {member.machine}, another member {known}")

    def acknowledged(self, member: Member, entry: Entry, commands: tuple[bytes, ...]) -> None:
        """Those who proposed were told "done"."""
        if commands != entry.commands:
            self._found(DURABLE, f"{member.name} says done of {commands}, and has applied {entry}")
        self.done += len(commands)
        self._grow(member, NOTHING, entry.index, ())

    def read_began(self, token: int) -> None:
        """From now on it may be answered by nothing older than what is known now."""
        self.past = self.past._replace(reads=(*self.past.reads, (token, self.past.floor)))

    def read_answered(self, member: Member, token: int) -> None:
        """By a machine that contains all that was known when it began?"""
        self.done += 1
        self._grow(member, NOTHING, 0, ((token, member.machine.index),))

    def reads_abandoned(self, tokens: Collection[int]) -> None:
        """Nobody will be answered."""
        if tokens:
            kept = tuple([read for read in self.past.reads if read[0] not in tokens])
            self.past = self.past._replace(reads=kept)

    # ── disks ──────────────────────────────────────────────────────────────────────────────────────

    def shrank(self, member: Member) -> None:
        """Entries were cut, or rows took their place."""
        self._count_disks()

    def wiped(self, member: Member) -> None:
        """It loses its disk for good, and never counts again: what it had, it had."""
        self._lost_disks[member.number] = member.log.disk

    def _count_disks(self) -> None:
        past = self.past
        disks = [self._lost_disks.get(member.number, member.log.disk) for member in self.members]
        if missing := lost(past, [durable(past, disk) for disk in disks]):
            self._found(KEPT, missing)

    def _grow(self, member: Member, view: View, acknowledged: int, answered: tuple[tuple[int, int], ...]) -> None:
        self.past, wrong = grown(self.past, member.number, view, acknowledged, answered)
        if wrong:
            self._found(LINEARIZABLE if answered else ONE_ORDER, f"{member.name}: {wrong}")


NOTHING = View(False, 0, 0, Position(), ())
"""Of a core that is not looked at."""
