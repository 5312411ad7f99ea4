"""A group never loses the disks of a majority."""

import pytest
from paper_cluster import Paper

from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.nemesis import Nemesis, Plan


def test_only_a_minority_is_ever_wiped():
    """Hazard 9: a majority of the voters keeps what was acknowledged."""
    world = World(1)
    paper = Paper(world)
    nemesis = Nemesis(world, paper, Plan("x", {"wipe": 1.0}))
    for _ in range(50):
        nemesis.wipe()
        world.run_for(3)
    assert len([name for name in paper.suffered if name in paper.groups[0]]) == 1
    assert len([name for name in paper.suffered if name in paper.groups[100]]) == 1


@pytest.mark.parametrize("fault", ["wipe", "flip"])
def test_wiped_and_flipped_disks_are_a_minority_together(fault):
    """A flipped bit may cost the disk (hazard 34)."""
    world = World(1)
    paper = Paper(world)
    nemesis = Nemesis(world, paper, Plan("x", {fault: 1.0}))
    nemesis.wipe()
    for _ in range(50):
        getattr(nemesis, fault)()
        world.run_for(3)
    assert len([name for name in paper.suffered if name in paper.groups[0]]) == 1
    assert len([name for name in paper.suffered if name in paper.groups[100]]) == 1
