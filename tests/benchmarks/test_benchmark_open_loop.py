"""An open loop: the rate is kept, latencies count from when a call was due, and nothing is left out."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from benchmarks.loads import open_loop
from benchmarks.loads.open_loop import Book, Pace
from twisted_kv.errors import Overloaded


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(open_loop, "perf_counter", clock.seconds)
    return clock


def test_the_rate_is_kept_whatever_becomes_of_the_calls(clock: Clock) -> None:
    due: list[float] = []
    pace = Pace(clock, 100.0, lambda number, at: due.append(at))
    running = Deferred.fromCoroutine(pace.run())
    clock.pump([0.01] * 50)
    clock.advance(0.5)
    assert len(due) == pace.issued == 101
    assert due == pytest.approx([number / 100 for number in range(101)])
    assert pace.late == pytest.approx(0.49, abs=0.02)
    pace.stop()
    clock.advance(0.1)
    assert running.called and pace.issued == 101


def test_a_latency_counts_from_when_the_call_was_due(clock: Clock) -> None:
    book, call = Book(), Deferred[Any]()
    clock.advance(1.0)
    entered = book.enter(0.75, call)
    clock.advance(0.5)
    call.callback(None)
    assert entered.result is True
    assert list(book.latencies_us) == [750_000] and list(book.at) == [1.5]


def test_what_failed_is_counted_by_its_class(clock: Clock) -> None:
    book = Book()
    assert book.enter(0.0, fail(Overloaded("full", 0.3))).result is False
    book.enter(0.0, fail(Overloaded("full again", 0.4)))
    assert book.errors == {"Overloaded": 2} and book.first_errors == {"Overloaded": "full"}
    assert book.retry_after == [0.3, 0.4] and len(book.error_latencies_us) == 2


def test_gaps_and_latencies_of_a_stretch_of_time(clock: Clock) -> None:
    book = Book()
    for moment in (1.0, 2.0, 2.5, 4.0, 9.0):
        clock.advance(moment - clock.seconds())
        book.enter(moment - 0.01 * moment, succeed(None))
    assert book.between(2.0, 9.0) == pytest.approx([20_000, 25_000, 40_000], abs=2)
    assert book.longest_gap(0.5, 4.5) == pytest.approx(1.5)
    assert book.longest_gap(2.0, 8.0) == pytest.approx(4.0), "also the one that does not end"
