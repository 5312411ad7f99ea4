"""Hazards of the core, one directed schedule each: what random simulation may miss for a thousand seeds.

The numbers are those of the hazard list that the design keeps; each names the systems it once broke.
"""

import ast
from pathlib import Path
from random import Random

import pytest
from raft_stage import VOTERS, Stage, of, restored
from raft_world import World

from twisted_kv.consensus.raft import node as node_module
from twisted_kv.consensus.raft.messages import (
    Append,
    AppendAck,
    AppendRefused,
    AskPreVote,
    AskVote,
    Heartbeat,
    HeartbeatAck,
    NewerTerm,
    PreVoteAnswer,
    SnapshotOffer,
    VoteAnswer,
)
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import (
    CopySeen,
    DiskFull,
    Entry,
    HardState,
    NotLeader,
    Position,
    ReadIndex,
    Restored,
    Role,
    SaveResumed,
    SaveStalled,
    SnapshotInstalled,
    TransferLeadership,
)


def entries(first, *terms):
    return tuple(Entry(first + place, term, (b"n",)) for place, term in enumerate(terms))


def leading(voters=VOTERS, disk=None):
    """A leader whose no-op is committed and whose peers are all streamed to."""
    stage = Stage(voters=voters, disk=disk or restored())
    stage.lead()
    stage.ack(*stage.node._state.others)
    return stage


# ── elections and terms ────────────────────────────────────────────────────────────────────────────


def test_hazard_01_a_vote_and_a_candidacy_leave_only_with_their_save():
    """Hazard 1: the term and the vote are in the same Ready, and the words wait for it."""
    voter = Stage()
    voter.node.step(AskVote(2, 1, 5, 0, 0, False))
    ready = voter.node.ready()
    assert ready.hard_state == HardState(5, 2) and not ready.early
    assert ready.messages == (VoteAnswer(1, 2, 5, True),)

    candidate = Stage()
    candidate.time_out()
    candidate.node.step(PreVoteAnswer(2, 1, 0, 1, True))
    ready = candidate.node.ready()
    assert ready.hard_state == HardState(1, 1) and not ready.early
    assert len(of(AskVote, list(ready.messages))) == 2


def test_hazard_01_the_own_vote_counts_only_once_it_is_durable():
    """Hazard 1: one of three plus an unsaved own vote would lead, crash, and vote for another."""
    stage = Stage()
    stage.time_out()
    stage.node.step(PreVoteAnswer(2, 1, 0, 1, True))
    ready = stage.node.ready()
    stage.node.step(VoteAnswer(2, 1, 1, True))
    assert stage.status.role is Role.CANDIDATE
    stage.node.advance(ready)
    assert stage.status.role is Role.LEADER


def test_hazard_01_after_a_restart_the_vote_stands():
    """Hazard 1: nobody votes twice in a term."""
    stage = Stage(disk=restored(term=5, vote=2))
    assert stage.step(AskVote(3, 1, 5, 99, 5, False)) == [VoteAnswer(1, 3, 5, False)]
    assert stage.step(AskVote(2, 1, 5, 99, 5, False)) == [VoteAnswer(1, 2, 5, True)]


def test_hazard_01_stepping_down_within_a_term_takes_back_no_vote():
    """Hazard 1: whoever voted for itself, and then gave up or was told to, has still voted."""
    candidate = Stage()
    candidate.campaign()
    leader = Stage()
    leader.lead()
    for stage in (candidate, leader):
        term = stage.status.term
        stage.step(SaveStalled(), SaveResumed())
        assert stage.status.role is Role.FOLLOWER and stage.status.term == term
        assert of(VoteAnswer, stage.step(AskVote(3, 1, term, 99, term, False))) == [VoteAnswer(1, 3, term, False)]


def test_hazard_02_neither_compaction_nor_snapshot_nor_restart_forgets_term_or_vote():
    """Hazard 2."""
    stage = Stage(disk=restored(1, 1, 1, term=6, vote=3))
    stage.step(Heartbeat(2, 1, 6, 3, 0))
    stage.node.compact(2)
    stage.step(SnapshotOffer(2, 1, 6, 9, 5), SnapshotInstalled(9, 5))
    assert not [ready for ready in stage.readies if ready.hard_state]
    assert (stage.status.term, stage.node._state.vote) == (6, 3)
    again = Stage(disk=Restored(HardState(6, 3), Position(9, 5)))
    assert (again.status.term, again.node._state.vote) == (6, 3)


