from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import figures, machine, tasks
from benchmarks.figures import BASE, Sample, Spread, cells, percentile, sample_of
from benchmarks.loads import closed_loop, resp
from benchmarks.tasks import Outcome


def sample(system: str, number: int, rate: float, row: str = "put 1", **others: float) -> Sample:
    outcome = Outcome(1.0, 0.0, [1000] * int(rate))
    made = sample_of(system, row, number, outcome, {}, 0.0)
    return Sample(**{**vars(made), **others})  # type: ignore[arg-type]


@pytest.mark.parametrize("module", [figures, machine, tasks, closed_loop, resp])
def test_examples_in_docstrings(module: object) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert (found.failed, found.attempted > 0) == (0, True)


def test_a_sample_of_a_load() -> None:
    """Latencies come in microseconds and in any order; costs are for each operation."""
    outcome = Outcome(2.0, 0.5, [*range(1000, 0, -1)], errors=3, first_error="Oops: no")
    made = sample_of("etcd", "put 64", 4, outcome, {"etcd-1": 0.25, "etcd-2": 0.75}, 1.5)
    assert (made.operations, made.ops_per_second, made.errors, made.first_error) == (1000, 500.0, 3, "Oops: no")
    assert (made.p50_ms, made.p99_ms, made.p999_ms, made.max_ms) == (0.5, 0.99, 0.999, 1.0)
    assert made.load_cpu_us == 500.0
    assert made.server_cpu_us == {"etcd-1": 250.0, "etcd-2": 750.0}


@given(st.lists(st.integers(0, 100), min_size=1), st.sampled_from([1, 50, 99, 99.9, 100]))
def test_percentiles_by_their_definition(measured: list[int], percent: float) -> None:
    """The smallest figure that at least ``percent`` of all do not exceed."""
    ranked = sorted(measured)
    found = percentile(ranked, percent)
    enough = round(percent * 10) * len(ranked)
    assert sum(each <= found for each in ranked) * 1000 >= enough
    assert sum(each < found for each in ranked) * 1000 < enough


def test_ratios_are_made_within_a_round() -> None:
    """A machine that is slow for one round is slow for both: 2, 2 and 3 times, though the medians are 6 times apart."""
    rates = {BASE: [100, 1000, 100], "ours": [200, 2000, 600]}
    samples = [sample(system, number, rate) for system in rates for number, rate in enumerate(rates[system])]
    found = cells(samples)["ours", "put 1"]
    assert found.ratio == Spread(2.0, 2.0, 6.0)
    assert found.throughput == Spread(600.0, 200.0, 2000.0)
    assert cells(samples)[BASE, "put 1"].ratio == Spread(1.0, 1.0, 1.0)


def test_a_round_without_the_base_makes_no_ratio() -> None:
    samples = [sample(BASE, 0, 100), sample("ours", 0, 300), sample("ours", 1, 500)]
    assert cells(samples)["ours", "put 1"].ratio == Spread(3.0, 3.0, 3.0)
    assert cells([sample("ours", 0, 300)])["ours", "put 1"].ratio is None
    assert cells([sample(BASE, 0, 100, "get 256"), sample("ours", 0, 300)])["ours", "put 1"].ratio is None


def test_latencies_are_medians_but_the_greatest_is_the_greatest() -> None:
    samples = [sample("ours", number, 10, p99_ms=float(number), max_ms=10.0 * number) for number in range(3)]
    found = cells(samples)["ours", "put 1"]
    assert (found.p99_ms, found.max_ms) == (1.0, 20.0)


def test_errors_are_added_up() -> None:
    assert cells([sample("ours", number, 10, errors=number) for number in range(3)])["ours", "put 1"].errors == 3
