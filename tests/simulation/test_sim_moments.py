"""Moments are announced where they happen, and a member can be killed at each of them without harm."""

import pytest

from twisted_kv.machines.commands import GROUP_COMMANDS, Configure, Drop, Dropped, Freeze, Install, Open, Write
from twisted_kv.machines.configuration import Configuration
from twisted_kv.machines.rows import BEGINNING
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.knobs import Knobs
from twisted_kv.simulation.faults.moments import (
    ELECTION_MOMENTS,
    LOG_MOMENTS,
    MOMENTS,
    MOVE_MOMENTS,
    SNAPSHOT_MOMENTS,
    tag_of,
)
from twisted_kv.simulation.lives.cluster import CONTROLLERS, Cluster


def test_every_moment_belongs_to_an_ambush_and_no_ambush_waits_for_another():
    ambushes = (*ELECTION_MOMENTS, *LOG_MOMENTS, *SNAPSHOT_MOMENTS, *MOVE_MOMENTS)
    assert len(MOMENTS) == len(set(MOMENTS))
    assert sorted(ambushes) == sorted(set(ambushes))
    assert set(ambushes) == set(MOMENTS)


def test_commands_are_told_apart_by_their_letter():
    """As sealed by the codec; a change of its form must be followed here."""
    commands = {
        b"c": Configure("x", Configuration(), True),
        b"i": Install(1, 2, 3, (), BEGINNING, True, True, 0),
        b"f": Freeze(1, 2),
        b"d": Drop(1, 2),
        b"p": Dropped(1, 2),
        b"w": Write(()),
        b"o": Open((), b""),
    }
    for tag, command in commands.items():
        assert tag_of(GROUP_COMMANDS.encode(command)) == tag


@pytest.fixture(scope="module")
def eventful(tmp_path_factory):
    """Every moment of a short life: (moment, member) in order."""
    world = World(1)
    cluster = Cluster(
        world, str(tmp_path_factory.mktemp("cluster")), 1, {100: 3, 101: 3}, 4, 300, Knobs(chunk_bytes=100)
    )
    seen = []
    cluster.moment = lambda moment, member: seen.append((moment, member))
    admin, clerk = cluster.controller_clerk("admin"), cluster.clerk("clerk")

    def told(deferred):
        outcome = []
        deferred.addBoth(outcome.append)
        assert world.run_until(lambda: outcome, 60)

    told(admin.join({100: cluster.endpoints(100)}, timeout=30))
    for number in range(20):
        told(clerk.put(f"k{number}", "v" * 50))
    # Somebody cut off misses more than the logs keep, and comes back.
    leader = cluster.leader(100)
    others = [name for name in cluster.groups[100] if name != leader]
    cluster.hub.partition([leader], [*others, *cluster.groups[CONTROLLERS]])
    for number in range(30):
        told(clerk.put(f"k{number}", "w" * 50))
    cluster.hub.heal()
    assert cluster.settle()
    # Somebody saves what only it has, and finds another entry in its place.
    leader = cluster.leader(100)
    others = [name for name in cluster.groups[100] if name != leader]
    cluster.hub.partition([leader], [*others, *cluster.groups[CONTROLLERS]])
    clerk.put("k0", "lost", timeout=0.2).addErrback(lambda _: None)
    assert world.run_until(lambda: cluster.leader(100) in others, 5)
    cluster.hub.heal()
    world.run_for(1)
    assert cluster.settle()
    # Shards move and are written to.
    written = []

    def write(_=None):
        if not written[200:]:
            written.append(f"k{len(written) % 20}")
            clerk.put(written[-1], "x" * 50).addBoth(write)

    write()
    told(admin.join({101: cluster.endpoints(101)}, timeout=30))
    assert world.run_until(lambda: written[200:], 60) and cluster.settle()
    for name in cluster.alive:
        cluster.kill(name)
    assert cluster.watch.wrong == []
    return seen


@pytest.mark.parametrize("moment", [moment for moment in MOMENTS if moment != "before term"])
def test_a_moment_comes_in_a_life_with_everything_in_it(eventful, moment):
    assert moment in {moment for moment, _ in eventful}


def test_what_is_before_comes_before_what_is_after(eventful):
    """In the life of one member: nothing is after that was not before."""
    members = {member for _, member in eventful}
    for member in members:
        mine = [moment for moment, whose in eventful if whose == member]
        for what in ("vote", "campaign", "append", "cut", "checkpoint", "trim", "install", "reset"):
            came = [moment.split()[0] for moment in mine if moment.split()[1] == what and moment.split()[0] != "begin"]
            came = [when for when in came if when in ("before", "after")]
            assert came == ["before", "after"] * (len(came) // 2)


@pytest.mark.parametrize("moment", ["before vote", "after append", "before lead", "after commit", "before configure"])
def test_who_is_killed_at_a_moment_does_nothing_after_it(tmp_path, moment):
    world = World(2)
    cluster = Cluster(world, str(tmp_path), 1, {100: 3}, 4)
    killed = []

    def kill(what, member):
        if what == moment and not killed and member.startswith("g"):
            killed.append(member)
            cluster.kill(member)

    posted = []
    post = cluster.hub.post
    cluster.hub.post = lambda letter: posted.append(letter.source.name) or post(letter)
    cluster.moment = kill
    joined = []
    cluster.controller_clerk("admin").join({100: cluster.endpoints(100)}, timeout=30).addBoth(joined.append)
    assert world.run_until(lambda: killed, 20)
    (name,) = killed
    assert name in cluster.dead
    assert name in posted
    posted.clear()
    world.run_for(1)
    assert posted
    assert name not in posted
    cluster.restart(name)
    assert world.run_until(lambda: bool(joined) and not cluster.unsettled(), 60)
    for member in cluster.alive:
        cluster.kill(member)
    assert cluster.watch.wrong == []
