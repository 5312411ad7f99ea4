"""Commands of the past come back as they were, or misquoted, and only those that a system can bear."""

import pytest

from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    GROUP_COMMANDS,
    Administer,
    Claim,
    Configure,
    Configured,
    Done,
    Drop,
    Enroll,
    Expired,
    Found,
    Freeze,
    Install,
    Leave,
    Open,
    Operation,
    Refused,
    Write,
    WrongGroup,
)
from twisted_kv.machines.configuration import Configuration, Member, empty_configuration, successor
from twisted_kv.machines.rows import BEGINNING
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.echoes import Echoes, HeardCore, HeardMachine
from twisted_kv.transport.wire import CTL_CHANGE, CTL_CLAIM, CTL_ENROLL, KV_OPEN, KV_WRITE, SHARD_DROP

MEMBERS = [Member(1, 1, ("sim:1",)), Member(2, 1, ("sim:2",))]
FIRST = successor(empty_configuration(4), MEMBERS, (1, 1, 2, 2))
WRITE = Write((Operation("a", "k", "x", 1, 1, 1),))
DELETE = Write((Operation("d", "k", None, 1, 1, 1),))
CHANGE = Administer(1, 1, 1, Leave((7,)))


class Site:
    def __init__(self, seed=1):
        self.world = World(seed)
        self.said = []
        self.echoes = Echoes(self.world, lambda gid, verb, command: self.said.append((gid, verb, command)))

    def propose(self, gid, *commands):
        for command in commands:
            self.echoes.proposed(gid, sealed(gid, command))

    def apply(self, gid, command, reply):
        self.echoes.applied(gid, sealed(gid, command), reply)

    def come_back(self, times=30):
        """What comes back: commands by the doors through which they come."""
        for _ in range(times):
            self.echoes.sound(0.0)
        return {(verb, opened(gid, command)) for gid, verb, command in self.said}

    def misquoted(self, times=30):
        for _ in range(times):
            self.echoes.misquote()
        return [opened(gid, command) for gid, _, command in self.said]


def sealed(gid, command):
    return (GROUP_COMMANDS if gid else CONTROLLER_COMMANDS).encode(command)


def opened(gid, command):
    return (GROUP_COMMANDS if gid else CONTROLLER_COMMANDS).decode(command)


def test_what_a_leader_proposed_for_itself_comes_back_whether_or_not_it_was_applied():
    site = Site()
    chores = (Freeze(1, 2), Install(1, 2, 0, (), BEGINNING, True, True, 0), Configure("c", FIRST, True))
    site.propose(7, *chores, Drop(1, 1), WRITE)
    assert site.come_back() == {("", chore) for chore in chores} | {(SHARD_DROP, Drop(1, 1))}


def test_what_was_asked_for_comes_back_by_its_door_once_it_was_applied():
    site = Site()
    site.apply(7, WRITE, (Done(),))
    site.apply(7, Open((1,), bytes(16)), (WrongGroup(1, 2),))
    site.apply(0, Enroll(bytes(16)), Done(1))
    site.apply(0, CHANGE, Configured(Configuration()))
    site.apply(0, Claim(1, 1, "a"), Done("a"))
    assert {verb for verb, _ in site.come_back()} == {KV_WRITE, KV_OPEN, CTL_ENROLL, CTL_CHANGE, CTL_CLAIM}


@pytest.mark.parametrize(
    ("outcome", "bears"),
    [
        (Done(), True),
        (Expired(), True),
        (Refused("WrongType", ""), True),
        (Refused("Overloaded", ""), False),
        (WrongGroup(1, 2), False),
    ],
)
def test_what_may_have_been_told_as_not_done_stays_away(outcome, bears):
    """Hazard 40: executed later, it would belie that."""
    site = Site()
    site.apply(7, WRITE, (Done(), outcome))
    assert bool(site.come_back()) == bears


@pytest.mark.parametrize(("reply", "bears"), [(Refused("Unavailable", ""), False), (Refused("NoSuchGroup", ""), True)])
def test_changes_that_were_refused_for_good_come_back(reply, bears):
    site = Site()
    site.apply(0, CHANGE, reply)
    assert bool(site.come_back()) == bears


