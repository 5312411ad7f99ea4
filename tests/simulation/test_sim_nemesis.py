"""Faults come by the weights of the plan, each is undone, and calm undoes all."""

import pytest
from paper_cluster import Paper

from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.moments import MOMENTS
from twisted_kv.simulation.faults.nemesis import PLANS, Nemesis, Plan
from twisted_kv.simulation.faults.sequences import SEQUENCE_SECONDS

EVERY_FAULT = sorted({fault for plan in PLANS.values() for fault in plan.faults})
LEAVES_NO_MARK = {"leap": "leap", "invade": "invaded", "move_house": "moved 100", "second_process": "started twice"} | {
    fault: fault for fault in ("echo", "misquote")
}


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_each_fault_does_something_and_passes_by_itself(fault):
    world = World(3)
    paper = Paper(world)
    nemesis = Nemesis(world, paper, Plan("one", {fault: 1.0}, lasting_seconds=(0.1, 0.4)))
    for _ in range(10 if fault in LEAVES_NO_MARK else 1):
        getattr(nemesis, fault)()
    if fault in LEAVES_NO_MARK:
        assert LEAVES_NO_MARK[fault] in paper.suffered
        assert paper.is_well()
        return
    if fault.startswith("ambush"):
        assert paper.is_well()
        for moment in MOMENTS * 4:
            nemesis.came(moment, "a1")
        world.run_until(lambda: paper.dead, 0.2)
        assert paper.dead == (["a1", "a2", "a3"] if fault == "ambush_givers" else ["a1"])
        assert world.reached == {"killed at a moment": 1}
    if fault == "crash_while_saving":
        assert any(disk.trap_before or disk.trap_after for name in paper.alive for disk in paper.disks(name))
        for name in paper.alive:
            for disk in paper.disks(name):
                disk.run(lambda: None)
        world.run_until(lambda: paper.dead, 0.01)
    assert not paper.is_well()
    world.run_for(SEQUENCE_SECONDS if fault == "outdate" else 0.41)
    assert paper.is_well()


def test_nothing_begins_before_a_sequence_is_over():
    world = World(1)
    nemesis = Nemesis(world, Paper(world), Plan("one", {"outdate": 1.0}, (0.01, 0.02)))
    nemesis.start()
    world.run_for(0.1)
    assert nemesis.faults == 1
    world.run_for(SEQUENCE_SECONDS)
    assert nemesis.faults == 2


@pytest.mark.parametrize("name", PLANS)
def test_calm_undoes_everything_and_lets_nothing_follow(name):
    """Hazards §3 rung 3: the liveness phase is about a healed cluster."""
    for seed in range(5):
        world = World(seed)
        paper = Paper(world)
        nemesis = Nemesis(world, paper, PLANS[name])
        nemesis.start()
        world.run_for(30)
        nemesis.calm()
        assert paper.is_well()
        world.run_for(30)
        assert paper.is_well()
        assert (nemesis.faults > 10) == bool(PLANS[name].faults)


def test_one_seed_gives_one_story():
    def story(seed):
        world = World(seed)
        nemesis = Nemesis(world, Paper(world), PLANS["everything"])
        nemesis.start()
        world.run_for(20)
        return world.trace.digest()

    assert story(1) == story(1) != story(2)
