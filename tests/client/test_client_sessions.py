"""Numbers, floor and window of a session, on the client's side."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from twisted_kv.client.calls import Calls
from twisted_kv.client.sessions import SEQUENCES_IN_FLIGHT_MAX, Session
from twisted_kv.constants import SESSION_RESULTS_MAX


@pytest.fixture
def calls():
    calls = Calls(Clock())
    return lambda count: [calls.begin("p", "k", "v", None, 10.0) for _ in range(count)]


@pytest.fixture
def gone():
    return []


@pytest.fixture
def session(gone):
    return Session(3, b"n" * 16, gone.append)


def test_nothing_is_numbered_before_the_servers_gave_a_number(session, calls, gone):
    """Scenario §3.2-11: ids are fixed before the first send."""
    [call] = calls(1)
    assert not session.admit(call)
    session.waiting.append(call)
    session.opened(5)
    assert gone == [call]
    assert (call.session, call.sequence, session.number) == (session, 1, 5)


def test_the_floor_is_the_lowest_number_still_wanted(session, calls):
    """House, 'Sessions'."""
    session.opened(1)
    one, two, three = calls(3)
    assert all(session.admit(call) for call in (one, two, three))
    assert [call.sequence for call in (one, two, three)] == [1, 2, 3]
    two.succeed(None)
    assert session.floor == 1
    one.deferred.addErrback(lambda _: None)
    one.deferred.cancel()
    assert session.floor == 3
    three.succeed(None)
    assert session.floor == 4


def test_the_window_is_counted_from_the_floor(session, calls, gone):
    """One call that takes long keeps the answers above it stored: they count, settled or not."""
    session.opened(1)
    first, *others = calls(SEQUENCES_IN_FLIGHT_MAX)
    extra = calls(2)
    assert all(session.admit(call) for call in (first, *others))
    assert not session.admit(extra[0])
    session.waiting.extend(extra)
    for call in others:
        call.succeed(None)
    assert gone == []
    extra[0].succeed(None)
    first.succeed(None)
    assert gone == [extra[1]], "and who was settled meanwhile is passed over"
    assert extra[1].sequence == SEQUENCES_IN_FLIGHT_MAX + 1
    assert SEQUENCES_IN_FLIGHT_MAX <= SESSION_RESULTS_MAX // 2


def test_who_waits_can_be_sent_elsewhere(session, calls):
    one, two = calls(2)
    session.waiting.extend([one, two])
    one.succeed(None)
    assert session.take_waiting() == [two]
    assert not session.waiting
