"""One member: the order of the contract, what a death takes away, checkpoints and rows."""

from __future__ import annotations

from typing import Any

import pytest

from twisted_kv.consensus.raft.state import RaftSettings
from twisted_kv.consensus.types import Role
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.small.group import Load, Setting, SmallGroup
from twisted_kv.simulation.small.member import Killed, Member

SETTING = Setting(3, RaftSettings(), 1.0, False, 0, ())


def group(**changes: Any) -> SmallGroup:
    """A group that is at work, with a leader."""
    made = SmallGroup(World(7), SETTING)
    made.load = Load(0.0, 0.0)
    made.boot_all()
    for _ in range(60):
        made.pass_turn()
    assert len(made.leaders) == 1
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def passed(made: SmallGroup, turns: int) -> SmallGroup:
    for _ in range(turns):
        made.pass_turn()
    assert made.violations == ()
    return made


def put(made: SmallGroup, *commands: bytes) -> Member:
    """Commands at the leader, and time for all to apply them."""
    leader = made.leaders[0]
    for command in commands:
        assert leader.propose(command)
    made.pump(leader)
    return leader


def test_what_is_proposed_is_done_and_the_same_everywhere() -> None:
    made = group()
    leader = put(made, b"1", b"2")
    passed(made, 8)
    assert made.judge.done == 2
    assert {member.machine for member in made.members} == {leader.machine}
    assert leader.machine.index == leader.status.last


def test_a_follower_takes_neither_commands_nor_reads() -> None:
    made = group()
    follower = next(member for member in made.members if not member.leads)
    assert not follower.propose(b"1") and not follower.read(1)


def test_a_read_is_answered_once_a_quorum_has_said_so() -> None:
    made = group()
    leader = made.leaders[0]
    made.mail.cut = {(other, leader.number) for other in made.voters}
    made.ask(leader)
    made.pump(leader)
    made.pass_turn()
    assert made.judge.done == 0
    made.mail.cut = set()
    passed(made, 8)
    assert made.judge.done == 1


@pytest.mark.parametrize("durable", [True, False])
def test_a_save_under_way_is_on_the_disk_or_is_not(durable: bool) -> None:
    made = group(saves=(50,))
    leader = put(made, b"1")
    last = leader.log.disk.last
    assert leader.saving is not None and leader.saving.must_save
    made.kill(leader, durable)
    assert leader.log.disk.last == last + durable
    leader.boot()
    assert leader.status.last == last + durable
    assert made.violations == ()


def test_a_hung_save_is_told_to_the_core() -> None:
    made = group()
    leader = made.leaders[0]
    made.saves_of = {leader.number: (500,)}
    put(made, b"1")
    passed(made, SETTING.settings.election_ticks + 3)
    assert leader.stalled and leader.status.role is not Role.LEADER and made.leaders != [leader]


def test_a_full_disk_saves_nothing_until_there_is_room() -> None:
    made = group()
    leader = made.leaders[0]
    leader.full = True
    last = leader.log.disk.last
    put(made, b"1")
    passed(made, 3)
    assert (leader.stalled, leader.log.disk.last) == (True, last)
    leader.full = False
    passed(made, 60)
    assert (leader.stalled, len({member.machine for member in made.members})) == (False, 1)


@pytest.mark.parametrize(("lag", "left"), [(False, 0), (True, 2)])
def test_a_checkpoint_cuts_the_log_behind_it_or_behind_the_one_before(lag: bool, left: int) -> None:
    made = group()
    for member in made.members:
        member.checkpoint_every, member.checkpoint_lag = 2, lag
    for number in range(8):
        put(made, b"%d" % number)
        passed(made, 8)
    leader = made.leaders[0]
    assert leader.machine.index - leader.rows.index < 2
    assert leader.rows.index - leader.log.disk.boundary.index == left
    made.kill(leader, False)
    passed(made, 60)
    assert {member.machine for member in made.members} == {leader.machine}


def test_who_is_too_far_behind_gets_rows() -> None:
    made = group()
    follower = next(member for member in made.members if not member.leads)
    made.mail.cut = {(other, follower.number) for other in made.voters}
    for member in made.members:
        member.checkpoint_every = 2
    for number in range(8):
        put(made, b"%d" % number)
        passed(made, 1)
    made.mail.cut = set()
    passed(made, 40)
    assert made.world.reached["snapshot installed"] == 1
    assert follower.machine == made.leaders[0].machine


def test_rows_without_their_log_are_taken_up_at_the_next_start() -> None:
    made = group()
    follower = next(member for member in made.members if not member.leads)
    made.mail.cut = {(other, follower.number) for other in made.voters}
    for member in made.members:
        member.checkpoint_every = 2
    for number in range(8):
        put(made, b"%d" % number)
        passed(made, 1)
    made.ambush = {"after install": 1.0}
    made.mail.cut = set()
    while made.deaths == 0:
        made.pass_turn()
    assert follower.rows.index > follower.log.disk.last
    made.ambush = {}
    passed(made, 40)
    assert follower.machine == made.leaders[0].machine


def test_rows_that_do_not_come_are_asked_for_again() -> None:
    made = group(fetch_loss=1.0)
    follower = next(member for member in made.members if not member.leads)
    made.kill(follower, False)
    made.keep_down([follower.number])
    for member in made.members:
        member.checkpoint_every = 1
    for number in range(4):
        put(made, b"%d" % number)
        passed(made, 3)
    made.boot_all()
    passed(made, 20)
    assert made.world.reached["snapshot failed"] and "snapshot installed" not in made.world.reached
    made.fetch_loss = 0.0
    passed(made, 20)
    assert follower.machine == made.leaders[0].machine


def test_whoever_is_killed_does_no_more() -> None:
    made = group(ambush={"before append": 1.0})
    leader = made.leaders[0]
    last = leader.log.disk.last
    put(made, b"1")
    assert not leader.up and leader.log.disk.last == last
    assert issubclass(Killed, Exception) and made.world.reached["killed at a moment"] == 1
