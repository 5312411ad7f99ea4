"""What is counted of a group of many keys, from looks that nobody took."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.goals import Figure, answers_per_second, first_at, longest_stall_ms, table


def look(at: float, *stalls: float | None) -> dict[str, Any]:
    return {"at": at, "members": [None if ms is None else {"stall_longest_ms": ms, "role": "leader"} for ms in stalls]}


@pytest.mark.parametrize(
    ("figure", "goal", "met"),
    [
        (Figure("a", 5.0), "", None),
        (Figure("a", 30.0, least=30), "≥ 30", True),
        (Figure("a", 29.9, least=30), "≥ 30", False),
        (Figure("a", 50.0, most=50), "≤ 50", True),
        (Figure("a", 50.1, most=50), "≤ 50", False),
        (Figure("a", None, most=50), "≤ 50", False),
    ],
)
def test_a_goal_is_met_or_not_and_what_was_not_measured_is_not(figure: Figure, goal: str, met: bool | None) -> None:
    assert (figure.goal, figure.met) == (goal, met)


def test_the_table_says_which_goals_are_not_met() -> None:
    found = table([Figure("bytes", 1234.5), Figure("ms", 51.234, most=50), Figure("s", None, most=10)])
    assert found.lines == [
        ("bytes", "1,234", "", ""),
        ("ms", "51.23", "≤ 50", "NOT MET"),
        ("s", "–", "≤ 10", "NOT MET"),
    ]


def test_a_stall_counts_in_the_span_in_which_it_came_to_be() -> None:
    looks = [look(1, 5.0, 7.0), look(2, 30.0, 7.0), look(3, 30.0, 8.0)]
    assert longest_stall_ms(looks, 0, 1.5) == 7.0
    assert longest_stall_ms(looks, 1.5, 2.5) == 30.0
    assert longest_stall_ms(looks, 2.5, 9) == 8.0
    assert longest_stall_ms(looks, 3.5, 9) == 0.0


def test_a_server_that_was_started_again_begins_anew() -> None:
    looks = [look(1, 90.0), look(2, None), look(3, 40.0)]
    assert longest_stall_ms(looks, 1.5, 9) == 40.0


def test_the_first_look_at_which_it_is_so() -> None:
    looks = [look(1, 5.0), look(2, None), look(3, 5.0), look(4, 5.0)]
    assert first_at(looks, 0, 1.5, lambda status: status["role"] == "leader") == 3
    with pytest.raises(LookupError, match="not seen"):
        first_at(looks, 0, 0, lambda status: status["role"] == "follower")


def test_answers_of_a_span() -> None:
    said = [{"at": 10.0 + step / 10, "answered": 30 * min(step, 50)} for step in range(100)]
    assert answers_per_second(said, 11.0, 14.0) == pytest.approx(300.0)
    assert answers_per_second(said, 15.5, 18.0) == 0.0
    with pytest.raises(LookupError, match="said nothing"):
        answers_per_second(said, 30.0, 40.0)
