"""A leader takes in what it can carry out in a moment, and tells the others when to come again."""

import pytest
from twisted.internet.task import Clock

from twisted_kv.replica.admission import BYTES_MIN, LOOK_SECONDS, LOOKS, QUEUE_SECONDS, Admission


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def admission(clock):
    return Admission(clock)


def answers(clock, admission, rate, seconds):
    """So many bytes per second are answered, and as many let in: as much waits as before."""
    for _ in range(round(seconds / LOOK_SECONDS)):
        clock.advance(LOOK_SECONDS)
        size = round(rate * LOOK_SECONDS)
        admission.enter(size)
        admission.leave(size)


def test_a_leader_that_has_nothing_to_do_takes_whatever_comes(admission):
    assert admission.refused(1 << 30) is None


def test_without_experience_a_little_is_let_in(admission):
    admission.enter(BYTES_MIN // 2)
    assert admission.refused(BYTES_MIN // 2) is None
    assert admission.refused(BYTES_MIN // 2 + 1) == QUEUE_SECONDS


def test_what_can_be_answered_in_a_moment_is_let_in(clock, admission):
    rate = 10 * BYTES_MIN / QUEUE_SECONDS
    admission.enter(BYTES_MIN)
    answers(clock, admission, rate, 1.0)
    assert admission.refused(8 * BYTES_MIN) is None
    assert admission.refused(9 * BYTES_MIN + 1) is not None


def test_who_is_turned_away_is_told_how_long_the_others_take(clock, admission):
    rate = 10 * BYTES_MIN / QUEUE_SECONDS
    admission.enter(8 * BYTES_MIN)
    answers(clock, admission, rate, 1.0)
    assert admission.refused(3 * BYTES_MIN) == pytest.approx(0.8 * QUEUE_SECONDS)


def test_a_pause_does_not_starve_a_leader(clock, admission):
    """Else what it may take in, and so what it can show of its pace, would only ever shrink."""
    rate = 10 * BYTES_MIN / QUEUE_SECONDS
    admission.enter(BYTES_MIN)
    answers(clock, admission, rate, LOOKS * LOOK_SECONDS)
    clock.advance(1.0)
    answers(clock, admission, rate, LOOK_SECONDS)
    assert admission.refused(5 * BYTES_MIN) is None


def test_idle_time_says_nothing_of_the_pace(clock, admission):
    admission.enter(BYTES_MIN)
    answers(clock, admission, 10 * BYTES_MIN / QUEUE_SECONDS, 1.0)
    admission.leave(BYTES_MIN)
    clock.advance(1000.0)
    admission.enter(BYTES_MIN)
    assert admission.refused(8 * BYTES_MIN) is None
    assert admission.waiting == BYTES_MIN
