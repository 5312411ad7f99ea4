"""How a copy of a shard moves: its states, what can befall it, and the table that says what it becomes.

A copy is named (shard, num), num being the configuration by which its holder gained it, so a late word about an
older copy cannot hit a shard regained since. States hold their data; an event that cannot befall a state (a
configuration that contradicts what is held) has no successor, and whoever applies it must refuse it.

Source: house.md, *How a shard moves*; scenarios §3.3-21 to 35. Pure values: knows no rows, no log, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from twisted_kv.constants import ROWS_CHUNK_BYTES
from twisted_kv.machines.configuration import NO_GROUP, Configuration, Holder
from twisted_kv.machines.rows import BEGINNING, Cursor

ROUNDS_MAX: Final = 64
TIMES_MAX: Final = 4
"""Chunks of changes that are taken over while the copy is served: ROUNDS_MAX, and TIMES_MAX times what the copy itself
takes. Who is not level by then never will be: a load that makes changes faster than they are copied is cut short."""

# ── states ─────────────────────────────────────────────────────────────────────────────────────────


class Absent(msgspec.Struct, frozen=True, tag="absent", tag_field="phase"):
    """No copy is here."""


class Pulling(msgspec.Struct, frozen=True, tag="pulling", tag_field="phase"):
    """Gained from a group, rows are coming in; not served. Holds back the next configuration.

    Attributes:
        source: who has the copy (shard, source.num).
        endpoints: where it was known to listen.
        chunk: the number of the chunk that is wanted next, from 0.
        cursor: what came so far.
        level: when the last chunk was given, nothing stood beyond it.
        rounds: chunks since the walk was over; after ROUNDS_MAX it is time to hurry.
        total_bytes: of all keys and values of the copy, as last heard.
    """

    source: Holder
    endpoints: tuple[str, ...]
    chunk: int = 0
    cursor: Cursor = BEGINNING
    level: bool = False
    rounds: int = 0
    total_bytes: int = 0

    @property
    def hand(self) -> bool:
        """Whether it is time for the freeze: there is nothing more to be had without, or changes outrun the copying."""
        rounds_max = ROUNDS_MAX + TIMES_MAX * self.total_bytes // ROWS_CHUNK_BYTES
        return self.cursor.walked and (self.level or self.rounds >= rounds_max)

    @property
    def hurried(self) -> bool:
        """Whether changes are many: what could wait for others is copied at once."""
        return self.rounds >= ROUNDS_MAX


class Serving(msgspec.Struct, frozen=True, tag="serving", tag_field="phase"):
    """Ours, and complete."""


class Handing(msgspec.Struct, frozen=True, tag="handing", tag_field="phase"):
    """Lost to ``taker``, who copies it while it is still served. Holds back the next configuration."""

    taker: Holder


class Leaving(msgspec.Struct, frozen=True, tag="leaving", tag_field="phase"):
    """Frozen, kept until ``taker`` says that it has it."""

    taker: Holder


class Parked(msgspec.Struct, frozen=True, tag="parked", tag_field="phase"):
    """Lost to nobody: the last group left. Kept until somebody gains it."""


State = Absent | Pulling | Serving | Handing | Leaving | Parked

STATES: Final[tuple[type[State], ...]] = (Absent, Pulling, Serving, Handing, Leaving, Parked)
SERVED: Final = frozenset((Serving, Handing))
HOLDING_BACK: Final = frozenset((Pulling, Handing))
"""States that hold back the next configuration (hazard 43)."""

# ── events ─────────────────────────────────────────────────────────────────────────────────────────


class Started(msgspec.Struct, frozen=True):
    """Configured here; nobody ever owned it."""

    num: int


class Gained(msgspec.Struct, frozen=True):
    """Configured here; the data is with ``source``."""

    num: int
    source: Holder
    endpoints: tuple[str, ...]


class Regained(msgspec.Struct, frozen=True):
    """Configured here, and the copy that is here is the one; from now on it is named ``num``."""

    num: int


class Lost(msgspec.Struct, frozen=True):
    """Configured to another group."""

    taker: Holder


class Unowned(msgspec.Struct, frozen=True):
    """Configured to nobody."""


class Arrived(msgspec.Struct, frozen=True):
    """A chunk of rows came that is not the last; the others as in Install."""

    chunk: int
    cursor: Cursor
    level: bool
    total_bytes: int


class Completed(msgspec.Struct, frozen=True):
    """The last chunk of rows came."""

    chunk: int


class Frozen(msgspec.Struct, frozen=True):
    """The taker wants the rest, or has not asked for too long."""


class Released(msgspec.Struct, frozen=True):
    """The taker has it in its own log: it may go."""


Event = Started | Gained | Regained | Lost | Unowned | Arrived | Completed | Frozen | Released

EVENTS: Final[tuple[type[Event], ...]] = (
    Started,
    Gained,
    Regained,
    Lost,
    Unowned,
    Arrived,
    Completed,
    Frozen,
    Released,
)


def befallen(configuration: Configuration, shard: int, ours: bool, num: int, state: State) -> Event:
    """What a configuration means for a shard here.

    Whether a gained shard is here already is decided by the copy held, never by a gid or an address.

    Args:
        ours: whether the configuration gives the shard to this very group.
        num: the name of the copy held, 0 if none.
        state: its state; LEAVING copies are not asked, they are no concern of a configuration any more.
    """
    holder, source = configuration.holders[shard], configuration.sources[shard]
    if not ours:
        if configuration.shards[shard] == NO_GROUP:
            return Unowned()
        assert holder is not None, "an owned shard has a holder"
        return Lost(holder)
    assert holder is not None, "an owned shard has a holder"
    # The second case: these processes left and joined again, so the member, and the name of its copy, are new.
    if num == holder.num or (isinstance(state, Parked) and source is not None and num == source.num):
        return Regained(holder.num)
    if holder.num != configuration.num:
        return Regained(holder.num)  # gained earlier, so a copy must be here: without one it is a contradiction
    if source is None:
        return Started(holder.num)
    return Gained(holder.num, source, configuration.endpoints_of(source))


def advanced(state: State, event: Event) -> State | None:
    """The state after the event: the same object if nothing happens, None if it cannot befall this state."""
    rule = TRANSITIONS[type(state), type(event)]
    successor: State | None = rule(state, event) if rule is not None else None
    return successor


# ── the table ──────────────────────────────────────────────────────────────────────────────────────

_Rule = Callable[[Any, Any], State]


def _stays(state: State, event: Event) -> State:
    return state


def _serves(state: State, event: Event) -> State:
    return Serving()


def _parks(state: State, event: Event) -> State:
    return Parked()


def _pulls(state: Absent, event: Gained) -> State:
    return Pulling(event.source, event.endpoints)


def _hands(state: Serving, event: Lost) -> State:
    return Handing(event.taker)


def _leaves(state: Parked, event: Lost) -> State:
    return Leaving(event.taker)


def _freezes(state: Handing, event: Frozen) -> State:
    return Leaving(state.taker)


def _goes(state: Leaving, event: Released) -> State:
    return Absent()


def _goes_on(state: Pulling, event: Arrived) -> State:
    if event.chunk != state.chunk:
        return state
    rounds = state.rounds + state.cursor.walked
    return Pulling(state.source, state.endpoints, state.chunk + 1, event.cursor, event.level, rounds, event.total_bytes)


def _completes(state: Pulling, event: Completed) -> State:
    return state if event.chunk != state.chunk else Serving()


TRANSITIONS: Final[Mapping[tuple[type[State], type[Event]], _Rule | None]] = {
    (Absent, Started): _serves,
    (Absent, Gained): _pulls,
    (Absent, Regained): None,
    (Absent, Lost): _stays,
    (Absent, Unowned): _stays,
    (Absent, Arrived): _stays,
    (Absent, Completed): _stays,
    (Absent, Frozen): _stays,
    (Absent, Released): _stays,
    # What holds back a configuration is not told of one.
    (Pulling, Started): None,
    (Pulling, Gained): None,
    (Pulling, Regained): None,
    (Pulling, Lost): None,
    (Pulling, Unowned): None,
    (Pulling, Arrived): _goes_on,
    (Pulling, Completed): _completes,
    (Pulling, Frozen): _stays,
    (Pulling, Released): _stays,
    (Serving, Started): None,
    (Serving, Gained): None,
    (Serving, Regained): _stays,
    (Serving, Lost): _hands,
    (Serving, Unowned): _parks,
    (Serving, Arrived): _stays,
    (Serving, Completed): _stays,
    (Serving, Frozen): _stays,
    (Serving, Released): _stays,
    (Handing, Started): None,
    (Handing, Gained): None,
    (Handing, Regained): None,
    (Handing, Lost): None,
    (Handing, Unowned): None,
    (Handing, Arrived): _stays,
    (Handing, Completed): _stays,
    (Handing, Frozen): _freezes,
    (Handing, Released): _stays,
    # What leaves is not told of configurations either: the next copy of the shard has another name.
    (Leaving, Started): None,
    (Leaving, Gained): None,
    (Leaving, Regained): None,
    (Leaving, Lost): None,
    (Leaving, Unowned): None,
    (Leaving, Arrived): _stays,
    (Leaving, Completed): _stays,
    (Leaving, Frozen): _stays,
    (Leaving, Released): _goes,
    (Parked, Started): None,
    (Parked, Gained): None,
    (Parked, Regained): _serves,
    (Parked, Lost): _leaves,
    (Parked, Unowned): _stays,
    (Parked, Arrived): _stays,
    (Parked, Completed): _stays,
    (Parked, Frozen): _stays,
    (Parked, Released): _stays,
}
