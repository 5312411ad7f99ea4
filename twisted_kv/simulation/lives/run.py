"""Many lives, over processes, as long as somebody wants more of them.

Decides which plan a seed lives by, and in which process. What a life is, is in life; what many come to, in tally; who
wants how many, and for how long, is decided by whoever asks, because no clock is read in here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Final

from twisted.logger import globalLogBeginner

from twisted_kv.simulation.doors.world import Event
from twisted_kv.simulation.faults import plans
from twisted_kv.simulation.faults.plans import Plan
from twisted_kv.simulation.lives import life
from twisted_kv.simulation.lives.cores import CORES, CorePlan, live_cores
from twisted_kv.simulation.lives.life import Shape, draw_shape
from twisted_kv.simulation.lives.reports import Report

__all__ = [
    "ALL",
    "PLANS",
    "Report",
    "Shape",
    "be_silent",
    "draw_shape",
    "lives",
    "plan_of",
    "run_seed",
    "spans",
    "uninterrupted",
]

ALL: Final = "all"
"""In place of the name of a plan: each seed lives by one of them, in turn."""


AnyPlan = Plan | CorePlan

PLANS: Final[Mapping[str, AnyPlan]] = {**plans.PLANS, CORES.name: CORES}
"""Every plan by its name: those of whole clusters, and that of cores alone."""


def run_seed(seed: int, plan: AnyPlan, sink: Callable[[Event], None] | None = None) -> Report:
    """Live one life, of the kind that the plan is made for, and judge it.

    Args:
        sink: is given every event of the trace.
    """
    if isinstance(plan, CorePlan):
        return live_cores(seed, plan, sink)
    return life.run_seed(seed, plan, sink)


def plan_of(name: str, seed: int) -> AnyPlan:
    """The plan that a seed lives by.

    Args:
        name: of a plan, or ALL.
    Raises:
        KeyError: there is no such plan.
    """
    if name != ALL:
        return PLANS[name]
    return list(PLANS.values())[seed % len(PLANS)]


def lives(seeds: Iterable[int], plan: str, jobs: int, wanted: Callable[[], bool] = lambda: True) -> Generator[Report]:
    """Live the seeds, in any order if there are several jobs.

    Args:
        seeds: may be endless; no more of them are taken than are lived at once.
        plan: a name, or ALL.
        jobs: processes; 1: this one.
        wanted: asked before each life is begun; False: those under way are lived to their end, then no more.
    """
    named = ((seed, plan_of(plan, seed)) for seed in seeds)
    if jobs <= 1:
        for seed, its_plan in named:
            if not wanted():
                return
            with uninterrupted():
                report = run_seed(seed, its_plan)
            yield report
        return
    # Spawned, not forked: the calling process may hold a reactor, threads and open files.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(jobs, context, _begin_process)
    try:
        under_way: set[Future[Report]] = set()
        exhausted = False
        while under_way or not exhausted:
            while not exhausted and len(under_way) < 2 * jobs:
                following = next(named, None) if wanted() else None
                if following is None:
                    exhausted = True
                else:
                    under_way.add(executor.submit(run_seed, *following))
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            yield from sorted((future.result() for future in done), key=_by_seed)
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until a life is lived: raised inside a callback, KeyboardInterrupt would become a failure
    of that life. A second one ends the process at once. What is ignored stays so.

    Raises:
        KeyboardInterrupt: at the end, if there was one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def heard(signum: int, _: object) -> None:
        came.append(signum)
        signal.signal(signum, signal.SIG_DFL)

    before = {
        signum: signal.signal(signum, heard)
        for signum in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(signum) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if came:
        raise KeyboardInterrupt


def be_silent() -> None:
    """Before logging has begun Twisted prints what is critical; here the report says it."""
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


def spans(seeds: Iterable[int]) -> Sequence[tuple[int, int]]:
    """Seeds as (first, last) of each unbroken row.

    >>> spans([4, 1, 2, 3, 9])
    [(1, 4), (9, 9)]
    """
    found: list[tuple[int, int]] = []
    for seed in sorted(set(seeds)):
        if found and seed == found[-1][1] + 1:
            found[-1] = (found[-1][0], seed)
        else:
            found.append((seed, seed))
    return found


def _begin_process() -> None:
    """Ctrl-C is for the process that counts; it lets the others finish what they are at. They end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    be_silent()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _by_seed(report: Report) -> int:
    return report.seed
