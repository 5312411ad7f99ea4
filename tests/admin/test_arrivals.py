from __future__ import annotations

from typing import Any

from twisted_kv.admin.arrivals import with_rates


def member(*copies: tuple[int, int, int]) -> dict[str, Any]:
    arriving = [{"shard": shard, "from": 1, "bytes": here, "total_bytes": total} for shard, here, total in copies]
    return {"node": 2, "arriving": arriving}


def paces(first: dict[str, Any], second: dict[str, Any], seconds: float) -> list[tuple[Any, Any]]:
    looked = with_rates(first, second, seconds)
    assert looked["node"] == 2
    return [(copy["bytes_per_second"], copy["seconds_left"]) for copy in looked["arriving"]]


def test_a_pace_needs_two_looks() -> None:
    assert paces(member((7, 100, 900)), member((7, 300, 900)), 0.5) == [(400, 1.5)]


def test_what_has_just_begun_has_no_pace() -> None:
    assert paces(member((7, 100, 900)), member((7, 300, 900), (8, 5, 50)), 1.0)[1] == (None, None)


def test_what_stands_still_has_no_end() -> None:
    assert paces(member((7, 100, 900)), member((7, 100, 900)), 1.0) == [(0, None)]


def test_what_grew_meanwhile_is_here_soon() -> None:
    assert paces(member((7, 100, 900)), member((7, 950, 900)), 1.0) == [(850, 0.0)]


def test_a_member_that_says_nothing_of_it() -> None:
    assert with_rates({"node": 2}, {"node": 2}, 1.0) == {"node": 2, "arriving": []}
