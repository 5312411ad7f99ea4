"""Replication and commitment, one rule at a time."""

from raft_stage import VOTERS, Stage, of, restored

from twisted_kv.consensus.raft.messages import Append, AppendAck, AppendRefused, Heartbeat, HeartbeatAck
from twisted_kv.consensus.raft.node import RaftSettings
from twisted_kv.consensus.types import CopySeen, Entry, PeerUnreachable, Role

TICKS = RaftSettings().heartbeat_ticks


def entries(first, *terms):
    return tuple(Entry(first + place, term, (b"n",)) for place, term in enumerate(terms))


# ── the follower ───────────────────────────────────────────────────────────────────────────────────


def test_a_follower_appends_what_follows_and_acknowledges_after_the_save():
    """§5.3; scenario §3.1-2."""
    stage = Stage()
    stage.node.step(Append(2, 1, 1, 0, 0, 0, entries(1, 1, 1)))
    ready = stage.node.ready()
    assert ready.entries == entries(1, 1, 1) and not ready.early
    assert ready.messages == (AppendAck(1, 2, 1, 2),)


def test_a_follower_refuses_what_does_not_follow():
    """§5.3, consistency check. The hint is the last place where both may agree."""
    stage = Stage(disk=restored(1, 1))
    said = stage.step(Append(2, 1, 3, 5, 2, 0, entries(6, 3)))
    assert said == [AppendRefused(1, 2, 3, 5, 2, 1)]
    assert stage.status.last == 2


def test_the_hint_skips_every_entry_of_terms_the_leader_cannot_have_there():
    """§5.3, last part; scenario §3.1-6."""
    stage = Stage(disk=restored(1, *[4] * 50))
    assert stage.step(Append(2, 1, 5, 40, 3, 0, ())) == [AppendRefused(1, 2, 5, 40, 1, 1)]


def test_a_conflict_cuts_the_rest_of_the_log():
    """§5.3."""
    stage = Stage(disk=restored(1, 2, 2, 2))
    said = stage.step(Append(3, 1, 3, 1, 1, 0, entries(2, 3)))
    assert said == [AppendAck(1, 3, 3, 2)]
    assert (stage.readies[-1].cut, stage.readies[-1].entries) == (2, entries(2, 3))
    assert stage.status.last == 2


def test_an_ack_waits_in_order_behind_the_term_it_is_given_in():
    """Hazard 1: nothing leaves before a new term is durable, not even a heartbeat's answer."""
    stage = Stage()
    stage.node.step(Heartbeat(2, 1, 4, 0, 0))
    ready = stage.node.ready()
    assert ready.hard_state.term == 4 and not ready.early and ready.messages == (HeartbeatAck(1, 2, 4, 0),)
    stage.node.advance(ready)
    stage.node.step(Heartbeat(2, 1, 4, 0, 1))
    assert stage.node.ready().early == (HeartbeatAck(1, 2, 4, 1),)


# ── the leader ─────────────────────────────────────────────────────────────────────────────────────


def leading(settings=None, disk=None, voters=VOTERS):
    stage = Stage(settings=settings, disk=disk or restored(), voters=voters)
    stage.lead()
    stage.ack(*stage.node._state.others)
    return stage


def test_commands_of_a_turn_travel_in_one_entry_and_one_append_per_peer():
    """House: one entry carries the batch of a turn."""
    stage = leading()
    tickets = [stage.node.propose(command) for command in (b"a", b"b", b"c")]
    said = stage.settle()
    assert [(ticket.index, ticket.position) for ticket in tickets] == [(2, 0), (2, 1), (2, 2)]
    assert [message.entries for message in said] == [(Entry(2, stage.status.term, (b"a", b"b", b"c")),)] * 2


def test_an_entry_is_sealed_when_it_is_full_and_a_large_command_stands_alone():
    stage = leading(RaftSettings(entry_bytes_max=10))
    tickets = [stage.node.propose(command) for command in (b"12345", b"12345", b"1", b"x" * 50, b"2")]
    assert [(ticket.index, ticket.position) for ticket in tickets] == [(2, 0), (2, 1), (3, 0), (4, 0), (5, 0)]
    stage.settle()
    assert [stage.node.log.entry_at(index).commands for index in (2, 3, 4, 5)] == [
        (b"12345", b"12345"),
        (b"1",),
        (b"x" * 50,),
        (b"2",),
    ]


def test_appends_may_leave_before_the_leaders_own_save():
    """Thesis §10.2.1."""
    stage = leading()
    stage.node.propose(b"a")
    ready = stage.node.ready()
    assert ready.must_save and len(of(Append, ready.early)) == 2 and not ready.messages


def test_a_quorum_on_disk_commits_and_applies():
    """§5.3."""
    stage = leading()
    stage.node.propose(b"a")
    stage.settle()
    stage.ack(2)
    assert (stage.status.commit, stage.status.applied) == (2, 2)
    assert stage.readies[-1].committed == (Entry(2, stage.status.term, (b"a",)),)


def test_heartbeats_carry_the_commit_but_no_further_than_the_peer_matches():
    """§5.3; a follower trusts it only because the leader knows that it matches."""
    stage = leading()
    stage.node.propose(b"a")
    stage.settle()
    stage.ack(2)
    beats = of(Heartbeat, stage.tick(TICKS))
    assert [(beat.to, beat.commit) for beat in beats] == [(2, 2), (3, 1)]


