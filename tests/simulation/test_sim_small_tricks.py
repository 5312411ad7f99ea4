"""Tricks that are played on leaders: each comes to where it should, and sound cores bear it."""

from __future__ import annotations

import pytest

from twisted_kv.consensus.raft.log import Log
from twisted_kv.consensus.raft.reads import Reads
from twisted_kv.consensus.raft.state import RaftSettings
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.judges import checkers
from twisted_kv.simulation.small.group import Setting, SmallGroup
from twisted_kv.simulation.small.tricks import Forgotten, HandedOver, OneAhead, SlowToSave


def at_work(seed: int, size: int = 3) -> SmallGroup:
    made = SmallGroup(World(seed), Setting(size, RaftSettings(election_ticks=5, entry_bytes_max=1), 0.7, False, 0, ()))
    made.boot_all()
    for _ in range(60):
        made.pass_turn()
    return made


@pytest.mark.parametrize("size", [3, 5])
def test_a_leader_that_time_forgets_believes_to_lead_while_others_go_on(size: int) -> None:
    """Hazards 22, 23 and 25: only a late answer could make it read what is old."""
    both = 0
    for seed in range(1, 9):
        made = at_work(seed, size)
        [leader] = made.leaders
        trick = Forgotten(made, leader)
        while trick.turn():
            made.pass_turn()
            both += len(made.leaders) > 1 and leader in made.leaders
        assert made.violations == ()
    assert both > 8


def test_one_follower_alone_is_ahead_and_loses_its_disk() -> None:
    made = at_work(3, 5)
    trick = OneAhead(made, made.leaders[0])
    while trick.turn():
        made.pass_turn()
    assert made.violations == () and len(made.wiped) == 1


def test_who_is_handed_leadership_in_vain_is_ahead_of_all_terms() -> None:
    """Hazard 8: whoever leads hears of the newer term, and all come together again."""
    ahead = 0
    for seed in range(1, 7):
        made = at_work(seed)
        [leader] = made.leaders
        trick = HandedOver(made, leader)
        while trick.turn():
            made.pass_turn()
            ahead += max(member.status.term for member in made.members) > leader.status.term and leader.leads
        made.calm()
        made.mail.forget()
        for _ in range(80):
            made.pass_turn()
        assert made.violations == () and len(made.leaders) == 1
        assert len({member.status.term for member in made.members}) == 1
    assert ahead > 2


def played(trick: type[Forgotten] | type[SlowToSave], seeds: int) -> set[str]:
    """What is found when the trick is played on groups that are at work."""
    found: set[str] = set()
    for seed in range(1, seeds + 1):
        made = at_work(seed)
        playing = trick(made, made.leaders[0])
        while playing.turn():
            made.pass_turn()
        made.calm()
        made.boot_all()
        for _ in range(60):
            made.pass_turn()
        found |= {violation.checker for violation in made.violations}
    return found


def test_reads_that_join_a_round_under_way_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hazard 22: the answers to that round left before the read was asked."""
    honest = Reads.begin

    def joined(reads: Reads, commit: int) -> bool:
        if reads._rounds:
            reads._rounds[-1][2].extend(reads._waiting)
            reads._waiting = []
        return honest(reads, commit)

    assert played(Forgotten, 4) == set()
    monkeypatch.setattr(Reads, "begin", joined)
    assert checkers.LINEARIZABLE in played(Forgotten, 4)


def test_a_cut_of_what_is_being_saved_is_told_to_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hazard 16: the entries would be there again after a restart."""
    honest = Log.cut

    def forgetful(log: Log, index: int) -> None:
        told, saved = log._cut, log.saved
        honest(log, index)
        if index > saved:
            log._cut = told

    assert played(SlowToSave, 6) == set()
    monkeypatch.setattr(Log, "cut", forgetful)
    assert checkers.LOG_MATCHING in played(SlowToSave, 6)
