"""Whoever next comes to a certain moment dies there (simulation/faults/moments; hazards §0.5).

Decides which moments belong together. An ambush waits for as long as it takes; some moments are rare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted_kv.simulation.doors.world import World, one_of
from twisted_kv.simulation.faults.moments import (
    COPY_MOMENTS,
    ELECTION_MOMENTS,
    LOG_MOMENTS,
    MOVE_MOMENTS,
    SNAPSHOT_MOMENTS,
)
from twisted_kv.simulation.faults.plans import Plan
from twisted_kv.simulation.faults.reach import Reach
from twisted_kv.simulation.faults.victim import Victim


class Ambushes(Reach):
    """Kills at moments."""

    def __init__(self, world: World, victim: Victim, plan: Plan) -> None:
        super().__init__(world, victim, plan)
        self._ambushes: dict[str, Callable[[str], str | None]] = {}

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

    def ambush_install(self) -> None:
        """Kill whoever next has a peer's rows committed and its log not yet reset (hazard 31)."""
        self._ambush(("after install", "before reset"))

    def ambush_giver(self) -> None:
        """Kill the leader of whoever next begins to install rows: they come from there (hazard 31)."""
        self._ambushes["begin install"] = self._leader_of

    def ambush_fed(self) -> None:
        """Kill the leader of whoever next is done with rows: nothing is committed without who was fed (hazard 31)."""
        self._ambushes["end install"] = self._leader_of

    def ambush_pull(self) -> None:
        """Kill the leader of a group in which somebody saves or applies a chunk of a shard: another goes on."""
        self._ambushes[one_of(self._random, ("save take", "after take"))] = self._leader_of

    def ambush_move(self) -> None:
        """Likewise, who next proposes or applies a step of a shard that moves (hazard 43)."""
        self._ambush(MOVE_MOMENTS)

    def ambush_copy(self) -> None:
        """Kill who reads rows for the taker of a shard, next or some chunks later: in the walk, in a round, or of the
        rest (hazard 44)."""
        self._ambush_later(one_of(self._random, COPY_MOMENTS), one_of(self._random, (0, 1, 3)))

    def ambush_givers(self) -> None:
        """Likewise the whole group of who next gives what changed: whoever goes on has read that from its rows."""
        self._ambushes["give round"] = self._with_its_group

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

    def _with_its_group(self, member: str) -> str:
        for mate in self._victim.groups[self._gid_of(member)]:
            if mate != member:
                self._kill(mate)
        return member

    def _spring(self, moment: str, member: str) -> None:
        whom = self._ambushes.pop(moment, None)
        name = whom(member) if whom is not None else None
        if name is not None:
            self._strike_down(name, moment)

    def _strike_down(self, name: str, moment: str) -> None:
        if name in self._victim.alive:
            self._world.trace.tell("nemesis", "springs", moment=moment)
            self._world.reach("killed at a moment")
            self._kill(name, torn=self._random.random() < 0.2)
