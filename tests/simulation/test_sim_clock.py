"""Virtual time keeps the promises of a reactor, and a host's view of it can be held or stopped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock, deferLater
from zope.interface.verify import verifyObject

from twisted_kv.simulation.doors import clock as clock_module
from twisted_kv.simulation.doors.clock import HostClock, Runaway, VirtualClock


def run_all(clock):
    while clock.next_due() is not None:
        clock.step()


def test_both_clocks_are_what_twisted_asks_for():
    clock = VirtualClock()
    host = HostClock(clock)
    verifyObject(IReactorTime, clock)
    verifyObject(IReactorTime, host)
    verifyObject(IDelayedCall, host.callLater(1, print))


def test_equal_times_run_in_the_order_asked_for():
    """House: the pump runs once per turn, after everything that arrived in it."""
    clock, ran = VirtualClock(), []
    clock.callLater(1, ran.append, "a")
    clock.callLater(1, lambda: (ran.append("b"), clock.callLater(0, ran.append, "next turn")))
    clock.callLater(1, ran.append, "c")
    run_all(clock)
    assert ran == ["a", "b", "c", "next turn"]
    assert clock.seconds() == 1


def test_a_call_can_be_cancelled_reset_and_delayed_once_it_is_active_only():
    clock, ran = VirtualClock(), []
    cancelled = clock.callLater(1, ran.append, "cancelled")
    earlier = clock.callLater(9, ran.append, "earlier")
    later = clock.callLater(1, ran.append, "later")
    cancelled.cancel()
    earlier.reset(2)
    later.delay(2)
    assert (earlier.getTime(), later.getTime()) == (2, 3)
    assert clock.getDelayedCalls() == [earlier, later]
    run_all(clock)
    assert ran == ["earlier", "later"]
    assert not earlier.active()
    with pytest.raises(AlreadyCalled):
        later.reset(1)
    with pytest.raises(AlreadyCancelled):
        cancelled.cancel()


def test_a_held_host_makes_no_call_until_released_and_then_all_in_order():
    """Scenario §3.6-54: SIGSTOP, SIGCONT."""
    clock, ran = VirtualClock(), []
    stopped, other = HostClock(clock), HostClock(clock)
    for name in "ab":
        stopped.callLater(1, ran.append, name)
    dropped = stopped.callLater(1, ran.append, "cancelled while held")
    moved = stopped.callLater(1, ran.append, "moved while held")
    other.callLater(2, ran.append, "other")
    stopped.hold()
    run_all(clock)
    assert ran == ["other"]
    dropped.cancel()
    moved.reset(5)
    stopped.release()
    run_all(clock)
    assert ran == ["other", "a", "b", "moved while held"]
    assert clock.seconds() == 7


def test_a_stopped_host_never_makes_a_call_again():
    clock, ran = VirtualClock(), []
    host = HostClock(clock)
    host.callLater(1, ran.append, "before")
    host.hold()
    clock.callLater(0, host.stop)
    run_all(clock)
    late = host.callLater(1, ran.append, "after")
    run_all(clock)
    assert not late.active()
    assert host.getDelayedCalls() == []
    assert ran == []


def test_what_calls_itself_for_ever_is_found(monkeypatch):
    monkeypatch.setattr(clock_module, "CALLS_PER_INSTANT_MAX", 50)
    clock = VirtualClock()

    def again():
        clock.callLater(0, again)

    again()
    with pytest.raises(Runaway):
        run_all(clock)


def test_twisted_functions_accept_a_host_clock():
    clock, fired = VirtualClock(), []
    deferLater(HostClock(clock), 3, lambda: "x").addCallback(fired.append)
    run_all(clock)
    assert fired == ["x"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_agrees_with_the_clock_of_twisted(plan):
    """Each call asks for another one; Twisted's own clock is the naive twin."""

    def lived(clock, pass_time):
        ran = []
        for number, (delay, then) in enumerate(plan):
            clock.callLater(
                delay,
                lambda n=number, t=then: (ran.append((n, clock.seconds())), clock.callLater(t, ran.append, -n)),
            )
        pass_time()
        return ran

    mine, theirs = VirtualClock(), Clock()
    assert lived(mine, lambda: run_all(mine)) == lived(theirs, lambda: theirs.pump([0] * 70 + [1, *[0] * 70] * 8))


def test_a_clock_that_drifts_has_its_own_seconds():
    clock, ran = VirtualClock(), []
    host = HostClock(clock, rate=2.0)
    clock.callLater(1, ran.append, "world")
    call = host.callLater(3, ran.append, "host")
    assert call.getTime() == 3
    run_all(clock)
    assert ran == ["world", "host"]
    assert (clock.seconds(), host.seconds()) == (1.5, 3)
    host.drift(0.5)
    assert host.seconds() == 3
    host.callLater(1, ran.append, "slow").reset(2)
    run_all(clock)
    assert (clock.seconds(), host.seconds()) == (5.5, 5)


def test_a_leap_makes_timers_fire_early_and_in_order_and_time_never_goes_back():
    clock, ran = VirtualClock(), []
    host = HostClock(clock)
    for seconds in (9, 1, 2):
        host.callLater(seconds, ran.append, seconds)
    host.leap(3)
    assert host.seconds() == 3
    clock.step()
    clock.step()
    assert (ran, clock.seconds()) == ([1, 2], 0)
    run_all(clock)
    assert (clock.seconds(), host.seconds()) == (6, 9)
    with pytest.raises(AssertionError):
        host.leap(-1)


def test_a_suspended_host_knows_nothing_of_the_time_that_passed():
    """Messages that came are there at once; its own timers have as far to go as before."""
    clock, ran = VirtualClock(), []
    host = HostClock(clock)
    host.callLater(2, ran.append, "timer")
    clock.callLater(1, lambda: host.hold(frozen=True))
    clock.callLater(5, host.callLater, 0, ran.append, "message")
    clock.callLater(8, host.release)
    clock.callLater(8.5, lambda: ran.append(host.seconds()))
    run_all(clock)
    assert ran == ["message", 1.5, "timer"]
    assert (clock.seconds(), host.seconds()) == (9, 2)


def test_the_rest_of_the_turn_in_which_a_host_dies_may_touch_its_calls():
    """Found by simulation, plan moves, seed 11: a chore was cancelled whose pause had died with the host."""
    clock, ran = VirtualClock(), []
    host = HostClock(clock)
    call = host.callLater(1, ran.append, "never")
    host.stop()
    call.cancel()
    call.delay(1)
    call.reset(1)
    run_all(clock)
    assert not ran
