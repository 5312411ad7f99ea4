"""The table of a moving shard: complete, and each row of the house's plan."""

from __future__ import annotations

import itertools
import typing

import msgspec
import pytest

from twisted_kv.constants import ROWS_CHUNK_BYTES
from twisted_kv.machines.configuration import Configuration, Holder, Member
from twisted_kv.machines.migration import (
    EVENTS,
    HOLDING_BACK,
    ROUNDS_MAX,
    SERVED,
    STATES,
    TIMES_MAX,
    TRANSITIONS,
    Absent,
    Arrived,
    Completed,
    Event,
    Frozen,
    Gained,
    Handing,
    Leaving,
    Lost,
    Parked,
    Pulling,
    Regained,
    Released,
    Serving,
    Started,
    State,
    Unowned,
    advanced,
    befallen,
)
from twisted_kv.machines.rows import Cursor

A, B = Holder(1, 1, 1), Holder(2, 1, 2)
HALF, MORE = Cursor(("key", "k"), False, 0), Cursor(("key", "m"), False, 0)
EXAMPLES = {
    Absent: Absent(),
    Pulling: Pulling(A, ("ep",), 2, HALF),
    Serving: Serving(),
    Handing: Handing(B),
    Leaving: Leaving(B),
    Parked: Parked(),
}
BEFALLS = {
    Started: Started(1),
    Gained: Gained(2, A, ("ep",)),
    Regained: Regained(3),
    Lost: Lost(B),
    Unowned: Unowned(),
    Arrived: Arrived(2, MORE, False, 100),
    Completed: Completed(2),
    Frozen: Frozen(),
    Released: Released(),
}


def test_the_table_is_complete():
    """House rule: transitions are a table; every state meets every event, and nothing else stands in it."""
    assert set(STATES) == set(typing.get_args(State)) == set(EXAMPLES)
    assert set(EVENTS) == set(typing.get_args(Event)) == set(BEFALLS)
    assert set(TRANSITIONS) == set(itertools.product(STATES, EVENTS))


MOVES = {
    (Absent, Started): Serving(),
    (Absent, Gained): Pulling(A, ("ep",)),
    (Pulling, Arrived): Pulling(A, ("ep",), 3, MORE, False, 0, 100),
    (Pulling, Completed): Serving(),
    (Serving, Lost): Handing(B),
    (Serving, Unowned): Parked(),
    (Handing, Frozen): Leaving(B),
    (Leaving, Released): Absent(),
    (Parked, Regained): Serving(),
    (Parked, Lost): Leaving(B),
}
STAYS = {
    (Absent, Lost),
    (Absent, Unowned),
    (Serving, Regained),
    (Parked, Unowned),
}


@pytest.mark.parametrize(("state", "event"), sorted(TRANSITIONS, key=str))
def test_every_pair(state, event):
    """House rule, *How a shard moves*: what moves, moves there; a configuration that contradicts the state is
    refused; any other word about a copy that is not waiting for it changes nothing (scenario §3.3-28, 30)."""
    after = advanced(EXAMPLES[state], BEFALLS[event])
    if (state, event) in MOVES:
        assert after == MOVES[state, event]
    elif (state, event) in STAYS or event in (Arrived, Completed, Frozen, Released):
        assert after is EXAMPLES[state]
    else:
        assert after is None


@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_only_the_next_chunk_counts_scenario_28(chunk):
    """Scenario §3.3-28: duplicates and late chunks are ignored, gaps as well."""
    pulling = EXAMPLES[Pulling]
    assert advanced(pulling, Arrived(chunk, Cursor(("key", "z")), False, 1)) is pulling
    assert advanced(pulling, Completed(chunk)) is pulling


def test_the_freeze_is_wanted_when_the_taker_is_level_or_changes_outrun_it():
    """Decisions/0007: never during the walk; and a load that always makes more rows is cut short."""
    walked, pulling = Cursor(("key", "m"), True, 7), EXAMPLES[Pulling]
    assert not advanced(pulling, Arrived(2, MORE, True, 1)).hand
    assert advanced(pulling, Arrived(2, walked, True, 1)).hand
    state = advanced(pulling, Arrived(2, walked, False, 1))
    for chunk in range(3, 3 + ROUNDS_MAX):
        assert not state.hand
        state = advanced(state, Arrived(chunk, walked, False, 1))
    assert state.hand


def test_a_large_shard_is_given_the_time_to_become_level():
    """Issue 4: what is not copied before the freeze is out of service until it is; 64 chunks say nothing of 256 MB."""
    walked, pulling = Cursor(("key", "m"), True, 7), EXAMPLES[Pulling]
    large = Arrived(2, walked, False, 100 * ROWS_CHUNK_BYTES)
    state = advanced(pulling, large)
    for chunk in range(3, 3 + ROUNDS_MAX + 100 * TIMES_MAX):
        assert not state.hand
        assert state.hurried is (state.rounds >= ROUNDS_MAX)
        state = advanced(state, msgspec.structs.replace(large, chunk=chunk))
    assert state.hand and state.hurried


def test_what_is_served_and_what_holds_back_hazard_43():
    """Hazard 43 and the house's table: SERVING and HANDING serve; PULLING and HANDING hold back."""
    assert {Serving, Handing} == SERVED
    assert {Pulling, Handing} == HOLDING_BACK


def test_states_are_rows_and_back():
    """Scenario §3.3-29: a state with all it needs survives as JSON text."""
    for state in EXAMPLES.values():
        assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state


def configured(gid, holder, source):
    members = (Member(1, 1, ("ep:1",)), Member(2, 1, ("ep:2",)))
    return Configuration(5, (gid,), members, (holder,), (source,))


@pytest.mark.parametrize(
    ("gid", "holder", "source", "ours", "num", "state", "event"),
    [
        (0, None, None, False, 0, Absent(), Unowned()),
        (0, A, None, False, 1, Serving(), Unowned()),
        (2, B, A, False, 1, Serving(), Lost(B)),
        (1, Holder(1, 5, 5), A, False, 1, Parked(), Lost(Holder(1, 5, 5))),  # the gid, but other processes
        (1, Holder(1, 1, 5), None, True, 0, Absent(), Started(5)),
        (1, Holder(1, 1, 5), B, True, 0, Absent(), Gained(5, B, ("ep:2",))),
        (1, A, None, True, 1, Serving(), Regained(1)),
        (1, Holder(1, 5, 5), A, True, 1, Parked(), Regained(5)),
        (1, Holder(1, 1, 5), B, True, 1, Parked(), Gained(5, B, ("ep:2",))),  # moved on since: the table refuses
        (1, Holder(1, 1, 5), A, True, 1, Serving(), Gained(5, A, ("ep:1",))),  # same
    ],
)
def test_what_a_configuration_means(gid, holder, source, ours, num, state, event):
    """Scenarios §3.3-32, 33: the copy held decides whether a gained shard is here, never gid or address."""
    assert befallen(configured(gid, holder, source), 0, ours, num, state) == event
