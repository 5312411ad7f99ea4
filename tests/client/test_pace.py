"""Calls that could not be answered in time are refused at once, and none that could."""

import pytest
from twisted.internet.task import Clock

from twisted_kv.client.pace import CROWD, LOOK_SECONDS, SHARE, Pace


class Rush:
    """A group, and calls that wait for it."""

    def __init__(self):
        self.clock = Clock()
        self.pace = Pace(self.clock)

    def come(self, count):
        for _ in range(count):
            self.refused(1e6)
            self.pace.waiting += 1

    def answer(self, rate, seconds, coming=True):
        """So many per second are answered, and as many come."""
        for _ in range(round(rate * seconds)):
            self.clock.advance(1 / rate)
            self.pace.waiting -= 1
            self.pace.answered()
            if coming:
                self.come(1)

    def refused(self, timeout):
        return self.pace.refused(self.clock.seconds() + timeout)


@pytest.fixture
def rush():
    return Rush()


def test_a_call_is_refused_if_it_would_wait_too_long(rush):
    rush.come(3000)
    rush.answer(1000, 1.0)
    assert rush.pace.wait == pytest.approx(3.0, rel=0.05)
    assert rush.refused(3.2 / SHARE) is None
    assert rush.refused(2.8 / SHARE) is not None


def test_it_may_come_again_when_half_of_what_may_wait_is_done(rush):
    rush.come(3000)
    rush.answer(1000, 1.0)
    assert rush.refused(2.0 / SHARE) == pytest.approx(3.0 - 1.0, rel=0.1)


def test_nobody_is_refused_as_long_as_few_wait(rush):
    rush.come(CROWD - 1)
    rush.answer(10, 60.0)
    assert rush.pace.wait is None and rush.refused(0.001) is None


def test_nobody_is_refused_as_long_as_nothing_is_known(rush):
    """A program may begin with a hundred thousand calls at once."""
    rush.come(100_000)
    assert rush.refused(0.001) is None


def test_what_was_known_of_another_rush_is_forgotten(rush):
    """The pace of a group that had trouble then says nothing of now."""
    rush.come(1000)
    rush.answer(40, 60.0)
    assert rush.refused(1.0) is not None
    rush.answer(1000, 1.0, coming=False)
    rush.come(1000)
    assert rush.refused(1.0) is None


def test_a_pause_is_no_pace(rush):
    """While a leader is elected nothing is answered; what came meanwhile is answered soon after."""
    rush.come(50)
    for _ in range(100):
        rush.clock.advance(0.01)
        rush.come(15)
    refused = []
    while rush.pace.waiting > CROWD:
        rush.answer(5000, LOOK_SECONDS / 50, coming=False)
        rush.come(5)
        refused.append(rush.refused(1.0))
    assert len(refused) > 50 and not any(refused)


def test_a_group_that_was_asked_little_is_not_slow(rush):
    for _ in range(100):
        rush.come(1)
        rush.answer(100, 0.01, coming=False)
    rush.clock.advance(1.0)
    rush.come(3000)
    rush.answer(10_000, 1.0)
    assert rush.pace.wait == pytest.approx(0.3, rel=0.01)


def test_the_pace_follows_the_group(rush):
    rush.come(3000)
    rush.answer(1000, 1.0)
    rush.answer(3000, 2.0)
    assert rush.pace.wait == pytest.approx(1.0, rel=0.05)
    rush.answer(1000, 2.0)
    assert rush.pace.wait == pytest.approx(3.0, rel=0.05)