def test_hazard_03_a_pre_vote_changes_nothing_and_its_answer_mirrors_the_question():
    """Hazard 3: neither the term nor a cast vote moves, for who asks and for who answers."""
    stage = Stage(disk=restored(1, term=5, vote=2))
    assert stage.step(AskPreVote(3, 1, 9, 7, 4)) == [PreVoteAnswer(1, 3, 5, 9, True)]
    assert (stage.status.term, stage.node._state.vote) == (5, 2)
    assert not [ready for ready in stage.readies if ready.must_save]
    stage.time_out()
    assert (stage.status.term, stage.node._state.vote) == (5, 2)
    assert not [ready for ready in stage.readies if ready.must_save]


def test_hazard_03_a_stale_term_with_the_longer_log_does_not_deadlock_the_group():
    """Hazard 3: 1 has the log, 2 has the term; each refuses the other at first, and 1 wins at last."""
    long, high = Stage(disk=restored(3, 3)), Stage(node=2, disk=restored(3, term=10))
    for _ in range(3):
        for asker, answerer in ((high, long), (long, high)):
            said = asker.time_out()
            while said:
                said = [word for word in said if word.to == answerer.status.node]
                said, asker, answerer = answerer.step(*said), answerer, asker
    assert long.status.role is Role.LEADER and high.status.leader == 1


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(13, 4, True), (12, 4, True), (11, 4, False), (99, 3, False), (1, 5, True)],
)
@pytest.mark.parametrize("ask", [AskVote, AskPreVote])
def test_hazard_04_up_to_date_compares_term_then_index_boundary_included(ask, last_index, last_term, granted):
    """Hazard 4, §5.4.1: this log is nothing but its boundary (12, 4)."""
    stage = Stage(disk=Restored(HardState(6, 0), Position(12, 4)))
    rest = (False,) if ask is AskVote else ()
    (answer,) = stage.step(ask(2, 1, 7, last_index, last_term, *rest))
    assert answer.granted is granted


def test_hazard_05_votes_count_in_their_term_once_per_voter_and_from_voters_only():
    """Hazard 5."""
    stage = Stage(voters=frozenset({1, 2, 3, 4, 5}))
    stage.campaign()
    first = stage.status.term
    stage.step(VoteAnswer(2, 1, first, True), VoteAnswer(2, 1, first, True))
    stage.step(VoteAnswer(-3, 1, first, True), VoteAnswer(9, 1, first, True), VoteAnswer(3, 1, first, False))
    assert stage.status.role is Role.CANDIDATE
    stage.campaign()
    assert stage.status.term == first + 1
    stage.step(VoteAnswer(3, 1, first, True), VoteAnswer(4, 1, first, True), VoteAnswer(5, 1, first, True))
    assert stage.status.role is Role.CANDIDATE, "votes of the term before"
    stage.step(VoteAnswer(3, 1, first + 1, True), VoteAnswer(4, 1, first + 1, True))
    assert stage.status.role is Role.LEADER


def test_hazard_05_pre_votes_count_for_the_question_that_was_asked():
    """Hazard 5: a grant of an earlier question says nothing of this one."""
    stage = Stage()
    stage.time_out()
    stage.step(NewerTerm(3, 1, 4))
    stage.time_out()
    assert stage.step(PreVoteAnswer(2, 1, 0, 1, True)) == []
    assert of(AskVote, stage.step(PreVoteAnswer(2, 1, 4, 5, True)))


@pytest.mark.parametrize(
    "end",
    [
        NewerTerm(2, 1, 9),
        Heartbeat(2, 1, 9, 0, 0),
        AppendAck(2, 1, 9, 1),
        SaveStalled(),
        DiskFull(),
        "silence",
    ],
    ids=str,
)
def test_hazard_06_every_way_out_of_leadership_leaves_a_running_timer(end):
    """Hazard 6."""
    stage = leading()
    stage.tick(3)
    if end == "silence":
        stage.tick(stage.settings.election_ticks)
    else:
        stage.step(end)
    assert stage.status.role is Role.FOLLOWER
    state = stage.node._state
    assert state.elapsed < state.timeout
    state.held = None
    assert of(AskPreVote, stage.time_out())


def test_hazard_06_a_candidacy_that_ends_leaves_a_full_timeout():
    """Hazard 6: and who just lost does not ask again before others could."""
    stage = Stage()
    stage.campaign()
    stage.node._state.elapsed = stage.node._state.timeout - 1
    stage.step(NewerTerm(2, 1, 9))
    assert stage.tick(stage.settings.election_ticks - 1) == []
    assert of(AskPreVote, stage.time_out())


