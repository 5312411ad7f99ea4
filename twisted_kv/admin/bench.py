"""Closed-loop load: every client asks, waits for the answer, asks again.

Decides what is asked and what is counted. A failed operation is counted, not timed. Knows no terminal and no
cluster: clocks, chance and Clerks are given to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from twisted_kv.admin.running import together
from twisted_kv.errors import KVError

KEYS = 1000
PREFIX = "twisted-kv-bench/"


class IClerk(Protocol):
    """A Clerk, as far as load needs it."""

    def get(self, key: str) -> Deferred[Any]: ...
    def put(self, key: str, value: str | bytes) -> Deferred[None]: ...
    def delete(self, key: str) -> Deferred[bool]: ...


@dataclass(frozen=True)
class Load:
    """What is asked.

    Attributes:
        clients: operations in flight.
        seconds: for how long.
        get_share: gets among all operations, 0 … 1; the rest are puts.
        value_bytes: size of what is put.
    """

    clients: int
    seconds: float
    get_share: float
    value_bytes: int


@dataclass(frozen=True)
class Measured:
    """What came of it. Latencies in milliseconds, of operations that were answered."""

    operations: int
    errors: int
    seconds: float
    ops_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


async def bench(clerks: Sequence[IClerk], load: Load, now: Callable[[], float], random: Random) -> Measured:
    """Run the load over these Clerks, one connection each, and clean up.

    Args:
        now: seconds of a clock that never steps.
    Raises:
        KVError: nothing at all was answered; this is the first error.
    """
    value = "v" * load.value_bytes
    keys = [f"{PREFIX}{number}" for number in range(KEYS)]
    await together([clerks[0].put(key, value) for key in keys])
    latencies: list[float] = []
    errors: list[KVError] = []
    began = now()

    async def client(clerk: IClerk) -> None:
        while (asked := now()) - began < load.seconds:
            key = keys[int(random.random() * KEYS)]
            try:
                if random.random() < load.get_share:
                    await clerk.get(key)
                else:
                    await clerk.put(key, value)
            except KVError as error:
                errors.append(error)
            else:
                latencies.append(now() - asked)

    clients = [Deferred.fromCoroutine(client(clerks[number % len(clerks)])) for number in range(load.clients)]
    await together(clients)
    seconds = now() - began
    await together([clerks[0].delete(key) for key in keys])
    if errors and not latencies:
        raise errors[0]
    return measured(latencies, len(errors), seconds)


def measured(latencies: Sequence[float], errors: int, seconds: float) -> Measured:
    """The figures of these latencies, given in seconds.

    >>> measured([0.001] * 99 + [0.5], 0, 2.0).p99_ms
    1.0
    """
    ranked = sorted(latencies)
    return Measured(
        operations=len(ranked),
        errors=errors,
        seconds=seconds,
        ops_per_second=len(ranked) / seconds if seconds > 0 else 0.0,
        p50_ms=1000 * percentile(ranked, 50),
        p99_ms=1000 * percentile(ranked, 99),
        max_ms=1000 * (ranked[-1] if ranked else 0.0),
    )


def percentile(ranked: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of ascending figures; 0 of none.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50)
    2.0
    """
    if not ranked:
        return 0.0
    return ranked[max(0, -(-percent * len(ranked) // 100) - 1)]


def get_share(mix: str) -> float:
    """The share of gets in a mix like ``90/10`` (gets/puts).

    >>> get_share("90/10")
    0.9
    """
    gets, slash, puts = mix.partition("/")
    if not (slash and gets.isdigit() and puts.isdigit()) or int(gets) + int(puts) == 0:
        raise ValueError(f"{mix!r} is not GETS/PUTS, as in 90/10")
    return int(gets) / (int(gets) + int(puts))
