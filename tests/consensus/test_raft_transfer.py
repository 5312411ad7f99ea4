"""Leadership handed over (thesis §3.10)."""

import pytest
from raft_stage import Stage, of, restored

from twisted_kv.consensus.raft.messages import Append, AskPreVote, AskVote, HeartbeatAck, TimeoutNow, VoteAnswer
from twisted_kv.consensus.types import NotLeader, Role, SaveStalled, TransferLeadership


def leading():
    stage = Stage()
    stage.lead()
    stage.ack(2, 3)
    return stage


def test_a_target_that_has_everything_is_told_at_once():
    stage = leading()
    assert stage.step(TransferLeadership(3)) == [TimeoutNow(1, 3, stage.status.term)]


def test_a_target_that_lags_gets_the_entries_first():
    stage = leading()
    stage.node.propose(b"a")
    assert not of(TimeoutNow, stage.step(TransferLeadership(3)))
    assert not of(TimeoutNow, stage.ack(2))
    assert of(TimeoutNow, stage.ack(3), to=3)
    assert not of(TimeoutNow, stage.ack(3)), "told once"


def test_the_best_follower_is_chosen_when_none_is_named():
    stage = leading()
    stage.node.propose(b"a")
    stage.settle()
    stage.ack(3)
    assert stage.step(TransferLeadership()) == [TimeoutNow(1, 3, stage.status.term)]


def test_proposals_are_refused_meanwhile_and_taken_again_after_an_election_timeout():
    stage = leading()
    stage.step(TransferLeadership(3))
    with pytest.raises(NotLeader) as refusal:
        stage.node.propose(b"a")
    assert refusal.value.leader == 3
    for _ in range(stage.settings.election_ticks):
        stage.step(HeartbeatAck(2, 1, stage.status.term, 0))
        stage.tick()
    assert stage.status.role is Role.LEADER
    stage.node.propose(b"a")


def test_nobody_is_handed_to_who_is_no_voter_or_oneself():
    stage = leading()
    assert stage.step(TransferLeadership(1), TransferLeadership(-2), TransferLeadership(9)) == []
    stage.node.propose(b"a")
    assert of(Append, stage.settle())


def test_a_follower_has_nothing_to_hand_over():
    assert Stage().step(TransferLeadership(2)) == []


def test_the_target_campaigns_at_once_and_says_why():
    """No pre-vote; the mark lets others look past the leader that they still hear."""
    stage = Stage(disk=restored(1, term=4))
    said = stage.step(TimeoutNow(2, 1, 4))
    assert said == [AskVote(1, 2, 5, 1, 1, True), AskVote(1, 3, 5, 1, 1, True)]


def test_a_voter_that_hears_a_leader_votes_for_a_transfer():
    stage = Stage(disk=restored(1))
    stage.step(Append(2, 1, 1, 1, 1, 0, ()))
    assert stage.step(AskVote(3, 1, 2, 1, 1, False)) == []
    assert stage.step(AskVote(3, 1, 2, 1, 1, True)) == [VoteAnswer(1, 3, 2, True)]


def test_a_target_whose_disk_stalls_and_a_copy_decline():
    stage = Stage()
    assert stage.step(SaveStalled(), TimeoutNow(2, 1, 1)) == []
    assert not of(AskPreVote, Stage(node=-1).step(TimeoutNow(2, -1, 1)))
