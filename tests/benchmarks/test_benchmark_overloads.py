"""What is told of a load beyond saturation."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
import pytest

from benchmarks.loads.flood import Flood, Flooded
from benchmarks.overloads import Step, multiples, table


def step(times: float, done: int, **errors: int) -> Step:
    flooded: dict[str, Any] = asdict(Flooded(asked=10 * done, done=done, p50_ms=1.0, p99_ms=2.0, errors=errors))
    flooded |= {"retry_after": [0.1, 0.5, 2.0], "error_p50_ms": 0.1, "error_p99_ms": 0.4, "rss": 50_000_000}
    return Step(times, 0.0, 10.0, [flooded, flooded], {"group-100-1": 90_000_000}, {"group-100-1": 0.1})


def test_goodput_is_that_of_all_processes_and_compared_with_the_first_step() -> None:
    lines = table([step(0, 5000), step(1, 4000), step(10, 3800, Overloaded=600, OutcomeUnknown=3, Unavailable=2)]).lines
    assert [line[0] for line in lines] == ["closed loop", "1 ×", "10 ×"]
    assert [line[2] for line in lines] == ["1,000", "800", "760"]
    assert [line[3] for line in lines] == ["–", "100%", "95%"]
    assert lines[2][5:10] == ("120", "0.1, 0", "0.50", "6", "4")
    assert lines[2][10:12] == ("90", "50")


def test_errors_are_told_apart() -> None:
    one = step(1, 1, Overloaded=5, OutcomeUnknown=2, Unavailable=1)
    assert (one.errors("Overloaded"), one.other_errors("Overloaded", "OutcomeUnknown")) == (10, 2)


def test_a_task_survives_its_argument() -> None:
    flood = Flood(("c",), 0, 12.5, 2, 1.0, 2.0, 3.0, 10, 20, 1)
    assert Flood.from_argument(flood.as_argument()) == flood


def test_multiples_are_numbers_above_nothing() -> None:
    parse: Any = multiples
    assert parse(None, None, "1,2.5") == (1.0, 2.5)
    for text in ("", "0", "a"):
        with pytest.raises(click.BadParameter):
            parse(None, None, text)
