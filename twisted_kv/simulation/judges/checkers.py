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
SAVED_TO_APPLY: Final = "saved before applied"
FILES_FIT: Final = "files fit together"
SAVED_ONCE: Final = "failed save is the last"
NOT_FORGOTTEN: Final = "not forgotten"
AS_WRITTEN: Final = "as written"
ONE_WRITER: Final = "one writer"
EQUAL: Final = "equal digests"
KEPT: Final = "kept by a majority"
TERM_STAYS: Final = "silence enters no term"
STALE_LEADER: Final = "silence ends leading"
ONE_OWNER: Final = "one owner"
BY_THE_BOOK: Final = "by the book"
IN_STEP: Final = "in step"
COPIED: Final = "copied whole"
WORTH_LOGGING: Final = "worth logging"
FRESH_ID: Final = "fresh id"
LEADS_ALONE: Final = "leads with a majority"
LEADS_ON: Final = "leads with a disk"
WAITS: Final = "nobody waits in vain"
LED: Final = "a majority is led"
KEEPS_TERM: Final = "unheard keeps its term"
FORWARDED_UNKNOWN: Final = "passed on is unknown"
MISREAD: Final = "strange is unknown"
STRANGERS: Final = "strangers"
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
    SAVED_TO_APPLY: "nothing is applied, and so answered, before it is in the own log (hazards 16 and 17)",
    FILES_FIT: "rows are of no term that the own log has not heard of, for such files are refused (hazards 15 and 31)",
    SAVED_ONCE: "after a save that failed there is no other one, until the process has started anew (hazard 27)",
    NOT_FORGOTTEN: "term, vote and entries that were saved are there after every boot, and not given up for rows",
    KEPT: "what is committed stands on the disks of a majority, always (cores alone)",
    TERM_STAYS: "who hears nobody enters no new term (thesis §9.6; cores alone)",
    STALE_LEADER: "who hears no quorum for two election timeouts leads no longer (thesis §6.2; cores alone)",
    AS_WRITTEN: "a log gives back what was saved and no more, and covers its rows; rows are the state of their index",
    ONE_WRITER: "a directory has one process, and each of its files one connection that can write",
    EQUAL: "replicas that stand at one command hold the same",
    ONE_OWNER: "no shard is served by two groups, at any moment",
    BY_THE_BOOK: "a table of sessions and a register per key, in the order of the logs, would answer and hold the same",
    IN_STEP: "a group takes each configuration and chunk once, in turn, as made; its replicas have the same left to do",
    COPIED: "a copy that is complete is what its giver had when it was frozen, keys and sessions, and no more",
    WORTH_LOGGING: "no write is logged of which no shard is served (hazard 26)",
    FRESH_ID: "a Clerk that was told that a session is forgotten opens the next one under another id (hazard 42)",
    LEADS_ALONE: "a leader that no majority answers leads no longer after three of its election timeouts (hazard 7)",
    LEADS_ON: "a leader whose save does not end leads no longer after three times the corridor's patience (hazard 7)",
    WAITS: "no call waits at a member that leads no longer, for more than this patience, or has stopped (hazard 15)",
    LED: "a majority that runs, with sound disks and links, has a leader within twenty election timeouts (Raft §5.2)",
    KEEPS_TERM: "who hears nobody stays in its term, and deposes nobody when it comes back (hazard 8)",
    FORWARDED_UNKNOWN: "a change that was passed on and not answered is told as unknown, never as refused (hazard 40)",
    MISREAD: "an error that the other side did not name as one of ours is unknown, never a refusal (hazard 40)",
    STRANGERS: "parts out of order, and calls beyond the budget of an expression, are not carried out (on the wire)",
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
