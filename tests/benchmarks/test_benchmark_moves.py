"""What counts as lost, and what is told, of a shard that moved."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from benchmarks.loads.moving import Chain, Move, Moved, Phase, Values, phase_of, tag_of
from benchmarks.moves import Sample, arriving, table
from twisted_kv.machines.configuration import shard_of


@pytest.mark.parametrize(
    ("value", "wrong"),
    [("1 3 ", 0), ("1 2 3 ", 0), ("1 ", 1), ("1 1 3 ", 1), ("3 1 ", 1), ("1 3 4 ", 1), ("", 2)],
)
def test_appends_are_there_once_and_in_order(value: str, wrong: int) -> None:
    """Number 2 may be there: nobody knows what became of it."""
    chain = Chain("k")
    chain.acknowledged, chain.unknown = [1, 3], {2}
    assert chain.wrong(value) == wrong


def test_a_value_is_the_last_one_acknowledged_or_one_that_may_have_been_written() -> None:
    values = Values("t", 10, 30)
    assert len(values.value(3, 1)) == 30
    assert values.is_right(3, values.value(3, 0)), "as it was filled"
    values.wrote(3, 7, acknowledged=True)
    assert values.is_right(3, values.value(3, 7)) and not values.is_right(3, values.value(3, 0))
    values.wrote(3, 8, acknowledged=False)
    assert values.is_right(3, values.value(3, 7)) and values.is_right(3, values.value(3, 8))
    values.wrote(3, 9, acknowledged=True)
    assert not values.is_right(3, values.value(3, 8)), "a later one was acknowledged"
    assert not values.is_right(3, values.value(4, 9)) and not values.is_right(3, "")


def test_all_keys_are_of_one_shard() -> None:
    values = Values(tag_of(7, 128), 10, 30)
    assert {shard_of(values.key(number), 128) for number in range(10)} == {7}


def test_latencies_of_a_stretch() -> None:
    assert phase_of([]) == Phase(0, 0.0, 0.0, 0.0)
    assert phase_of([1000, 2000, 9000]) == Phase(3, 2.0, 9.0, 9.0)


def test_a_task_survives_its_argument() -> None:
    move = Move(("c",), ("a", "b"), 1, 2, 10, 20, 0.3, 1.0, 2.0)
    assert Move.from_argument(move.as_argument()) == move


def test_the_table_says_what_the_goals_are_of() -> None:
    streams = ("moved", "giver", "taker")
    moved = Moved(saturation=1000.0, rate=300.0, move_seconds=12.0, gap_ms=150.0, checked=10, appends=5)
    moved.calm = {stream: Phase(10, 1.0, 10.0, 20.0) for stream in streams}
    moved.meanwhile = {stream: Phase(10, 1.0, 15.0, 180.0) for stream in streams}
    moved.stalls_ms = {"a": 20.0, "b": 40.0}
    moved.errors = {"moved Unavailable": 2}
    facts: dict[str, Any] = asdict(moved)
    lines = {line[0]: line[1:] for line in table([Sample("nobody", facts, [], {"a": 7_000_000})]).lines}
    assert lines["longest time without an answer of its keys, ms"] == ("150",)
    assert lines["p99 of others, group it leaves: times the normal one"] == ("1.50",)
    assert lines["longest stall of a server, ms"] == ("40",)
    assert lines["rate of puts/s (of what a closed loop reached)"] == ("300 (30%)",)
    assert lines["failed calls"] == ("2 moved Unavailable",)


def test_what_is_on_its_way_is_what_the_takers_say() -> None:
    status = {"groups": {"100": [{"arriving": []}], "200": [{"node": 1}, {"arriving": [{"shard": 3}]}]}}
    assert arriving(status) == [{"shard": 3}]