def test_hazard_07_a_leader_without_quorum_or_without_a_disk_steps_down_in_an_election_timeout():
    """Hazard 7."""
    deaf, stalled = leading(), leading()
    deaf.tick(deaf.settings.election_ticks)
    stalled.step(SaveStalled())
    for stage in (deaf, stalled):
        assert stage.status.role is Role.FOLLOWER
        with pytest.raises(NotLeader):
            stage.node.propose(b"a")


def test_hazard_08_who_comes_back_cannot_depose_a_leader_that_is_heard():
    """Hazard 8: the question is ignored whole, term and all, by the leader and by who hears it."""
    follower = Stage(disk=restored(1))
    follower.step(Heartbeat(2, 1, 1, 1, 0))
    for stage in (follower, leading()):
        term = stage.status.term
        assert stage.step(AskVote(3, 1, term + 9, 99, term + 8, False), AskPreVote(3, 1, term + 9, 99, 9)) == []
        assert stage.status.term == term
    follower.tick(follower.settings.election_ticks)
    assert of(VoteAnswer, follower.step(AskVote(3, 1, 20, 99, 19, False)))


def test_hazard_08_a_returning_node_leaves_term_and_leader_as_they_are():
    """Hazard 8, over a real schedule: isolated for two seconds, it asks in vain and changes nothing."""
    world = World(3)
    assert world.run_until(lambda: world.leader is not None)
    leader, term = world.leader, world.leader.core.status().term
    outside = next(node for node in world.voters if node != leader.node)
    world.isolate(outside)
    world.run(2000)
    world.heal()
    world.run(2000)
    assert {host.core.status().term for host in world.hosts.values()} == {term}
    assert world.leader is leader and world.hosts[outside].core.status().leader == leader.node


def test_hazard_09_a_wiped_disk_never_votes_counts_or_campaigns():
    """Hazard 9: it comes back under the negative of its id."""
    copy = Stage(node=-3)
    assert copy.tick(100) == []
    assert copy.step(AskVote(2, -3, 5, 9, 4, True), AskPreVote(2, -3, 5, 9, 4)) == []
    leader = leading()
    leader.step(CopySeen(-3))
    leader.node.propose(b"a")
    leader.node.read(1)
    leader.settle()
    leader.step(AppendAck(-3, 1, leader.status.term, 2), HeartbeatAck(-3, 1, leader.status.term, 9))
    assert leader.status.commit == 1 and not [ready for ready in leader.readies if ready.reads]
    for _ in range(leader.settings.election_ticks):
        leader.step(HeartbeatAck(-3, 1, leader.status.term, 0))
        leader.tick()
    assert leader.status.role is Role.FOLLOWER, "a copy held up check-quorum"


# ── replication and commit ─────────────────────────────────────────────────────────────────────────


def test_hazard_10_only_entries_of_the_own_term_commit_by_counting():
    """Hazard 10, Figure 8: term 2's entry is on a majority, and is not committed until term 4's is."""
    stage = Stage(disk=restored(1, 2, term=3), voters=frozenset({1, 2, 3, 4, 5}))
    stage.lead()
    assert stage.status.term == 4
    stage.ack(2, 3, index=2)
    assert stage.status.commit == 0
    stage.ack(2, 3, index=3)
    assert stage.status.commit == 3


def test_hazard_11_a_follower_commits_no_further_than_this_append_covered():
    """Hazard 11: what stands behind it may be another leader's."""
    stage = Stage(disk=restored(1, 1, 1, 1))
    stage.step(Append(2, 1, 2, 1, 1, 4, entries(2, 1)))
    assert stage.status.commit == 2
    stage.step(Append(2, 1, 2, 0, 0, 1, ()))
    assert stage.status.commit == 2, "never back"


def test_hazard_12_a_follower_acknowledges_no_more_than_the_append_proved():
    """Hazard 12."""
    stage = Stage(disk=restored(1, 1, 1, 1))
    assert stage.step(Append(2, 1, 2, 1, 1, 0, entries(2, 1))) == [AppendAck(1, 2, 2, 2)]
    assert stage.step(Append(2, 1, 2, 1, 1, 0, ())) == [AppendAck(1, 2, 2, 1)]


