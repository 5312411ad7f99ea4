from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import Clock, deferLater

from twisted_kv.admin.bench import KEYS, PREFIX, Load, bench, get_share, measured, percentile
from twisted_kv.errors import OutcomeUnknown, Unavailable

LATENCY_SECONDS = 0.01


class Clerk:
    """Takes LATENCY_SECONDS for what is measured; remembers what was asked."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.data: dict[str, Any] = {}
        self.gets = self.puts = self.flying = self.most = 0
        self.error: Exception | None = None

    def get(self, key: str) -> Deferred[Any]:
        assert key in self.data
        self.gets += 1
        return self._later()

    def put(self, key: str, value: Any) -> Deferred[None]:
        assert key.startswith(PREFIX)
        if key not in self.data:
            self.data[key] = value
            return succeed(None)
        self.puts += 1
        return self._later()

    def delete(self, key: str) -> Deferred[bool]:
        del self.data[key]
        return succeed(True)

    def _later(self) -> Deferred[Any]:
        self.flying += 1
        self.most = max(self.most, self.flying)
        return deferLater(self.clock, LATENCY_SECONDS).addCallback(self._ended)

    def _ended(self, _: None) -> Any:
        self.flying -= 1
        return fail(self.error) if self.error else None


def run(load: Load, clerks: int = 1, error: Exception | None = None) -> tuple[Any, list[Clerk]]:
    clock = Clock()
    asked = [Clerk(clock) for _ in range(clerks)]
    for clerk in asked:
        clerk.error = error
        clerk.data = asked[0].data
    ended: list[Any] = []
    ensureDeferred(bench(asked, load, clock.seconds, Random(1))).addBoth(ended.append)
    while not ended:
        clock.advance(LATENCY_SECONDS)
    return ended[0], asked


def test_closed_loop() -> None:
    """Contract §2: every client has one operation in flight, for so many seconds."""
    found, [clerk] = run(Load(clients=5, seconds=1.0, get_share=0.5, value_bytes=7))
    assert clerk.most == 5
    assert found.operations == clerk.gets + clerk.puts == pytest.approx(5 * 100, abs=10)
    assert found.ops_per_second == pytest.approx(500, rel=0.05)
    assert (found.p50_ms, found.p99_ms) == (pytest.approx(10), pytest.approx(10))
    assert 0.4 < clerk.gets / found.operations < 0.6


def test_it_cleans_up() -> None:
    _, [clerk] = run(Load(1, 0.05, 1.0, 7))
    assert clerk.data == {}
    assert clerk.puts == 0


def test_values_have_the_size_asked_for_and_clients_share_the_connections() -> None:
    found, clerks = run(Load(clients=4, seconds=0.05, get_share=0.0, value_bytes=7), clerks=2)
    assert [clerk.most for clerk in clerks] == [2, 2]
    assert found.errors == 0


def test_errors_are_counted_and_a_cluster_that_answers_nothing_is_an_error() -> None:
    failure, _ = run(Load(2, 0.05, 0.0, 1), error=Unavailable("nobody"))
    assert failure.check(Unavailable)
    assert measured([0.001], 3, 1.0).errors == 3


def test_a_store_that_cannot_be_filled_is_an_error() -> None:
    class Full(Clerk):
        def put(self, key: str, value: Any) -> Deferred[None]:
            return fail(OutcomeUnknown("lost"))

    ended: list[Any] = []
    clock = Clock()
    ensureDeferred(bench([Full(clock)], Load(1, 1, 0, 1), clock.seconds, Random(1))).addBoth(ended.append)
    assert ended[0].check(OutcomeUnknown)


@given(st.lists(st.floats(0, 1), min_size=1), st.integers(1, 100))
def test_percentiles_by_their_definition(figures: list[float], percent: int) -> None:
    """The smallest figure that at least ``percent`` of all do not exceed."""
    ranked = sorted(figures)
    found = percentile(ranked, percent)
    assert sum(each <= found for each in ranked) * 100 >= percent * len(ranked)
    below = [each for each in ranked if each < found]
    assert len(below) * 100 < percent * len(ranked)


def test_figures_of_nothing() -> None:
    assert measured([], 0, 0.0).as_json() == dict.fromkeys(measured([], 0, 0.0).as_json(), 0)


@pytest.mark.parametrize(("mix", "share"), [("50/50", 0.5), ("0/1", 0.0), ("100/0", 1.0), ("1/3", 0.25)])
def test_mixes(mix: str, share: float) -> None:
    assert get_share(mix) == share


@pytest.mark.parametrize("mix", ["", "50", "50/", "/50", "0/0", "a/b", "-1/2", "50:50"])
def test_bad_mixes(mix: str) -> None:
    with pytest.raises(ValueError, match="GETS/PUTS"):
        get_share(mix)


def test_there_are_keys_enough() -> None:
    assert KEYS >= 1000
