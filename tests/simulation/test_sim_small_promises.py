"""Each promise of a small group, broken by hand: the judge speaks, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twisted_kv.consensus.raft import election, replication
from twisted_kv.consensus.raft.roles import Leader
from twisted_kv.consensus.raft.state import RaftSettings, State
from twisted_kv.consensus.types import Entry, Position
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.explorer.node import Disk, View
from twisted_kv.simulation.judges import checkers
from twisted_kv.simulation.small.group import Load, Setting, SmallGroup
from twisted_kv.simulation.small.member import Member, Rows
from twisted_kv.simulation.small.promises import Promises

ONE, TWO = Entry(1, 1), Entry(2, 1, (b"1",))
VOTERS = frozenset({1, 2, 3})


class Bench:
    """Three members that nobody boots, and a judge who looks at them."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.view = View(False, 1, 2, Position(), (ONE, TWO))
        self.judge = Promises(lambda *finding: self.found.append(finding), lambda member: self.view, VOTERS, 4)
        unused: Any = None
        self.members = [Member(unused, number, 4) for number in sorted(VOTERS)]
        self.judge.members = self.members

    def holds(self, *disks: Disk) -> None:
        for member, disk in zip(self.members, disks, strict=True):
            member.log.disk = disk

    def commits(self, member: Member) -> None:
        """This member shows that all it has is committed."""
        status: Any = type("Status", (), {"commit": self.view.commit})
        member.core = type("Core", (), {"status": lambda self: status})()
        self.judge.changed(member)


WHOLE, BLANK = Disk(entries=(ONE, TWO)), Disk()


def test_what_is_committed_stands_on_a_majority_of_the_disks() -> None:
    bench = Bench()
    bench.holds(WHOLE, WHOLE, BLANK)
    bench.commits(bench.members[0])
    assert bench.found == []
    bench.members[1].log.disk = BLANK
    bench.judge.shrank(bench.members[1])
    assert [name for name, _ in bench.found] == [checkers.KEPT]


def test_a_disk_that_was_wiped_counts_as_it_was_then() -> None:
    bench = Bench()
    bench.holds(WHOLE, WHOLE, BLANK)
    bench.judge.wiped(bench.members[1])
    bench.members[1].log.disk = BLANK
    bench.commits(bench.members[0])
    assert bench.found == []
    bench = Bench()
    bench.holds(WHOLE, BLANK, BLANK)
    bench.judge.wiped(bench.members[1])
    bench.members[1].log.disk = WHOLE
    bench.commits(bench.members[0])
    assert [name for name, _ in bench.found] == [checkers.KEPT], "a copy never counts"


def test_who_commits_what_it_lacks_is_told() -> None:
    bench = Bench()
    bench.view = View(False, 1, 5, Position(), (ONE, TWO))
    bench.commits(bench.members[0])
    assert bench.found[0][0] == checkers.ONE_ORDER


def test_machines_that_stand_at_one_entry_contain_the_same() -> None:
    bench = Bench()
    for member, entry in zip(bench.members, (ONE, ONE, Entry(1, 2)), strict=True):
        assert bench.found == []
        member.machine = Rows().with_entry(entry)
        bench.judge.applied(member, entry)
    assert [name for name, _ in bench.found] == [checkers.EQUAL]


def test_who_is_told_done_finds_its_commands_there() -> None:
    bench = Bench()
    bench.judge.acknowledged(bench.members[0], TWO, (b"1",))
    assert bench.found == [] and bench.judge.done == 1
    bench.judge.acknowledged(bench.members[0], TWO, (b"2",))
    assert [name for name, _ in bench.found] == [checkers.DURABLE]


def test_a_read_is_not_older_than_what_was_told_before_it_began() -> None:
    bench = Bench()
    bench.judge.read_began(1)
    bench.judge.acknowledged(bench.members[0], TWO, (b"1",))
    bench.judge.read_began(2)
    bench.judge.read_began(3)
    bench.judge.reads_abandoned([3])
    assert [token for token, _ in bench.judge.past.reads] == [1, 2]
    stale = bench.members[1]
    bench.judge.read_answered(stale, 1)
    assert bench.found == []
    bench.judge.read_answered(stale, 2)
    assert [name for name, _ in bench.found] == [checkers.LINEARIZABLE]


# ── with real cores ────────────────────────────────────────────────────────────────────────────────


def suffered(suffer: Callable[[SmallGroup], None], turns: int = 60) -> set[str]:
    """What is found when a group that is at work suffers this."""
    made = SmallGroup(World(3), Setting(3, RaftSettings(election_ticks=5), 1.0, False, 0, ()))
    made.load = Load(1.0, 1.0)
    made.boot_all()
    for _ in range(60):
        made.pass_turn()
    suffer(made)
    for _ in range(turns):
        made.pass_turn()
    return {violation.checker for violation in made.violations}


def cut_off_the_leader(made: SmallGroup) -> None:
    leader = made.leaders[0].number
    made.mail.cut = {link for other in made.voters - {leader} for link in ((leader, other), (other, leader))}


def test_silence_enters_no_term_and_ends_leading() -> None:
    assert suffered(cut_off_the_leader) == set()


def test_a_node_that_enters_terms_by_itself_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hazard 8."""

    def at_once(state: State) -> None:
        election.campaign(state, transfer=False)

    monkeypatch.setattr(election, "ask_pre_votes", at_once)
    assert checkers.TERM_STAYS in suffered(cut_off_the_leader)


def test_a_leader_that_stays_without_a_quorum_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hazard 7."""
    monkeypatch.setattr(election, "check_quorum", lambda state, role: None)
    assert suffered(cut_off_the_leader) == {checkers.STALE_LEADER}


def test_a_leader_that_counts_what_it_has_not_saved_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hazard 16."""
    honest = replication.advance_commit

    def hasty(state: State, role: Leader) -> None:
        saved, state.log.saved = state.log.saved, state.log.last
        honest(state, role)
        state.log.saved = saved

    def slow_leader(made: SmallGroup) -> None:
        made.saves_of = {made.leaders[0].number: (3,)}
        other = next(member for member in made.members if not member.leads)
        made.mail.cut = {(one, other.number) for one in made.voters}

    assert suffered(slow_leader) == set()
    monkeypatch.setattr(replication, "advance_commit", hasty)
    assert checkers.KEPT in suffered(slow_leader)
