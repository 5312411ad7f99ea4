"""Links that are cut, slow or unreliable, and messages that are kept in limbo.

Decides that one such fault is at work at a time: a new one ends the one before. Knows messages by their kinds only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from twisted_kv.consensus.raft.messages import (
    MESSAGES,
    Append,
    AppendAck,
    AppendRefused,
    AskVote,
    Heartbeat,
    HeartbeatAck,
    PreVoteAnswer,
    SnapshotOffer,
    TimeoutNow,
    VoteAnswer,
)
from twisted_kv.simulation.doors.network import UNRELIABLE, Conditions
from twisted_kv.simulation.doors.world import World, between, one_of, shuffled
from twisted_kv.simulation.faults.plans import STORM, WITHHOLDING, Plan
from twisted_kv.simulation.faults.reach import Reach
from twisted_kv.simulation.faults.sequences import SEQUENCE_SECONDS, outdate
from twisted_kv.simulation.faults.victim import Victim
from twisted_kv.transport.wire import STEP

_KINDS: Final = (
    (AskVote, VoteAnswer),
    (VoteAnswer,),
    (PreVoteAnswer,),
    (Append,),
    (AppendAck, AppendRefused),
    (AppendAck,),
    (HeartbeatAck,),
    (SnapshotOffer, TimeoutNow),
)
"""Kinds of messages that are withheld together."""


class Links(Reach):
    """Faults of the network."""

    def __init__(self, world: World, victim: Victim, plan: Plan) -> None:
        super().__init__(world, victim, plan)
        self._network_fault = 0
        self._have_led: dict[int, set[str]] = {}
        self._waits_long = False
        """What is in limbo waits for any election, or in some lives for somebody who leads again (hazard 14)."""

    def halves(self) -> None:
        """Every server to one of two sides by a coin (scenarios §2.2)."""
        sides: tuple[list[str], list[str]] = ([], [])
        for name in self._everybody():
            sides[self._random.getrandbits(1)].append(name)
        self._network_fault_begins()
        self._victim.hub.partition(*sides)

    def heal_one_by_one(self) -> None:
        """Halves, whose links come back one after the other."""
        self.halves()
        latest = self._plan.lasting_seconds[1]
        for source, target in self._victim.hub.cuts:
            number, after = self._network_fault, between(self._random, 0.0, latest)
            self._world.clock.callLater(after, self._mend, number, source, target)

    def isolate_leader(self) -> None:
        """A leader alone, reachable by clients (hazard 22)."""
        name = self._some_leader()
        if name is not None:
            self._network_fault_begins()
            self._victim.hub.partition([name], [other for other in self._everybody() if other != name])

    def _cut_off(self, member: str) -> None:
        """Somebody apart from its group; other groups and clients see both."""
        self._network_fault_begins()
        mates = self._victim.groups[self._gid_of(member)]
        self._victim.hub.partition([member], [mate for mate in mates if mate != member])

    def one_way(self) -> None:
        """Some links in one direction."""
        self._network_fault_begins()
        for source in self._everybody():
            for target in self._everybody():
                if source != target and self._random.random() < 0.15:
                    self._victim.hub.cut(source, target)

    def minority(self) -> None:
        """A minority of one group apart from the rest of it; other groups see both."""
        members = shuffled(self._random, self._victim.groups[self._some_gid()])
        apart = max(1, (len(members) - 1) // 2)
        self._network_fault_begins()
        self._victim.hub.partition(members[:apart], members[apart:])

    def bridge(self) -> None:
        """Two halves that only one member can reach both of."""
        order = shuffled(self._random, self._everybody())
        middle = len(order) // 2
        self._network_fault_begins()
        self._victim.hub.bridge(order[:middle], order[middle:], order[middle])

    def ring(self) -> None:
        """In a group each sees but two others, or one of three sees but one."""
        members = shuffled(self._random, self._victim.groups[self._some_gid()])
        self._network_fault_begins()
        if len(members) > 3:
            self._victim.hub.ring(members)
        else:
            self._victim.hub.bridge(members[:1], members[1:], members[-1])

    def estrange(self) -> None:
        """No group reaches another one; each is whole, and reaches controllers and clients (hazard 44)."""
        self._network_fault_begins()
        self._victim.hub.partition(*(members for gid, members in self._victim.groups.items() if gid))

    def outdate(self) -> float:
        """Somebody asks for rows, and hears of no election until they come (faults/sequences; hazard 15).

        Returns:
            How long it takes; nothing else is to begin meanwhile.
        """
        members = list(self._victim.groups[self._some_gid()])
        leader = self._leader_of(members[0])
        if leader is None or len(members) < 3:
            return 0.0
        members.remove(leader)
        behind = members.pop(int(self._random.random() * len(members)))
        self._network_fault_begins(SEQUENCE_SECONDS)
        number = self._network_fault
        outdate(self._world, self._victim, leader, behind, members, lambda: number == self._network_fault)
        self._world.clock.callLater(SEQUENCE_SECONDS, self._mend_disks, behind)
        return SEQUENCE_SECONDS

    def slow_link(self) -> None:
        """Everything to somebody takes long."""
        target = one_of(self._random, self._everybody())
        slow = Conditions(request_seconds=(0.1, 0.6), reply_seconds=(0.1, 0.6))
        self._network_fault_begins()
        for source in self._everybody():
            self._victim.hub.shape(source, target, slow)

    def unreliable(self) -> None:
        """The labs' unreliable network."""
        self._network_fault_begins()
        self._victim.hub.conditions = UNRELIABLE

    def storm(self) -> None:
        """Loss, duplicates, long delays, limbo."""
        self._network_fault_begins()
        self._victim.hub.conditions = STORM

    def withhold(self) -> None:
        """Some kinds of messages of somebody, or of all, go into limbo; most of them also arrive at once."""
        self._withhold(one_of(self._random, _KINDS))

    def withhold_votes(self) -> None:
        """Likewise votes, and a leader dies, so that there are some (hazard 5)."""
        self._withhold(one_of(self._random, ((VoteAnswer,), (AskVote, VoteAnswer))))
        self._kill(self._some_leader())

    def withhold_heartbeats(self) -> None:
        """Likewise heartbeats or their answers (hazard 22)."""
        self._withhold(one_of(self._random, ((Heartbeat,), (HeartbeatAck,), (Heartbeat, HeartbeatAck))))

    def withhold_acks(self) -> None:
        """A leader hears of one follower that it is alive, not what it holds: rows are offered that its log reaches."""
        leader = self._some_leader()
        others = [] if leader is None else self._victim.groups[self._gid_of(leader)]
        source = [name for name in others if name != leader]
        if source:
            self._network_fault_begins()
            self._victim.hub.withheld = partial(_acknowledges, one_of(self._random, source))

    def elected(self) -> None:
        """There is a new leader: half the time, what was sent before its term arrives now (hazards §0.5)."""
        if self._random.random() < 0.5 and not self._waits_long:
            self._release_limbo(None)

    def _led(self, member: str) -> None:
        gid = self._gid_of(member)
        have_led = self._have_led.setdefault(gid, set())
        if self._waits_long and member in have_led:
            self._release_limbo(lambda source: source in self._victim.groups[gid])
        have_led.add(member)

    def _release_limbo(self, of: Callable[[str], bool] | None) -> None:
        twice = self._random.random() < 0.3
        release = partial(self._victim.hub.release_limbo, of, twice=twice, elected=True)
        self._world.clock.callLater(between(self._random, 0.0, 0.3), release)

    def _withhold(self, kinds: tuple[type, ...]) -> None:
        source = one_of(self._random, self._everybody()) if self._random.random() < 0.5 else ""
        passes = self._random.random()

        def withheld(sender: str, body: bytes) -> bool:
            if source not in ("", sender):
                return False
            messages = MESSAGES.decode(STEP.decode(body).body)
            return any(isinstance(message, kinds) for message in messages) and self._random.random() < passes

        self._network_fault_begins()
        self._victim.hub.conditions = WITHHOLDING
        self._victim.hub.withheld = withheld

    def _network_fault_begins(self, seconds: float | None = None) -> None:
        """One at a time: a new one ends the one before. For so many seconds, or as long as faults of the plan last."""
        self._network_fault += 1
        self._heal()
        self._victim.hub.conditions = self._plan.conditions
        lasting = between(self._random, *self._plan.lasting_seconds) if seconds is None else seconds
        self._world.clock.callLater(lasting, self._network_fault_ends, self._network_fault)

    def _network_fault_ends(self, number: int) -> None:
        if number == self._network_fault:
            self._heal()
            self._victim.hub.conditions = self._plan.conditions

    def _heal(self) -> None:
        self._victim.hub.heal()
        self._victim.hub.withheld = _passes

    def _mend(self, number: int, source: str, target: str) -> None:
        if number == self._network_fault:
            self._victim.hub.mend(source, target)


def _acknowledges(source: str, sender: str, body: bytes) -> bool:
    """Whether somebody says which entries it has."""
    return sender == source and any(
        isinstance(message, AppendAck) for message in MESSAGES.decode(STEP.decode(body).body)
    )


def _passes(source: str, body: bytes) -> bool:
    """Nothing is withheld."""
    return False
