"""The judge of configurations: whatever the real controller does is well, and each thing it must not do is told."""

from itertools import product
from random import Random

import msgspec
import pytest

from twisted_kv.machines import controller
from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    Administer,
    Claim,
    Enroll,
    Found,
    Join,
    Leave,
    Move,
    QueryConfiguration,
    Readdress,
)
from twisted_kv.machines.configuration import Configuration, Member, empty_configuration, readdressed, successor
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.rebalance import rebalance
from twisted_kv.machines.rows import Row
from twisted_kv.simulation.judges.checkers import CHANGED_ONCE, CONFIGURATIONS, FIRST_CLAIM, NEWEST
from twisted_kv.simulation.judges.configurations import Chronicle, fault_of, shares_of
from twisted_kv.simulation.judges.invariants import Watch, WatchedMachine

SHARDS = 7


class Controllers:
    """Three controllers that are watched; each command goes to one of them after the other."""

    def __init__(self):
        self.watch = Watch()
        self.machines = [ControllerMachine() for _ in range(3)]
        self.watched = [WatchedMachine(machine, self.watch, 0, f"ctl-{n}") for n, machine in enumerate(self.machines)]
        self.index = 0
        self.sequence = 0
        self.apply(Found("c", SHARDS, 1000))
        self.apply(Enroll(bytes(16)))

    def apply(self, command):
        self.index += 1
        replies = [watched.apply(self.index, CONTROLLER_COMMANDS.encode(command)) for watched in self.watched]
        return replies[0]

    def change(self, change, sequence=None):
        if sequence is None:
            self.sequence += 1
        return self.apply(Administer(1, sequence or self.sequence, 1, change))

    @property
    def found(self):
        return [violation.checker for violation in self.watch.wrong]

    @property
    def chronicle(self):
        return self.watch.chronicle


def groups(*gids):
    return tuple((gid, (f"sim:{gid}",)) for gid in gids)


def some_change(random):
    gids = [gid for gid in range(1, 6) if random.random() < 0.4] or [3]
    match int(random.random() * 4):
        case 0:
            return Join(groups(*gids))
        case 1:
            return Leave(tuple(gids))
        case 2:
            return Move(int(random.random() * SHARDS), gids[0])
        case _:
            return Readdress(gids[0], (f"sim:{int(random.random() * 3)}",))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_said_of_the_real_controller(seed):
    """Scenarios 35-45: refusals, changes that change nothing and repeats among them."""
    random, controllers, changes = Random(seed), Controllers(), []
    for _ in range(60):
        changes.append(some_change(random))
        controllers.change(changes[-1])
        if random.random() < 0.3:
            again = int(random.random() * len(changes))
            controllers.change(changes[again], again + 1)
        if random.random() < 0.3:
            controllers.apply(Claim(3, 1, f"identity {random.random()}"))
    for machine in controllers.machines:
        controllers.chronicle.compare(machine, "it")
    assert controllers.watch.wrong == []
    assert controllers.machines[0].status()["configurations"] > 10


def test_a_controller_that_boots_on_its_rows_is_the_same():
    controllers = Controllers()
    controllers.change(Join(groups(1, 2)))
    rows = controllers.machines[0].take_changes().rows
    rows = [Row(*key, value) for key, value in rows.items()]
    booted = ControllerMachine()
    booted.load(sorted(rows, key=lambda row: row.key))
    WatchedMachine(booted, controllers.watch, 0, "ctl-0").apply(2, CONTROLLER_COMMANDS.encode(Enroll(bytes(16))))
    controllers.chronicle.compare(booted, "ctl-0")
    assert controllers.watch.wrong == []
    booted._history[0] = empty_configuration(3)
    controllers.chronicle.compare(booted, "ctl-0")
    assert controllers.found == [CONFIGURATIONS]


def before(gids=(1, 2), owners=None):
    members = tuple(Member(gid, 1, (f"sim:{gid}",)) for gid in gids)
    return successor(empty_configuration(SHARDS), members, owners or rebalance((0,) * SHARDS, gids))


