"""What every consensus core owes its owner (interfaces.IConsensus), Raft and Paxos alike.

A suite of functions, each of which takes a factory; a core's own test module runs them all:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_contract(check):
        check(make_core)

The factory has the shape of RaftNode: (node, voters, restored, random, applied=index) → core. Nothing here knows a
message, a role's reason or a log's layout: cores are driven through the eight verbs alone.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted_kv.consensus.types import (
    CopySeen,
    DiskFull,
    Entry,
    HardState,
    NotLeader,
    Position,
    Ready,
    Restored,
    Role,
    SaveResumed,
    SaveStalled,
    SnapshotFailed,
    SnapshotInstalled,
    Ticket,
    TransferLeadership,
)
from twisted_kv.interfaces import IConsensus

Make = Callable[..., IConsensus]
ROUNDS_MAX = 2000


class Member:
    """One core with its disk and what it has applied."""

    def __init__(self, group: Group, node: int) -> None:
        self.group = group
        self.node = node
        self.hard_state = HardState()
        self.boundary = Position()
        self.entries: dict[int, Entry] = {}
        self.rows: tuple[Position, tuple[bytes, ...]] = (Position(), ())
        self.up = True
        self.saving = True
        self.boot()

    def boot(self) -> None:
        """Start on what is on disk."""
        held = tuple(self.entries[index] for index in sorted(self.entries))
        at, commands = self.rows
        self.applied, self.log = at, list(commands)
        self.reads: dict[int, int] = {}
        self.standings: list[Any] = []
        self.held: Ready | None = None
        self.up = True
        random = Random(self.node + 10 * self.group.boots)
        self.group.boots += 1
        restored = Restored(self.hard_state, self.boundary, held)
        self.core = self.group.make(self.node, self.group.voters, restored, random, applied=at.index)

    @property
    def leads(self) -> bool:
        return self.up and self.core.status().role is Role.LEADER

    def pump(self) -> bool:
        """Take and carry out one Ready, in the contract's order; False if there was none."""
        if self.held is None:
            self.held = self.core.ready()
            if self.held is None:
                return False
            self.group.post(self.held.early)
        if self.held.must_save and not self.saving:
            return False
        ready, self.held = self.held, None
        self.save(ready)
        self.group.post(ready.messages)
        for entry in ready.committed:
            assert entry.index > self.applied.index, "applied twice"
            assert self.entries.get(entry.index) == entry, "committed what is not on this disk"
            self.applied = Position(entry.index, entry.term)
            self.log += entry.commands
            self.group.applied(entry)
        for read in ready.reads:
            self.reads[read.token] = read.index
        if ready.standing is not None:
            self.standings.append(ready.standing)
        self.core.advance(ready)
        if ready.fetch is not None:
            self.fetch(ready.fetch.peer, ready.fetch.index)
        return True

    def save(self, ready: Ready) -> None:
        if ready.hard_state is not None:
            assert ready.hard_state.term >= self.hard_state.term, "the term went down"
            self.hard_state = ready.hard_state
        if ready.cut is not None:
            assert ready.cut > self.applied.index, "cut what is applied"
            self.entries = {index: entry for index, entry in self.entries.items() if index < ready.cut}
        self.entries.update((entry.index, entry) for entry in ready.entries)

    def fetch(self, peer: int, index: int) -> None:
        source = self.group.members.get(peer)
        if source is None or not source.up or source.rows[0].index < index:
            self.core.step(SnapshotFailed())
            return
        self.rows = source.rows
        self.boundary, self.entries = self.rows[0], {}
        self.applied, self.log = self.rows[0], list(self.rows[1])
        self.core.step(SnapshotInstalled(self.applied.index, self.applied.term))

    def checkpoint(self) -> None:
        self.rows = (self.applied, tuple(self.log))
        self.boundary = self.applied
        self.entries = {index: entry for index, entry in self.entries.items() if index > self.applied.index}
        self.core.compact(self.applied.index)