def test_hazard_13_late_and_reordered_appends_roll_nothing_back():
    """Hazard 13: an older, shorter append of the same leader matches, so it cuts nothing."""
    stage = Stage()
    stage.step(Append(2, 1, 2, 0, 0, 0, entries(1, 1, 2, 2, 2)))
    stage.step(Append(2, 1, 2, 0, 0, 0, entries(1, 1)), Append(2, 1, 2, 1, 1, 0, ()))
    assert stage.status.last == 4 and not [ready for ready in stage.readies if ready.cut]


def test_hazard_13_nothing_committed_is_ever_cut():
    """Hazard 13: even a message that contradicts it, which no sound leader sends."""
    stage = Stage(disk=restored(1, 1, 1))
    stage.step(Heartbeat(2, 1, 1, 2, 0), Append(3, 1, 5, 0, 0, 0, entries(1, 4, 4, 4)))
    assert [stage.node.log.term_at(index) for index in (1, 2, 3)] == [1, 1, 4]
    assert [ready.cut for ready in stage.readies if ready.cut] == [3]


def test_hazard_13_a_late_refusal_does_not_move_the_leader_back():
    """Hazard 13."""
    stage = leading()
    stage.node.propose(b"a")
    stage.settle()
    stage.ack(2)
    before = stage.node._state.role.peers[2].next
    assert not of(Append, stage.step(AppendRefused(2, 1, stage.status.term, 1, 0, 0)), to=2)
    assert stage.node._state.role.peers[2].next == before


def test_hazard_14_answers_of_an_older_term_or_an_older_leadership_move_nothing():
    """Hazard 14: node 1 leads term 1, loses it, and leads again; acks of term 1 are still on their way."""
    stage = leading()
    for _ in range(3):
        stage.node.propose(b"a")
        stage.settle()
    first, last = stage.status.term, stage.status.last
    stage.step(Append(2, 1, first + 1, 1, first, 1, ()))
    stage.tick(stage.settings.election_ticks)
    stage.lead()
    assert stage.status.term > first + 1
    stage.step(AppendAck(2, 1, first, last), AppendAck(3, 1, first, last), AppendRefused(2, 1, first, 1, 0, 0))
    assert [peer.matched for peer in stage.status.peers] == [0, 0] and stage.status.commit == 1


def test_hazard_14_an_older_leadership_confirms_no_read():
    """Hazards 14 and 22: heartbeats of term 1 are answered when node 1 leads again and counts rounds anew."""
    stage = leading()
    stage.node.read(1)
    stage.settle()
    first = stage.status.term
    stage.step(Append(2, 1, first + 1, 1, first, 1, ()))
    stage.tick(stage.settings.election_ticks)
    stage.lead()
    stage.ack(2, 3)
    stage.node.read(2)
    stage.settle()
    stage.readies.clear()
    stage.step(HeartbeatAck(2, 1, first, 1), HeartbeatAck(3, 1, first, 1))
    assert [read for ready in stage.readies for read in ready.reads] == []
    stage.step(HeartbeatAck(2, 1, stage.status.term, 1))
    assert [read.token for ready in stage.readies for read in ready.reads] == [2]


def test_hazard_15_what_was_saved_for_an_older_term_counts_for_no_newer_one():
    """Hazard 15: the save ends after leadership was lost; advance looks at what is true now."""
    stage = leading()
    stage.node.propose(b"a")
    ready = stage.node.ready()
    stage.node.step(AppendAck(2, 1, stage.status.term, 1))
    stage.node.step(Append(3, 1, 9, 1, 1, 1, entries(2, 9)))
    stage.node.advance(ready)
    assert stage.status.commit == 1 and stage.node.log.saved == 1
    following = stage.node.ready()
    assert (following.cut, following.entries) == (2, entries(2, 9))


def test_hazard_15_a_vote_for_oneself_that_was_saved_too_late_elects_nobody():
    """Hazard 15: the save of candidacy in term 1 ends when term 7 has begun."""
    stage = Stage()
    stage.time_out()
    stage.node.step(PreVoteAnswer(2, 1, 0, 1, True))
    ready = stage.node.ready()
    stage.node.step(VoteAnswer(2, 1, 1, True))
    stage.node.step(NewerTerm(3, 1, 7))
    stage.node.advance(ready)
    assert stage.status.role is Role.FOLLOWER and stage.status.term == 7


