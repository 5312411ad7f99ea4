"""The table is complete, and nothing that is not for this node changes it."""

import typing

import msgspec
import pytest
from raft_stage import Stage, restored
from test_raft_messages import ONE_OF_EACH

from twisted_kv.consensus import types
from twisted_kv.consensus.raft.dispatch import EVENTS, TABLE, Terms
from twisted_kv.consensus.raft.messages import Append, AppendAck, AppendRefused, AskVote, HeartbeatAck, Message
from twisted_kv.consensus.raft.roles import Copy, RoleState
from twisted_kv.consensus.types import CopySeen, Entry


def test_every_kind_has_a_row_and_every_row_every_role():
    assert set(TABLE) == set(typing.get_args(Message))
    for kind, row in TABLE.items():
        assert set(row.rules) == set(typing.get_args(RoleState)), kind


def test_every_local_event_of_the_contract_has_a_rule():
    """Events are the values of consensus/types below the line that says so."""
    values = {types.Entry, types.HardState, types.Position, types.Restored, types.Ticket, types.ReadIndex}
    values |= {types.SnapshotSource, types.Standing, types.Ready, types.Peer, types.Status}
    structs = {each for each in vars(types).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)}
    assert structs - values == set(EVENTS)


def test_copies_neither_vote_nor_campaign_nor_lead():
    """Hazard 9: what a copy may say is that it follows, and it only listens to leaders."""
    listened = {kind for kind, row in TABLE.items() if row.rules[Copy].__name__ != "_nothing"}
    assert {TABLE[kind].terms for kind in listened} == {Terms.LEADS}
    assert {kind.__name__ for kind, row in TABLE.items() if row.by_copies} == {
        "AppendAck",
        "AppendRefused",
        "HeartbeatAck",
        "NewerTerm",
    }


def states():
    """A stage in every role."""
    yield Stage(disk=restored(1, 1))
    yield Stage(node=-1, disk=restored(1, 1))
    for reach in (Stage.time_out, Stage.campaign, Stage.lead):
        stage = Stage(disk=restored(1, 1))
        reach(stage)
        yield stage


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_strangers_and_letters_for_others_change_nothing(message):
    """Hazards 9 and 37."""
    for stage in states():
        me = stage.status.node
        before = stage.status
        for sender, to in ((9, me), (-9, me), (2, 3), (me, me), (2, -me), (0, me)):
            assert stage.step(msgspec.structs.replace(message, sender=sender, to=to, term=50)) == []
        assert stage.status == before


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_no_message_of_any_term_raises_in_any_role(message):
    for term in (0, 1, 2, 3, 50):
        for sender in (2, 3, -3):
            for stage in states():
                stage.step(CopySeen(-3))
                stage.step(msgspec.structs.replace(message, sender=sender, to=stage.status.node, term=term))
                stage.tick(3)


@pytest.mark.parametrize(
    "entries",
    [
        (Entry(4, 2),),
        (Entry(3, 2), Entry(5, 2)),
        (Entry(3, 2), Entry(4, 1)),
        (Entry(3, 9),),
        (Entry(3, 0),),
    ],
    ids=["gap", "gap inside", "falling term", "beyond the term", "before prev_term"],
)
def test_damaged_appends_change_nothing(entries):
    """Security S16."""
    stage = Stage(disk=restored(1, 1, term=2))
    assert stage.step(Append(2, 1, 2, 2, 1, 0, entries)) == []
    assert stage.status.last == 2


def test_what_is_no_message_is_dropped():
    stage = Stage()
    assert stage.step(None, 7, "AppendAck", object()) == []


def test_answers_of_copies_count_only_where_copies_may_speak():
    stage = Stage()
    assert stage.step(AskVote(-2, 1, 9, 9, 9, True)) == [] and stage.status.term == 0
    stage.lead()
    term = stage.status.term
    stage.step(AppendAck(-2, 1, term, 1), AppendRefused(-2, 1, term, 0, 0, 0), HeartbeatAck(-2, 1, term, 0))
    assert stage.status.commit == 0 and [peer.node for peer in stage.status.peers] == [2, 3]