class Group:
    """Members whose messages arrive at once and in order, but for those that are cut off."""

    def __init__(self, make: Make, size: int = 3) -> None:
        self.make = make
        self.boots = 0
        self.voters = frozenset(range(1, size + 1))
        self.mail: list[Any] = []
        self.apart: set[int] = set()
        self.chosen: dict[int, Entry] = {}
        self.members: dict[int, Member] = {}
        for node in sorted(self.voters):
            self.members[node] = Member(self, node)

    def post(self, messages: Any) -> None:
        self.mail += messages

    def applied(self, entry: Entry) -> None:
        assert self.chosen.setdefault(entry.index, entry) == entry, "two entries at one index"

    def settle(self) -> None:
        """Carry out and deliver until nothing moves."""
        for _ in range(ROUNDS_MAX):
            moved = [member.pump() for member in list(self.members.values()) if member.up]
            mail, self.mail = self.mail, []
            for message in mail:
                to = self.members.get(message.to)
                if to is not None and to.up and not self.apart & {message.sender, message.to}:
                    to.core.step(message)
            if not mail and not any(moved):
                return
        raise AssertionError("messages without end")

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            for member in self.members.values():
                if member.up:
                    member.core.tick()
            self.settle()

    def until(self, done: Callable[[], bool], what: str) -> None:
        for _ in range(400):
            if done():
                return
            self.tick()
        raise AssertionError(f"never happened: {what}")

    def elect(self) -> Member:
        """The one leader among the connected, once it can read."""
        self.until(lambda: len(self.leaders()) == 1, "one leader")
        (leader,) = self.leaders()
        return leader

    def leaders(self) -> list[Member]:
        return [member for member in self.members.values() if member.leads and member.node not in self.apart]

    def put(self, command: bytes) -> Member:
        """Have a command applied by every connected member."""
        leader = self.elect()
        leader.core.propose(command)
        self.settle()
        near = [member for member in self.members.values() if member.up and member.node not in self.apart]
        self.until(lambda: all(command in member.log for member in near), f"{command!r} everywhere")
        return leader


def crash(member: Member, saved: bool = False) -> None:
    if saved and member.held is not None:
        member.save(member.held)
    member.up = False


# ── what is owed ───────────────────────────────────────────────────────────────────────────────────


def nothing_to_do_is_no_ready(make: Make) -> None:
    group = Group(make)
    group.settle()
    assert all(member.core.ready() is None for member in group.members.values())


def a_group_of_one_commits_by_itself_and_only_after_its_save(make: Make) -> None:
    """Hazards 16 and 17."""
    group = Group(make, 1)
    leader = group.elect()
    leader.saving = False
    leader.core.propose(b"a")
    group.settle()
    assert leader.log == []
    leader.saving = True
    group.settle()
    assert leader.log == [b"a"]


def all_members_apply_the_same_commands_in_the_same_order(make: Make) -> None:
    group = Group(make)
    for number in range(30):
        group.put(b"%d" % number)
    assert [member.log for member in group.members.values()] == [[b"%d" % number for number in range(30)]] * 3


def a_ticket_tells_where_the_command_stands(make: Make) -> None:
    group = Group(make)
    leader = group.elect()
    group.settle()
    commands = [b"%d" % number for number in range(40)]
    tickets: list[Ticket] = []
    for command in commands:
        tickets.append(leader.core.propose(command))
        if len(tickets) % 7 == 0:
            group.settle()
    group.put(b"last")
    for ticket, command in zip(tickets, commands, strict=True):
        entry = group.chosen[ticket.index]
        assert (entry.term, entry.commands[ticket.position]) == (ticket.term, command)


def only_the_leader_proposes_and_reads(make: Make) -> None:
    group = Group(make)
    leader = group.put(b"a")
    for member in group.members.values():
        if member is leader:
            continue
        for ask in (lambda core=member.core: core.propose(b"x"), lambda core=member.core: core.read(1)):
            try:
                ask()
            except NotLeader as refusal:
                assert refusal.leader == leader.node
            else:
                raise AssertionError("a follower took it")


