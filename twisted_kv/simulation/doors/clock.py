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
    """What one host sees of the clock: its own calls, which can be held back, released, or gone for ever, and its own
    idea of how fast time passes.

    Everything that happens to a host goes through here, messages too; so a held host is a stopped process (SIGSTOP)
    whose sockets still accept, and a stopped one is dead at this very instant.

    Time never goes back here: the programs use a monotonic clock (hazards §0.1), which no step of the wall clock
    moves. It can run slow or fast, stand still while the host is held, and leap forward.
    """

    def __init__(self, clock: VirtualClock, name: str = "", rate: float = 1.0) -> None:
        self._clock = clock
        self._lane = _Lane(name)
        self._rate = rate
        self._shown = self._since = clock.seconds()
        self._frozen: list[tuple[float, int, Timer]] | None = None
        self.stopped = False

    def seconds(self) -> float:
        if self._frozen is not None:
            return self._shown
        return self._shown + (self._clock.seconds() - self._since) * self._rate

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> IDelayedCall:
        """As on a reactor; on a stopped host the call is accepted and never made."""
        timer = self._clock._schedule(self._lane, delay / self._rate, callable, args, kwargs)
        timer.host = self
        if self.stopped:
            timer.cancel()
        return timer

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return list(self._lane.timers)

    def drift(self, rate: float) -> None:
        """From now on so many of its seconds pass in one of the world's; calls already asked for stay."""
        assert rate > 0 and self._frozen is None
        self._shown, self._since, self._rate = self.seconds(), self._clock.seconds(), rate

    def leap(self, seconds: float) -> None:
        """Its clock shows so much more at once: calls come due early, in their order."""
        assert seconds >= 0 and self._frozen is None
        self._shown += seconds
        now = self._clock.seconds()
        for due, _, timer in sorted((timer.due, timer.turn, timer) for timer in self._lane.timers):
            if due > now:
                self._clock._arrange(timer, max(now, due - seconds / self._rate))

    @property
    def held(self) -> bool:
        """Whether calls that come due wait for ``release``."""
        return self._lane.held is not None

    def hold(self, frozen: bool = False) -> None:
        """Run no call until released; what comes due meanwhile waits in order.

        Args:
            frozen: its clock stands still as well, as that of a suspended machine: no timer gets nearer.
        """
        assert not self.stopped and not self.held
        self._lane.held = []
        if frozen:
            self._shown, self._since = self.seconds(), self._clock.seconds()
            self._frozen = sorted((timer.due, timer.turn, timer) for timer in self._lane.timers)

    def release(self) -> None:
        """Run, from now on and in order, what came due while held."""
        held, self._lane.held = self._lane.held, None
        assert held is not None, "it was not held"
        if self._frozen is not None:
            frozen, self._frozen = self._frozen, None
            lost, self._since = self._clock.seconds() - self._since, self._clock.seconds()
            for due, turn, timer in frozen:
                if timer.turn == turn:
                    self._clock._arrange(timer, due + lost)
        for turn, timer in held:
            if timer.turn == turn:
                self._clock._arrange(timer, self._clock.seconds())

    def stop(self) -> None:
        """Cancel every call, now and later."""
        self.stopped = True
        self._lane.held = None
        for timer in list(self._lane.timers):
            timer.cancel()

    def _when(self, due: float) -> float:
        """A moment of the world's, as this host counts."""
        return self.seconds() + (due - self._clock.seconds()) * self._rate


@implementer(IDelayedCall)
class Timer:
    """One delayed call. ``turn`` is its place among calls of equal due time, GONE once called or cancelled."""

    __slots__ = ("_called", "_clock", "_work", "due", "host", "lane", "turn")

    def __init__(self, clock: VirtualClock, lane: _Lane, work: Callable[[], Any]) -> None:
        self._clock = clock
        self._work: Callable[[], Any] | None = work
        self._called = False
        self.lane = lane
        self.host: HostClock | None = None
        self.due = 0.0
        self.turn = GONE

    def getTime(self) -> float:
        return self.due if self.host is None else self.host._when(self.due)

    def cancel(self) -> None:
        if not self._host_is_dead:
            self._end()

    def delay(self, secondsLater: float) -> None:
        if not self._host_is_dead:
            self._check_active()
            self._clock._arrange(self, max(self._clock.seconds(), self.due + secondsLater / self._rate))

    def reset(self, secondsFromNow: float) -> None:
        if not self._host_is_dead:
            self._check_active()
            self._clock._arrange(self, self._clock.seconds() + secondsFromNow / self._rate)

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

    @property
    def _host_is_dead(self) -> bool:
        """Its calls were cancelled by its death; what is left of the turn in which it died may still hold them."""
        return self.turn == GONE and self.host is not None and self.host.stopped

    @property
    def _rate(self) -> float:
        return 1.0 if self.host is None else self.host._rate

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