def test_hazard_15_a_saved_candidacy_counts_for_its_own_term_only():
    """Hazard 15: the node campaigns again, in term 2, before the save of term 1 has ended."""
    stage = Stage()
    stage.time_out()
    stage.node.step(PreVoteAnswer(2, 1, 0, 1, True))
    ready = stage.node.ready()
    for _ in range(2 * stage.settings.election_ticks):
        stage.node.tick()
    stage.node.step(PreVoteAnswer(2, 1, 1, 2, True))
    stage.node.step(VoteAnswer(2, 1, 2, True))
    stage.node.advance(ready)
    assert (stage.status.role, stage.status.term) == (Role.CANDIDATE, 2)
    stage.settle()
    assert stage.status.role is Role.LEADER


def test_hazard_16_the_leaders_own_entries_count_only_after_its_save():
    """Hazard 16, §10.2.1: with one follower's ack and no save of its own there is no majority of three."""
    stage = leading()
    stage.node.propose(b"a")
    ready = stage.node.ready()
    stage.node.step(AppendAck(2, 1, stage.status.term, 2))
    assert stage.status.commit == 1
    stage.node.advance(ready)
    assert stage.status.commit == 2


def test_hazard_16_two_followers_commit_without_the_leaders_disk_and_it_applies_after_its_own_save():
    """Hazard 16: only what is in this node's own log file is applied (house)."""
    stage = leading()
    stage.node.propose(b"a")
    ready = stage.node.ready()
    stage.node.step(AppendAck(2, 1, 1, 2))
    stage.node.step(AppendAck(3, 1, 1, 2))
    assert stage.status.commit == 2 and ready.committed == ()
    stage.node.advance(ready)
    assert stage.node.ready().committed == (Entry(2, 1, (b"a",)),)


def test_hazard_19_what_was_applied_before_a_restart_is_neither_repeated_nor_believed_beyond_the_log():
    """Hazard 19."""
    stage = Stage(disk=restored(1, 1), applied=5)
    assert stage.status.commit == 2
    stage.step(Append(2, 1, 1, 2, 1, 6, entries(3, 1, 1, 1, 1)))
    applied = [entry.index for ready in stage.readies for entry in ready.committed]
    assert applied == [6]


# ── reads ──────────────────────────────────────────────────────────────────────────────────────────


def test_hazard_21_a_new_leader_confirms_no_read_before_its_own_no_op_is_committed():
    """Hazard 21: until then its commit may lag behind what an earlier leader acknowledged."""
    stage = Stage(disk=restored(1, 1))
    stage.lead()
    stage.node.read(7)
    assert not of(Heartbeat, stage.settle())
    stage.step(*(HeartbeatAck(peer, 1, stage.status.term, 9) for peer in (2, 3)))
    assert not [ready for ready in stage.readies if ready.reads]
    (beat, _) = of(Heartbeat, stage.ack(2))
    stage.step(HeartbeatAck(2, 1, stage.status.term, beat.round))
    assert stage.readies[-1].reads == (ReadIndex(7, 3),)


def test_hazard_22_an_answer_to_a_heartbeat_sent_before_the_read_confirms_nothing():
    """Hazard 22, the schedule that random search missed: the ack is under way while the read arrives."""
    stage = leading()
    beats = of(Heartbeat, stage.tick(stage.settings.heartbeat_ticks))
    late = [HeartbeatAck(beat.to, 1, beat.term, beat.round) for beat in beats]
    stage.node.read(7)
    asked = of(Heartbeat, stage.settle())
    stage.step(*late, *late)
    assert not [ready for ready in stage.readies if ready.reads]
    stage.step(HeartbeatAck(2, 1, asked[0].term, asked[0].round))
    assert stage.readies[-1].reads == (ReadIndex(7, 1),)


def test_hazard_22_a_read_that_comes_while_a_round_is_under_way_waits_for_its_own():
    """Hazard 22: the second read must see what was acknowledged after the first round began."""
    stage = leading()
    stage.node.read(1)
    (first, _) = of(Heartbeat, stage.settle())
    stage.node.propose(b"a")
    stage.settle()
    stage.ack(2)
    stage.node.read(2)
    (second, _) = of(Heartbeat, stage.settle())
    stage.step(HeartbeatAck(2, 1, first.term, first.round))
    assert stage.readies[-1].reads == (ReadIndex(1, 1),)
    stage.step(HeartbeatAck(2, 1, second.term, second.round))
    assert stage.readies[-1].reads == (ReadIndex(2, 2),)


