"""Faults in a row: what comes after what, and that one that is disturbed goes no further."""

from random import Random

import pytest
from twisted.internet.defer import Deferred

from twisted_kv.simulation.doors.disk import InjectedError, SimDisk
from twisted_kv.simulation.doors.network import Hub
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.sequences import (
    APART_SECONDS,
    ASKING_SECONDS,
    CHANGING_SECONDS,
    SEQUENCE_SECONDS,
    fail_once,
    outdate,
)


@pytest.fixture
def world():
    return World(1)


@pytest.mark.parametrize("which", ["fails_before", "fails_after"])
def test_one_piece_of_work_fails_and_none_after_it(world, which):
    """Hazard 27."""
    disk, done, told = SimDisk(world.host("a"), Random(1)), [], []
    fail_once(disk, which)
    for number in range(3):
        piece: Deferred = disk.run(lambda number=number: done.append(number))
        piece.addBoth(lambda result: told.append(getattr(result, "type", None)))
    world.run_for(1.0)
    assert told == [InjectedError, None, None]
    assert done == ([1, 2] if which == "fails_before" else [0, 1, 2])


class Group:
    """Three members that note what befalls them."""

    def __init__(self, world):
        self.hub = Hub(world)
        self.alive = ["a", "b", "c"]
        self.suffered = []
        disk = SimDisk(world.host("c"), Random(1))
        self.data = disk

    def disks(self, name):
        assert name == "c"
        return self.data, self.data

    def terminate(self, name):
        assert self.data.stalled
        assert self.hub.cuts == [("b", "c"), ("c", "b")]
        self.suffered.append(name)


@pytest.mark.parametrize("disturbed", [False, True])
def test_rows_come_from_a_term_that_was_not_heard_of(world, disturbed):
    """Hazard 15."""
    group = Group(world)
    outdate(world, group, "a", "c", ["b"], lambda: not disturbed)
    assert group.hub.cuts == [("a", "c"), ("b", "c"), ("c", "a"), ("c", "b")]
    world.run_for(SEQUENCE_SECONDS)
    assert group.suffered == ([] if disturbed else ["a"])
    assert not group.data.stalled


def test_who_asks_for_rows_asks_for_no_votes_meanwhile(world):
    """The answer would tell it the term."""
    group = Group(world)
    outdate(world, group, "a", "c", ["b"], lambda: True)
    world.run_for(APART_SECONDS + ASKING_SECONDS + 0.1)
    assert group.suffered == ["a"]
    assert group.hub.severed("c", "a") and not group.hub.severed("a", "c")
    world.run_for(CHANGING_SECONDS)
    assert not group.hub.severed("c", "a")


def test_nobody_dead_is_waited_for(world):
    group = Group(world)
    outdate(world, group, "a", "c", ["b"], lambda: True)
    group.alive.remove("c")
    world.run_for(SEQUENCE_SECONDS)
    assert not group.suffered
