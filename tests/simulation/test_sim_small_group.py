"""A small group at work: one turn after the other, deaths, wipes, and the same again from the same seed."""

from __future__ import annotations

import pytest

from twisted_kv.consensus.raft.state import RaftSettings
from twisted_kv.consensus.types import Role
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.small.group import Setting, SmallGroup


def group(seed: int = 1, size: int = 3, eager: float = 0.7) -> SmallGroup:
    made = SmallGroup(World(seed), Setting(size, RaftSettings(), eager, False, 0, ()))
    made.boot_all()
    return made


def passed(made: SmallGroup, turns: int) -> SmallGroup:
    for _ in range(turns):
        made.pass_turn()
    assert made.violations == ()
    return made


@pytest.mark.parametrize("size", [3, 5])
def test_a_sound_group_elects_once_and_does_what_it_is_asked(size: int) -> None:
    made = passed(group(size=size), 200)
    assert len(made.elections) == 1 and made.judge.done > 100 and made.deaths == 0


def test_a_turn_is_the_same_from_the_same_seed() -> None:
    one, two, other = (passed(group(seed), 80).world.trace.digest() for seed in (1, 1, 2))
    assert one == two != other


def test_who_dies_comes_back_and_catches_up() -> None:
    made = passed(group(), 60)
    made.reboot_turns = (5,)
    made.kill(made.leaders[0], False)
    passed(made, 4)
    assert sum(member.up for member in made.members) == 2
    passed(made, 60)
    assert len(made.leaders) == 1 and all(member.up for member in made.members)


def test_who_is_wiped_comes_back_as_a_copy_that_never_counts() -> None:
    made = passed(group(), 60)
    follower = next(member for member in made.members if not member.leads)
    may = [made.may_wipe]
    made.wipe(follower)
    assert [*may, made.may_wipe] == [True, False]
    assert made.wiped == [follower.number]
    passed(made, 60)
    assert follower.status.role is Role.COPY and follower.machine.index > 60


def test_who_is_held_neither_ticks_nor_hears() -> None:
    made = passed(group(), 60)
    follower = next(member for member in made.members if not member.leads)
    follower.held = True
    ticks, last = follower.ticks, follower.status.last
    passed(made, 20)
    assert (follower.ticks, follower.status.last) == (ticks, last)
    follower.held = False
    passed(made, 20)
    assert follower.status.last > last


def test_members_die_at_moments() -> None:
    made = passed(group(), 60)
    made.ambush = {"after commit": 0.2}
    passed(made, 60)
    assert made.deaths > 3 and made.world.reached["killed at a moment"] == made.deaths
    made.calm()
    made.boot_all()
    passed(made, 60)
    assert len(made.leaders) == 1


def test_the_whole_group_is_down_and_comes_back() -> None:
    made = passed(group(), 60)
    done = made.judge.done
    for member in made.members:
        made.kill(member, True)
    assert made.world.reached["whole group down"] == 1
    passed(made, 80)
    assert made.judge.done > done and len(made.leaders) == 1
