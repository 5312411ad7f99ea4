"""What a load did not hear while leaders ended: figures of gaps between answers. Pure.

Decides that the time to the next acknowledgement is counted from the signal to the end of the gap that begins with it,
and that a gap anywhere else in the same period is told too: a second election is no better for being late.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.figures import Spread, percentile

BEGINS_WITHIN_SECONDS = 0.2
"""After a signal, answers that were on their way may still arrive."""


@dataclass(frozen=True)
class Silence:
    """What one end of a leader cost.

    Attributes:
        round: which turn of the system.
        next_ms: from the signal to the next answer behind the gap; 0 where there was no gap.
        longest_ms: the longest gap of the whole period, until the next signal.
    """

    system: str
    round: int
    next_ms: float
    longest_ms: float


def silence_of(system: str, number: int, signalled: float, until: float, gaps: Iterable[Sequence[float]]) -> Silence:
    """What the gaps say of one signal.

    Args:
        signalled, until: when it was sent, and when the period ends, in seconds since 1970, as are the gaps.

    >>> silence_of("a", 1, 10.0, 15.0, [(9.0, 9.5), (9.99, 10.5), (12.0, 12.1)])
    Silence(system='a', round=1, next_ms=500.0, longest_ms=510.0)
    """
    own = [(begins, ends) for begins, ends in gaps if ends > signalled and begins < until]
    first = [ends for begins, ends in own if begins <= signalled + BEGINS_WITHIN_SECONDS]
    return Silence(
        system,
        number,
        round(1000 * (min(first) - signalled), 1) if first else 0.0,
        round(1000 * max((ends - begins for begins, ends in own), default=0.0), 1),
    )


@dataclass(frozen=True)
class Summary:
    """Of all silences of one system.

    Attributes:
        next_ms: median, least and greatest.
        p90_ms: of the same.
        longest_ms: the greatest gap of any period.
    """

    count: int
    next_ms: Spread
    p90_ms: float
    longest_ms: float

    @classmethod
    def of(cls, silences: Sequence[Silence]) -> Summary:
        """Of at least one."""
        ranked = sorted(each.next_ms for each in silences)
        tenths = [round(10 * figure) for figure in ranked]
        return cls(
            len(silences), Spread.of(ranked), percentile(tenths, 90) / 10, max(each.longest_ms for each in silences)
        )
