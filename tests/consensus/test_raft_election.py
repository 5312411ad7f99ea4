"""Elections, one rule at a time."""

import pytest
from raft_stage import VOTERS, Stage, of, restored

from twisted_kv.consensus.raft.messages import (
    Append,
    AskPreVote,
    AskVote,
    Heartbeat,
    HeartbeatAck,
    NewerTerm,
    PreVoteAnswer,
    VoteAnswer,
)
from twisted_kv.consensus.raft.node import RaftSettings
from twisted_kv.consensus.types import NOBODY, DiskFull, Entry, HardState, Role, SaveResumed, SaveStalled

TICKS = RaftSettings().election_ticks


def test_timeouts_are_random_between_once_and_twice_the_election_timeout():
    """§5.2, §9.3."""
    fired = set()
    for seed in range(60):
        stage, ticks = Stage(seed=seed), 1
        while not stage.tick():
            ticks += 1
        fired.add(ticks)
    assert min(fired) >= TICKS and max(fired) < 2 * TICKS and len(fired) > TICKS // 2


def test_a_campaign_asks_first_then_enters_a_new_term_with_its_own_vote():
    """§5.2, thesis §9.6."""
    stage = Stage(disk=restored(1, 1, term=3))
    assert stage.time_out() == [AskPreVote(1, 2, 4, 2, 1), AskPreVote(1, 3, 4, 2, 1)]
    assert (stage.status.role, stage.status.term) == (Role.CANDIDATE, 3)
    said = stage.step(PreVoteAnswer(2, 1, 3, 4, True))
    assert said == [AskVote(1, 2, 4, 2, 1, False), AskVote(1, 3, 4, 2, 1, False)]
    assert stage.readies[-1].hard_state == HardState(4, 1)


def test_who_does_not_answer_is_soon_asked_again_and_no_term_grows_by_it():
    """Thesis §9.6: who has heard the leader a tick later than we have answers a tick later than we ask."""
    stage = Stage(disk=restored(1, 1, term=3))
    asked = stage.time_out()
    soon = stage.settings.heartbeat_ticks
    assert stage.tick(soon - 1) == []
    assert stage.tick() == asked
    assert stage.tick(20 * soon) == asked * 20
    assert (stage.status.term, stage.readies[-1].hard_state) == (3, None)


def test_a_candidate_waits_for_a_whole_timeout():
    """§5.2: each of its campaigns costs a term."""
    stage = Stage(disk=restored(1, 1, term=3))
    stage.campaign()
    assert stage.tick(TICKS - 1) == []


def test_a_majority_makes_a_leader_and_a_no_op_opens_its_term():
    """§5.2, §8."""
    stage = Stage(disk=restored(1, 1))
    said = stage.lead()
    assert [message.entries for message in of(Append, said)] == [(Entry(3, stage.status.term),)] * 2
    assert stage.status.leader == 1


def test_a_group_of_one_needs_nobody_but_its_own_disk():
    stage = Stage(voters=frozenset({1}))
    stage.node.tick()
    ready = stage.node.ready()
    assert ready.hard_state == HardState(1, 1) and stage.status.role is Role.CANDIDATE
    stage.node.advance(ready)
    assert stage.status.role is Role.LEADER


def test_one_vote_per_term_first_come_first_served():
    """§5.2."""
    stage = Stage()
    assert stage.step(AskVote(2, 1, 1, 0, 0, False)) == [VoteAnswer(1, 2, 1, True)]
    assert stage.step(AskVote(3, 1, 1, 9, 1, False)) == [VoteAnswer(1, 3, 1, False)]
    assert stage.step(AskVote(2, 1, 1, 0, 0, False)) == [VoteAnswer(1, 2, 1, True)], "the same answer again"


def test_an_older_term_is_told_the_newer_one():
    """§5.1."""
    stage = Stage(disk=restored(term=5))
    assert stage.step(AskVote(2, 1, 4, 9, 4, False)) == [NewerTerm(1, 2, 5)]
    assert stage.step(Heartbeat(2, 1, 4, 0, 0)) == [NewerTerm(1, 2, 5)]
    assert stage.status.leader == NOBODY