def test_an_idle_leader_speaks_only_every_heartbeat():
    """Scenario §3.1-9: no resends to a peer that has everything."""
    stage = leading()
    said = []
    for _ in range(10 * TICKS):
        now = stage.tick()
        said += now
        said += stage.step(*(HeartbeatAck(beat.to, 1, beat.term, beat.round) for beat in now))
    assert len(said) == 20 and {type(message) for message in said} == {Heartbeat}


def test_the_window_of_a_silent_peer_fills_and_the_other_is_not_delayed():
    """Scenario §3.1-8."""
    stage = leading(RaftSettings(window_messages=3))
    sent = {2: 0, 3: 0}
    for number in range(10):
        stage.node.propose(b"%d" % number)
        for message in of(Append, stage.settle()):
            sent[message.to] += len(message.entries)
        stage.ack(2)
    assert sent == {2: 10, 3: 3}
    assert stage.status.commit == 11


def test_the_window_counts_bytes():
    stage = leading(RaftSettings(window_bytes=3000, append_bytes_max=1000))
    for _ in range(10):
        stage.node.propose(b"x" * 1000)
        stage.settle()
    peer = stage.node._state.role.peers[3]
    assert 3000 <= peer._flying_bytes < 3000 + 1100


def test_appends_are_bounded_in_bytes():
    stage = leading(RaftSettings(append_bytes_max=2500, entry_bytes_max=1000), voters=frozenset({1, 2, 3}))
    for _ in range(6):
        stage.node.propose(b"x" * 1000)
    lengths = [len(message.entries) for message in of(Append, stage.settle(), to=2)]
    assert lengths == [2, 2, 2]


def test_a_lost_append_is_found_by_heartbeats_and_sent_again():
    """The last message of a burst has no follower that would betray its loss."""
    stage = leading()
    stage.node.propose(b"a")
    (lost,) = of(Append, stage.settle(), to=3)
    term = stage.status.term
    assert of(Append, stage.step(HeartbeatAck(3, 1, term, 0))) == [], "it may just be slow"
    assert stage.step(HeartbeatAck(3, 1, term, 0)) == [Append(1, 3, term, 2, term, 1, ())]
    assert stage.step(AppendRefused(3, 1, term, 2, 1, term)) == [lost]


def test_back_up_skips_a_term_per_round_trip():
    """§5.3, last part; scenario §3.1-6. 100 entries of two terms: two refusals at most."""
    leader = Stage(disk=restored(1, *[3] * 50, *[5] * 50))
    follower = Stage(node=2, disk=restored(1, *[2] * 40, *[4] * 60))
    letters, refusals = of(Append, leader.lead(), to=2), 0
    while letters:
        answers = [answer for answer in follower.step(*letters) if answer.to == 1]
        refusals += len(of(AppendRefused, answers))
        letters = of(Append, leader.step(*answers), to=2)
    assert refusals <= 2
    assert follower.status.last == leader.status.last == 102


def test_an_unreachable_peer_is_probed_not_streamed_to():
    stage = leading()
    stage.step(PeerUnreachable(3))
    for _ in range(5):
        stage.node.propose(b"a")
        assert not of(Append, stage.settle(), to=3)
        stage.ack(2)
    said = stage.step(HeartbeatAck(3, 1, stage.status.term, 0))
    assert [(message.prev_index, len(message.entries)) for message in of(Append, said)] == [(1, 5)]
    assert not of(Append, stage.step(PeerUnreachable(9), PeerUnreachable(1)))


def test_a_copy_is_kept_up_to_date_and_never_counts():
    """Hazard 9."""
    stage = leading()
    assert of(Append, stage.step(CopySeen(-2)), to=-2)
    stage.node.propose(b"a")
    stage.settle()
    stage.ack(-2)
    assert stage.status.commit == 1
    peers = {peer.node: peer for peer in stage.status.peers}
    assert (peers[-2].voter, peers[-2].matched) == (False, 2)


def test_a_copy_that_lost_its_disk_once_more_is_sent_everything_again():
    """Found by the simulator: it was believed to hold what the copy before it had, for as long as the leader led."""
    stage = leading()
    stage.step(CopySeen(-2))
    stage.ack(-2)
    assert not of(Append, stage.step(CopySeen(-2)), to=-2), "asked again every second"
    said = of(Append, stage.step(CopySeen(-2, is_another=True)), to=-2)
    assert [message.prev_index for message in said] == [1]
    said = of(Append, stage.step(AppendRefused(-2, 1, stage.status.term, 1, 0, 0)), to=-2)
    assert [(message.prev_index, len(message.entries)) for message in said] == [(0, 1)]


def test_a_silent_copy_is_forgotten_until_it_asks_again():
    stage = leading()
    stage.step(CopySeen(-2), CopySeen(-2), CopySeen(4), CopySeen(-9))
    assert [peer.node for peer in stage.status.peers] == [-2, 2, 3]
    for _ in range(stage.settings.election_ticks):
        stage.step(HeartbeatAck(3, 1, stage.status.term, 0))
        stage.tick()
    assert stage.status.role is Role.LEADER
    assert [peer.node for peer in stage.status.peers] == [2, 3]


def test_an_ack_beyond_the_log_is_damage_and_moves_nothing():
    """Security S16."""
    stage = leading()
    stage.ack(2, 3, index=99)
    assert stage.status.commit == 1 and [peer.matched for peer in stage.status.peers] == [1, 1]
