"""Tricks: what random faults hardly ever come to by themselves, because several things must meet.

Each is played on whoever leads, by nothing but clocks, links, mail and lost disks, and lasts some turns. Source: the
faults that survived thousands of random lives (hazards §3): answers from before the read, votes of other times, copies
that count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from twisted_kv.consensus.types import TransferLeadership
from twisted_kv.simulation.doors.world import chance, one_of, shuffled
from twisted_kv.simulation.small.group import SmallGroup
from twisted_kv.simulation.small.member import Member

ENTRIES: Final = ("Append", "SnapshotOffer")
"""Kinds by which entries and rows reach a follower."""
QUESTIONS: Final = ("AskVote",)
"""Kinds by which a candidate asks for votes."""
VOTES: Final = ("VoteAnswer",)


class Trick(Protocol):
    """Something that is played on a leader, for some turns."""

    def turn(self) -> bool:
        """One turn of it; False: it is over."""


class Forgotten:
    """A leader that time forgets: hardly a tick of its own passes, nobody reaches it, and it is asked to read.

    When others have gone on without it, what was ever answered to it arrives, the old before the new; then all heals.
    """

    def __init__(self, group: SmallGroup, leader: Member) -> None:
        self._group = group
        self._random = group.world.random_for(f"forgotten {group.turn}")
        self._leader = leader
        self._term = leader.status.term
        self._until = group.turn + 10 * group.setting.settings.election_ticks
        self._past_after = len(group.judge.past.committed)
        numbers = sorted(group.voters - {leader.number})
        company = (len(group.members) - 1) // 2 - 1
        self._friends = shuffled(self._random, numbers)[:company] if chance(self._random, 0.5) else []
        self._warm = one_of(self._random, (0, 3, 6))
        self._last = 0

    def turn(self) -> bool:
        """Whether it goes on."""
        group, leader = self._group, self._leader
        if not leader.up or group.turn >= self._until:
            return False
        if self._warm:
            # While nothing is wrong yet, it reads: there are answers to be late.
            self._warm -= 1
            return True
        if not self._last:
            self._forget()
            return True
        if self._last == 1:
            self._cut_off()
        if leader.leads and chance(self._random, 0.3):
            group.ask(leader)
            group.pump(leader)
        gone_on = (
            any(member.status.term > self._term for member in group.leaders)
            and len(group.judge.past.committed) > self._past_after + 1
        )
        if not gone_on:
            return True
        self._last += 1
        if self._last > 8:
            return False
        if leader.leads:
            term = leader.status.term
            group.ask(leader)
            group.pump(leader)
            group.mail.replay(leader.number, lambda message: message.term <= term)
        return True

    def _forget(self) -> None:
        """It asks once more, and the answers are kept back; from now on its time hardly passes."""
        group, leader = self._group, self._leader
        leader.pace = 0.05
        if not self._friends:
            group.mail.withheld = {leader.number: ()}
        group.ask(leader)
        group.pump(leader)
        self._last = 1

    def _cut_off(self) -> None:
        """Nothing of it reaches the others. With friends nothing reaches it from there either: they alone answer."""
        others = sorted(self._group.voters - {self._leader.number, *self._friends})
        here = [self._leader.number, *self._friends]
        links = {(one, other) for one in here for other in others}
        back = {(other, one) for one in (here if self._friends else ()) for other in others}
        self._group.mail.cut = links | back
        self._last = 2


class OneAhead:
    """New entries reach one follower alone, and then its disk is lost; to the others the leader seems well."""

    def __init__(self, group: SmallGroup, leader: Member) -> None:
        self._group = group
        random = group.world.random_for(f"one ahead {group.turn}")
        others = [number for number in sorted(group.voters) if number not in (leader.number, *group.wiped)]
        self._ahead = group.members[one_of(random, others) - 1]
        kept = {number: ENTRIES for number in others if number != self._ahead.number}
        group.mail.withheld = dict(kept)
        group.load.commands = 1.0
        group.reboot_turns = (1,)
        self._wipe_at = group.turn + one_of(random, (2, 4, 8))
        self._until = self._wipe_at + 20

    def turn(self) -> bool:
        """Whether it goes on."""
        group = self._group
        if group.turn == self._wipe_at and group.may_wipe and not self._ahead.leads:
            group.wipe(self._ahead)
        return group.turn < self._until


class HandedOver:
    """Leadership is handed to somebody whom nobody hears asking for votes; it may be told votes of other times."""

    def __init__(self, group: SmallGroup, leader: Member) -> None:
        self._group = group
        self._random = group.world.random_for(f"handed over {group.turn}")
        others = [member for member in group.members if member is not leader and member.number not in group.wiped]
        self._to = one_of(self._random, others)
        group.mail.withheld = dict.fromkeys(sorted(group.voters), QUESTIONS)
        group.load.commands = one_of(self._random, (0.4, 1.0))
        leader.step(TransferLeadership(self._to.node))
        self._began = group.turn
        self._lasts = one_of(self._random, (3, 12, 25))

    def turn(self) -> bool:
        """Whether it goes on."""
        group = self._group
        if group.turn < self._began + self._lasts:
            return True
        if self._to.up and chance(self._random, 0.5):
            group.mail.replay(self._to.number, lambda message: type(message).__name__ in VOTES)
        return False


class SlowToSave:
    """A leader that falls silent while it saves hears of its successor before that has ended, and dies soon after."""

    def __init__(self, group: SmallGroup, leader: Member) -> None:
        self._group = group
        self._random = group.world.random_for(f"slow to save {group.turn}")
        self._leader = leader
        self._term = leader.standing.term
        self._until = group.turn + 5 * group.setting.settings.election_ticks
        numbers = group.voters - {leader.number}
        group.mail.cut = {(leader.number, other) for other in numbers}
        leader.pace = 0.1
        group.saves_of = {leader.number: (4 * group.setting.settings.election_ticks,)}
        group.load.commands = 0.05
        for _ in range(one_of(self._random, (2, 6))):
            leader.propose(b"late")
        group.pump(leader)
        group.saves_of = {leader.number: (0,)}

    def turn(self) -> bool:
        """Whether it goes on."""
        group, leader = self._group, self._leader
        if not leader.up or group.turn >= self._until:
            return False
        if any(member.standing.term > self._term for member in group.leaders):
            group.mail.cut = set()
        if leader.saving is None and chance(self._random, 0.5):
            group.kill(leader, True)
            return False
        return True


BY_NAME: Final[Mapping[str, Callable[[SmallGroup, Member], Trick]]] = {
    "forgotten leader": Forgotten,
    "one ahead": OneAhead,
    "handed over in vain": HandedOver,
    "slow to save": SlowToSave,
}
