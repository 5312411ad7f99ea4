"""A closed loop on Twisted: every client asks, waits for the answer, asks again.

A load process takes a Task as JSON in its only argument and says, a line each: ``begin`` when the warm-up is over,
``end`` when the time is up, and last an Outcome as JSON. What counts is what was answered between the two. Decides
the keys and what is counted. Knows no system: how one is asked is given to it.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from time import perf_counter, time
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.task import deferLater

from benchmarks.tasks import GAP_SECONDS, Outcome, Task

LOOK_SECONDS: Final = 0.05
FILL_AT_ONCE: Final = 256
AFTER_ERROR_SECONDS: Final = 0.01
VALUES: Final = 61


class Client(Protocol):
    """One connection to a system."""

    def put(self, key: str, value: str) -> Awaitable[Any]:
        """Fires when the value is acknowledged."""

    def get(self, key: str) -> Awaitable[Any]:
        """Fires with something as long as the value."""

    def close(self) -> Awaitable[Any]:
        """Fires when nothing is left open."""


Connect = Callable[[Any, Task], Coroutine[Any, Any, Client]]
"""Takes the reactor and the task; makes one connection."""


def key(number: int) -> str:
    """The same in every load.

    >>> key(7)
    'bench/00000007'
    """
    return f"bench/{number:08d}"


def values_of(size: int) -> list[str]:
    """Different values of a size: a store that is given the same one again may see that there is nothing to write.

    >>> values_of(4)[:2]
    ['00vv', '01vv']
    """
    return [f"{number:02d}".ljust(size, "v")[:size] for number in range(VALUES)]


def main(connect: Connect) -> None:
    """Carry out the task of the command line and end the process."""
    task = Task.from_argument(sys.argv[1])

    async def outcome(reactor: Any) -> str:
        return (await carry_out(reactor, task, connect)).as_line()

    run(outcome)


def run(work: Callable[[Any], Coroutine[Any, Any, str]]) -> None:
    """Run on a reactor, print what comes of it as the last line, and end the process; with status 1 if it fails."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    ended: list[bool] = []

    def finish(result: Any) -> None:
        if hasattr(result, "printBriefTraceback"):
            result.printBriefTraceback(sys.stderr)
        else:
            print(result, flush=True)
            ended.append(True)
        reactor.stop()

    reactor.callWhenRunning(lambda: ensureDeferred(work(reactor)).addBoth(finish))
    reactor.run()
    sys.exit(0 if ended else 1)


async def carry_out(reactor: Any, task: Task, connect: Connect) -> Outcome:
    """Whatever the task says."""
    if task.kind == "ready":
        return await ready(reactor, task, connect)
    clients = [await connect(reactor, task) for _ in range(task.connections)]
    try:
        return await (fill(task, clients[0]) if task.kind == "fill" else measure(reactor, task, clients))
    finally:
        for client in clients:
            await client.close()


async def ready(reactor: Any, task: Task, connect: Connect) -> Outcome:
    """Returns when one put was acknowledged."""
    deadline = perf_counter() + task.patience_seconds
    while True:
        client: Client | None = None
        try:
            client = await connect(reactor, task)
            await client.put("bench/ready", "v" * task.value_bytes)
            return Outcome(0.0, 0.0, [])
        except Exception:
            if perf_counter() > deadline:
                raise
            await deferLater(reactor, LOOK_SECONDS)
        finally:
            if client is not None:
                await client.close()


async def fill(task: Task, client: Client) -> Outcome:
    """Put every key once."""
    began = perf_counter()
    numbers = iter(range(task.keys))
    value = "v" * task.value_bytes

    async def worker() -> None:
        for number in numbers:
            await client.put(key(number), value)

    await together([worker() for _ in range(FILL_AT_ONCE)])
    return Outcome(perf_counter() - began, 0.0, [])


async def measure(reactor: Any, task: Task, clients: list[Client]) -> Outcome:
    """The closed loop."""
    latencies: list[int] = []
    errors: list[str] = []
    values = values_of(task.value_bytes)
    chance = Random(task.seed)
    began = perf_counter() + task.warmup_seconds
    ends = began + task.seconds
    epoch = time() - perf_counter()
    gaps: list[list[float]] = []
    latest = began

    async def one(client: Client) -> None:
        nonlocal latest
        getting = task.kind == "get"
        while (asked := perf_counter()) < ends:
            name = key(int(chance.random() * task.keys))
            try:
                if not getting:
                    await client.put(name, values[len(latencies) % VALUES])
                elif len(await client.get(name)) != task.value_bytes:
                    raise LookupError("a key that was filled has no value")
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
                await deferLater(reactor, AFTER_ERROR_SECONDS)
            else:
                answered = perf_counter()
                if began <= answered <= ends:
                    latencies.append(int(1_000_000 * (answered - asked)))
                    if answered - latest > GAP_SECONDS:
                        gaps.append([epoch + latest, epoch + answered])
                    latest = answered

    cpu: list[float] = []

    def mark(word: str) -> None:
        cpu.append(cpu_seconds())
        print(word, flush=True)

    reactor.callLater(task.warmup_seconds, mark, "begin")
    ending = deferLater(reactor, task.warmup_seconds + task.seconds, mark, "end")
    await together([one(clients[number % len(clients)]) for number in range(task.clients)])
    await ending
    return Outcome(task.seconds, cpu[1] - cpu[0], latencies, len(errors), errors[0] if errors else "", gaps)


async def together(coroutines: list[Coroutine[Any, Any, None]]) -> None:
    """All of them to their ends; then the first failure is raised if there is one."""
    ended = await DeferredList([Deferred.fromCoroutine(each) for each in coroutines], consumeErrors=True)
    result: Any
    for succeeded, result in ended:
        if not succeeded:
            result.raiseException()


def cpu_seconds() -> float:
    """What this process has used of processors, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