def after(configuration, gids, owners):
    known = {member.gid: member for member in configuration.members}
    members = [known.get(gid, Member(gid, configuration.num + 1, (f"sim:{gid}",))) for gid in gids]
    return successor(configuration, members, owners)


@pytest.mark.parametrize(
    ("change", "gids", "owners", "complaint"),
    [
        (Join(groups(3)), (1, 2, 3), (1, 1, 1, 3, 2, 2, 3), ""),
        (Join(groups(3)), (1, 2, 3), (1, 1, 3, 3, 2, 2, 3), "shares"),
        (Join(groups(3)), (1, 2, 3), (1, 1, 1, 1, 2, 2, 3), "shares"),
        (Join(groups(3)), (1, 2, 3), (1, 1, 2, 3, 1, 2, 3), "more shards moved"),
        (Join(groups(3)), (1, 2), (1, 1, 1, 1, 2, 2, 2), "there are groups"),
        (Leave((2,)), (1,), (1,) * SHARDS, ""),
        (Leave((1, 2)), (), (0,) * SHARDS, ""),
        (Leave((2,)), (1, 2), (1,) * SHARDS, "there are groups"),
        (Leave((7,)), (1, 2), (1, 1, 1, 1, 2, 2, 2), "for no change"),
        (Join(groups(1)), (1, 2), (1, 1, 1, 1, 2, 2, 2), "for no change"),
        (Move(0, 2), (1, 2), (2, 1, 1, 1, 2, 2, 2), ""),
        (Move(0, 2), (1, 2), (2, 1, 1, 1, 1, 2, 2), "other shards"),
        (Move(0, 2), (1, 2), (1, 1, 1, 1, 2, 2, 2), "other shards"),
        (Move(0, 1), (1, 2), (1, 1, 1, 1, 2, 2, 2), "for no change"),
    ],
)
def test_what_a_change_may_make(change, gids, owners, complaint):
    """Scenarios 36-41: balanced, the fewest moves, one shard and no other, nothing without a change."""
    known = before()
    told = fault_of(change, known, after(known, gids, owners))
    assert complaint in told and bool(complaint) == bool(told)


def test_a_change_that_makes_too_many_or_none():
    """Scenario 35: several groups in one call make one configuration."""
    known = before()
    one = after(known, (1, 2, 3), (1, 1, 1, 3, 2, 2, 3))
    assert "2 configurations" in fault_of(Join(groups(3)), known, msgspec.structs.replace(one, num=known.num + 2))
    assert "there are groups" in fault_of(Join(groups(3)), known, known)
    assert "0 configurations" in fault_of(Move(0, 2), known, known)
    assert "0 configurations" in fault_of(Readdress(1, ("sim:9",)), known, known)
    moved = readdressed(known, known.members[0], ("sim:9",))
    assert fault_of(Readdress(1, ("sim:9",)), known, moved) == ""
    assert "1 configurations" in fault_of(Readdress(1, ("sim:1",)), known, moved)


def test_shares_are_those_with_the_fewest_moves():
    """Against every way of spreading five shards over three groups evenly."""
    spreads = [owners for owners in product((1, 2, 3), repeat=5) if sorted(map(owners.count, (1, 2, 3))) == [1, 2, 2]]
    for shards in product((0, 1, 2, 3, 4), repeat=5):
        shares = shares_of(shards, {1, 2, 3})
        kept_most = max(sum(map(int.__eq__, shards, owners)) for owners in spreads)
        assert sum(min(shards.count(gid), share) for gid, share in shares.items()) == kept_most
        assert shares == {gid: rebalance(shards, (1, 2, 3)).count(gid) for gid in (1, 2, 3)}


