"""What groups make of configurations and chunks: real groups are right, and each thing they must not do is told."""

import msgspec
import pytest

from twisted_kv.machines.commands import (
    GROUP_COMMANDS,
    AskDrop,
    Configure,
    Done,
    Drop,
    Dropped,
    Freeze,
    Install,
    NextConfiguration,
    Open,
    Operation,
    Pull,
    PullRows,
    Read,
    Refused,
    Write,
    WrongGroup,
)
from twisted_kv.machines.configuration import Member, empty_configuration, successor
from twisted_kv.machines.group import GroupMachine
from twisted_kv.machines.rows import Row
from twisted_kv.simulation.judges.book import home_of
from twisted_kv.simulation.judges.checkers import BY_THE_BOOK, COPIED, IN_STEP, WORTH_LOGGING
from twisted_kv.simulation.judges.moves import MovedMachine, Moves

SHARDS = 2
MEMBERS = [Member(1, 1, ("sim:1",)), Member(2, 1, ("sim:2",))]
KEY = next(key for key in map(str, range(9)) if home_of(key, SHARDS) == 0)


class Replica:
    """A machine that is watched, and may be made to say what is not so."""

    def __init__(self, gid, moves, name):
        self.real = GroupMachine(gid)
        self.lies = {}
        self.machine = MovedMachine(self, moves, gid, name)

    def apply(self, index, command):
        reply = self.real.apply(index, command)
        return self.lies.get(type(GROUP_COMMANDS.decode(command)), reply)

    def __getattr__(self, name):
        return getattr(self.real, name)


class Site:
    """Two groups of two replicas, which apply everything one after the other."""

    def __init__(self):
        self.found = []
        self.made = [empty_configuration(SHARDS, 1000)]
        self.moves = Moves(lambda checker, text: self.found.append((checker, text)), lambda it: it in self.made)
        self.groups = {gid: [Replica(gid, self.moves, f"g{gid}-{node}") for node in (1, 2)] for gid in (1, 2)}
        self.logs = {1: [], 2: []}
        self.spoilt = lambda rows: rows
        self.assign(1, 1)
        self.say(1, Open((0, 1), bytes(16)))
        for sequence in range(1, 6):
            self.say(1, Write((Operation("a", KEY, "x" * 100, 1, sequence, sequence),)))

    def say(self, gid, command):
        self.logs[gid].append(command)
        body = GROUP_COMMANDS.encode(command)
        replies = [replica.machine.apply(len(self.logs[gid]), body) for replica in self.groups[gid]]
        return replies[0]

    def configure(self, gid, configuration):
        return self.say(gid, Configure("c", configuration, True))

    def assign(self, *owners):
        """The next configuration, and all that follows from it."""
        self.made.append(successor(self.made[-1], MEMBERS, owners))
        self.go_on()

    def go_on(self, times=20):
        """Carry out what is left to do, so many times."""
        for _ in range(times):
            for gid in (1, 2):
                for chore in self.groups[gid][0].chores():
                    self.carry_out(gid, chore)

    def carry_out(self, gid, chore):
        match chore:
            case NextConfiguration(num=num) if num < len(self.made):
                self.configure(gid, self.made[num])
            case Pull(shard=shard, num=num, source=source, chunk=chunk, cursor=cursor):
                answer = self.groups[source.gid][chunk % 2].query(PullRows(shard, source.num, cursor, 50, chore.hand))
                if answer.state == "handing":
                    self.say(source.gid, Freeze(shard, source.num))
                elif answer.state in ("ahead", "rows"):
                    facts = (self.spoilt(answer.rows), answer.cursor, answer.level, answer.last, answer.total_bytes)
                    self.say(gid, Install(shard, num, chunk, *facts))
            case AskDrop(shard=shard, num=num, source=source):
                if self.say(source.gid, Drop(shard, num)) == Done(True):
                    self.say(gid, Dropped(shard, num))

    @property
    def checkers(self):
        return [checker for checker, _ in self.found]


@pytest.fixture
def site():
    return Site()


def test_nothing_is_said_of_real_groups_whatever_comes_again(site):
    """Hazard 43: every command that was ever logged stands in the log again."""
    for owners in ((2, 1), (1, 1), (2, 2), (1, 2), (2, 1)):
        site.assign(*owners)
        for gid in (1, 2):
            for command in [command for command in site.logs[gid] if not isinstance(command, Write | Open)]:
                site.say(gid, command)
    assert site.found == []
    assert sum(isinstance(command, Install) and command.chunk > 0 for command in site.logs[2]) > 3
    assert site.groups[1][0].configuration == site.made[-1]


