"""Whom a fault meets, and until when: what all faults of a nemesis share.

Decides that every fault is undone after a while that is drawn by the plan, and that only who is alive is killed. Knows
a cluster only by what can be done to it (``Victim``).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_kv.simulation.doors.disk import USUAL_SECONDS
from twisted_kv.simulation.doors.world import World, between, one_of
from twisted_kv.simulation.faults.plans import Plan
from twisted_kv.simulation.faults.victim import Victim


class Reach:
    """Draws members, and undoes what befell them."""

    def __init__(self, world: World, victim: Victim, plan: Plan) -> None:
        self._world = world
        self._victim = victim
        self._plan = plan
        self._random = world.random_for("nemesis")

    def _everybody(self) -> list[str]:
        return [name for members in self._victim.groups.values() for name in members]

    def _some_gid(self) -> int:
        return one_of(self._random, list(self._victim.groups))

    def _gid_of(self, member: str) -> int:
        return next(gid for gid, members in self._victim.groups.items() if member in members)

    def _anybody(self) -> str | None:
        alive = list(self._victim.alive)
        return one_of(self._random, alive) if alive else None

    def _some_leader(self) -> str | None:
        name = self._victim.leader(self._some_gid())
        return name if name in self._victim.alive else None

    def _leader_of(self, member: str) -> str | None:
        return self._victim.leader(self._gid_of(member))

    def _after_a_while(self, undo: Callable[..., None], *arguments: object) -> None:
        self._world.clock.callLater(between(self._random, *self._plan.lasting_seconds), undo, *arguments)

    def _kill(self, name: str | None, torn: bool = False) -> None:
        if name is not None and name in self._victim.alive:
            self._victim.kill(name, torn)
            self._after_a_while(self._boot, name)

    def _boot(self, name: str) -> None:
        if name in self._victim.dead:
            self._victim.restart(name)

    def _mend_disks(self, name: str) -> None:
        if name in self._victim.alive:
            for disk in self._victim.disks(name):
                disk.seconds = USUAL_SECONDS
                disk.full = False
                disk.fails_before = disk.fails_after = 0.0
                disk.trap_before = disk.trap_after = None
                disk.resume()