def a_minority_decides_nothing(make: Make) -> None:
    """Contract promise 5, reads included."""
    group = Group(make, 5)
    old = group.put(b"a")
    friend = next(node for node in group.voters if node != old.node)
    for node in group.voters - {old.node, friend}:
        crash(group.members[node])
    old.core.propose(b"b")
    old.core.read(1)
    group.tick(40)
    assert old.log == [b"a"] and not old.reads and not old.leads


def the_rest_goes_on_without_the_leader_and_it_catches_up(make: Make) -> None:
    group = Group(make)
    old = group.put(b"a")
    group.apart = {old.node}
    old.core.propose(b"lost")
    new = group.put(b"b")
    assert new is not old
    group.apart = set()
    group.put(b"c")
    assert old.log == [b"a", b"b", b"c"] and len(group.leaders()) == 1


def a_lost_leadership_is_told_by_the_standing(make: Make) -> None:
    """The owner fails waiting commands and reads on it."""
    group = Group(make)
    old = group.put(b"a")
    assert old.standings[-1].role is Role.LEADER and old.standings[-1].leader == old.node
    group.apart = {old.node}
    group.put(b"b")
    group.apart = set()
    group.put(b"c")
    assert old.standings[-1].role is not Role.LEADER
    assert old.standings[-1].leader == group.leaders()[0].node


def what_was_acknowledged_survives_a_crash_of_all(make: Make) -> None:
    """Hazard 30, and 19: nothing is applied again before it is known to be committed."""
    group = Group(make)
    for number in range(10):
        group.put(b"%d" % number)
    for member in group.members.values():
        crash(member)
        member.boot()
    assert all(member.log == [] and member.core.status().applied == 0 for member in group.members.values())
    group.put(b"more")
    assert group.leaders()[0].log == [b"%d" % number for number in range(10)] + [b"more"]


def a_restart_on_rows_applies_only_what_is_beyond_them(make: Make) -> None:
    group = Group(make)
    for number in range(5):
        group.put(b"%d" % number)
    member = group.members[1]
    member.checkpoint()
    group.put(b"5")
    crash(member)
    member.boot()
    assert member.log == [b"0", b"1", b"2", b"3", b"4"]
    group.put(b"6")
    assert member.log == [b"%d" % number for number in range(7)]


def a_save_lost_in_a_crash_was_never_promised(make: Make) -> None:
    """Hazards 1 and 16, on every member in turn, with the save done or not."""
    for saved in (False, True):
        group = Group(make)
        for node in sorted(group.voters):
            group.put(b"before %d" % node)
            member = group.members[node]
            member.saving = False
            for leader in group.leaders():
                leader.core.propose(b"during %d" % node)
            group.tick(3)
            crash(member, saved)
            member.saving = True
            member.boot()
        group.put(b"after")
        logs = {tuple(member.log) for member in group.members.values()}
        assert len(logs) == 1 and [command for command in logs.pop() if not command.startswith(b"during")] == [
            b"before 1",
            b"before 2",
            b"before 3",
            b"after",
        ]


def a_read_shows_what_was_acknowledged_before_it(make: Make) -> None:
    group = Group(make)
    leader = group.put(b"a")
    at = leader.applied.index
    leader.core.read(7)
    group.settle()
    assert leader.reads[7] >= at


def a_cut_off_leader_confirms_no_read(make: Make) -> None:
    """Scenario §3.1-7, hazard 22."""
    group = Group(make)
    old = group.put(b"a")
    group.apart = {old.node}
    old.core.read(1)
    group.put(b"b")
    group.apart = set()
    group.tick(30)
    assert not old.reads


def who_is_beyond_the_log_gets_rows(make: Make) -> None:
    group = Group(make)
    group.put(b"a")
    away = next(member for member in group.members.values() if not member.leads)
    crash(away)
    for number in range(20):
        leader = group.elect()
        leader.core.propose(b"%d" % number)
        group.settle()
    for member in group.members.values():
        if member.up:
            member.checkpoint()
    away.boot()
    group.put(b"last")
    assert away.log == group.leaders()[0].log and len(away.log) == 22