def test_while_echoes_sound_chores_are_followed_by_older_ones_of_their_shard():
    site = Site()
    site.propose(7, *(Freeze(shard, 1) for shard in range(4)))
    site.echoes.sound(1.0)
    site.said.clear()
    for num in range(2, 30):
        site.propose(7, Freeze(3, num))
        site.world.run_for(0.01)
    assert len(site.said) > 10
    assert {opened(7, command).shard for _, _, command in site.said} == {3}
    site.echoes.hush()
    site.world.run_for(0.1)
    site.said.clear()
    site.propose(7, Freeze(3, 99))
    site.world.run_for(0.1)
    assert site.said == []


def test_what_came_back_is_counted_and_no_news():
    site = Site()
    site.propose(7, Freeze(1, 1))
    site.come_back(1)
    site.propose(7, Freeze(1, 1))
    site.apply(7, Freeze(1, 1), Done(False))
    assert site.world.reached == {"echo applied": 1}


def test_only_the_last_ones_of_a_kind_are_remembered():
    site = Site()
    site.propose(7, *(Freeze(1, num) for num in range(200)))
    assert min(command.num for _, command in site.come_back(200)) >= 140


def test_misquotes_are_other_requests_under_known_names():
    """Hazards 37 and 42."""
    site = Site()
    site.apply(7, WRITE, (Done(),))
    (misquoted,) = set(site.misquoted(3))
    assert misquoted == Write((Operation("a", "k", "x?", 1, 1, 1),))
    site.apply(7, misquoted, (Refused("BadRequest", ""),))
    assert site.world.reached == {}
    site.apply(7, misquoted, Refused("BadRequest", ""))
    assert site.world.reached == {"misquote refused": 1}

    site = Site()
    site.apply(7, DELETE, (Done(),))
    assert site.misquoted() == []

    site = Site()
    site.propose(0, Found("c", 4, 100))
    site.apply(0, Claim(1, 1, "a"), Done("a"))
    site.apply(0, CHANGE, Done(1))
    kinds = {type(value): value for value in site.misquoted()}
    assert kinds[Found] == Found("not c", 4, 100)
    assert kinds[Claim] == Claim(1, 1, "not a")
    assert kinds[Administer].sequence == CHANGE.sequence
    assert kinds[Administer].change != CHANGE.change


def test_a_configuration_is_misquoted_only_once_it_was_taken():
    """Hazard 46. What was proposed and lost may still come: under its number the group would follow the misquote."""
    site = Site()
    site.propose(7, Configure("c", FIRST, True))
    assert site.misquoted() == []
    site.apply(7, Configure("c", FIRST, True), Done(False))
    assert site.misquoted() == []
    site.apply(7, Configure("c", FIRST, True), Done(True))
    said = site.misquoted()
    assert {(value.cluster, value.configuration.num) for value in said} == {("not c", 2), ("c", 1)}
    assert all(value.configuration.shards == (1, 2, 2, 1) for value in said)


class Inner:
    """A core and a machine in one."""

    def __init__(self):
        self.seen = []
        self.facts = 7

    def propose(self, command):
        self.seen.append(command)
        return "ticket"

    def apply(self, index, command):
        self.seen.append((index, command))
        return "reply"

    def __getattr__(self, name):
        return lambda *arguments: self.seen.append((name, *arguments))


def test_what_passes_is_heard_and_goes_on():
    inner, heard = Inner(), []
    core = HeardCore(inner, heard.append)
    assert core.propose(b"x") == "ticket"
    for name, arguments in (("tick", ()), ("step", (1,)), ("read", (2,)), ("compact", (3,)), ("status", ())):
        getattr(core, name)(*arguments)
        assert inner.seen.pop() == (name, *arguments)
    core.ready()
    core.advance(4)
    machine = HeardMachine(inner, lambda *told: heard.append(told))
    assert machine.apply(5, b"y") == "reply"
    assert machine.facts == 7
    assert inner.seen == [b"x", ("ready",), ("advance", 4), (5, b"y")]
    assert heard == [b"x", (b"y", "reply")]
