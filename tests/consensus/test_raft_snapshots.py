"""When rows must come instead of entries (§7)."""

from raft_stage import Stage, of, restored

from twisted_kv.consensus.raft.messages import (
    Append,
    AppendAck,
    AppendRefused,
    AskPreVote,
    Heartbeat,
    HeartbeatAck,
    SnapshotOffer,
)
from twisted_kv.consensus.types import (
    Entry,
    HardState,
    Position,
    SnapshotFailed,
    SnapshotInstalled,
    SnapshotSource,
)


def compacted_leader():
    """Leads with a log that begins after 5; peer 3 has nothing of it."""
    stage = Stage(disk=restored(*[1] * 7))
    stage.lead()
    stage.ack(2)
    stage.node.compact(5)
    return stage


def test_who_lacks_what_is_compacted_is_offered_rows_and_left_in_peace():
    stage = compacted_leader()
    term = stage.status.term
    offer = SnapshotOffer(1, 3, term, 5, 1)
    assert stage.step(AppendRefused(3, 1, term, 7, 0, 0)) == [offer]
    stage.node.propose(b"a")
    assert not [message for message in stage.settle() if message.to == 3]
    assert stage.step(HeartbeatAck(3, 1, term, 0)) == [offer], "an offer or its answer may be lost"


def test_the_offer_ends_with_an_ack_at_or_beyond_the_boundary():
    stage = compacted_leader()
    term = stage.status.term
    stage.step(AppendRefused(3, 1, term, 7, 0, 0))
    assert stage.ack(3, index=2) == [], "an old ack"
    (append,) = stage.ack(3, index=5)
    assert (append.prev_index, append.prev_term, len(append.entries)) == (5, 1, 3)


def test_a_peer_that_needs_just_the_first_entry_after_the_boundary_gets_entries():
    stage = compacted_leader()
    (append,) = stage.step(AppendRefused(3, 1, stage.status.term, 7, 5, 1))
    assert (append.prev_index, append.prev_term) == (5, 1)


def test_a_stuck_stream_that_was_overtaken_by_compaction_ends_in_an_offer():
    stage = Stage()
    stage.lead()
    stage.ack(2, 3)
    stage.node.propose(b"a")
    stage.settle()
    stage.ack(2)
    stage.node.propose(b"b")
    stage.settle()
    stage.ack(2)
    stage.node.compact(3)
    term = stage.status.term
    stage.step(HeartbeatAck(3, 1, term, 0), HeartbeatAck(3, 1, term, 0))
    assert of(SnapshotOffer, stage.step(AppendRefused(3, 1, term, 3, 1, term)), to=3)


def test_a_full_window_that_ends_below_the_boundary_is_given_up_for_an_offer():
    stage = Stage(settings=None)
    stage.lead()
    stage.ack(2, 3)
    stage.node._state.role.peers[3].lost()
    stage.step(HeartbeatAck(3, 1, stage.status.term, 0))
    peer = stage.node._state.role.peers[3]
    peer.acked(1, 0)
    peer.sent(2, 1 << 30)
    for _ in range(3):
        stage.node.propose(b"a")
        stage.settle()
        stage.ack(2)
    stage.node.compact(4)
    said = stage.step(*[HeartbeatAck(3, 1, stage.status.term, 0)] * 2)
    assert of(SnapshotOffer, said, to=3)


def test_a_follower_asks_its_owner_once_per_attempt():
    stage = Stage(disk=restored(1, 1))
    offer = SnapshotOffer(2, 1, 3, 10, 2)
    assert stage.step(offer, offer) == []
    assert [ready.fetch for ready in stage.readies if ready.fetch] == [SnapshotSource(2, 10, 2)]
    stage.step(offer)
    assert len([ready for ready in stage.readies if ready.fetch]) == 1
    stage.step(SnapshotFailed(), offer)
    assert len([ready for ready in stage.readies if ready.fetch]) == 2


