"""What Raft nodes say to each other: one frozen value per kind, and their codec.

Every message names its sender, its receiver and a term. Source: Raft Figure 2; pre-vote, leadership transfer and
read rounds from Ongaro's thesis (§9.6, §3.10, §6.4). What a node does on hearing one stands in ``dispatch``; this
module refuses to know.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from twisted_kv.codec import Codec
from twisted_kv.consensus.types import Entry, NodeID
from twisted_kv.constants import WIRE_BODY_BYTES_MAX

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
"""A term, an index or a round as it stands on the wire: never negative, and the next one still fits on disk."""


class _Message(msgspec.Struct, frozen=True, array_like=True):
    sender: NodeID
    to: NodeID
    term: Count


class AskPreVote(_Message, frozen=True, array_like=True, tag="pv?"):
    """Would you vote for me in ``term``? I have not entered it yet (thesis §9.6)."""

    last_index: Count
    last_term: Count


class PreVoteAnswer(_Message, frozen=True, array_like=True, tag="pv"):
    """``term`` is that of who answers; ``asked`` mirrors the term of the question."""

    asked: Count
    granted: bool


class AskVote(_Message, frozen=True, array_like=True, tag="v?"):
    """RequestVote. ``transfer``: the leader itself asked for this election (thesis §3.10)."""

    last_index: Count
    last_term: Count
    transfer: bool


class VoteAnswer(_Message, frozen=True, array_like=True, tag="v"):
    """The answer to AskVote of the same term."""

    granted: bool


class Append(_Message, frozen=True, array_like=True, tag="a"):
    """AppendEntries: ``entries`` follow (prev_index, prev_term); none of them: a probe."""

    prev_index: Count
    prev_term: Count
    commit: Count
    entries: tuple[Entry, ...]


class AppendAck(_Message, frozen=True, array_like=True, tag="a+"):
    """My log is durable and equal to yours up to ``index``."""

    index: Count


class AppendRefused(_Message, frozen=True, array_like=True, tag="a-"):
    """I lack your (prev_index, prev_term); (hint_index, hint_term) is where we may agree (§5.3, last part)."""

    prev_index: Count
    hint_index: Count
    hint_term: Count


class Heartbeat(_Message, frozen=True, array_like=True, tag="h"):
    """I still lead. ``commit`` is no further than the receiver is known to match; ``round`` counts read rounds."""

    commit: Count
    round: Count


class HeartbeatAck(_Message, frozen=True, array_like=True, tag="h+"):
    """I still follow, as of the heartbeat that carried ``round``."""

    round: Count


class SnapshotOffer(_Message, frozen=True, array_like=True, tag="s"):
    """You are behind my log, which begins after (index, boundary_term): fetch my rows."""

    index: Count
    boundary_term: Count


class TimeoutNow(_Message, frozen=True, array_like=True, tag="t"):
    """Campaign at once: I hand leadership to you (thesis §3.10)."""


class NewerTerm(_Message, frozen=True, array_like=True, tag="n"):
    """What you asked is of a term that has passed; this is mine (§5.1)."""


Message = (
    AskPreVote
    | PreVoteAnswer
    | AskVote
    | VoteAnswer
    | Append
    | AppendAck
    | AppendRefused
    | Heartbeat
    | HeartbeatAck
    | SnapshotOffer
    | TimeoutNow
    | NewerTerm
)

PROMISES: Final = frozenset({AskVote, VoteAnswer, AppendAck})
"""Kinds that speak of what is on the sender's own disk, so they wait for the save. The others depend on it only
when term or vote are part of that save."""

MESSAGES: Codec[tuple[Message, ...]] = Codec(tuple[Message, ...], WIRE_BODY_BYTES_MAX)
