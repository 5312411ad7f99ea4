"""One node as a value: the corridor's order, held saves, crashes, and what one node alone can do wrong."""

from __future__ import annotations

from typing import Any

import pytest

from twisted_kv.consensus.raft.messages import Append, AppendAck, AskPreVote, AskVote, VoteAnswer
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import Entry, HardState, Position, Ready
from twisted_kv.simulation.explorer.cores import RaftCore
from twisted_kv.simulation.explorer.node import Corridor, Disk, Node, Reaction, Refused

VOTERS = frozenset({1, 2, 3})
ASK = AskVote(2, 1, 1, 0, 0, False)


@pytest.fixture
def corridor() -> Corridor:
    return Corridor(RaftCore(), VOTERS)


def react(corridor: Corridor, node: Node, *event: Any, held: bool = False) -> Reaction:
    reaction = corridor.react(node, event, held)
    assert reaction.wrong == ""
    return reaction


def test_a_vote_leaves_when_it_is_saved(corridor: Corridor) -> None:
    node = corridor.born(1, Disk())
    reaction = react(corridor, node, "step", ASK)
    assert reaction.mail == (VoteAnswer(1, 2, 1, True),)
    assert reaction.node.disk.hard_state == HardState(1, 2)


def test_a_held_save_holds_its_mail(corridor: Corridor) -> None:
    """And a crash in between loses it, or keeps it and sends nothing."""
    held = react(corridor, corridor.born(1, Disk()), "step", ASK, held=True)
    assert held.mail == () and held.node.saving is not None and held.node.disk == Disk()
    assert react(corridor, held.node, "saved").mail == (VoteAnswer(1, 2, 1, True),)
    assert react(corridor, held.node, "crash", False).node == corridor.born(1, Disk())
    durable = react(corridor, held.node, "crash", True)
    assert durable.mail == () and durable.node.disk.hard_state == HardState(1, 2)


def test_an_event_is_a_function_of_its_node(corridor: Corridor) -> None:
    node = corridor.born(1, Disk())
    assert react(corridor, node, "step", ASK) == react(corridor, node, "step", ASK)
    assert node == corridor.born(1, Disk())


@pytest.mark.parametrize(
    "event",
    [("saved",), ("crash", True), ("compact",), ("rows", None), ("propose", b"1"), ("read", 1), ("elapse", "silence")],
)
def test_what_cannot_happen_is_refused(corridor: Corridor, event: tuple[Any, ...]) -> None:
    with pytest.raises(Refused):
        corridor.react(corridor.born(1, Disk()), event, False)


def test_a_checkpoint_cuts_disk_and_core(corridor: Corridor) -> None:
    disk = Disk(HardState(1, 2), entries=(Entry(1, 1), Entry(2, 1)))
    node = react(corridor, corridor.born(1, disk), "step", Append(2, 1, 1, 2, 1, 2, ())).node
    assert node.applied == 2
    cut = react(corridor, node, "compact").node
    assert cut.disk.boundary == Position(2, 1) and cut.disk.entries == ()
    again = react(corridor, cut, "crash", False).node
    assert again.applied == 2


def test_a_disk_after_a_save() -> None:
    disk = Disk(HardState(1), entries=(Entry(1, 1), Entry(2, 1)))
    after = disk.after(Ready(hard_state=HardState(2), cut=2, entries=(Entry(2, 2),)))
    assert after == Disk(HardState(2), entries=(Entry(1, 1), Entry(2, 2)))
    assert after.holds(2, 2) and not after.holds(2, 1) and after.beyond(Position(1, 1)).holds(1, 1)


def faulty(**methods: Any) -> Corridor:
    return Corridor(RaftCore(type("Faulty", (RaftNode,), methods)), VOTERS)


def test_an_assertion_is_found() -> None:
    def step(self: Any, message: Any) -> None:
        assert message is None, "what is this?"

    corridor = faulty(step=step)
    wrong = corridor.react(corridor.born(1, Disk()), ("step", ASK), False).wrong
    assert wrong.startswith("assertion: AssertionError in step, ") and "what is this?" in wrong


def test_a_core_that_is_never_done_is_found() -> None:
    def advance(self: Any, ready: Ready) -> None:
        RaftNode.advance(self, ready)
        if self._state.term:
            self._saved = HardState(99)

    corridor = faulty(advance=advance)
    wrong = corridor.react(corridor.born(1, Disk()), ("step", ASK), False).wrong
    assert wrong.startswith("settles: ")


@pytest.mark.parametrize(
    ("before", "state", "wrong"),
    [
        (HardState(5, 0), HardState(4, 0), "term monotonic: "),
        (HardState(5, 2), HardState(5, 3), "one vote per term: "),
    ],
)
def test_a_disk_that_takes_back_is_found(before: HardState, state: HardState, wrong: str) -> None:
    def step(self: Any, message: Any) -> None:
        self._state.term, self._state.vote = state.term, state.vote

    corridor = faulty(step=step)
    found = corridor.react(corridor.born(1, Disk(before)), ("step", ASK), False).wrong
    assert found.startswith(wrong)


@pytest.mark.parametrize(
    ("say", "disk", "wrong"),
    [
        (VoteAnswer(1, 2, 3, True), Disk(HardState(2)), "1 speaks in term 3"),
        (VoteAnswer(1, 2, 3, True), Disk(HardState(3, 3)), "1 votes for 2"),
        (VoteAnswer(1, 2, 3, False), Disk(HardState(3, 3)), ""),
        (AskVote(1, 2, 3, 0, 0, False), Disk(HardState(3)), "1 votes for 1"),
        (AskPreVote(1, 2, 4, 0, 0), Disk(HardState(3)), ""),
        (AppendAck(1, 2, 3, 1), Disk(HardState(3)), "1 acknowledges 1"),
        (AppendAck(1, 2, 2, 1), Disk(HardState(3)), "1 acknowledges 1"),
    ],
)
def test_mail_without_backing(say: Any, disk: Disk, wrong: str) -> None:
    assert RaftCore().unbacked(say, disk).startswith(wrong)
    assert bool(RaftCore().unbacked(say, disk)) == bool(wrong)
