"""Faults come by the weights of the plan, each is undone, and calm undoes all."""

import pytest
from twisted.internet.defer import succeed

from twisted_kv.consensus.raft.messages import (
    MESSAGES,
    Append,
    AppendAck,
    AskVote,
    Heartbeat,
    HeartbeatAck,
    PreVoteAnswer,
    SnapshotOffer,
    TimeoutNow,
    VoteAnswer,
)
from twisted_kv.simulation.doors.disk import USUAL_SECONDS, SimDisk
from twisted_kv.simulation.doors.network import RELIABLE, Hub
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.moments import LOG_MOMENTS, MOMENTS
from twisted_kv.simulation.faults.nemesis import PLANS, Nemesis, Plan
from twisted_kv.simulation.faults.sequences import SEQUENCE_SECONDS
from twisted_kv.transport.wire import STEP, Step


class Paper:
    """A cluster that does nothing but suffer."""

    def __init__(self, world):
        self.world = world
        self.hub = Hub(world)
        self.groups = {0: ["c1", "c2", "c3"], 100: ["a1", "a2", "a3"], 101: ["b1", "b2", "b3"]}
        self.hosts, self._disks = {}, {}
        self.suffered = []
        self.moment = None
        self.echoes = self
        for members in self.groups.values():
            for name in members:
                self.restart(name)

    @property
    def alive(self):
        return sorted(self.hosts)

    @property
    def dead(self):
        return sorted({name for members in self.groups.values() for name in members} - set(self.hosts))

    def leader(self, gid):
        return self.groups[gid][0]

    def kill(self, name, torn=False):
        self.suffered.append("power cut" if torn else "kill")
        self.hosts.pop(name).clock.stop()

    def terminate(self, name):
        self.kill(name)
        self.world.clock.callLater(0.2, lambda: name in self.hosts or self.restart(name))

    def wipe(self, name):
        self.suffered.append(name)
        if name in self.hosts:
            self.kill(name)

    flip = wipe

    def cut_at_start(self, name):
        self.suffered.append("cut at start")

    def start_twice(self, name):
        assert name in self.hosts
        self.suffered.append("started twice")

    def sound(self, seconds):
        self.suffered.append("echo")

    def misquote(self):
        self.suffered.append("misquote")

    def hush(self):
        self.suffered.append("silence")

    def leap(self, name, seconds):
        self.suffered.append("leap")
        self.hosts[name].clock.leap(seconds)

    def move_house(self, gid):
        self.suffered.append(f"moved {gid}")

    def invade(self):
        self.suffered.append("invaded")

    def restart(self, name):
        assert name not in self.hosts
        self.hosts[name] = host = self.world.host(name)
        self._disks[name] = [SimDisk(host, self.world.random_for(name)) for _ in "ld"]

    def hold(self, name, frozen=False):
        self.suffered.append("suspend" if frozen else "hold")
        self.hosts[name].clock.hold(frozen)

    def release(self, name):
        self.hosts[name].clock.release()

    def held(self, name):
        return self.hosts[name].clock.held

    def disks(self, name):
        return self._disks[name]

    def is_well(self):
        disks = [disk for name in self.alive for disk in self.disks(name)]
        return (
            not self.dead
            and not any(self.held(name) for name in self.alive)
            and all(disk.seconds == USUAL_SECONDS and not disk.full and not disk.stalled for disk in disks)
            and all(disk.fails_before == disk.fails_after == 0 for disk in disks)
            and not any(disk.trap_before or disk.trap_after for disk in disks)
            and not any(self.hub.severed(a, b) for a in self.alive for b in self.alive)
            and self.hub.conditions == RELIABLE
            and all(self.hub.link(a, b) == RELIABLE for a in self.alive for b in self.alive)
            and not self.withholds()
        )

    def withholds(self):
        body = MESSAGES.encode(tuple(ONE_OF_EACH))
        step = STEP.encode(Step(100, 1, "", 2, body))
        return any(self.hub.withheld(name, step) for name in self.alive for _ in range(200))


ONE_OF_EACH = (
    PreVoteAnswer(1, 2, 3, 4, True),
    AskVote(1, 2, 3, 4, 3, False),
    VoteAnswer(1, 2, 3, True),
    Append(1, 2, 3, 4, 3, 0, ()),
    AppendAck(1, 2, 3, 4),
    Heartbeat(1, 2, 3, 0, 0),
    HeartbeatAck(1, 2, 3, 0),
    SnapshotOffer(1, 2, 3, 4, 3),
    TimeoutNow(1, 2, 3),
)
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


def test_one_seed_gives_one_story():
    def story(seed):
        world = World(seed)
        nemesis = Nemesis(world, Paper(world), PLANS["everything"])
        nemesis.start()
        world.run_for(20)
        return world.trace.digest()

    assert story(1) == story(1) != story(2)


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