def test_history_that_is_rewritten():
    """Hazard 46: what a number holds never changes."""
    controllers = Controllers()
    controllers.change(Join(groups(1, 2)))
    history = controllers.machines[1]._history
    history[1] = msgspec.structs.replace(history[1], shards=(2,) * SHARDS)
    controllers.apply(Enroll(bytes([1] * 16)))
    assert controllers.found == [CONFIGURATIONS]


def test_a_change_that_is_carried_out_again(monkeypatch):
    """Scenario 44."""
    controllers = Controllers()
    controllers.change(Join(groups(1, 2)))
    controllers.change(Move(0, 2))
    controllers.change(Move(0, 1))
    monkeypatch.setattr(controller.Sessions, "recall", lambda *_: None)
    monkeypatch.setattr(controller.Sessions, "record", lambda *_: None)
    controllers.change(Move(0, 2), 2)
    assert set(controllers.found) == {CONFIGURATIONS}
    assert "asked for again" in str(controllers.watch.wrong[0])


def test_a_command_that_is_no_change_makes_nothing(monkeypatch):
    controllers = Controllers()
    claim = ControllerMachine._claim

    def claimed(self, command):
        self._append(msgspec.structs.replace(self._newest, num=self._newest.num + 1))
        return claim(self, command)

    monkeypatch.setattr(ControllerMachine, "_claim", claimed)
    controllers.apply(Claim(1, 1, "x"))
    assert "Claim makes configuration 1" in str(controllers.watch.wrong[0])


def test_the_first_claim_stays(monkeypatch):
    """Hazard 37."""
    controllers = Controllers()
    controllers.change(Join(groups(1)))
    controllers.apply(Claim(1, 1, "first"))
    controllers.apply(Claim(1, 1, "second"))
    assert controllers.found == []
    monkeypatch.setattr(ControllerMachine, "_claim_member", lambda self, member, identity: identity)
    controllers.apply(Claim(1, 1, "second"))
    assert set(controllers.found) == {FIRST_CLAIM}


def test_what_administrators_are_told():
    """Scenarios 43 and 44; hazards 22 and 40."""
    controllers = Controllers()
    made = controllers.change(Join(groups(1, 2))).configuration
    chronicle, ids = controllers.chronicle, (1, 1)
    chronicle.told_done([ids], made, "a")
    assert chronicle.heard == 1
    chronicle.told_newest(1, made, "a")
    chronicle.told_refused([(1, 2)], "a")
    assert controllers.found == []
    chronicle.told_newest(1, controllers.machines[0].query(QueryConfiguration(0)).configuration, "a")
    chronicle.told_done([(1, 9)], made, "a")
    chronicle.told_refused([ids], "a")
    controllers.change(Move(0, 2), 2)
    assert controllers.found == [NEWEST, CHANGED_ONCE, CHANGED_ONCE, CHANGED_ONCE]
    chronicle.told_newest(0, Configuration(7), "a")
    assert controllers.found[-1] == CONFIGURATIONS


def test_who_asks_for_a_number_is_given_it():
    """Scenario 45: 0 is the empty one; beyond the newest, the newest."""
    controllers = Controllers()
    made = [empty_configuration(SHARDS, 1000)]
    made += [controllers.change(Join(groups(gid))).configuration for gid in (1, 2)]
    chronicle = controllers.chronicle
    for num in range(3):
        chronicle.told_numbered(num, 2, made[num], "a")
    chronicle.told_numbered(9, 2, made[2], "a")
    chronicle.told_numbered(2, 1, made[1], "a")  # asked before anybody was told of it
    assert controllers.found == []
    chronicle.told_numbered(0, 2, made[2], "a")
    chronicle.told_numbered(2, 2, made[1], "a")
    assert controllers.found == [CONFIGURATIONS, CONFIGURATIONS]


def test_a_controller_that_has_founded_nothing_is_not_judged():
    found = []
    chronicle = Chronicle(lambda checker, text: found.append(checker))
    chronicle.applied((1, 0), CONTROLLER_COMMANDS.encode(Enroll(bytes(16))), None, ControllerMachine(), "ctl-1")
    assert found == []