def compacting_twice_or_less_changes_nothing(make: Make) -> None:
    group = Group(make)
    leader = group.put(b"a")
    leader.checkpoint()
    leader.core.compact(leader.applied.index)
    leader.core.compact(0)
    assert leader.core.status().first == leader.applied.index + 1
    group.put(b"b")


def leadership_can_be_handed_over(make: Make) -> None:
    group = Group(make)
    old = group.put(b"a")
    to = next(node for node in group.voters if node != old.node)
    old.core.step(TransferLeadership(to))
    group.until(lambda: group.members[to].leads and not old.leads, "leadership moves")
    group.put(b"b")


def a_stalled_or_full_disk_does_not_lead(make: Make) -> None:
    """Hazards 7 and 28."""
    for event in (SaveStalled(), DiskFull()):
        group = Group(make)
        old = group.put(b"a")
        old.core.step(event)
        assert not old.leads
        group.until(lambda group=group: len(group.leaders()) == 1, "another leads")
        group.tick(30)
        assert not old.leads
        old.core.step(SaveResumed())
        group.put(b"b")


def a_copy_follows_and_never_counts(make: Make) -> None:
    """Hazard 9."""
    group = Group(make)
    group.put(b"a")
    wiped = next(member for member in group.members.values() if not member.leads)
    del group.members[wiped.node]
    copy = group.members[-wiped.node] = Member(group, -wiped.node)
    group.elect().core.step(CopySeen(-wiped.node))
    group.put(b"b")
    assert copy.log == [b"a", b"b"] and copy.core.status().role is Role.COPY and not copy.core.status().voter
    crash(group.leaders()[0])
    group.tick(60)
    assert not group.leaders(), "one voter and a copy are no quorum of three"


def strangers_and_nonsense_change_nothing(make: Make) -> None:
    group = Group(make)
    leader = group.put(b"a")
    before = leader.core.status()
    for nonsense in (None, 7, object(), SnapshotInstalled(0, 0), CopySeen(5), CopySeen(-9)):
        leader.core.step(nonsense)
    group.settle()
    assert leader.core.status() == before


def a_ready_is_bounded(make: Make) -> None:
    """No turn is endless: 12 MiB that are committed at once are applied in several turns."""
    group = Group(make, 1)
    leader = group.elect()
    for _ in range(12):
        leader.core.propose(bytes(1 << 20))
    most = 0
    for _ in range(20):
        ready = leader.core.ready()
        if ready is None:
            break
        most = max(most, sum(len(command) for entry in ready.committed for command in entry.commands))
        leader.save(ready)
        leader.core.advance(ready)
    assert 0 < most <= 5 << 20 and leader.core.status().applied == leader.core.status().last


CHECKS: tuple[Callable[[Make], None], ...] = (
    nothing_to_do_is_no_ready,
    a_group_of_one_commits_by_itself_and_only_after_its_save,
    all_members_apply_the_same_commands_in_the_same_order,
    a_ticket_tells_where_the_command_stands,
    only_the_leader_proposes_and_reads,
    a_minority_decides_nothing,
    the_rest_goes_on_without_the_leader_and_it_catches_up,
    a_lost_leadership_is_told_by_the_standing,
    what_was_acknowledged_survives_a_crash_of_all,
    a_restart_on_rows_applies_only_what_is_beyond_them,
    a_save_lost_in_a_crash_was_never_promised,
    a_read_shows_what_was_acknowledged_before_it,
    a_cut_off_leader_confirms_no_read,
    who_is_beyond_the_log_gets_rows,
    compacting_twice_or_less_changes_nothing,
    leadership_can_be_handed_over,
    a_stalled_or_full_disk_does_not_lead,
    a_copy_follows_and_never_counts,
    strangers_and_nonsense_change_nothing,
    a_ready_is_bounded,
)
