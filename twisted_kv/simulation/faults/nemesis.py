"""What goes wrong, when and for how long: faults drawn from the world's dice by the weights of a plan.

Every fault is undone after a while, and ``calm`` undoes all of them at once. It decides nothing about what must hold;
it knows a cluster only by what can be done to it (``Victim``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

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
from twisted_kv.simulation.doors.disk import USUAL_SECONDS, SimDisk
from twisted_kv.simulation.doors.network import RELIABLE, UNRELIABLE, Conditions
from twisted_kv.simulation.doors.world import World, between, one_of, shuffled, weighted
from twisted_kv.simulation.faults.moments import (
    COPY_MOMENTS,
    ELECTION_MOMENTS,
    LOG_MOMENTS,
    MOVE_MOMENTS,
    SNAPSHOT_MOMENTS,
)
from twisted_kv.simulation.faults.plans import PLANS, STORM, WITHHOLDING, Hints, Plan
from twisted_kv.simulation.faults.sequences import SEQUENCE_SECONDS, fail_once, outdate
from twisted_kv.simulation.faults.victim import Victim
from twisted_kv.transport.wire import STEP

__all__ = ["PLANS", "Hints", "Nemesis", "Plan", "Victim"]

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


class Nemesis:
    """Lets the faults of a plan loose on a cluster."""

    def __init__(self, world: World, victim: Victim, plan: Plan) -> None:
        self._world = world
        self._victim = victim
        self._plan = plan
        self._random = world.random_for("nemesis")
        self._pace = one_of(self._random, (0.25, 0.6, 1.5))
        # Every seed does without some faults, so that others come in long rows (swarm testing).
        kept = {name: weight for name, weight in plan.faults.items() if self._random.random() < 0.7}
        self._faults = kept or plan.faults
        self._next: Any = None
        self._network_fault = 0
        self._wiped: dict[int, list[str]] = {}
        self._ambushes: dict[str, Callable[[str], str | None]] = {}
        self._have_led: dict[int, set[str]] = {}
        # What is in limbo waits for any election, or in some lives for somebody who leads again (hazard 14).
        self._waits_long = self._random.random() < 0.3
        self.faults = 0
        victim.moment = self.came

    def start(self) -> None:
        """Begin; the network is as the plan says from now on."""
        self._victim.hub.conditions = self._plan.conditions
        if self._faults:
            self._wait()

    def calm(self) -> None:
        """No more faults: links heal, the held go on, the dead boot, disks are sound and what was in limbo arrives."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._network_fault += 1
        self._ambushes.clear()
        victim = self._victim
        victim.echoes.hush()
        self._heal()
        victim.hub.conditions = RELIABLE
        victim.hub.release_limbo()
        for name in victim.alive:
            if victim.held(name):
                victim.release(name)
            self._mend_disks(name)
        for name in list(victim.dead):
            self._boot(name)

    def elected(self) -> None:
        """There is a new leader: half the time, what was sent before its term arrives now (hazards §0.5)."""
        if self._random.random() < 0.5 and not self._waits_long:
            self._release_limbo(None)

    def came(self, moment: str, member: str) -> None:
        """A member has come to a moment; somebody may have waited for it there."""
        if moment == "before lead":
            self._led(member)
        whom = self._ambushes.pop(moment, None)
        name = whom(member) if whom is not None else None
        if name is not None and name in self._victim.alive:
            self._world.trace.tell("nemesis", "springs", moment=moment)
            self._world.reach("killed at a moment")
            self._kill(name, torn=self._random.random() < 0.2)

    def _with_its_group(self, member: str) -> str:
        for mate in self._victim.groups[self._gid_of(member)]:
            if mate != member:
                self._kill(mate)
        return member

    def _gid_of(self, member: str) -> int:
        return next(gid for gid, members in self._victim.groups.items() if member in members)

    def _leader_of(self, member: str) -> str | None:
        return self._victim.leader(self._gid_of(member))

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

    def _wait(self, at_least: float = 0.0) -> None:
        pause = between(self._random, *self._plan.every_seconds) * self._pace
        self._next = self._world.clock.callLater(max(pause, at_least), self._strike)

    def _strike(self) -> None:
        name = weighted(self._random, self._faults)
        self.faults += 1
        self._world.trace.tell("nemesis", name)
        undisturbed: float | None = getattr(self, name)()
        self._wait(undisturbed or 0.0)

    # ── crashes ────────────────────────────────────────────────────────────────────────────────────

    def crash(self) -> None:
        """Kill somebody."""
        self._kill(self._anybody())

    def crash_leader(self) -> None:
        """Kill a leader."""
        self._kill(self._some_leader())

    def crash_while_saving(self) -> None:
        """Kill somebody right before its next commit, or before whatever depends on it (hazards §0.5)."""
        name = self._anybody() if self._random.random() < 0.5 else self._some_leader()
        if name is not None:
            disk = one_of(self._random, self._victim.disks(name))
            setattr(disk, one_of(self._random, ("trap_before", "trap_after")), lambda: self._kill(name))

    def ambush_election(self) -> None:
        """Kill whoever next saves a vote, campaigns or comes to lead, right before or after it (hazards §0.5)."""
        self._ambush(ELECTION_MOMENTS)

    def ambush_log(self) -> None:
        """Likewise, who next saves entries, cuts its log or applies."""
        self._ambush(LOG_MOMENTS)

    def ambush_cut(self) -> None:
        """Kill whoever next has cut its log: what was deleted must be so for good (hazard 13)."""
        self._ambush(("after cut",))

    def ambush_snapshot(self) -> None:
        """Likewise, who next makes a checkpoint, trims its log or installs rows, at each step (hazard 31)."""
        self._ambush(SNAPSHOT_MOMENTS)

    def ambush_giver(self) -> None:
        """Kill the leader of whoever next begins to install rows: they come from there (hazard 31)."""
        self._ambushes["begin install"] = self._leader_of

    def ambush_fed(self) -> None:
        """Kill the leader of whoever next is done with rows: nothing is committed without who was fed (hazard 31)."""
        self._ambushes["end install"] = self._leader_of

    def ambush_install(self) -> None:
        """Kill whoever next has a peer's rows committed and its log not yet reset (hazard 31)."""
        self._ambush(("after install", "before reset"))

    def ambush_pull(self) -> None:
        """Kill the leader of a group in which somebody saves or applies a chunk of a shard: another goes on."""
        self._ambushes[one_of(self._random, ("save take", "after take"))] = self._leader_of

    def ambush_copy(self) -> None:
        """Kill who reads rows for the taker of a shard, next or some chunks later: in the walk, in a round, or of the
        rest (hazard 44)."""
        self._ambush_later(one_of(self._random, COPY_MOMENTS), one_of(self._random, (0, 1, 3)))

    def ambush_givers(self) -> None:
        """Likewise the whole group of who next gives what changed: whoever goes on has read that from its rows."""
        self._ambushes["give round"] = self._with_its_group

    def ambush_move(self) -> None:
        """Likewise, who next proposes or applies a step of a shard that moves (hazard 43)."""
        self._ambush(MOVE_MOMENTS)

    def power_cut(self) -> None:
        """The power of somebody fails in the middle of a write."""
        self._kill(self._anybody(), torn=True)

    def power_failure(self) -> None:
        """The power of everybody fails at once."""
        for name in list(self._victim.alive):
            self._kill(name, torn=True)

    def blackout(self) -> None:
        """The power of somebody fails, and again while it opens its directory, which may be a new one (hazard 35)."""
        lost_before = [name for names in self._wiped.values() for name in names]
        kind = self._random.random()
        if kind < 0.4 and lost_before:  # it counts for nothing, so it may lose its disk once more
            name = one_of(self._random, lost_before)
            self._wipe_in_the_dark(name)
            self._after_a_while(self._boot, name)
        elif kind < 0.7:
            self._lose_disk(self._wipe_in_the_dark)
        elif (anybody := self._anybody()) is not None:
            self._victim.cut_at_start(anybody)
            self._kill(anybody, torn=True)

    def terminate(self) -> None:
        """Ask a leader or somebody else to stop cleanly."""
        name = self._anybody() if self._random.random() < 0.5 else self._some_leader()
        if name is not None:
            self._victim.terminate(name)

    def crash_group(self) -> None:
        """Kill a whole group."""
        for name in self._victim.groups[self._some_gid()]:
            self._kill(name)

    def crash_all(self) -> None:
        """Kill everybody: the power is gone."""
        for name in list(self._victim.alive):
            self._kill(name)

    def wipe(self) -> None:
        """Somebody loses its disk and comes back as a copy (hazard 9). A minority of a group only, and for good: those
        who hold what was acknowledged must stay a majority of the voters."""
        self._lose_disk(self._victim.wipe)

    def flip(self) -> None:
        """One bit in a file of somebody dead is another; it may cost the disk, so a minority only (hazard 34)."""
        self._lose_disk(self._victim.flip)

    # ── partitions ─────────────────────────────────────────────────────────────────────────────────

    def halves(self) -> None:
        """Every server to one of two sides by a coin (scenarios §2.2)."""
        sides: tuple[list[str], list[str]] = ([], [])
        for name in self._everybody():
            sides[self._random.getrandbits(1)].append(name)
        self._network_fault_begins()
        self._victim.hub.partition(*sides)

    def isolate_leader(self) -> None:
        """A leader alone, reachable by clients (hazard 22)."""
        name = self._some_leader()
        if name is not None:
            self._network_fault_begins()
            self._victim.hub.partition([name], [other for other in self._everybody() if other != name])

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

    def heal_one_by_one(self) -> None:
        """Halves, whose links come back one after the other."""
        self.halves()
        latest = self._plan.lasting_seconds[1]
        for source, target in self._victim.hub.cuts:
            number, after = self._network_fault, between(self._random, 0.0, latest)
            self._world.clock.callLater(after, self._mend, number, source, target)

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

    # ── pauses ─────────────────────────────────────────────────────────────────────────────────────

    def pause(self) -> None:
        """SIGSTOP somebody for a while."""
        self._hold(self._anybody())

    def pause_leader(self) -> None:
        """SIGSTOP a leader for a while (scenarios §3.6-54)."""
        self._hold(self._some_leader())

    def suspend(self) -> None:
        """Somebody stops for a while, and so does its clock: it wakes up and knows nothing of it (hazard 25)."""
        self._hold(self._anybody() if self._random.random() < 0.5 else self._some_leader(), frozen=True)

    def leap(self) -> None:
        """Somebody's clock leaps: its timers fire early. Back it never goes, being monotonic (hazard 24)."""
        name = self._anybody()
        if name is not None and not self._victim.held(name):
            self._victim.leap(name, between(self._random, 0.05, 3.0))

    # ── who is where ───────────────────────────────────────────────────────────────────────────────

    def move_house(self) -> None:
        """A group is found under other endpoints; an administrator readdresses it."""
        gid = self._some_gid()
        if gid > 0:
            self._victim.move_house(gid)

    def invade(self) -> None:
        """A second set of processes boots under the gid of a group that has joined (scenarios §3.3-34)."""
        self._victim.invade()

    # ── what was said before ───────────────────────────────────────────────────────────────────────

    def echo(self) -> None:
        """Commands of the past are logged again for a while, any time later (faults/echoes; hazard 43)."""
        self._victim.echoes.sound(between(self._random, *self._plan.lasting_seconds))

    def misquote(self) -> None:
        """Likewise, with something else in them, for which they must be refused (hazards 37, 42 and 46)."""
        self._victim.echoes.misquote()

    # ── disks ──────────────────────────────────────────────────────────────────────────────────────

    def slow_disk(self) -> None:
        """Commits of somebody take 20 to 200 ms."""
        self._disk_fault(lambda disk: setattr(disk, "seconds", (0.02, 0.2)))

    def stalled_disk(self) -> None:
        """Somebody's disk hangs (hazard 7)."""
        self._disk_fault(lambda disk: setattr(disk, "stalled", True))

    def full_disk(self) -> None:
        """Somebody's disk is full, for its log and for its data (hazard 28)."""
        self._disk_fault(lambda disk: setattr(disk, "full", True), of_all=True)

    def failing_commit(self) -> None:
        """One commit fails, carried out or not; the disk is sound before and after it (hazard 27)."""
        which = "fails_after" if self._random.random() < 0.5 else "fails_before"
        self._disk_fault(lambda disk: fail_once(disk, which))

    def failing_disk(self) -> None:
        """A commit fails, carried out or not (hazard 27)."""
        which = "fails_after" if self._random.random() < 0.5 else "fails_before"
        self._disk_fault(lambda disk: setattr(disk, which, 0.5))

    def second_process(self) -> None:
        """Another process is started on the directory of somebody (hazard 37)."""
        name = self._anybody()
        if name is not None:
            self._victim.start_twice(name)

    # ── whom, and until when ───────────────────────────────────────────────────────────────────────

    def _everybody(self) -> list[str]:
        return [name for members in self._victim.groups.values() for name in members]

    def _some_gid(self) -> int:
        return one_of(self._random, list(self._victim.groups))

    def _anybody(self) -> str | None:
        alive = list(self._victim.alive)
        return one_of(self._random, alive) if alive else None

    def _some_leader(self) -> str | None:
        name = self._victim.leader(self._some_gid())
        return name if name in self._victim.alive else None

    def _after_a_while(self, undo: Callable[..., None], *arguments: object) -> None:
        self._world.clock.callLater(between(self._random, *self._plan.lasting_seconds), undo, *arguments)

    def _kill(self, name: str | None, torn: bool = False) -> None:
        if name is not None and name in self._victim.alive:
            self._victim.kill(name, torn)
            self._after_a_while(self._boot, name)

    def _wipe_in_the_dark(self, name: str) -> None:
        self._victim.cut_at_start(name)
        self._victim.wipe(name)

    def _lose_disk(self, lose: Callable[[str], None]) -> None:
        gid = self._some_gid()
        members = self._victim.groups[gid]
        wiped = self._wiped.setdefault(gid, [])
        if len(wiped) < (len(members) - 1) // 2:
            name = one_of(self._random, [name for name in members if name not in wiped])
            wiped.append(name)
            lose(name)
            self._after_a_while(self._boot, name)

    def _ambush(self, moments: Sequence[str]) -> None:
        """Until somebody comes there; some of the moments are rare."""
        self._ambushes[one_of(self._random, moments)] = lambda member: member

    def _ambush_later(self, moment: str, times: int) -> None:
        """When somebody has come there so many times."""

        def whom(member: str) -> str | None:
            if times:
                self._ambush_later(moment, times - 1)
            return None if times else member

        self._ambushes[moment] = whom

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

    def _boot(self, name: str) -> None:
        if name in self._victim.dead:
            self._victim.restart(name)

    def _hold(self, name: str | None, frozen: bool = False) -> None:
        if name is not None and not self._victim.held(name):
            self._victim.hold(name, frozen)
            self._after_a_while(self._go_on, name)

    def _go_on(self, name: str) -> None:
        if name in self._victim.alive and self._victim.held(name):
            self._victim.release(name)

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

    def _disk_fault(self, spoil: Callable[[SimDisk], None], of_all: bool = False) -> None:
        name = self._anybody() if self._random.random() < 0.5 else self._some_leader()
        if name is not None:
            log, data = self._victim.disks(name)
            of_log = self._random.random() < 0.7
            for disk in (log, data) if of_all else (log,) if of_log else (data,):
                spoil(disk)
            self._after_a_while(self._mend_disks, name)

    def _mend_disks(self, name: str) -> None:
        if name in self._victim.alive:
            for disk in self._victim.disks(name):
                disk.seconds = USUAL_SECONDS
                disk.full = False
                disk.fails_before = disk.fails_after = 0.0
                disk.trap_before = disk.trap_after = None
                disk.resume()


def _acknowledges(source: str, sender: str, body: bytes) -> bool:
    """Whether somebody says which entries it has."""
    return sender == source and any(
        isinstance(message, AppendAck) for message in MESSAGES.decode(STEP.decode(body).body)
    )


def _passes(source: str, body: bytes) -> bool:
    """Nothing is withheld."""
    return False
