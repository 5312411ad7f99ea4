"""Virtual time: an IReactorTime that jumps from call to call, and one view of it per host that can be held or stopped.

It decides the order of events and nothing else: calls run by due time, equal times in the order in which they were
asked for, so that ``callLater(0)`` means *after everything that is due in this turn*, as on a real reactor.
``twisted.internet.task.Clock`` keeps the same promises but sorts all its calls on each callLater; a cluster under
load has thousands. It knows no randomness and no wall clock. An exception in a call leaves through ``step``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

CALLS_PER_INSTANT_MAX: Final = 200_000


class Runaway(AssertionError):
    """So many calls ran without time passing that something calls itself for ever."""


@implementer(IReactorTime)
class VirtualClock:
    """The one clock of a world, in seconds from 0.

    Attributes:
        running: the name of the host whose call is being made.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._turn = 0
        self._calls_this_instant = 0
        self._agenda: list[tuple[float, int, Timer]] = []
        self._own = _Lane("world")
        self.running = ""

    def seconds(self) -> float:
        return self._now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> IDelayedCall:
        return self._schedule(self._own, delay, callable, args, kwargs)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return list(self._own.timers)

    def next_due(self) -> float | None:
        """When the next call is due; None when nothing will ever happen again."""
        while self._agenda:
            due, turn, timer = self._agenda[0]
            if timer.turn == turn:
                return due
            heapq.heappop(self._agenda)
        return None

    def step(self) -> None:
        """Jump to the next call and run it; there must be one.

        Raises:
            Runaway: CALLS_PER_INSTANT_MAX calls ran at the same time.
        """
        due = self.next_due()
        assert due is not None, "nothing is due"
        timer = heapq.heappop(self._agenda)[2]
        if due > self._now:
            self._now, self._calls_this_instant = due, 0
        self._calls_this_instant += 1
        if self._calls_this_instant > CALLS_PER_INSTANT_MAX:
            raise Runaway(f"more than {CALLS_PER_INSTANT_MAX} calls at {self._now:.6f} s")
        if timer.lane.held is None:
            self.running = timer.lane.name
            timer.fire()
        else:
            timer.lane.held.append((timer.turn, timer))

    def pass_until(self, moment: float) -> None:
        """Let time pass up to a moment before which nothing is due."""
        due = self.next_due()
        assert due is None or due >= moment, "a call was due earlier"
        if moment > self._now:
            self._now, self._calls_this_instant = moment, 0

    def _schedule(
        self, lane: _Lane, delay: float, work: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Timer:
        assert delay >= 0, f"a call {-delay} s ago"
        timer = Timer(self, lane, lambda: work(*args, **kwargs))
        lane.timers[timer] = None
        self._arrange(timer, self._now + delay)
        return timer

    def _arrange(self, timer: Timer, due: float) -> None:
        self._turn += 1
        timer.due, timer.turn = due, self._turn
        heapq.heappush(self._agenda, (due, self._turn, timer))


@implementer(IReactorTime)
class HostClock:
    """What one host sees of the clock: its own calls, which can be held back, released, or gone for ever.

    Everything that happens to a host goes through here, messages too; so a held host is a stopped process (SIGSTOP)
    whose sockets still accept, and a stopped one is dead at this very instant.
    """

    def __init__(self, clock: VirtualClock, name: str = "") -> None:
        self._clock = clock
        self._lane = _Lane(name)
        self.stopped = False

    def seconds(self) -> float:
        return self._clock.seconds()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> IDelayedCall:
        """As on a reactor; on a stopped host the call is accepted and never made."""
        timer = self._clock._schedule(self._lane, delay, callable, args, kwargs)
        if self.stopped:
            timer.cancel()
        return timer

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return list(self._lane.timers)

    @property
    def held(self) -> bool:
        """Whether calls that come due wait for ``release``."""
        return self._lane.held is not None

    def hold(self) -> None:
        """Run no call until released; what comes due meanwhile waits in order."""
        assert not self.stopped and not self.held
        self._lane.held = []

    def release(self) -> None:
        """Run, from now on and in order, what came due while held."""
        held, self._lane.held = self._lane.held, None
        assert held is not None, "it was not held"
        for turn, timer in held:
            if timer.turn == turn:
                self._clock._arrange(timer, self._clock.seconds())

    def stop(self) -> None:
        """Cancel every call, now and later."""
        self.stopped = True
        self._lane.held = None
        for timer in list(self._lane.timers):
            timer.cancel()


@implementer(IDelayedCall)
class Timer:
    """One delayed call. ``turn`` is its place among calls of equal due time, GONE once called or cancelled."""

    __slots__ = ("_called", "_clock", "_work", "due", "lane", "turn")

    def __init__(self, clock: VirtualClock, lane: _Lane, work: Callable[[], Any]) -> None:
        self._clock = clock
        self._work: Callable[[], Any] | None = work
        self._called = False
        self.lane = lane
        self.due = 0.0
        self.turn = GONE

    def getTime(self) -> float:
        return self.due

    def cancel(self) -> None:
        self._end()

    def delay(self, secondsLater: float) -> None:
        self._check_active()
        self._clock._arrange(self, max(self._clock.seconds(), self.due + secondsLater))

    def reset(self, secondsFromNow: float) -> None:
        self._check_active()
        self._clock._arrange(self, self._clock.seconds() + secondsFromNow)

    def active(self) -> bool:
        return self.turn != GONE

    def fire(self) -> None:
        """Make the call."""
        work = self._end()
        self._called = True
        work()

    def _end(self) -> Callable[[], Any]:
        self._check_active()
        work, self._work, self.turn = self._work, None, GONE
        del self.lane.timers[self]
        assert work is not None
        return work

    def _check_active(self) -> None:
        if self.turn == GONE:
            raise AlreadyCalled() if self._called else AlreadyCancelled()


GONE: Final = 0


class _Lane:
    """The calls of one owner, in the order asked for; ``held`` collects those that came due while held."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.timers: dict[Timer, None] = {}
        self.held: list[tuple[int, Timer]] | None = None
