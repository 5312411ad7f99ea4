"""The simulated disk door: real files, virtual slowness, and every way in which a write can go wrong.

It decides how long work takes on a host's clock, and whether it fails before or after it was carried out: a commit
that fails is *unknown*, so both kinds exist (hazard 27). Work runs one piece after the other, in the order given.
When the host dies the work that was not carried out is lost with the host's clock, and what no transaction
committed with the connection; there is nothing to do here. It knows no SQL.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred

from twisted_kv.interfaces import SaveRefused
from twisted_kv.simulation.doors.world import Host, between, chance

USUAL_SECONDS: Final = (0.001, 0.005)
NO_TIME: Final = (0.0, 0.0)

T = TypeVar("T")


class InjectedError(sqlite3.OperationalError):
    """An I/O error of the simulation's making."""


class InjectedFull(SaveRefused):
    """A full disk of the simulation's making."""


class SimDisk:
    """IDisk for one boot of one host.

    Attributes, free to be changed at any time:
        seconds: (least, most) time that a piece of work takes, drawn evenly; NO_TIME: done before ``run`` returns.
        stalled: nothing is carried out until ``resume``: a hung disk.
        full: work that needs room fails with SaveRefused, and is not carried out.
        needs_room: whether a piece of work does; all does unless told otherwise.
        fails_before, fails_after: probability that a piece fails with an I/O error without, or after, being
            carried out.
        trap_before, trap_after: called once, when the next piece is about to be carried out, or was and nobody has
            been told: the moments to crash.
        refused: called with a piece of work that finds the disk full.
        betrayed: called with a piece of work that is carried out and reported as failed.
    """

    def __init__(self, host: Host, random: Random, seconds: tuple[float, float] = USUAL_SECONDS) -> None:
        self._clock = host.clock
        self._random = random
        self._queue: deque[_Work] = deque()
        self._busy = False
        self._settle: Callable[[], None] = lambda: None
        self.seconds = seconds
        self.stalled = False
        self.full = False
        self.fails_before = 0.0
        self.fails_after = 0.0
        self.trap_before: Callable[[], None] | None = None
        self.trap_after: Callable[[], None] | None = None
        self.needs_room: Callable[[Callable[[], Any]], bool] = _always
        self.refused: Callable[[Callable[[], Any]], None] = _nobody_asks
        self.betrayed: Callable[[Callable[[], Any]], None] = _nobody_asks

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        return self._wait_for(_Work(work))

    def close(self) -> Deferred[None]:
        """Fires when what was given has run. It reads and writes nothing, so no disk can make it fail."""
        return self._wait_for(_Work(_nothing, touches_disk=False))

    def resume(self) -> None:
        """The disk answers again."""
        self.stalled = False
        self._begin()

    def _wait_for(self, piece: _Work) -> Deferred[Any]:
        self._queue.append(piece)
        self._begin()
        return piece.fired

    def _begin(self) -> None:
        if self._busy or self.stalled or not self._queue:
            return
        self._busy = True
        if self.seconds == NO_TIME:
            self._carry_out(0.0)
        else:
            seconds = between(self._random, *self.seconds)
            durable_after = seconds * self._random.random()
            self._clock.callLater(durable_after, self._carry_out, seconds - durable_after)

    def _carry_out(self, seconds_left: float) -> None:
        if self.stalled:
            self._busy = False
            return
        trap, self.trap_before = self.trap_before, None
        if self._crashes_in(trap):
            return
        self._settle = self._attempt(self._queue[0])
        trap, self.trap_after = self.trap_after, None
        if self._crashes_in(trap):
            return
        if seconds_left > 0:
            self._clock.callLater(seconds_left, self._finish)
        else:
            self._finish()

    def _crashes_in(self, trap: Callable[[], None] | None) -> bool:
        if trap is not None:
            trap()
        return self._clock.stopped

    def _attempt(self, piece: _Work) -> Callable[[], None]:
        """Carry a piece out; what is returned tells the one who waits."""
        fails_before = chance(self._random, self.fails_before)
        fails_after = chance(self._random, self.fails_after)
        try:
            if self.full and piece.touches_disk and self.needs_room(piece.work):
                self.refused(piece.work)
                raise InjectedFull("the simulated disk is full")
            if fails_before and piece.touches_disk:
                raise InjectedError("simulated disk I/O error")
            result = piece.work()
            if fails_after and piece.touches_disk:
                self.betrayed(piece.work)
                raise InjectedError("simulated disk I/O error")
        except Exception as error:
            return partial(piece.fired.errback, error)
        return partial(piece.fired.callback, result)

    def _finish(self) -> None:
        del self._queue[0]
        self._busy = False
        self._settle()
        self._begin()


def method_of(work: Callable[[], Any]) -> str:
    """The name of the method that a piece of work calls, bound or partly applied; "" if it has none."""
    return str(getattr(getattr(work, "func", work), "__name__", ""))


class _Work:
    """A piece of work, and who waits for it."""

    def __init__(self, work: Callable[[], Any], touches_disk: bool = True) -> None:
        self.work = work
        self.touches_disk = touches_disk
        self.fired: Deferred[Any] = Deferred()


def _nothing() -> None:
    """What closing has to do."""


def _always(work: Callable[[], Any]) -> bool:
    """All work needs room."""
    return True


def _nobody_asks(work: Callable[[], Any]) -> None:
    """Nobody wants to know."""
