"""What goes wrong, when and for how long: faults drawn from the world's dice by the weights of a plan.

Every fault is a method, of one of the four kinds below; it is undone after a while, and ``calm`` undoes all of them at
once. It decides nothing about what must hold; it knows a cluster only by what can be done to it (``Victim``).
"""

from __future__ import annotations

from typing import Any

from twisted_kv.simulation.doors.network import RELIABLE
from twisted_kv.simulation.doors.world import World, between, one_of, weighted
from twisted_kv.simulation.faults.ambushes import Ambushes
from twisted_kv.simulation.faults.crashes import Crashes
from twisted_kv.simulation.faults.links import Links
from twisted_kv.simulation.faults.plans import PLANS, Hints, Plan
from twisted_kv.simulation.faults.troubles import Troubles
from twisted_kv.simulation.faults.victim import Victim

__all__ = ["PLANS", "Hints", "Nemesis", "Plan", "Victim"]


class Nemesis(Crashes, Ambushes, Links, Troubles):
    """Lets the faults of a plan loose on a cluster. One of them is of two kinds, and stands here."""

    def __init__(self, world: World, victim: Victim, plan: Plan) -> None:
        super().__init__(world, victim, plan)
        self._pace = one_of(self._random, (0.25, 0.6, 1.5))
        # Every seed does without some faults, so that others come in long rows (swarm testing).
        kept = {name: weight for name, weight in plan.faults.items() if self._random.random() < 0.7}
        self._faults = kept or plan.faults
        self._next: Any = None
        self._waits_long = self._random.random() < 0.3
        self._bereft: int | None = None
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
        self._bereft = None
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

    def ambush_heir(self) -> None:
        """Who next reads rows of a walk is heard by its group no more, and soon dies; who leads after it hears nobody
        there: it may know less than who began the walk, and the taker asks it to go on (decisions/0007)."""

        def whom(member: str) -> None:
            self._bereft = self._gid_of(member)
            self._cut_off(member)
            self._world.clock.callLater(between(self._random, 0.02, 0.2), self._strike_down, member, "give walk")

        self._ambushes["give walk"] = whom

    def came(self, moment: str, member: str) -> None:
        """A member has come to a moment; somebody may have waited for it there."""
        if moment == "before lead":
            self._led(member)
            if self._gid_of(member) == self._bereft:
                self._bereft = None
                self._cut_off(member)
        self._spring(moment, member)

    def _wait(self, at_least: float = 0.0) -> None:
        pause = between(self._random, *self._plan.every_seconds) * self._pace
        self._next = self._world.clock.callLater(max(pause, at_least), self._strike)

    def _strike(self) -> None:
        name = weighted(self._random, self._faults)
        self.faults += 1
        self._world.trace.tell("nemesis", name)
        undisturbed: float | None = getattr(self, name)()
        self._wait(undisturbed or 0.0)