def test_installed_rows_begin_the_log_and_answer_the_leader():
    stage = Stage(disk=restored(1, 1))
    stage.step(SnapshotOffer(2, 1, 3, 10, 2))
    assert stage.step(SnapshotInstalled(12, 3)) == [AppendAck(1, 2, 3, 12)]
    status = stage.status
    assert (status.first, status.last, status.commit, status.applied) == (13, 12, 12, 12)
    assert stage.step(Append(2, 1, 3, 12, 3, 13, (Entry(13, 3, (b"a",)),))) == [AppendAck(1, 2, 3, 13)]
    assert stage.readies[-1].committed == (Entry(13, 3, (b"a",)),) and stage.readies[-1].cut is None


def test_an_offer_of_what_is_here_is_answered_from_the_log():
    """Scenario §3.1-4: a log that matches is not thrown away."""
    stage = Stage(disk=restored(1, 1, 1, 1))
    assert stage.step(SnapshotOffer(2, 1, 2, 3, 1)) == [AppendAck(1, 2, 2, 3)]
    assert (stage.status.commit, stage.status.last) == (3, 4)
    assert stage.step(SnapshotOffer(2, 1, 2, 1, 1)) == [AppendAck(1, 2, 2, 1)], "one that is older still"
    assert stage.status.commit == 3


def test_hazard_33_rows_leave_nothing_of_a_log_that_contradicted_them():
    """The owner has reset the log on the disk, so nothing behind the rows may count as saved, however long it was."""
    stage = Stage(disk=restored(1, 1, 1, 1))
    stage.step(SnapshotOffer(2, 1, 3, 2, 2), SnapshotInstalled(2, 2))
    assert (stage.status.first, stage.status.last, stage.node.log.saved) == (3, 2, 2)
    assert of(AppendAck, stage.step(Append(2, 1, 3, 4, 1, 2, ()))) == []


def test_rows_that_came_too_late_change_nothing():
    """Scenario §3.1-4: applied never moves back."""
    stage = Stage()
    stage.step(Append(2, 1, 1, 0, 0, 3, tuple(Entry(index, 1, (b"x",)) for index in (1, 2, 3))))
    stage.step(SnapshotInstalled(2, 1))
    assert (stage.status.commit, stage.status.applied, stage.status.last) == (3, 3, 3)


def test_nothing_is_acknowledged_while_rows_that_replace_the_log_are_coming():
    """An entry acknowledged now would be counted by the leader and lost with the log: hazards 12 and 31."""
    stage = Stage(disk=restored(1, 1))
    stage.step(SnapshotOffer(2, 1, 2, 10, 2))
    assert stage.step(Append(3, 1, 3, 2, 1, 0, tuple(Entry(index, 3) for index in range(3, 20)))) == []
    assert stage.step(Heartbeat(3, 1, 3, 2, 7)) == [HeartbeatAck(1, 3, 3, 7)], "but it still follows"
    assert stage.status.last == 2
    stage.step(SnapshotFailed())
    assert of(AppendAck, stage.step(Append(3, 1, 3, 2, 1, 0, (Entry(3, 3),))))


def test_who_lacks_committed_entries_does_not_campaign():
    stage = Stage()
    stage.step(SnapshotOffer(2, 1, 2, 10, 2))
    assert stage.tick(50) == []
    stage.step(SnapshotFailed())
    assert of(AskPreVote, stage.time_out())


def test_hazard_02_rows_of_a_later_term_raise_the_term_and_never_lower_it():
    stage = Stage(disk=restored(term=4, vote=3))
    stage.step(SnapshotOffer(2, 1, 4, 10, 2), SnapshotInstalled(10, 2))
    assert stage.readies[-1].hard_state is None and stage.node._state.vote == 3
    stage.step(SnapshotInstalled(20, 6))
    assert stage.readies[-1].hard_state == HardState(6, 0)


def test_compaction_keeps_the_term_at_the_boundary_and_takes_only_what_is_applied():
    """§7."""
    stage = compacted_leader()
    assert stage.status.first == 6 and stage.node.log.term_at(5) == 1
    stage.node.compact(3)
    assert stage.status.first == 6
    try:
        stage.node.compact(99)
    except AssertionError:
        return
    raise AssertionError("compacted what is not applied")


def test_a_restart_after_compaction_begins_at_the_boundary():
    stage = Stage(disk=restored(2, 2, boundary=Position(10, 2)))
    assert (stage.status.first, stage.status.commit, stage.status.applied, stage.status.last) == (11, 10, 10, 12)