def test_a_configuration_that_nobody_made(site):
    """Hazard 46."""
    site.configure(1, successor(site.made[-1], MEMBERS, (1, 2)))
    assert set(site.checkers) == {IN_STEP}
    assert "never made" in site.found[0][1]


def test_a_configuration_that_is_taken_again(site):
    site.assign(2, 1)
    group = site.groups[1][0].real
    group._standing = msgspec.structs.replace(group._standing, configuration=site.made[1])
    site.say(1, Drop(0, 9))
    assert "goes from configuration 2 to 1" in site.found[0][1]


def test_another_content_under_a_known_number_must_be_refused(site):
    """Hazard 46."""
    other = msgspec.structs.replace(site.made[-1], value_bytes_max=7)
    assert isinstance(site.configure(1, other), Refused)
    assert site.found == []
    for replica in site.groups[1]:
        replica.lies[Configure] = Done(False)
    site.configure(1, other)
    assert site.checkers == [IN_STEP]


def test_a_chunk_that_is_taken_in_out_of_turn(site):
    """Scenario 28."""
    site.assign(2, 1)
    first = next(command for command in site.logs[2] if isinstance(command, Install))
    assert site.say(2, first) == Done(False)
    assert site.found == []
    site.groups[2][0].lies[Install] = Done(True)
    site.say(2, first)
    assert site.checkers == [IN_STEP]
    assert "takes in chunk 0" in site.found[0][1]


def test_what_is_written_while_it_is_copied_is_in_the_copy(site):
    """Decisions/0007: values, deletions, sessions."""
    site.made.append(successor(site.made[-1], MEMBERS, (2, 1)))
    for number, verb in enumerate("pdpppd"):
        site.go_on(1)
        site.say(1, Write((Operation(verb, KEY, f"{number}" * 60, 1, 6 + number, 6 + number),)))
        site.say(1, Open((0,), bytes([number]) * 16))
    site.go_on()
    assert site.found == []
    installed = [command for command in site.logs[2] if isinstance(command, Install)]
    assert any(row.value is None for command in installed for row in command.rows)
    assert site.groups[2][0].serving == {0}


def one_is_gone(rows):
    return rows[1:]


def one_is_added(rows):
    return (*rows, Row(0, 2, "key", "more", "z"))


def all_are_changed(rows):
    return tuple([msgspec.structs.replace(row, value=row.value + "?") if row.space == "key" else row for row in rows])


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [(one_is_gone, "is missing"), (one_is_added, "should be gone"), (all_are_changed, "is another")],
)
def test_a_copy_that_is_not_what_was_frozen(site, spoilt, told):
    """Decisions/0007."""
    site.spoilt = spoilt
    site.assign(2, 1)
    assert site.checkers == [COPIED]
    assert told in site.found[0][1]


def test_a_copy_of_what_nobody_has_frozen(site, monkeypatch):
    monkeypatch.setattr(site.moves, "_froze", lambda machine: None)
    site.assign(2, 1)
    assert site.checkers == [COPIED]
    assert "nobody has frozen" in site.found[0][1]


def test_a_replica_that_has_forgotten_what_it_owes(site):
    """Hazard 32: rows that are in no checkpoint."""
    site.assign(2, 1)
    replica = site.groups[2][1]
    replica.real._standing = msgspec.structs.replace(replica.real._standing, configuration=site.made[1])
    replica.real._chores = None
    site.say(2, Drop(0, 9))
    assert site.checkers == [IN_STEP]
    assert "g2-2 at" in site.found[0][1]


def test_a_write_of_which_nothing_is_served_is_not_worth_logging(site):
    """Hazard 26, scenario 31."""
    write = GROUP_COMMANDS.encode(Write((Operation("a", KEY, "x", 1, 9, 9),)))
    site.moves.proposed(write, site.groups[1][0], "g1-1")
    site.moves.proposed(GROUP_COMMANDS.encode(Drop(0, 1)), site.groups[2][0], "g2-1")
    assert site.found == []
    site.moves.proposed(write, site.groups[2][0], "g2-1")
    assert site.checkers == [WORTH_LOGGING]


def test_writes_and_openings_are_compared_with_the_book(site):
    site.groups[1][0].machine.query(Read((KEY,)))
    assert site.found == []
    for replica in site.groups[1]:
        replica.lies = {Write: (Done("no"),), Open: (Done(77),)}
    site.say(1, Write((Operation("a", KEY, "x", 1, 9, 9),)))
    site.say(1, Open((0,), bytes([1]) * 16))
    site.groups[1][0].query = lambda query: (WrongGroup(1, 2),)
    site.groups[1][0].machine.query(Read((KEY,)))
    assert site.checkers == [BY_THE_BOOK] * 3
