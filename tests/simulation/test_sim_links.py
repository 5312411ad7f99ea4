"""Who hears whom while the network is at fault, and what comes late."""

from paper_cluster import Paper
from twisted.internet.defer import succeed

from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.nemesis import Nemesis, Plan


def test_a_minority_is_apart_from_its_own_group_only():
    world = World(1)
    paper = Paper(world)
    Nemesis(world, paper, Plan("x", {"minority": 1.0})).minority()
    cuts = {(a, b) for a in paper.alive for b in paper.alive if paper.hub.severed(a, b)}
    assert len(cuts) == 4
    assert all(a[0] == b[0] for a, b in cuts)


def test_groups_are_apart_from_each_other_and_not_within():
    paper = Paper(World(3))
    Nemesis(paper.world, paper, Plan("one")).estrange()
    severed = {(a[0], b[0]) for a in paper.alive for b in paper.alive if paper.hub.severed(a, b)}
    assert severed == {("a", "b"), ("b", "a")}
    assert not any(paper.hub.severed("client", name) for name in paper.alive)


def test_an_isolated_leader_still_hears_clients():
    """Hazard 22: it must not answer them."""
    world = World(1)
    paper = Paper(world)
    Nemesis(world, paper, Plan("x", {"isolate_leader": 1.0})).isolate_leader()
    (alone,) = [a for a in paper.alive if all(paper.hub.severed(a, b) for b in paper.alive if b != a)]
    assert not paper.hub.severed("client", alone)


def test_limbo_ends_with_the_storm():
    world = World(1)
    paper = Paper(world)
    received = []
    paper.hub.listen("sim:a1", paper.hosts["a1"], {"v": lambda body: succeed(received.append(body) or b"")})
    nemesis = Nemesis(world, paper, Plan("x", {"storm": 1.0}, (0.1, 0.1), (5.0, 5.0)))
    nemesis.start()
    world.run_until(lambda: nemesis.faults == 1, 1)
    for number in range(200):
        paper.hub.at(world.host("c1")).send("sim:a1", "v", b"%d" % number)
    nemesis.calm()
    before = len(set(received))
    world.run_for(4)
    assert len(set(received)) > before


def test_what_waits_long_in_limbo_comes_when_somebody_leads_again():
    """Hazard 14: answers to an earlier leadership of the same node; seen in some lives, in others at any election."""
    waited = set()
    for seed in range(20):
        world = World(seed)
        paper = Paper(world)
        served = paper.hub.tally.served
        paper.hub.listen("sim:a1", paper.hosts["a1"], {"v": succeed})
        nemesis = Nemesis(world, paper, Plan("x"))
        nemesis.came("before lead", "a2")
        paper.hub.withheld = lambda source, body: True
        paper.hub.at(world.host("a3")).send("sim:a1", "v", b"old")
        paper.hub.withheld = lambda source, body: False
        for _ in range(10):
            nemesis.elected()
        nemesis.came("before lead", "a3")
        world.run_for(1)
        before = served["sim:a1"]
        nemesis.came("before lead", "a2")
        world.run_for(1)
        waited.add((before > 0, served["sim:a1"] > before))
    assert waited == {(True, False), (False, True)}
