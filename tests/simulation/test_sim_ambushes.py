"""An ambush kills whoever comes to its moment, once."""

from paper_cluster import Paper

from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.moments import LOG_MOMENTS, MOMENTS
from twisted_kv.simulation.faults.nemesis import Nemesis, Plan


def test_an_ambush_strikes_once_and_only_at_its_moment():
    world = World(1)
    paper = Paper(world)
    nemesis = Nemesis(world, paper, Plan("x", {"ambush_log": 1.0}))
    nemesis.ambush_log()
    assert paper.moment == nemesis.came
    for moment in MOMENTS:
        if moment not in LOG_MOMENTS:
            nemesis.came(moment, "a1")
    assert not paper.dead
    for moment in LOG_MOMENTS * 2:
        nemesis.came(moment, "a2")
        nemesis.came(moment, "a3")
    assert paper.dead == ["a2"]
    world.run_for(3)
    assert not paper.dead


def test_calm_springs_no_ambush():
    world = World(1)
    paper = Paper(world)
    nemesis = Nemesis(world, paper, Plan("x", {"ambush_move": 1.0}))
    nemesis.ambush_move()
    nemesis.calm()
    for moment in MOMENTS:
        nemesis.came(moment, "a1")
    assert not paper.dead


def test_the_heir_of_a_giver_hears_nobody_of_its_group_for_a_while():
    """Decision 0007: who goes on with a walk may know less than who began it."""
    world = World(1)
    paper = Paper(world)
    nemesis = Nemesis(world, paper, Plan("x", lasting_seconds=(0.5, 0.5)))
    nemesis.ambush_heir()
    nemesis.came("give walk", "a1")
    assert paper.hub.severed("a1", "a2") and not paper.hub.severed("a1", "b1")
    world.run_for(0.21)
    assert paper.dead == ["a1"]
    nemesis.came("before lead", "b1")
    assert not paper.hub.severed("b1", "b2")
    nemesis.came("before lead", "a2")
    assert paper.hub.severed("a2", "a3") and not paper.hub.severed("a2", "b1")
    world.run_for(0.6)
    assert paper.is_well()
    nemesis.came("before lead", "a2")
    assert paper.is_well()
