"""The eight verbs: what a Ready holds, and what may leave before it is saved."""

import pytest
from raft_stage import Stage, of, restored

from twisted_kv.consensus.raft.messages import Append, AppendAck, Heartbeat, HeartbeatAck
from twisted_kv.consensus.raft.node import RaftSettings
from twisted_kv.consensus.types import (
    NOBODY,
    Entry,
    HardState,
    NotLeader,
    ReadIndex,
    Restored,
    Role,
    Standing,
)
from twisted_kv.errors import StartRefused


def test_nothing_new_is_no_ready():
    stage = Stage()
    assert stage.node.ready() is None
    stage.node.tick()
    assert stage.node.ready() is None


def test_standing_is_told_once_per_change():
    stage = Stage()
    stage.lead()
    told = [ready.standing for ready in stage.readies if ready.standing]
    assert told == [
        Standing(Role.FOLLOWER, 0, NOBODY),
        Standing(Role.CANDIDATE, 0, NOBODY),
        Standing(Role.CANDIDATE, 1, NOBODY),
        Standing(Role.LEADER, 1, 1),
    ]


def test_one_ready_at_a_time():
    stage = Stage()
    stage.node.step(Heartbeat(2, 1, 1, 0, 0))
    ready = stage.node.ready()
    with pytest.raises(AssertionError):
        stage.node.ready()
    stage.node.advance(ready)
    with pytest.raises(AssertionError):
        stage.node.advance(ready)


def test_only_a_leader_proposes_and_reads_and_the_refusal_names_it():
    stage = Stage()
    stage.step(Heartbeat(3, 1, 1, 0, 0))
    for ask in (lambda: stage.node.propose(b"a"), lambda: stage.node.read(1)):
        with pytest.raises(NotLeader) as refusal:
            ask()
        assert refusal.value.leader == 3


def test_what_arrives_during_a_save_waits_for_the_next_ready():
    """House: while a save is in flight, step, tick, propose and read go on into the core."""
    stage = Stage()
    stage.lead()
    stage.ack(2, 3)
    first = stage.node.propose(b"a")
    ready = stage.node.ready()
    later = [stage.node.propose(b"b"), stage.node.propose(b"c")]
    stage.node.read(7)
    stage.node.advance(ready)
    assert (first.index, [(each.index, each.position) for each in later]) == (2, [(3, 0), (3, 1)])
    following = stage.node.ready()
    assert following.entries == (Entry(3, 1, (b"b", b"c")),)
    assert len(of(Heartbeat, following.early)) == 2


def test_an_open_entry_dies_with_its_leadership():
    """Its commands never stood in a log; the owner fails them by the standing."""
    stage = Stage()
    stage.lead()
    stage.node.propose(b"a")
    said = stage.step(Heartbeat(2, 1, 9, 0, 0))
    assert of(HeartbeatAck, said) and stage.status.last == 1


def test_committed_entries_are_bounded_per_ready():
    """No turn is endless."""
    stage = Stage(settings=RaftSettings(committed_bytes_max=2500))
    entries = tuple(Entry(index, 1, (b"x" * 1000,)) for index in range(1, 6))
    stage.step(Append(2, 1, 1, 0, 0, 5, entries))
    assert [len(ready.committed) for ready in stage.readies if ready.committed] == [2, 2, 1]


def test_promises_wait_for_the_save_and_all_else_may_go_ahead():
    stage = Stage(disk=restored(term=1))
    stage.node.step(Append(2, 1, 1, 0, 0, 0, (Entry(1, 1),)))
    stage.node.step(Heartbeat(2, 1, 1, 0, 3))
    ready = stage.node.ready()
    assert ready.early == (HeartbeatAck(1, 2, 1, 3),) and ready.messages == (AppendAck(1, 2, 1, 1),)


def test_one_save_may_cover_an_entry_and_its_end():
    """Both acknowledgments rest on it: the first is of a term that is over when it leaves (laggards 1188)."""
    stage = Stage(disk=restored(1, 1))
    leaders = (Append(2, 1, 1, 2, 1, 0, (Entry(3, 1), Entry(4, 1))), Append(3, 1, 2, 2, 1, 0, (Entry(3, 2),)))
    said = stage.step(*leaders)
    assert of(AppendAck, said) == [AppendAck(1, 2, 1, 4), AppendAck(1, 3, 2, 3)]
    ready = stage.readies[-1]
    assert (ready.hard_state.term, ready.cut, ready.entries) == (2, None, (Entry(3, 2),))
    assert ready.early == ()


def test_a_restart_hands_out_nothing_until_a_leader_commits_it_again():
    """Hazard 19, scenario §3.1-2."""
    stage = Stage(disk=restored(1, 1, 1), applied=1)
    assert not [ready for ready in stage.readies if ready.committed]
    stage.step(Heartbeat(2, 1, 1, 3, 0))
    assert [entry.index for entry in stage.readies[-1].committed] == [2, 3]


def test_a_damaged_log_stops_the_start():
    """Hazard 34: it is the world's error, and the operator can act."""
    with pytest.raises(StartRefused, match="no entry 2"):
        Stage(disk=Restored(HardState(1, 0), entries=(Entry(1, 1), Entry(3, 1))))


def test_a_group_of_one_commits_applies_and_reads_by_itself():
    stage = Stage(voters=frozenset({1}))
    stage.tick()
    stage.node.propose(b"a")
    stage.node.read(5)
    stage.settle()
    assert [entry.commands for ready in stage.readies for entry in ready.committed] == [(), (b"a",)]
    assert [read for ready in stage.readies for read in ready.reads] == [ReadIndex(5, 1)]


def test_status_shows_the_peers_to_the_leader_only():
    stage = Stage()
    assert (stage.status.peers, stage.status.voter, Stage(node=-1).status.voter) == ((), True, False)
    stage.lead()
    stage.ack(2)
    assert [(peer.node, peer.matched, peer.voter, peer.active) for peer in stage.status.peers] == [
        (2, 1, True, True),
        (3, 0, True, True),
    ]
