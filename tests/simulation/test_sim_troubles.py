"""Troubles kill nobody, and meet a whole process where one disk alone would not."""

from paper_cluster import Paper

from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.nemesis import Nemesis, Plan


def test_a_disk_that_is_full_is_full_for_log_and_data():
    """Hazard 28: both files are in one directory."""
    world = World(1)
    paper = Paper(world)
    Nemesis(world, paper, Plan("x")).full_disk()
    full = [[disk.full for disk in paper.disks(name)] for name in paper.alive]
    assert sorted(full) == [[False, False]] * 8 + [[True, True]]


def test_only_a_leader_is_paused_by_its_name():
    """Scenario §3.6-54."""
    for seed in range(10):
        paper = Paper(World(seed))
        Nemesis(paper.world, paper, Plan("x")).pause_leader()
        (held,) = [name for name in paper.alive if paper.held(name)]
        assert held in ("c1", "a1", "b1")
        assert not paper.dead