def test_a_newer_term_ends_every_role():
    """§5.1."""
    for reach in (Stage.time_out, Stage.campaign, Stage.lead):
        stage = Stage()
        reach(stage)
        stage.step(NewerTerm(2, 1, 9))
        assert (stage.status.role, stage.status.term, stage.status.leader) == (Role.FOLLOWER, 9, NOBODY)


def test_a_candidate_yields_to_who_won_its_term():
    """§5.2."""
    stage = Stage()
    stage.campaign()
    stage.step(Heartbeat(3, 1, stage.status.term, 0, 0))
    assert (stage.status.role, stage.status.leader) == (Role.FOLLOWER, 3)


def test_the_timer_is_held_back_only_by_a_leader_or_by_a_vote_given():
    """Scenario §3.1-5."""
    stage = Stage()
    for _ in range(2 * TICKS):
        said = stage.tick()
        if said:
            return
        # Words of a stranger to this term, a question, a refusal: none of them restarts the timer.
        stage.step(
            Heartbeat(2, 1, 0, 0, 0) if stage.status.term else NewerTerm(3, 1, 1),
            AskPreVote(2, 1, 9, 0, 0),
            VoteAnswer(2, 1, 1, False),
        )
    raise AssertionError("the timer never fired")


def test_a_vote_given_restarts_the_timer():
    """§5.2."""
    stage = Stage()
    stage.tick(TICKS - 1)
    stage.step(AskVote(2, 1, 1, 0, 0, False))
    assert not stage.tick(TICKS - 1)


def test_a_leader_that_hears_no_quorum_for_an_election_timeout_steps_down():
    """Thesis §6.2. One follower of four is not enough of five."""
    stage = Stage(voters=frozenset({1, 2, 3, 4, 5}))
    stage.lead()
    for _ in range(TICKS - 1):
        stage.step(HeartbeatAck(2, 1, stage.status.term, 0))
        stage.tick()
    assert stage.status.role is Role.LEADER
    stage.tick()
    assert (stage.status.role, stage.status.leader) == (Role.FOLLOWER, NOBODY)


def test_a_leader_that_hears_a_quorum_stays():
    stage = Stage()
    stage.lead()
    for _ in range(5 * TICKS):
        stage.step(HeartbeatAck(2, 1, stage.status.term, 0))
        stage.tick()
    assert stage.status.role is Role.LEADER


@pytest.mark.parametrize("event", [SaveStalled(), DiskFull()])
def test_a_disk_that_does_not_save_ends_leadership_until_it_does(event):
    """Hazards 7 and 28."""
    stage = Stage()
    stage.lead()
    stage.step(event)
    assert stage.status.role is Role.FOLLOWER
    assert stage.tick(5 * TICKS) == [], "campaigned on a bad disk"
    term = stage.status.term
    assert stage.step(AskPreVote(2, 1, term + 1, 9, term)) == [PreVoteAnswer(1, 2, term, term + 1, False)]
    stage.step(SaveResumed())
    assert not stage.tick(TICKS - 1), "a full timeout first"
    assert of(AskPreVote, stage.time_out())


def test_a_full_disk_does_not_vote_a_stalled_one_may():
    """Hazard 28: a row as small as a vote still fits a full disk, and what is elected so can append nothing."""
    for event, granted in ((DiskFull(), False), (SaveStalled(), True)):
        stage = Stage()
        assert stage.step(event, AskVote(2, 1, 1, 0, 0, False)) == [VoteAnswer(1, 2, 1, granted)]


@pytest.mark.parametrize("asked", [4, 5])
def test_a_pre_vote_for_a_term_that_has_begun_is_refused_and_tells_the_term(asked):
    """Thesis §9.6: whatever its log, it must learn the term first."""
    stage = Stage(disk=restored(1, term=5))
    assert stage.step(AskPreVote(2, 1, asked, 99, 4)) == [PreVoteAnswer(1, 2, 5, asked, False)]


def test_two_that_ask_at_once_answer_each_other():
    stage = Stage(voters=VOTERS)
    stage.time_out()
    assert stage.step(AskPreVote(2, 1, 1, 0, 0)) == [PreVoteAnswer(1, 2, 0, 1, True)]
