from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from twisted_kv.service.stalls import PROBE_SECONDS, RECENT_SECONDS, TELL_SECONDS, Stalls


@pytest.fixture
def clock() -> Clock:
    return Clock()


def stand_still(clock: Clock, seconds: float) -> None:
    """A turn that takes so long, and the turns after it."""
    clock.rightNow += seconds
    clock.advance(PROBE_SECONDS)


def run(clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds / PROBE_SECONDS)):
        clock.advance(PROBE_SECONDS)


def told(stalls: Stalls) -> tuple[float, float]:
    status = stalls.status()
    return status["stall_ms"], status["stall_longest_ms"]


def test_turns_that_come_in_time_are_no_stalls(clock: Clock) -> None:
    stalls = Stalls(clock)
    run(clock, 2.0)
    assert told(stalls) == (0.0, 0.0)


def test_the_longest_of_the_last_minute_and_of_all_times(clock: Clock) -> None:
    stalls = Stalls(clock)
    for seconds in (0.1, 0.3, 0.2):
        stand_still(clock, seconds)
        run(clock, RECENT_SECONDS / 4)
    assert told(stalls) == pytest.approx((300.0, 300.0))
    run(clock, RECENT_SECONDS / 2)
    assert told(stalls) == pytest.approx((200.0, 300.0))
    run(clock, RECENT_SECONDS)
    assert told(stalls) == pytest.approx((0.0, 300.0))


def test_what_is_remembered_does_not_grow(clock: Clock) -> None:
    stalls = Stalls(clock)
    for number in range(10_000):
        stand_still(clock, 0.001 * (number % 7))
    assert len(stalls._recent) < 10


def test_an_operator_is_told_of_long_ones(clock: Clock) -> None:
    warned: list[Any] = []
    globalLogPublisher.addObserver(warned.append)
    try:
        stalls = Stalls(clock)
        stand_still(clock, TELL_SECONDS * 0.9)
        assert not warned
        stand_still(clock, TELL_SECONDS * 2)
    finally:
        globalLogPublisher.removeObserver(warned.append)
    assert [event["seconds"] for event in warned] == pytest.approx([TELL_SECONDS * 2])
    stalls.close()


def test_closed_it_leaves_nothing_behind(clock: Clock) -> None:
    stalls = Stalls(clock)
    run(clock, 0.1)
    stalls.close()
    assert not clock.getDelayedCalls()


def test_it_can_be_closed_twice(clock: Clock) -> None:
    """Whoever starts a server and is told to stop at once may close it from both ends."""
    stalls = Stalls(clock)
    stalls.close()
    stalls.close()
    assert not clock.getDelayedCalls()
