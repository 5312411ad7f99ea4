"""What is told of more groups, and of many that are idle."""

from __future__ import annotations

from typing import Any

import click
import pytest

from benchmarks.growth import Sample, numbers, table
from benchmarks.idling import Idle, idle_table
from benchmarks.loads.idle_groups import Crowd, settings_of


def sample(groups: int, number: int, done: float, clerk_us: float = 30.0) -> Sample:
    return Sample(groups, number, done, clerk_us, 10.0, 20.0, {}, {"controller-1": 0.5, "group-100-1": 0.08})


def test_growth_is_compared_within_each_round() -> None:
    """A machine that is slow for a minute is slow for all."""
    samples = [sample(1, 0, 1000.0), sample(2, 0, 1900.0, 31.0), sample(1, 1, 100.0), sample(2, 1, 200.0, 33.0)]
    one, two = table(samples).lines
    assert one[:4] == ("1", "550 (100–1,000)", "1.00", "1.00")
    assert two[:5] == ("2", "1,050 (200–1,900)", "1.95", "0.97", "32")
    assert two[6] == "8.0 (at most 8.0)", "controllers are not held back"


def test_an_idle_controller_is_told_by_the_busiest() -> None:
    idle = Idle(100, 10.0, {"controller-1": 0.033, "controller-2": 0.027}, {"ctl_next": 50.0}, 0.1)
    assert idle_table([idle]).lines == [("100", "3.3", "6.0", "50.0")]


def test_numbers_of_groups() -> None:
    parse: Any = numbers
    assert parse(None, None, "1,2,4") == [1, 2, 4] and parse(None, None, "") == []
    for text in ("0", "a"):
        with pytest.raises(click.BadParameter):
            parse(None, None, text)


def test_every_idle_group_is_a_server_as_any_other() -> None:
    crowd = Crowd(("tcp:127.0.0.1:1", "tcp:127.0.0.1:2"), "/somewhere", 3, 1.0)
    assert Crowd.from_argument(crowd.as_argument()) == crowd
    settings = settings_of(crowd, 7, 99)
    assert (settings.gid, settings.node, tuple(settings.controllers)) == (7, 1, crowd.endpoints)
    assert settings.peers == {1: "tcp:127.0.0.1:99"}
