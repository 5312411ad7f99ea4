"""Calls and their deadlines: one timer, and honest errors."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from twisted_kv.client.calls import READ, Calls
from twisted_kv.client.pace import Pace
from twisted_kv.client.sessions import Session
from twisted_kv.errors import OutcomeUnknown, Overloaded, Unavailable


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def calls(clock):
    return Calls(clock)


def begin(calls, timeout=10.0, verb="p"):
    call = calls.begin(verb, "k", None if verb == READ else "v", "", timeout)
    results = []
    call.deferred.addBoth(results.append)
    return call, results


def numbered(call):
    """As if it had been sent once."""
    session = Session(0, b"n" * 16, lambda _: None)
    session.opened(1)
    assert session.admit(call)
    return call


def test_each_call_is_given_up_at_its_own_time(clock, calls):
    """Contract §3: timeout= on every call, in whatever order they were made."""
    _, late = begin(calls, 3.0)
    _, early = begin(calls, 1.0)
    _, middle = begin(calls, 2.0)
    for at, expected in [(0.9, (0, 0, 0)), (1.0, (1, 0, 0)), (2.0, (1, 1, 0)), (3.0, (1, 1, 1))]:
        clock.advance(at - clock.seconds())
        assert (len(early), len(middle), len(late)) == expected
    assert clock.getDelayedCalls() == []


def test_a_call_that_waited_in_a_crowd_is_told_so(clock, calls):
    """Issue 4: Overloaded says when to come again, Unavailable does not."""
    call, results = begin(calls, 1.0)
    call.pace = Pace(clock)
    call.pace.waiting = 10_000
    assert call.pace.refused(call.deadline) is None
    for _ in range(1000):
        clock.advance(0.0009)
        call.pace.answered()
    clock.advance(0.1)
    assert results[0].check(Overloaded)
    assert results[0].value.retry_after == pytest.approx(call.pace.wait, rel=0.01)
    assert call.pace.waiting == 9_999


def test_one_timer_serves_all(clock, calls):
    for _ in range(100):
        begin(calls)[0].succeed(None)
        assert len(clock.getDelayedCalls()) == 1
    clock.advance(10.0)
    assert clock.getDelayedCalls() == []
    assert calls.pending == {}


def test_a_call_begun_while_others_are_given_up_is_served_too(clock, calls):
    again = []
    first, _ = begin(calls, 1.0)
    first.deferred.addBoth(lambda _: again.append(begin(calls, 0.5)[1]))
    begin(calls, 5.0)
    clock.advance(1.0)
    clock.advance(0.5)
    assert len(again[0]) == 1
    assert len(calls.pending) == 1


@pytest.mark.parametrize(
    ("flying", "unsettled", "busy", "error"),
    [
        (False, False, None, Unavailable),
        (False, False, 0.5, Overloaded),
        (True, False, None, OutcomeUnknown),
        (False, True, None, OutcomeUnknown),
        (False, True, 0.5, OutcomeUnknown),
    ],
)
def test_the_error_says_what_may_have_happened(clock, calls, flying, unsettled, busy, error):
    """Contract §6; scenario §3.2-20."""
    call, results = begin(calls)
    numbered(call)
    call.flying, call.unsettled, call.busy, call.trouble = flying, unsettled, busy, "node 2 does not lead"
    clock.advance(10.0)
    assert type(results[0].value) is error
    assert "node 2 does not lead" in str(results[0].value)
    if error is OutcomeUnknown:
        assert "read" in str(results[0].value), "it says what to do"


def test_a_read_is_never_of_unknown_outcome(clock, calls):
    """Contract §6."""
    call, results = begin(calls, verb=READ)
    call.flying = call.unsettled = True
    clock.advance(10.0)
    assert type(results[0].value) is Unavailable


def test_cancelling_forgets_the_call(calls):
    call, results = begin(calls)
    session = numbered(call).session
    call.deferred.cancel()
    assert results[0].check(CancelledError)
    assert call.settled
    assert calls.pending == {}
    assert session.floor == 2


def test_a_renewed_call_is_another_one(calls):
    call, _ = begin(calls)
    session = numbered(call).session
    call.renew()
    assert (call.session, call.sequence, session.floor) == (None, 0, 2)
    call.unsettled = True
    with pytest.raises(AssertionError):
        call.renew()


def test_close_gives_up_every_call(clock, calls):
    outcomes = [begin(calls)[1] for _ in range(3)]
    calls.close("closed")
    assert [type(results[0].value) for results in outcomes] == [Unavailable] * 3
    assert clock.getDelayedCalls() == []
