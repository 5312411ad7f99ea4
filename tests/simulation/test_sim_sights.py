"""Rare events of a cluster are seen when they happen, and not before."""

from functools import partial

import msgspec
import pytest
from twisted.internet.defer import succeed

from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    GROUP_COMMANDS,
    Administer,
    Configured,
    Done,
    Drop,
    Expired,
    Install,
    Join,
    Operation,
    PullAnswer,
    PullRows,
    Write,
    WrongGroup,
)
from twisted_kv.machines.configuration import empty_configuration
from twisted_kv.machines.rows import BEGINNING, Cursor, Row
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.moments import SeenNetwork
from twisted_kv.simulation.judges.sights import Sights
from twisted_kv.transport.wire import PEER_ROWS, PEER_STEP, ROWS_ANSWER, RowsAnswer


class Machine:
    configuration = empty_configuration(4)

    def status(self):
        return {"migrations": 0}


@pytest.fixture
def world():
    return World(1)


@pytest.fixture
def sights(world):
    return Sights(world)


def told(sights, gid, index, command, reply, name="one"):
    codec = GROUP_COMMANDS if gid else CONTROLLER_COMMANDS
    sights.applied(gid, (index, 0), Machine(), codec.encode(command), reply, name)


def written(sequence):
    return Write((Operation("p", "k", "v", 1, sequence, 1),))


def test_a_repeat_is_seen_in_the_same_group_and_in_another(world, sights):
    told(sights, 100, 1, written(1), (Done(),))
    told(sights, 100, 1, written(1), (Done(),), "two")
    assert world.reached == {}, "another replica is no repeat"
    told(sights, 100, 2, written(1), (Done(),))
    assert world.reached == {"repeat suppressed": 1}
    told(sights, 101, 1, written(1), (Done(),))
    assert world.reached["repeat suppressed elsewhere"] == 1


def test_refusals_at_the_place_of_application(world, sights):
    told(sights, 100, 1, written(1), (WrongGroup(3, 101),))
    told(sights, 100, 2, written(2), (Expired(),))
    assert world.reached == {"not served when applied": 1, "session expired": 1}


def test_a_tail_is_replayed_when_an_index_comes_again(world, sights):
    for index in (1, 2, 3):
        told(sights, 100, index, written(index), (Done(),))
    assert world.reached == {}
    told(sights, 100, 2, written(2), (Done(),))
    assert world.reached == {"tail replayed": 1}
    sights.forgotten("one")
    told(sights, 100, 1, written(1), (Done(),))
    assert world.reached == {"tail replayed": 1}


def test_steps_of_a_moving_shard_that_are_repeated(world, sights):
    told(sights, 100, 1, Install(1, 2, 0, (), BEGINNING, False, False, 0), Done(True))
    told(sights, 100, 2, Drop(3, 1), Done(True))
    assert world.reached == {}
    gone = Row(1, 2, "key", "k", None)
    told(sights, 100, 3, Install(1, 2, 1, (gone,), BEGINNING, True, True, 0), Done(True))
    told(sights, 100, 4, Install(1, 2, 1, (), BEGINNING, True, True, 0), Done(False))
    told(sights, 100, 5, Drop(3, 1), Done(True))
    assert world.reached == {"deletion crossed with its shard": 1, "install repeated": 1, "drop repeated": 1}


def test_what_is_given_of_a_copy_that_is_served(world, sights):
    """Decisions/0007."""
    walk = PullRows(1, 2, Cursor(("key", "a"), False, 7), 100, False)
    sights.gave(walk, PullAnswer("rows", (), Cursor(("key", "b"), False, 7)))
    sights.gave(PullRows(1, 2, Cursor(None, True, 7), 100, False), PullAnswer("rows", (), Cursor(None, True, 5)))
    assert world.reached == {}
    sights.gave(walk, PullAnswer("ahead", (), Cursor(("key", "b"), False, 5)))
    assert world.reached == {"copied while served": 1, "walk goes on further back": 1}


def test_a_pull_goes_on_under_another_leader(world, sights):
    chunks = [GROUP_COMMANDS.encode(Install(1, 2, chunk, (), BEGINNING, False, False, 0)) for chunk in range(3)]
    sights.pulled(100, chunks[0], "one")
    sights.pulled(100, chunks[1], "one")
    assert world.reached == {}
    sights.pulled(100, chunks[2], "two")
    assert world.reached == {"pull resumed by a new leader": 1}


def test_changes_of_administrators(world, sights):
    join = Administer(1, 1, 1, Join(((100, ("e",)),)))
    made = Configured(msgspec.structs.replace(empty_configuration(4), num=1))
    told(sights, 0, 1, join, made)
    assert world.reached == {}
    told(sights, 0, 2, join, made)
    assert world.reached == {"change repeated": 1}
    told(sights, 0, 3, Administer(2, 1, 1, join.change), made)
    assert world.reached == {"change repeated": 1}


def test_two_leaders_are_at_once_only_if_the_older_one_still_believes(world, sights):
    sights.led(100, 1, "one")
    sights.died(100, "one")
    sights.led(100, 2, "two")
    assert world.reached == {}
    sights.led(100, 3, "three")
    assert world.reached == {"two leaders at once": 1}


def test_controllers_elect_while_something_moves(world, sights):
    sights.led(0, 1, "ctl-1")
    sights.died(0, "ctl-1")
    sights.moves(100, 2)
    sights.led(0, 2, "ctl-2")
    assert world.reached == {"controllers elect in mid-move": 1}


def test_a_crash_between_the_rows_and_the_log(world, sights):
    """Hazard 31."""
    sights.rows_replaced("one", 1)
    sights.log_was_reset("one")
    sights.restored("one")
    assert world.reached == {}
    sights.rows_replaced("one", 2)
    sights.restored("one")
    assert world.reached == {"snapshot in several chunks": 1, "rows without their log": 1}


def test_rows_of_a_later_term_than_was_heard_of(world, sights):
    """Hazard 15."""
    network = SeenNetwork(Peers(), sights, lambda: 3)
    for term, verb in ((3, PEER_ROWS), (4, PEER_STEP)):
        told = []
        answer = ROWS_ANSWER.encode(RowsAnswer(1, 9, term, (), True))
        network.call("peer:one", verb, answer, 1.0).addCallback(told.append)
        assert ROWS_ANSWER.decode(told[0]).term == term
    assert world.reached == {}
    network.call("peer:one", PEER_ROWS, ROWS_ANSWER.encode(RowsAnswer(1, 9, 4, (), True)), 1.0)
    assert world.reached == {"snapshot of a later term": 1}


class Peers:
    """They answer what they are told."""

    send = close = None

    def call(self, endpoint, verb, body, timeout):
        return succeed(body)


class Store:
    def save(self, ready):
        """A save."""

    def commit(self, index, term):
        """A checkpoint's."""

    def rows(self):
        """Only reads."""


def test_what_a_disk_refused_or_betrayed_goes_by_the_method(world, sights):
    """Hazards 27 and 28."""
    store = Store()
    sights.refused(store.rows)
    sights.betrayed("one", store.rows)
    sights.restored("one")
    assert world.reached == {}
    sights.refused(partial(store.save, None))
    sights.refused(partial(store.commit, 1, 1))
    sights.betrayed("one", partial(store.save, None))
    sights.restored("one")
    assert world.reached == {
        "save refused by a full disk": 1,
        "checkpoint refused by a full disk": 1,
        "failed save came back": 1,
    }
