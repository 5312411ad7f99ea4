"""What is said of a core is so: the fields that are left out change nothing that is not a step of its own."""

from __future__ import annotations

import time

import pytest

from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.raft.roles import Leader
from twisted_kv.consensus.types import Restored
from twisted_kv.simulation.explorer.cluster import Cluster
from twisted_kv.simulation.explorer.cores import CORES, ELECTION_TICKS, RaftCore
from twisted_kv.simulation.explorer.engine import exhaust
from twisted_kv.simulation.explorer.frozen import freeze, thaw
from twisted_kv.simulation.explorer.node import Corridor, Disk, Node, Reaction


class Visited(Cluster):
    """Remembers every state that was judged."""

    def broken(self, state: bytes) -> str:
        self.__dict__.setdefault("judged", []).append(state)
        return super().broken(state)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Node, frozenset[object]]]:
    """Nodes that occur, with all that was sent to them anywhere."""
    model = Visited(RaftCore(), {"elections": 1, "reads": 1})
    assert exhaust(model, clock=time.process_time).exhausted
    nodes: dict[Node, set[object]] = {}
    for state in model.__dict__["judged"]:
        for node in model.nodes(state):
            nodes.setdefault(node, set()).update(it for it in model.sent(state) if it.to == node.node)
    return [(node, frozenset(mail)) for node, mail in nodes.items()]


def with_ticks(node: Node, elapsed: int, silent: int) -> Node:
    """The node as it is with other ticks in it."""
    core = thaw(node.core)
    core._state.elapsed = elapsed
    role = core._state.role
    if isinstance(role, Leader):
        for peer in role.peers.values():
            peer.silent_ticks = silent
    return node._replace(core=freeze(core, {}))


def test_the_ticks_that_are_left_out_change_nothing(pairs: list[tuple[Node, frozenset[object]]]) -> None:
    """Before ELECTION_TICKS, a message is taken as if no time had passed; from then on as "late" takes it."""
    corridor = Corridor(RaftCore(), frozenset({1, 2, 3}))

    def outcome(node: Node, kind: str, message: object) -> Reaction:
        return corridor.react(node, (kind, message), False)

    tried = 0
    for node, mail in pairs[::3]:
        leads = isinstance(thaw(node.core)._state.role, Leader)
        for message in mail:
            fresh = outcome(node, "step", message)
            for ticks in (1, ELECTION_TICKS - 1):
                assert outcome(with_ticks(node, ticks, ticks), "step", message) == fresh
            if not leads:
                late = outcome(node, "late", message)
                for ticks in (ELECTION_TICKS, 2 * ELECTION_TICKS - 2):
                    assert outcome(with_ticks(node, ticks, 0), "step", message) == late
            tried += 1
    assert tried > 200


def test_time_does_what_its_name_says() -> None:
    kind = CORES["raft"]
    core = kind.boot(1, frozenset({1, 2, 3}), Restored(), 0)
    assert isinstance(core, RaftNode)
    assert not kind.elapse(core, "heartbeat") and not kind.elapse(core, "silence")
    assert kind.elapse(core, "late") and core.status().role.value == "follower"
    assert kind.elapse(core, "timeout") and core.status().role.value == "candidate"


def test_a_look_shows_the_whole_log() -> None:
    corridor = Corridor(RaftCore(), frozenset({1}))
    node = corridor.react(corridor.born(1, Disk()), ("elapse", "timeout"), False).node
    node = corridor.react(node, ("propose", b"1"), False).node
    view = RaftCore().look(thaw(node.core))
    assert view.leads and view.commit == 2 and [entry.commands for entry in view.entries] == [(), (b"1",)]
