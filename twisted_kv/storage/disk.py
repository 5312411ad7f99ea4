"""The disk door: where blocking work runs.

Inline, a commit of 0.2 ms costs nothing more, but a disk that needs 5 ms per fsync stops the reactor; one thread
keeps the reactor going, at the price of a hand-off of 1 to 5 ms while it is busy. Which is better depends on the
disk alone, so it is measured (ecosystem.md §4.4). Knows nothing of what is run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")

PROBES: Final = 20
PROBE_BYTES: Final = 4096
SLOW_FSYNC_SECONDS: Final = 0.0015
_PROBING_SECONDS_MAX: Final = 0.5


class InlineDisk:
    """An IDisk that runs the work before it returns."""

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """A Deferred that has fired, with the result or with what the work raised."""
        return execute(work)

    def close(self) -> Deferred[None]:
        """Nothing is left to wait for."""
        return succeed(None)


class ThreadDisk:
    """An IDisk with one thread of its own, which keeps the order.

    The thread begins with the first work: a server that is refused before has none to end, and no reactor to end
    it with.

    Args:
        reactor: to whose thread the results come back.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._pool: ThreadPool | None = None
        self._open = True

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Fires in the reactor's thread. Cancelling it does not stop the work."""
        assert self._open
        if self._pool is None:
            self._pool = ThreadPool(1, 1, "twisted-kv disk")
            self._pool.start()
        return deferToThreadPool(self._reactor, self._pool, work)

    def close(self) -> Deferred[None]:
        """Fires when all that was given has run and the thread is gone."""
        self._open = False
        pool = self._pool
        if pool is None:
            return succeed(None)
        return deferToThreadPool(self._reactor, pool, lambda: None).addCallback(lambda _: pool.stop())


def choose_disk(path: str, reactor: Any) -> InlineDisk | ThreadDisk:
    """The disk that suits the file system under a directory; takes a few milliseconds, half a second at most.

    Args:
        path: an existing directory.
        reactor: an IReactorTime and IReactorFromThreads.
    """
    return ThreadDisk(reactor) if fsync_seconds(path, reactor.seconds) > SLOW_FSYNC_SECONDS else InlineDisk()


def disk_for_bulk(reactor: Any) -> InlineDisk | ThreadDisk:
    """The disk for what may take a second wherever the directory lies, the commit of many rows for one: a thread.

    Args:
        reactor: one that takes no calls from threads, as a test's clock, has everything done inline.
    """
    return ThreadDisk(reactor) if IReactorFromThreads.providedBy(reactor) else InlineDisk()


def fsync_seconds(path: str, seconds: Callable[[], float]) -> float:
    """The time of a small append and its fsync, in seconds: what a quarter of them stay below.

    Not the median: where several servers start at once, others keep half of them waiting, and the disk is no slower.

    Args:
        path: an existing directory; the file written there is gone afterwards.
        seconds: a clock.
    """
    name = os.path.join(path, "probe.new")
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    times: list[float] = []
    try:
        while len(times) < PROBES and sum(times) < _PROBING_SECONDS_MAX:
            begun = seconds()
            os.write(descriptor, bytes(PROBE_BYTES))
            os.fsync(descriptor)
            times.append(seconds() - begun)
    finally:
        os.close(descriptor)
        os.unlink(name)
    return sorted(times)[len(times) // 4]
