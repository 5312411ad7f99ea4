"""Load beyond what can be served: ``python -m benchmarks.loads.flood FLOOD``.

Puts, either as a closed loop of some callers or at a fixed rate whatever becomes of them. Says ``begin`` and ``end``
where counting begins and ends, and last a Flooded as JSON. Decides what is counted; a call that is refused is not made
again.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict, dataclass, field
from random import Random
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from benchmarks.figures import percentile
from benchmarks.loads.closed_loop import LOOK_SECONDS, cpu_seconds, key, run
from benchmarks.loads.open_loop import Book, Pace
from twisted_kv import Clerk

AFTER_ERROR_SECONDS = 0.05


@dataclass(frozen=True)
class Flood:
    """What one process is to do.

    Attributes:
        callers: of a closed loop; 0: an open one, of ``rate`` puts per second.
        connections: Clerks that share the calls.
        timeout_seconds: of each call.
        warmup_seconds: of the same load, before anything counts.
    """

    endpoints: tuple[str, ...]
    callers: int
    rate: float
    connections: int
    timeout_seconds: float
    warmup_seconds: float
    seconds: float
    keys: int
    value_bytes: int
    seed: int

    def as_argument(self) -> str:
        """The one argument of the process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> Flood:
        """The reverse."""
        fields = json.loads(text)
        return cls(**{**fields, "endpoints": tuple(fields["endpoints"])})


@dataclass
class Flooded:
    """What came of it.

    Attributes:
        asked, done: calls that were made, and that were answered, while it counted.
        p50_ms, p99_ms: of those that were answered.
        errors: class → how many calls of the whole load failed with it, the warm-up included.
        error_p50_ms, error_p99_ms: from the call to the error.
        retry_after: (least, median, greatest) of what Overloaded told to wait, in seconds.
        rss: the most memory of this process, in bytes.
        cpu_seconds: of this process while it counted.
        late_ms: how late the load itself was at worst.
    """

    asked: int = 0
    done: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    first_errors: dict[str, str] = field(default_factory=dict)
    error_p50_ms: float = 0.0
    error_p99_ms: float = 0.0
    retry_after: list[float] = field(default_factory=list)
    rss: int = 0
    cpu_seconds: float = 0.0
    late_ms: float = 0.0


async def flood(reactor: Any, task: Flood) -> str:
    """The load; returns a Flooded as JSON."""
    clerks = [Clerk(list(task.endpoints), reactor) for _ in range(task.connections)]
    chance = Random(task.seed)
    value = "v" * task.value_bytes
    book = Book()
    stopped: list[bool] = []
    asked = 0

    def put(number: int, due: float) -> Deferred[Any]:
        nonlocal asked
        asked += 1
        name = key(int(chance.random() * task.keys))
        return book.enter(due, clerks[number % len(clerks)].put(name, value, timeout=task.timeout_seconds))

    def settled() -> bool:
        return asked == len(book.latencies_us) + len(book.error_latencies_us)

    async def caller(number: int) -> None:
        while not stopped:
            if not await put(number, perf_counter()):
                await deferLater(reactor, AFTER_ERROR_SECONDS)

    pace = Pace(reactor, task.rate or 1.0, put)
    loads = [caller(number) for number in range(task.callers)] if task.callers else [pace.run()]
    running = [Deferred.fromCoroutine(load) for load in loads]
    await deferLater(reactor, task.warmup_seconds)
    print("begin", flush=True)
    began, used, before = perf_counter(), cpu_seconds(), asked
    await deferLater(reactor, task.seconds)
    ended = perf_counter()
    print("end", flush=True)
    flooded = Flooded(asked=asked - before, cpu_seconds=cpu_seconds() - used)
    stopped.append(True)
    pace.stop()
    await DeferredList(running)
    while not settled():
        await deferLater(reactor, LOOK_SECONDS)
    for clerk in clerks:
        await clerk.close()
    latencies = book.between(began, ended)
    flooded.done = len(latencies)
    if latencies:
        flooded.p50_ms, flooded.p99_ms = (percentile(latencies, percent) / 1000 for percent in (50, 99))
    failed = sorted(book.error_latencies_us)
    if failed:
        flooded.error_p50_ms, flooded.error_p99_ms = (percentile(failed, percent) / 1000 for percent in (50, 99))
    if book.retry_after:
        ranked = sorted(book.retry_after)
        flooded.retry_after = [round(each, 3) for each in (ranked[0], ranked[len(ranked) // 2], ranked[-1])]
    flooded.errors, flooded.first_errors = dict(book.errors), book.first_errors
    flooded.rss = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    flooded.late_ms = 1000 * pace.late
    return json.dumps(asdict(flooded))


if __name__ == "__main__":
    run(lambda reactor: flood(reactor, Flood.from_argument(sys.argv[1])))
