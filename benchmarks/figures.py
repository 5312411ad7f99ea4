"""Samples, and the figures that are made of them. Pure.

Decides that a figure is a median over the rounds with the least and the greatest beside it, and that two systems are
compared round by round: the ratio is the median of the ratios within each round, never a ratio of medians, for a
machine that is slow for a minute is slow for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

from benchmarks.tasks import Outcome

BASE = "etcd"
"""The system with which the others are compared."""


@dataclass(frozen=True)
class Sample:
    """One row of one system in one round.

    Attributes:
        operations: that were answered in ``seconds``; ``errors`` failed.
        p50_ms … max_ms: of their latencies, by nearest rank.
        load_cpu_us: of processor time of the load process for each operation.
        server_cpu_us: server → the same of each server process, in the unit of the kernel's ticks.
        load_average: of the last minute, when the sample ended.
    """

    system: str
    row: str
    round: int
    operations: int
    errors: int
    first_error: str
    seconds: float
    ops_per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    load_cpu_us: float
    server_cpu_us: dict[str, float]
    load_average: float


def sample_of(
    system: str, row: str, number: int, outcome: Outcome, servers: Mapping[str, float], load_average: float
) -> Sample:
    """A sample of what a load process said.

    Args:
        outcome: with at least one latency.
        servers: server → seconds of processor that it used meanwhile.
    """
    ranked = sorted(outcome.latencies_us)
    count = len(ranked)
    return Sample(
        system=system,
        row=row,
        round=number,
        operations=count,
        errors=outcome.errors,
        first_error=outcome.first_error,
        seconds=outcome.seconds,
        ops_per_second=count / outcome.seconds,
        p50_ms=percentile(ranked, 50) / 1000,
        p99_ms=percentile(ranked, 99) / 1000,
        p999_ms=percentile(ranked, 99.9) / 1000,
        max_ms=ranked[-1] / 1000,
        load_cpu_us=1_000_000 * outcome.cpu_seconds / count,
        server_cpu_us={name: 1_000_000 * seconds / count for name, seconds in servers.items()},
        load_average=load_average,
    )


def percentile(ranked: Sequence[int], percent: float) -> int:
    """The nearest-rank percentile of ascending figures, at least one.

    >>> percentile([1, 2, 3, 4], 50), percentile([1, 2, 3, 4], 99.9)
    (2, 4)
    """
    # Rounded first: 99.9 % of 1,000 is the 999th, not the 1,000th by an error of the last bit.
    return ranked[max(0, ceil(round(percent * len(ranked) / 100, 9)) - 1)]


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """Of at least one figure.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, least=1.0, greatest=3.0)
        """
        return cls(median(figures), min(figures), max(figures))


@dataclass(frozen=True)
class Cell:
    """What is known of one system in one row.

    Attributes:
        ratio: to BASE in the same round; None where no round has both.
        p50_ms … max_ms: the medians of the rounds, but for the greatest, which is the greatest of all.
        load_cpu_us: median.
        busiest_cpu_us: median, of the server that used most, which is the one that leads.
        others_cpu_us: median, of all other servers together.
        errors: in all rounds.
    """

    throughput: Spread
    ratio: Spread | None
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    load_cpu_us: float
    busiest_cpu_us: float
    others_cpu_us: float
    errors: int


def cells(samples: Iterable[Sample]) -> dict[tuple[str, str], Cell]:
    """(system, row) → what its samples say."""
    grouped: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        grouped.setdefault((sample.system, sample.row), []).append(sample)
    return {
        (system, row): _cell(group, {each.round: each.ops_per_second for each in grouped.get((BASE, row), [])})
        for (system, row), group in grouped.items()
    }


def _cell(group: Sequence[Sample], base: Mapping[int, float]) -> Cell:
    ratios = [each.ops_per_second / base[each.round] for each in group if each.round in base]
    return Cell(
        throughput=Spread.of([each.ops_per_second for each in group]),
        ratio=Spread.of(ratios) if ratios else None,
        p50_ms=median(each.p50_ms for each in group),
        p99_ms=median(each.p99_ms for each in group),
        p999_ms=median(each.p999_ms for each in group),
        max_ms=max(each.max_ms for each in group),
        load_cpu_us=median(each.load_cpu_us for each in group),
        busiest_cpu_us=median(max(each.server_cpu_us.values(), default=0.0) for each in group),
        others_cpu_us=median(sum(sorted(each.server_cpu_us.values())[:-1]) for each in group),
        errors=sum(each.errors for each in group),
    )