def test_hazard_22_a_change_of_leadership_drops_the_reads_that_wait():
    """Hazard 22: rounds of another leadership, even of the same node, confirm nothing."""
    stage = leading()
    stage.node.read(1)
    (beat, _) = of(Heartbeat, stage.settle())
    stage.step(NewerTerm(2, 1, 9))
    stage.lead()
    stage.ack(2, 3)
    stage.step(HeartbeatAck(2, 1, beat.term, beat.round), HeartbeatAck(2, 1, stage.status.term, 99))
    assert not [ready for ready in stage.readies if ready.reads]


def test_hazard_22_one_round_serves_all_reads_of_a_turn():
    """House: ReadIndex rounds cost messages, not entries."""
    stage = leading()
    for token in range(50):
        stage.node.read(token)
    said = stage.settle()
    assert [type(word) for word in said] == [Heartbeat, Heartbeat] and stage.status.last == 1
    stage.step(HeartbeatAck(3, 1, said[0].term, said[0].round))
    assert len(stage.readies[-1].reads) == 50


def test_hazard_23_no_read_is_ever_answered_by_a_lease():
    """Hazard 23: with a quorum heard a moment ago, a read still waits for its own round; and there is no clock."""
    stage = leading()
    stage.step(*(HeartbeatAck(peer, 1, stage.status.term, 0) for peer in (2, 3)))
    stage.node.read(1)
    stage.settle()
    assert not [ready for ready in stage.readies if ready.reads]
    for path in Path(node_module.__file__).parent.glob("*.py"):
        names = {
            name.name
            for each in ast.walk(ast.parse(path.read_text()))
            if isinstance(each, ast.Import)
            for name in each.names
        }
        assert not names & {"time", "datetime"}


def test_hazard_25_a_leader_that_slept_reads_nothing_old_and_acknowledges_nothing_overwritten():
    """Hazard 25: SIGSTOP, a new leader, SIGCONT. What was in its mailbox all along cannot confirm the read."""
    stage = leading()
    stage.node.propose(b"mine")
    asleep = of(Append, stage.settle())
    stage.node.read(1)
    # It wakes: first old acks, of its term but from before the read's round, then the new leader's word.
    stage.step(HeartbeatAck(2, 1, 1, 0), HeartbeatAck(3, 1, 1, 0))
    assert not [ready for ready in stage.readies if ready.reads]
    said = stage.step(Append(2, 1, 2, 1, 1, 1, (Entry(2, 2, (b"theirs",)),)))
    assert of(AppendAck, said) and stage.status.role is Role.FOLLOWER
    stage.step(*(HeartbeatAck(peer, 1, 1, 9) for peer in (2, 3)), *(AppendAck(peer, 1, 1, 2) for peer in (2, 3)))
    assert not [ready for ready in stage.readies if ready.reads]
    assert [word.entries[0].commands for word in asleep] == [(b"mine",)] * 2
    stage.step(Heartbeat(2, 1, 2, 2, 0))
    assert stage.readies[-1].committed == (Entry(2, 2, (b"theirs",)),)


def test_hazard_25_paused_hosts_in_a_whole_group():
    """Hazard 25: a leader cut off with a read and a write under way; World checks every read it ever answers."""
    for seed in range(10):
        world = World(seed)
        assert world.run_until(lambda world=world: world.leader is not None)
        old = world.leader
        world.run(300)
        world.isolate(old.node)
        world.propose(old, b"lost?")
        world.read(old)
        assert world.run_until(lambda world=world, old=old: world.leader not in (None, old), 5000)
        world.run(300)
        world.propose(world.leader, b"new")
        world.run(300)
        world.heal()
        world.read(old)
        world.run(1500)
        assert b"new" in old.applied and b"lost?" not in old.applied


def test_a_transfer_in_a_whole_group_costs_no_election_timeout():
    """Thesis §3.10: within a few round trips, where silence would cost 400 ms and more."""
    world = World(5)
    assert world.run_until(lambda: world.leader is not None)
    old = world.leader
    world.run(300)
    world.step(old, TransferLeadership())
    assert world.run_until(lambda: world.leader not in (None, old), 200)


def test_the_core_needs_no_more_than_random_random():
    """Brief of the doors: the same seed gives the same timeouts on every Python."""

    class Only:
        def __init__(self):
            self.random = Random(4).random

    node = RaftNode(1, VOTERS, Restored(), Only())
    for _ in range(20):
        node.tick()
    assert node.ready().early
