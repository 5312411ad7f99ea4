"""Faults meet whom they name, are undone in time, and kill nobody twice."""

from paper_cluster import Paper

from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.nemesis import Nemesis, Plan


def test_what_lasts_is_undone_within_what_the_plan_says():
    world = World(1)
    paper = Paper(world)
    nemesis = Nemesis(world, paper, Plan("x", lasting_seconds=(0.5, 1.0)))
    nemesis.pause()
    world.run_for(0.49)
    assert any(paper.held(name) for name in paper.alive)
    world.run_for(0.52)
    assert paper.is_well()


def test_who_is_dead_is_not_killed_again():
    world = World(1)
    paper = Paper(world)
    nemesis = Nemesis(world, paper, Plan("x", lasting_seconds=(5.0, 5.0)))
    nemesis.crash_all()
    nemesis.crash_all()
    nemesis.crash_leader()
    nemesis.crash_group()
    assert len(paper.suffered) == len(paper.dead) == 9
