"""The steady load on a clock that a test advances, and what an onlooker keeps of a status."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock, deferLater

from benchmarks.loads import steady
from benchmarks.loads.closed_loop import VALUES, values_of
from benchmarks.loads.onlooker import plain
from benchmarks.loads.steady import CLIENTS, Steady

STEP = 2**-10


class Store:
    """Takes ``seconds`` for every put, or refuses it."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.refuses = False

    def put(self, key: str, value: str) -> Deferred[Any]:
        return fail(RuntimeError("no")) if self.refuses else deferLater(self.clock, self.seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(steady, "perf_counter", made.seconds)
    return made


def later(clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds / STEP)):
        clock.advance(STEP)


def test_the_rate_is_held_while_the_store_keeps_up(clock: Clock) -> None:
    load = Steady(clock, Store(clock, 0.01), rate=512, keys=100, value_bytes=8)
    load.start()
    later(clock, 2)
    before = load.answered
    later(clock, 4)
    assert load.answered - before == pytest.approx(4 * 512, rel=0.01)


def test_what_the_store_cannot_take_is_missing_and_not_caught_up(clock: Clock) -> None:
    """A client that waits asks for nothing more: CLIENTS puts in each time that the store takes."""
    store = Store(clock, 2.0)
    load = Steady(clock, store, rate=512, keys=100, value_bytes=8)
    load.start()
    later(clock, 8)
    assert load.answered == pytest.approx(8 / 2.0 * CLIENTS, rel=0.3)
    store.seconds = STEP
    later(clock, 2)
    before = load.answered
    later(clock, 2)
    assert load.answered - before == pytest.approx(2 * 512, rel=0.02)


def test_failures_are_counted_apart(clock: Clock) -> None:
    store = Store(clock, STEP)
    store.refuses = True
    load = Steady(clock, store, rate=512, keys=100, value_bytes=8)
    load.start()
    later(clock, 1)
    assert load.answered == 0
    assert load.failed >= CLIENTS


def test_values_differ_and_have_their_size() -> None:
    values = values_of(256)
    assert len(set(values)) == VALUES
    assert {len(value) for value in values} == {256}


def test_a_status_is_kept_as_far_as_it_is_plain() -> None:
    status = {b"role": "leader", "keys": 3, "stall_ms": 1.5, "arriving": [{"shard": 1}], "config": {}}
    assert plain(status) == {"role": "leader", "keys": 3, "stall_ms": 1.5}
