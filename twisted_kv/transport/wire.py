"""The words on the wire between our own programs: verbs, and the sealed bodies they carry.

Every verb takes one sealed body and answers one. Expected refusals are answers (``NotLeading``, ``Unsettled``,
``Busy``, ``Rejected``); an exception across the wire means a bug. Plain Perspective Broker scripts use the other
remote names of a server (put, get, join, …), which carry plain values.

Who may call what: ``peer_*`` members of the same group; ``shard_*`` servers of other groups; ``kv_*`` Clerks;
``ctl_*`` ControllerClerks and groups. docs/protocol.md tells it in prose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from twisted_kv.codec import Codec
from twisted_kv.constants import CONFIGURATION_HELD_SECONDS, WIRE_BODY_BYTES_MAX
from twisted_kv.machines.commands import (
    Administer,
    ConfigurationAnswer,
    Configured,
    Done,
    Enroll,
    Expired,
    Outcome,
    PullAnswer,
    Refused,
    Scanned,
    WrongGroup,
)
from twisted_kv.machines.rows import Row, RowKey

# Verbs, and the bodies that go there → come back.
PEER_HELLO = "peer_hello"  # Hello → Hello
PEER_STEP = "peer_step"  # Step, one way
PEER_ROWS = "peer_rows"  # RowsRequest → RowsAnswer
SHARD_PULL = "shard_pull"  # PullRows → PullAnswer | Turned
SHARD_DROP = "shard_drop"  # Drop → Done | Turned
KV_WRITE = "kv_write"  # Write → Outcomes | Turned
KV_READ = "kv_read"  # Read → Outcomes | Turned
KV_OPEN = "kv_open"  # Open → Outcomes | Turned
KV_SCAN = "kv_scan"  # Scan → Scanned | WrongGroup | Turned
CTL_ENROLL = "ctl_enroll"  # Enroll → Outcomes (one) | Turned
CTL_CHANGE = "ctl_change"  # Administer → Configured | Refused | Expired | Turned
CTL_QUERY = "ctl_query"  # QueryConfiguration → ConfigurationAnswer | Refused | Turned
CTL_NEXT = "ctl_next"  # QueryConfiguration → ConfigurationAnswer | Refused | Turned
CTL_CLAIM = "ctl_claim"  # Claim → Done | Refused | Turned
WHO = "who"  # Who → Iam: what kind of server is this? needs no quorum

HELD_SECONDS: Final[Mapping[str, float]] = {CTL_NEXT: CONFIGURATION_HELD_SECONDS}
"""Verb → how long its answer may be held back although all is well."""


# ── turned away: the four ways in which a server answers without having carried out the request ────


class NotLeading(msgspec.Struct, frozen=True, array_like=True, tag="nl"):
    """Nothing entered a log. ``node`` answers; ``leader`` is the node to ask, 0 if unknown."""

    node: int
    leader: int


class Unsettled(msgspec.Struct, frozen=True, array_like=True, tag="un"):
    """It entered a log, and this server will not learn what became of it. Ask again with the same ids."""

    node: int
    leader: int


class Busy(msgspec.Struct, frozen=True, array_like=True, tag="bz"):
    """Nothing entered a log: no room, or not ready yet. ``retry_after`` in seconds; ``leads``: no other could do it."""

    node: int
    retry_after: float
    leads: bool = False


class Rejected(msgspec.Struct, frozen=True, array_like=True, tag="rj"):
    """Nothing entered a log: the request as a whole is bad. ``error`` names a class of twisted_kv.errors."""

    node: int
    error: str
    text: str


Turned = NotLeading | Unsettled | Busy | Rejected


class Outcomes(msgspec.Struct, frozen=True, array_like=True, tag="oc"):
    """One Outcome per operation, key or shard asked for, in the order of the request. ``node`` led."""

    node: int
    outcomes: tuple[Outcome, ...]


# ── between the members of a group ─────────────────────────────────────────────────────────────────


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """Who a member is, and how far the group has formed. Both sides say it.

    Attributes:
        kind: "controller" or "group".
        gid: 0 for a controller.
        node: 1 …, the member's place in the list of peers.
        incarnation: drawn when the directory was made; a wiped directory has another.
        consensus: "raft" or "paxos".
        voters: node → incarnation as this member has accepted it durably, ascending; empty: not accepted yet.
        formed: every voter has accepted the same.
    """

    kind: Literal["controller", "group"]
    gid: int
    node: int
    incarnation: str
    consensus: str
    voters: tuple[tuple[int, str], ...] = ()
    formed: bool = False


class Step(msgspec.Struct, frozen=True, array_like=True):
    """Messages of one core to another. ``sender`` is negative for a copy. ``body`` holds the core's own codec.

    A receiver drops it unless gid, to and the incarnations are those it knows.
    """

    gid: int
    sender: int
    incarnation: str
    to: int
    body: bytes


class RowsRequest(msgspec.Struct, frozen=True, array_like=True):
    """Rows of the newest checkpoint. ``snapshot`` 0 opens one, later requests name it; ``after``: where it stopped."""

    gid: int
    snapshot: int
    after: RowKey | None
    bytes_max: int


class RowsAnswer(msgspec.Struct, frozen=True, array_like=True):
    """The next rows of a snapshot at (index, term). ``snapshot`` 0: it has expired, begin anew."""

    snapshot: int
    index: int
    term: int
    rows: tuple[Row, ...]
    last: bool


class Who(msgspec.Struct, frozen=True, array_like=True):
    """Says nothing but: who are you?"""


class Iam(msgspec.Struct, frozen=True, array_like=True):
    """``identity`` is the group id that a Claim carries, empty until the group has formed."""

    gid: int
    node: int
    identity: str


HELLO: Codec[Hello] = Codec(Hello, 1 << 16)
STEP: Codec[Step] = Codec(Step, WIRE_BODY_BYTES_MAX)
ROWS_REQUEST: Codec[RowsRequest] = Codec(RowsRequest, 1 << 20)
ROWS_ANSWER: Codec[RowsAnswer] = Codec(RowsAnswer, WIRE_BODY_BYTES_MAX)
WHO_REQUEST: Codec[Who] = Codec(Who, 1 << 10)
IAM: Codec[Iam] = Codec(Iam, 1 << 12)
# One codec answers every kv_*, ctl_* and shard_* verb: the tag says which answer it is.
Answer = (
    NotLeading
    | Unsettled
    | Busy
    | Rejected
    | Outcomes
    | Configured
    | ConfigurationAnswer
    | Done
    | Refused
    | Expired
    | PullAnswer
    | Scanned
    | WrongGroup
)
ANSWERS: Codec[Any] = Codec(Answer, WIRE_BODY_BYTES_MAX)
ENROLL: Codec[Enroll] = Codec(Enroll, 1 << 12)
ADMINISTER: Codec[Administer] = Codec(Administer, 1 << 20)
