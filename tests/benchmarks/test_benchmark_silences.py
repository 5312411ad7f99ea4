"""What gaps say of the end of a leader."""

from __future__ import annotations

import pytest

from benchmarks.figures import Spread
from benchmarks.silences import BEGINS_WITHIN_SECONDS, Silence, Summary, silence_of


def silence(*gaps: tuple[float, float]) -> tuple[float, float]:
    found = silence_of("a", 0, 100.0, 105.0, gaps)
    return found.next_ms, found.longest_ms


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([], (0.0, 0.0)),
        ([(99.0, 99.9)], (0.0, 0.0)),
        ([(99.9, 100.4)], (400.0, 500.0)),
        ([(100.0 + BEGINS_WITHIN_SECONDS / 2, 100.5)], (500.0, 400.0)),
        ([(100.0, 100.5), (103.0, 104.0)], (500.0, 1000.0)),
        ([(103.0, 104.0)], (0.0, 1000.0)),
        ([(104.9, 106.0)], (0.0, 1100.0)),
        ([(105.0, 107.0)], (0.0, 0.0)),
        ([(100.05, 100.1), (100.15, 100.6)], (100.0, 450.0)),
    ],
    ids=["none", "before", "around", "behind", "second", "late", "over the end", "next", "two at once"],
)
def test_the_gap_that_begins_with_the_signal_counts(
    gaps: list[tuple[float, float]], expected: tuple[float, float]
) -> None:
    assert silence(*gaps) == pytest.approx(expected)


def test_a_summary_of_all() -> None:
    silences = [Silence("a", 0, float(next_ms), 2.0 * next_ms) for next_ms in range(100, 1100, 100)]
    assert Summary.of(silences) == Summary(10, Spread(550.0, 100.0, 1000.0), 900.0, 2000.0)
