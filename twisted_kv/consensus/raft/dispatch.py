"""Which rule answers which message in which role: one table, and the law of terms before it.

Source: Raft §5.1 and Figure 2, "Rules for Servers". What is not for this node, not from a member, or not well formed
changes nothing. The rules themselves stand in election, replication, snapshots and transfer.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from twisted_kv.consensus.raft import election, replication, snapshots, transfer
from twisted_kv.consensus.raft.messages import (
    Append,
    AppendAck,
    AppendRefused,
    AskPreVote,
    AskVote,
    Heartbeat,
    HeartbeatAck,
    Message,
    NewerTerm,
    PreVoteAnswer,
    SnapshotOffer,
    TimeoutNow,
    VoteAnswer,
)
from twisted_kv.consensus.raft.roles import Candidate, Copy, Follower, Leader, PreCandidate, RoleState
from twisted_kv.consensus.raft.state import State
from twisted_kv.consensus.types import (
    CopySeen,
    DiskFull,
    PeerUnreachable,
    SaveResumed,
    SaveStalled,
    SnapshotFailed,
    SnapshotInstalled,
    TransferLeadership,
)

Rule = Callable[[State, Any, Any], None]


class Terms(enum.Enum):
    """What a term other than the own does to a message before its rule is asked.

    ========  ==========================  =====================================================
    kind      an older term               a newer term
    ========  ==========================  =====================================================
    LEADS     NewerTerm goes back         follow its sender
    ASKS      NewerTerm goes back         follow nobody; ignored whole while a leader is heard
    ANSWERS   dropped (hazards 5 and 14)  follow nobody
    OPINES    the rule looks at it        follow nobody
    WONDERS   the rule looks at it        the rule looks at it; the own term stays (hazard 3)
    ========  ==========================  =====================================================
    """

    LEADS = "leads"
    ASKS = "asks"
    ANSWERS = "answers"
    OPINES = "opines"
    WONDERS = "wonders"


class Row(NamedTuple):
    """One kind of message: its law of terms, whether copies may say it, and a rule for each role."""

    terms: Terms
    by_copies: bool
    rules: dict[type[RoleState], Rule]


def step(state: State, message: Any) -> None:
    """Take a message of a peer or a local event; anything else is dropped."""
    kind = type(message)
    event = EVENTS.get(kind)
    if event is not None:
        event(state, message)
        return
    row = TABLE.get(kind)
    if row is not None and _is_ours(state, row, message) and _is_timely(state, row, message):
        role = state.role
        row.rules[type(role)](state, role, message)


def _is_ours(state: State, row: Row, message: Message) -> bool:
    sender = message.sender
    if message.to != state.node or sender == state.node:
        return False
    if sender not in state.voters and not (row.by_copies and sender < 0 and -sender in state.voters):
        return False
    return not isinstance(message, Append) or _is_well_formed(message)


def _is_well_formed(message: Append) -> bool:
    """Entries follow each other, and no term falls or lies beyond the sender's."""
    index, term = message.prev_index, message.prev_term
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term:
            return False
        term = entry.term
    return term <= message.term


def _is_timely(state: State, row: Row, message: Message) -> bool:
    """The law of terms (§5.1); may change term and role."""
    terms, term = row.terms, message.term
    if terms is Terms.WONDERS:
        return True
    if term < state.term:
        if terms in (Terms.LEADS, Terms.ASKS):
            state.outbox.append(NewerTerm(state.node, message.sender, state.term))
        return terms is Terms.OPINES
    if term > state.term:
        if isinstance(message, AskVote) and not message.transfer and election.hears_leader(state):
            return False
        election.follow(state, term)
    if terms is Terms.LEADS and isinstance(state.role, (PreCandidate, Candidate)):
        # Somebody else has won this term (§5.2).
        election.follow(state, term, message.sender)
    return True


def _nothing(state: State, role: Any, message: Any) -> None:
    """This kind says nothing to this role."""


def _row(
    terms: Terms,
    *,
    follower: Rule = _nothing,
    copy: Rule = _nothing,
    pre_candidate: Rule = _nothing,
    candidate: Rule = _nothing,
    leader: Rule = _nothing,
    by_copies: bool = False,
) -> Row:
    rules: dict[type[RoleState], Rule] = {
        Follower: follower,
        Copy: copy,
        PreCandidate: pre_candidate,
        Candidate: candidate,
        Leader: leader,
    }
    return Row(terms, by_copies, rules)


def _asked(terms: Terms, rule: Rule) -> Row:
    """All voters answer, whatever they are; copies never do (hazard 9)."""
    return _row(terms, follower=rule, pre_candidate=rule, candidate=rule, leader=rule)


def _led(rule: Rule) -> Row:
    """Candidates have become followers by the law of terms; two leaders of a term do not exist (§5.2)."""
    return _row(Terms.LEADS, follower=rule, copy=rule)


def _answered(rule: Rule) -> Row:
    return _row(Terms.ANSWERS, leader=rule, by_copies=True)


TABLE: Final[dict[type, Row]] = {
    AskPreVote: _asked(Terms.WONDERS, election.answer_pre_vote),
    PreVoteAnswer: _row(Terms.OPINES, pre_candidate=election.count_pre_vote),
    AskVote: _asked(Terms.ASKS, election.answer_vote),
    VoteAnswer: _row(Terms.ANSWERS, candidate=election.count_vote),
    Append: _led(replication.take_append),
    AppendAck: _answered(replication.take_ack),
    AppendRefused: _answered(replication.take_refusal),
    Heartbeat: _led(replication.take_heartbeat),
    HeartbeatAck: _answered(replication.take_heartbeat_ack),
    SnapshotOffer: _led(snapshots.take_offer),
    TimeoutNow: _row(Terms.LEADS, follower=election.campaign_now),
    NewerTerm: _row(Terms.ANSWERS, by_copies=True),
}

EVENTS: Final[dict[type, Callable[[State, Any], None]]] = {
    SaveStalled: election.disk_held,
    DiskFull: election.disk_held,
    SaveResumed: election.disk_freed,
    SnapshotInstalled: snapshots.installed,
    SnapshotFailed: snapshots.failed,
    TransferLeadership: transfer.begin,
    CopySeen: replication.add_copy,
    PeerUnreachable: replication.lose_peer,
}
