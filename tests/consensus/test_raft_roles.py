"""Roles hold their own data and no other's."""

from twisted_kv.consensus.raft.roles import Candidate, Copy, Follower, Leader, PreCandidate, Transfer
from twisted_kv.consensus.types import NOBODY, Role


def test_each_role_says_who_leads_and_how_it_is_shown():
    roles = [Follower(3), Copy(3), PreCandidate({1}), Candidate({1}), Leader(1, {})]
    assert [role.leader for role in roles] == [3, 3, NOBODY, NOBODY, 1]
    shown = [Role.FOLLOWER, Role.COPY, Role.CANDIDATE, Role.CANDIDATE, Role.LEADER]
    assert [role.shown for role in roles] == shown


def test_nobody_carries_a_field_of_another_role():
    """Style: a Leader has progress, a Candidate has votes."""
    for role in (Follower(), Copy(), Candidate(set()), PreCandidate(set())):
        assert not hasattr(role, "peers") and not hasattr(role, "__dict__")
    assert not hasattr(Leader(1, {}), "granted")


def test_a_leader_begins_with_nothing_open_and_hands_nothing_over():
    leader, transfer = Leader(1, {}), Transfer(2)
    assert (leader.open, leader.open_bytes, leader.transfer) == ([], 0, None)
    assert (transfer.to, transfer.ticks, transfer.told) == (2, 0, False)
