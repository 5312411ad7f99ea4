"""The explorer finds what it is there to find: each fault is planted, and the path to it is short and can be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest

from twisted_kv.consensus.quorum import committed_index
from twisted_kv.consensus.raft import dispatch, election, replication
from twisted_kv.consensus.raft.messages import Append, AppendAck, AskVote, HeartbeatAck
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import NOBODY, Entry, HardState, Ready
from twisted_kv.simulation.explorer.cluster import Cluster
from twisted_kv.simulation.explorer.cores import RaftCore
from twisted_kv.simulation.explorer.engine import Path, explore, replayed
from twisted_kv.simulation.explorer.node import Disk


def found(
    core: RaftCore,
    budgets: Mapping[str, int],
    disks: Mapping[int, Disk] | None = None,
    begin: Sequence[Any] = (),
) -> Path:
    """A shortest path to the planted fault; it leads there again, and no step of it can go.

    Args:
        begin: steps to take before the search begins.
    """
    model = Cluster(core, budgets, disks=disks)
    stage = replayed(model, begin)
    assert stage is not None and not stage.text
    search = explore(model, clock=time.process_time, seconds=60, start=stage.last)
    assert search.path is not None, search.text
    path = search.path
    again = replayed(model, path.taken, stage.last)
    assert again is not None and again.text == path.text
    for place in range(len(path.taken)):
        less = replayed(model, (*path.taken[:place], *path.taken[place + 1 :]), stage.last)
        assert less is None or not less.text
    return path


def rules(monkeypatch: pytest.MonkeyPatch, kind: type, rule: Any) -> None:
    """Let followers, candidates and leaders answer a kind of message by this rule where they answer it at all."""
    row = dispatch.TABLE[kind]
    changed = {role: rule if old is not dispatch._nothing else old for role, old in row.rules.items()}
    monkeypatch.setitem(dispatch.TABLE, kind, row._replace(rules=changed))


def test_a_node_that_votes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raft §5.2: one vote per term."""

    def answer(state: Any, role: Any, message: Any) -> None:
        if not isinstance(role, dispatch.Leader):
            state.vote = NOBODY
        election.answer_vote(state, role, message)

    rules(monkeypatch, AskVote, answer)
    path = found(RaftCore(), {"elections": 2})
    assert path.text.startswith("one vote per term: ")


def test_a_vote_that_is_not_saved() -> None:
    """Hazard 1."""

    class Forgets(RaftNode):
        def advance(self, ready: Ready) -> None:
            super().advance(ready)
            self._saved = HardState(self._state.term, self._state.vote)

        def ready(self) -> Ready | None:
            ready = super().ready()
            if ready is None or ready.hard_state is None:
                return ready
            told = msgspec.structs.replace(ready, hard_state=HardState(ready.hard_state.term))
            self._outstanding = told
            return told

    path = found(RaftCore(Forgets), {"elections": 1})
    assert path.text.startswith("durable before mail: ")


def test_mail_that_leaves_before_the_save() -> None:
    """Hazard 1: votes and acknowledgments are early."""

    class Hasty(RaftNode):
        def _sorted_mail(self, unsaved_term: bool) -> Any:
            early, late = super()._sorted_mail(unsaved_term)
            return (*early, *late), ()

    path = found(RaftCore(Hasty), {"elections": 1, "stalls": 1})
    assert path.text.startswith("durable before mail: ")


def test_an_old_entry_committed_by_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hazard 10, Raft Figure 8, from the moment in which the entry of term 1 is about to be sent on in term 3."""

    def advance_commit(state: Any, role: Any) -> None:
        acked = {node: peer.match for node, peer in role.peers.items()}
        acked[state.node] = state.log.saved
        state.commit = max(state.commit, committed_index(acked, state.voters))

    monkeypatch.setattr(replication, "advance_commit", advance_commit)
    disks = {
        1: Disk(HardState(2, 3), entries=(Entry(1, 1),)),
        2: Disk(HardState(2, 3)),
        3: Disk(HardState(2, 3), entries=(Entry(1, 2),)),
    }
    path = found(RaftCore(append_bytes_max=1), {"elections": 2}, disks)
    assert path.text.startswith(("leader completeness: ", "committed never lost: ", "state machine safety: "))


def test_a_log_that_is_not_cut_at_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raft §5.3: what contradicts the leader's log goes."""

    def take(state: Any, role: Any, message: Any) -> None:
        covered = message.prev_index + len(message.entries)
        replication.heard_leader(state, role, message.sender)
        if message.prev_index <= state.log.last:
            state.log.append([entry for entry in message.entries if entry.index > state.log.last])
            state.commit = max(state.commit, min(message.commit, covered))
            state.outbox.append(AppendAck(state.node, message.sender, state.term, covered))

    rules(monkeypatch, Append, take)
    disks = {1: Disk(HardState(1, 1), entries=(Entry(1, 1),)), 2: Disk(HardState(2, 3)), 3: Disk(HardState(2, 3))}
    path = found(RaftCore(), {"elections": 1, "proposals": 1}, disks)
    assert path.text.startswith(("state machine safety: ", "committed never lost: ", "log matching: "))


READS = {"elections": 2, "proposals": 1, "reads": 1}


@pytest.fixture(scope="module")
def deposed() -> Sequence[Any]:
    """Steps to where a command is acknowledged, and an older leader does not know that it leads no longer."""
    model, begin = Cluster(RaftCore(), READS), []
    for goal in (
        lambda state: model.past(state).committed != (),
        lambda state: len(model.past(state).led) == 2,
        lambda state: model.past(state).floor > 0,
    ):
        stage = replayed(model, begin)
        assert stage is not None
        begun = partial(both_lead_or_none, model, goal)
        path = explore(model, clock=time.process_time, seconds=60, start=stage.last, goal=begun).path
        assert path is not None
        begin += path.taken
    return begin


def both_lead_or_none(model: Cluster, goal: Callable[[bytes], bool], state: bytes) -> bool:
    return goal(state) and sum(view.leads for view in model.look(state)) == len(model.past(state).led)


@pytest.mark.parametrize("fault", ["no quorum asked", "an older answer counted"])
def test_a_read_that_nobody_confirmed(monkeypatch: pytest.MonkeyPatch, fault: str, deposed: Sequence[Any]) -> None:
    """Hazard 22: an answer that was given before the read began says nothing about it."""

    def confirm(state: Any, role: Any) -> None:
        state.confirmed += role.reads.confirm(role.reads.round)

    def count(state: Any, role: Any, message: Any) -> None:
        # As if any answer were one to the newest round.
        replication.take_heartbeat_ack(state, role, msgspec.structs.replace(message, round=role.reads.round))

    if fault == "no quorum asked":
        monkeypatch.setattr(replication, "_confirm_reads", confirm)
    else:
        rules(monkeypatch, HeartbeatAck, count)
    path = found(RaftCore(), READS, begin=deposed)
    assert path.text.startswith("read linearizability: ")
    assert path.steps[-1].startswith("1 is asked for read 1") or "1 takes HeartbeatAck" in path.steps[-1]
