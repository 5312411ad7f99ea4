"""Who judges a life: the name of every checker in one place, and what one of them found.

A violation names its checker, so that people can count, and a test can ask that each checker is able to fail. It
judges nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

ONE_LEADER: Final = "one leader per term"
APPEND_ONLY: Final = "leader append-only"
LOG_MATCHING: Final = "log matching"
COMPLETE: Final = "leader completeness"
ONE_ORDER: Final = "state machine safety"
SAVED_FIRST: Final = "saved before said"
NOT_FORGOTTEN: Final = "not forgotten"
EQUAL: Final = "equal digests"
ONE_OWNER: Final = "one owner"
STOPPED: Final = "stopped"
DOOR: Final = "door"
LOGGED: Final = "logged"
CONFIGURATIONS: Final = "configurations"
FIRST_CLAIM: Final = "first claim"
NEWEST: Final = "newest"
CHANGED_ONCE: Final = "changed once"
LINEARIZABLE: Final = "linearizable"
DECIDED: Final = "decided"
EXACTLY_ONCE: Final = "exactly once"
DURABLE: Final = "durable"
TOLD: Final = "told"
SCANNED: Final = "scanned"
CALLS: Final = "calls come back"
READABLE: Final = "readable"
SETTLES: Final = "settles"
ONE_ELECTION: Final = "one election"
QUIET: Final = "quiet"
LEFT: Final = "nothing left"
GENTLE: Final = "nothing fails"
BROKEN: Final = "not broken"

CHECKERS: Final[Mapping[str, str]] = {
    ONE_LEADER: "at most one member leads a group in a term (Raft §5.2)",
    APPEND_ONLY: "a leader changes no entry of its log (Raft §5.3)",
    LOG_MATCHING: "two logs with one entry in common are equal up to it (Raft §5.3)",
    COMPLETE: "who leads holds everything that was committed in earlier terms (Raft §5.4)",
    ONE_ORDER: "one entry per index on all replicas and boots, committed once and in order (Raft §5.4.3)",
    SAVED_FIRST: "no vote and no acknowledgment leaves before what it promises is on disk (Raft Figure 2)",
    NOT_FORGOTTEN: "term, vote and entries that were saved are there after every boot",
    EQUAL: "replicas that stand at one command hold the same",
    ONE_OWNER: "no shard is served by two groups, at any moment",
    STOPPED: "no member stops by itself but for a fault that was injected, and each can stop cleanly",
    DOOR: "no door fails, whatever comes in",
    LOGGED: "nothing is logged as a failure but for a fault that was injected",
    CONFIGURATIONS: "each change makes one, consecutive, balanced, with the fewest moves, the same everywhere for ever",
    FIRST_CLAIM: "who first claims a member of a configuration has it for ever",
    NEWEST: "the newest configuration is no older than any that somebody was told of before it was asked for",
    CHANGED_ONCE: "a change that was told as done was made once, one that was told as refused never",
    LINEARIZABLE: "one register per key, serving one call at a time, could have told the clients what they were told",
    DECIDED: "the search for such an order came to an end",
    EXACTLY_ONCE: "no appended token stands twice, and those of one client stand in the order of its calls",
    DURABLE: "every acknowledged token stands there in the end",
    TOLD: "who alone writes to a key reads what it wrote",
    SCANNED: "a scan shows keys in order, each once, and none that nobody ever touched",
    CALLS: "every call comes back, also of a Clerk that is closed",
    READABLE: "every key that was ever touched can be read when faults have stopped",
    SETTLES: "in time, with a majority alone, every shard arrives where it belongs and all members catch up",
    ONE_ELECTION: "when faults have stopped a group elects once at most, and then keeps its leader",
    QUIET: "who has nothing to do says little",
    LEFT: "whose transport is closed has no connection and no delayed call, and counts no memory (on the wire)",
    GENTLE: "no call fails if nothing was wrong",
    BROKEN: "the life could be lived to its end",
}
"""Name → what it holds to be true."""


class Violation(msgspec.Struct, frozen=True):
    """What a checker found.

    Attributes:
        checker: one of CHECKERS.
        text: what does not hold, and where.
    """

    checker: str
    text: str

    def __post_init__(self) -> None:
        assert self.checker in CHECKERS, f"{self.checker!r} is no checker"

    def __str__(self) -> str:
        return f"{self.checker}: {self.text}"
