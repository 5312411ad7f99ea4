"""What goes wrong, when and for how long: faults drawn from the world's dice by the weights of a plan.

Every fault is undone after a while, and ``calm`` undoes all of them at once. It decides nothing about what must hold;
it knows a cluster only by what can be done to it (``Victim``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from twisted_kv.simulation.disk import USUAL_SECONDS, SimDisk
from twisted_kv.simulation.network import RELIABLE, UNRELIABLE, Conditions, Hub
from twisted_kv.simulation.world import World, between, one_of, shuffled, weighted

STORM: Final = Conditions(
    request_seconds=(0.0, 0.06),
    reply_seconds=(0.0, 0.06),
    request_loss=0.25,
    reply_loss=0.15,
    duplicate=0.25,
    late=0.1,
    limbo=0.1,
)


class Victim(Protocol):
    """What can be done to a cluster. Members are named; a group is the members that vote together."""

    hub: Hub

    @property
    def groups(self) -> Mapping[int, Sequence[str]]:
        """gid (0: the controllers) → names of the members."""

    @property
    def alive(self) -> Sequence[str]:
        """Members that run, held or not."""

    @property
    def dead(self) -> Sequence[str]:
        """Members that were killed, or have stopped by themselves."""

    def leader(self, gid: int) -> str | None:
        """Who leads, as far as an onlooker can tell."""

    def kill(self, name: str) -> None:
        """SIGKILL."""

    def restart(self, name: str) -> None:
        """Boot a dead member again on what its disk holds."""

    def terminate(self, name: str) -> None:
        """SIGTERM; it starts again by itself."""

    def wipe(self, name: str) -> None:
        """Kill a member, if it is alive, and empty its directory."""

    def hold(self, name: str) -> None:
        """SIGSTOP."""

    def release(self, name: str) -> None:
        """SIGCONT."""

    def held(self, name: str) -> bool:
        """Whether it is stopped by ``hold``."""

    def disks(self, name: str) -> Sequence[SimDisk]:
        """The disk of the log and that of the data of a member that is alive."""


class Plan(msgspec.Struct, frozen=True):
    """What a run is made of.

    Attributes:
        name: by which it is asked for.
        faults: name of a method of Nemesis → weight.
        every_seconds: (least, most) time from one fault to the next.
        lasting_seconds: (least, most) time for which one lasts.
        conditions: of the network between faults.
        churn_seconds: (least, most) pause between two changes of the configuration; None: no changes.
    """

    name: str
    faults: Mapping[str, float] = {}
    every_seconds: tuple[float, float] = (0.2, 1.5)
    lasting_seconds: tuple[float, float] = (0.1, 2.0)
    conditions: Conditions = RELIABLE
    churn_seconds: tuple[float, float] | None = None

    @property
    def is_gentle(self) -> bool:
        """Whether nothing goes wrong: then no call may fail."""
        return not self.faults and self.conditions == RELIABLE


_CRASHES: Final = {
    "crash": 4.0,
    "crash_leader": 3.0,
    "crash_while_saving": 3.0,
    "crash_group": 1.0,
    "crash_all": 0.3,
    "terminate": 2.0,
}
_PARTITIONS: Final = {"halves": 3.0, "isolate_leader": 3.0, "one_way": 3.0, "minority": 3.0, "slow_link": 1.0}
_PAUSES: Final = {"pause": 2.0, "pause_leader": 2.0}
_DISKS: Final = {"slow_disk": 1.0, "stalled_disk": 1.0, "full_disk": 0.5, "failing_disk": 1.0}
_WIPES: Final = {"wipe": 2.0}
_NETWORK: Final = {"unreliable": 2.0, "storm": 1.0}

PLANS: Final[Mapping[str, Plan]] = {
    plan.name: plan
    for plan in (
        Plan("calm"),
        Plan("lossy", _NETWORK, conditions=UNRELIABLE),
        Plan("crashes", _CRASHES | _DISKS),
        Plan("partitions", _PARTITIONS | _PAUSES),
        Plan("wipes", _WIPES | _CRASHES | _PARTITIONS),
        Plan("churn", churn_seconds=(0.1, 2.0)),
        Plan("everything", _CRASHES | _PARTITIONS | _PAUSES | _DISKS | _NETWORK | _WIPES, churn_seconds=(0.5, 4.0)),
    )
}


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
        self.faults = 0

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
        victim = self._victim
        victim.hub.heal()
        victim.hub.conditions = RELIABLE
        victim.hub.release_limbo()
        for name in victim.alive:
            if victim.held(name):
                victim.release(name)
            self._mend_disks(name)
        for name in victim.dead:
            victim.restart(name)

    def elected(self) -> None:
        """There is a new leader: half the time, what was sent before its term arrives now (hazards §0.5)."""
        if self._random.random() < 0.5:
            self._world.clock.callLater(between(self._random, 0.0, 0.3), self._victim.hub.release_limbo)

    def _wait(self) -> None:
        pause = between(self._random, *self._plan.every_seconds) * self._pace
        self._next = self._world.clock.callLater(pause, self._strike)

    def _strike(self) -> None:
        name = weighted(self._random, self._faults)
        self.faults += 1
        self._world.trace.tell("nemesis", name)
        getattr(self, name)()
        self._wait()

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
        gid = self._some_gid()
        members = self._victim.groups[gid]
        wiped = self._wiped.setdefault(gid, [])
        whole = [name for name in members if name not in wiped]
        if len(wiped) < (len(members) - 1) // 2:
            name = one_of(self._random, whole)
            wiped.append(name)
            self._victim.wipe(name)
            self._after_a_while(self._boot, name)

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

    # ── pauses ─────────────────────────────────────────────────────────────────────────────────────

    def pause(self) -> None:
        """SIGSTOP somebody for a while."""
        self._hold(self._anybody())

    def pause_leader(self) -> None:
        """SIGSTOP a leader for a while (scenarios §3.6-54)."""
        self._hold(self._some_leader())

    # ── disks ──────────────────────────────────────────────────────────────────────────────────────

    def slow_disk(self) -> None:
        """Commits of somebody take 20 to 200 ms."""
        self._disk_fault(lambda disk: setattr(disk, "seconds", (0.02, 0.2)))

    def stalled_disk(self) -> None:
        """Somebody's disk hangs (hazard 7)."""
        self._disk_fault(lambda disk: setattr(disk, "stalled", True))

    def full_disk(self) -> None:
        """Somebody's disk is full (hazard 28)."""
        self._disk_fault(lambda disk: setattr(disk, "full", True))

    def failing_disk(self) -> None:
        """A commit fails, carried out or not (hazard 27)."""
        which = "fails_after" if self._random.random() < 0.5 else "fails_before"
        self._disk_fault(lambda disk: setattr(disk, which, 0.5))

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

    def _kill(self, name: str | None) -> None:
        if name is not None and name in self._victim.alive:
            self._victim.kill(name)
            self._after_a_while(self._boot, name)

    def _boot(self, name: str) -> None:
        if name in self._victim.dead:
            self._victim.restart(name)

    def _hold(self, name: str | None) -> None:
        if name is not None and not self._victim.held(name):
            self._victim.hold(name)
            self._after_a_while(self._go_on, name)

    def _go_on(self, name: str) -> None:
        if name in self._victim.alive and self._victim.held(name):
            self._victim.release(name)

    def _network_fault_begins(self) -> None:
        """One at a time: a new one ends the one before."""
        self._network_fault += 1
        self._victim.hub.heal()
        self._victim.hub.conditions = self._plan.conditions
        self._after_a_while(self._network_fault_ends, self._network_fault)

    def _network_fault_ends(self, number: int) -> None:
        if number == self._network_fault:
            self._victim.hub.heal()
            self._victim.hub.conditions = self._plan.conditions
            self._victim.hub.release_limbo()

    def _disk_fault(self, spoil: Callable[[SimDisk], None]) -> None:
        name = self._anybody()
        if name is not None:
            spoil(one_of(self._random, self._victim.disks(name)))
            self._after_a_while(self._mend_disks, name)

    def _mend_disks(self, name: str) -> None:
        if name in self._victim.alive:
            for disk in self._victim.disks(name):
                disk.seconds = USUAL_SECONDS
                disk.full = False
                disk.fails_before = disk.fails_after = 0.0
                disk.trap_before = disk.trap_after = None
                disk.resume()
