"""Processes that end, the power that fails, and disks that are lost with it.

Decides that only a minority of a group ever loses its disks. Knows nothing of when and how often.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_kv.simulation.doors.world import World, one_of
from twisted_kv.simulation.faults.plans import Plan
from twisted_kv.simulation.faults.reach import Reach
from twisted_kv.simulation.faults.victim import Victim


class Crashes(Reach):
    """Faults of processes and of the power."""

    def __init__(self, world: World, victim: Victim, plan: Plan) -> None:
        super().__init__(world, victim, plan)
        self._wiped: dict[int, list[str]] = {}

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

    def crash_group(self) -> None:
        """Kill a whole group."""
        for name in self._victim.groups[self._some_gid()]:
            self._kill(name)

    def crash_all(self) -> None:
        """Kill everybody: the power is gone."""
        for name in list(self._victim.alive):
            self._kill(name)

    def terminate(self) -> None:
        """Ask a leader or somebody else to stop cleanly."""
        name = self._anybody() if self._random.random() < 0.5 else self._some_leader()
        if name is not None:
            self._victim.terminate(name)

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

    def wipe(self) -> None:
        """Somebody loses its disk and comes back as a copy (hazard 9). A minority of a group only, and for good: those
        who hold what was acknowledged must stay a majority of the voters."""
        self._lose_disk(self._victim.wipe)

    def flip(self) -> None:
        """One bit in a file of somebody dead is another; it may cost the disk, so a minority only (hazard 34)."""
        self._lose_disk(self._victim.flip)

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
