"""Faults that must follow each other: rows of them lead where single ones come once in thousands of lives.

Each step is a fault that a Nemesis knows by itself, and all are undone by whoever calms it. It decides the order and
the pauses; whom it meets is drawn by the Nemesis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from twisted_kv.simulation.doors.disk import SimDisk
from twisted_kv.simulation.doors.world import World

if TYPE_CHECKING:
    from twisted_kv.simulation.faults.nemesis import Victim

APART_SECONDS: Final = 0.7
"""Time to fall behind a short log."""
ASKING_SECONDS: Final = 0.3
CHANGING_SECONDS: Final = 1.5
"""Time for who led to hand over, to start again, to follow, and to make a checkpoint."""
ROWS_SECONDS: Final = 0.5
SEQUENCE_SECONDS: Final = APART_SECONDS + ASKING_SECONDS + CHANGING_SECONDS + ROWS_SECONDS
"""How long all of it takes, until the rows are there."""


def fail_once(disk: SimDisk, which: str) -> None:
    """The next piece of work fails, and none after it.

    Args:
        which: "fails_before" or "fails_after" it was carried out.
    """

    def sound_again() -> None:
        setattr(disk, which, 0.0)

    def spoilt() -> None:
        setattr(disk, which, 1.0)
        disk.trap_after = sound_again

    disk.trap_before = spoilt


def outdate(
    world: World, victim: Victim, leader: str, behind: str, others: Sequence[str], goes_on: Callable[[], bool]
) -> None:
    """Somebody asks for the rows of its leader, and they come from a later term, of which it has not heard (hazard 15).

    It is apart until it is behind the log. Then it has its leader only, whose rows it cannot take before its disk
    answers. Meanwhile the leader is asked to stop, hands over, and comes back as a follower, who says nothing to it,
    and is not asked for a vote, which it would refuse in words of the later term.

    Args:
        others: all other members.
        goes_on: asked before each step; False: other faults have come between.
    """
    hub = victim.hub
    hub.partition([behind], [leader, *others])

    def meet_the_leader() -> None:
        victim.disks(behind)[1].stalled = True
        hub.mend(behind, leader)
        hub.mend(leader, behind)
        later(ASKING_SECONDS, stop_the_leader)

    def stop_the_leader() -> None:
        victim.terminate(leader)
        hub.cut(behind, leader)
        later(CHANGING_SECONDS, fetch)

    def fetch() -> None:
        hub.mend(behind, leader)
        victim.disks(behind)[1].resume()

    def later(seconds: float, step: Callable[[], None]) -> None:
        def unless_disturbed() -> None:
            if goes_on() and {leader, behind} <= set(victim.alive):
                step()

        world.clock.callLater(seconds, unless_disturbed)

    later(APART_SECONDS, meet_the_leader)
