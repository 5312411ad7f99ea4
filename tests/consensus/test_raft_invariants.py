"""The watchdog bites: each property of Figure 3 is broken on purpose."""

import pytest
from raft_stage import Stage, restored

from twisted_kv.consensus.raft.invariants import Invariants, InvariantViolated, check_cluster
from twisted_kv.consensus.raft.messages import Append, Heartbeat
from twisted_kv.consensus.types import Entry


def violated(name):
    return pytest.raises(InvariantViolated, match=name)


def test_a_sound_group_passes():
    leader, follower = Stage(disk=restored(1, 1)), Stage(node=2, disk=restored(1))
    leader.lead()
    check_cluster([leader.node, follower.node])


def test_election_safety():
    one, two = Stage(), Stage(node=2)
    one.lead()
    two.lead()
    with violated("Election Safety"):
        check_cluster([one.node, two.node])


def test_election_safety_remembers_leaders_that_are_gone():
    watch, one, two = Invariants(), Stage(), Stage(node=2)
    one.lead()
    watch.observe([one.node])
    two.lead()
    with violated("Election Safety"):
        watch.observe([two.node])


def test_leader_append_only():
    watch, stage = Invariants(), Stage()
    stage.lead()
    watch.observe([stage.node])
    stage.node.log.cut(1)
    with violated("Leader Append-Only"):
        watch.observe([stage.node])


def test_log_matching_of_one_entry():
    one = Stage()
    two = Stage(node=2)
    one.step(Append(3, 1, 1, 0, 0, 0, (Entry(1, 1, (b"a",)),)))
    two.step(Append(3, 2, 1, 0, 0, 0, (Entry(1, 1, (b"b",)),)))
    with violated("Log Matching"):
        check_cluster([one.node, two.node])


def test_log_matching_of_what_came_before():
    one, two = Stage(disk=restored(1, 3)), Stage(node=2, disk=restored(2, 3))
    with violated("Log Matching"):
        check_cluster([one.node, two.node])


def test_state_machine_safety():
    one, two = Stage(disk=restored(1)), Stage(node=2, disk=restored(2))
    one.step(Heartbeat(3, 1, 2, 1, 0))
    two.step(Heartbeat(3, 2, 2, 1, 0))
    with violated("State Machine Safety"):
        check_cluster([one.node, two.node])


def test_a_commit_never_goes_back():
    """Hazard 11."""
    watch, stage = Invariants(), Stage(disk=restored(1))
    stage.step(Heartbeat(3, 1, 1, 1, 0))
    watch.observe([stage.node])
    stage.node._state.commit = 0
    with violated("State Machine Safety"):
        watch.observe([stage.node])


def test_leader_completeness():
    watch, follower, leader = Invariants(), Stage(disk=restored(1, 1)), Stage(node=2, disk=restored(1, term=3))
    follower.step(Heartbeat(3, 1, 1, 2, 0))
    watch.observe([follower.node])
    leader.lead()
    leader.node.log.cut(2)
    with violated("Leader Completeness"):
        watch.observe([leader.node])


def test_a_restart_is_another_observer_of_the_same_history():
    watch = Invariants()
    watch.observe([Stage(disk=restored(1, 1, 1)).node])
    watch.observe([Stage(disk=restored(1)).node])
    with violated("Log Matching"):
        watch.observe([Stage(disk=restored(0, 1)).node])
