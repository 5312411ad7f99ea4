"""Figures beside their goals: what is counted of a group of many keys, and whether it is enough. Pure.

Source: the goals for a million keys of 256 bytes in one group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.report import Table

TIMES_KEYS: Final = 10
"""The cost of a change is compared between a store and one of so many times its keys."""

Look = Mapping[str, Any]
"""What the onlooker said once: ``at``, and ``members``, each a status or None."""


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        about: what it is, with its unit.
        value: None where it could not be measured.
        least, most: what it shall reach, or not exceed; both None: it is told and has no goal.
    """

    about: str
    value: float | None
    least: float | None = None
    most: float | None = None

    @property
    def goal(self) -> str:
        """In words."""
        if self.least is not None:
            return f"≥ {self.least:,g}"
        return "" if self.most is None else f"≤ {self.most:,g}"

    @property
    def met(self) -> bool | None:
        """None where there is nothing to meet."""
        if self.least is None and self.most is None:
            return None
        if self.value is None:
            return False
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)


def table(figures: Sequence[Figure]) -> Table:
    """A line for each."""
    words = {None: "", True: "met", False: "NOT MET"}
    return Table(
        ("figure", "measured", "goal", ""),
        [(each.about, _told(each.value), each.goal, words[each.met]) for each in figures],
    )


def _told(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def longest_stall_ms(looks: Sequence[Look], begins: float, ends: float) -> float:
    """The longest stall of any server that came to be within a span, as the servers say it, in milliseconds.

    A server that was started within it begins at 0. What is shorter than an earlier one of the same server counts only
    from a minute after that, when it no longer hides it.

    >>> looks = [{"at": at, "members": [{"stall_longest_ms": ms, "stall_ms": ms}]} for at, ms in ((1, 9.0), (2, 12.5))]
    >>> longest_stall_ms(looks, 0.0, 1.5), longest_stall_ms(looks, 1.5, 3.0)
    (9.0, 12.5)
    """
    longest = 0.0
    before: dict[int, float] = {}
    for look in looks:
        for place, status in enumerate(look["members"]):
            if status is None:
                before.pop(place, None)
                continue
            stall = status["stall_longest_ms"]
            if begins <= look["at"] <= ends and stall > before.get(place, 0.0):
                longest = max(longest, stall)
            before[place] = stall
    return longest


def first_at(looks: Sequence[Look], place: int, since: float, there: Callable[[Mapping[str, Any]], bool]) -> float:
    """When a server was first seen to be so, in seconds since 1970.

    Raises:
        LookupError: it never was.
    """
    for look in looks:
        status = look["members"][place]
        if look["at"] >= since and status is not None and there(status):
            return float(look["at"])
    raise LookupError("it was not seen")


def answers_per_second(said: Sequence[Mapping[str, Any]], since: float, until: float) -> float:
    """Of a steady load, within a span.

    Args:
        said: ``at`` and ``answered``, oldest first.
    Raises:
        LookupError: it said nothing within.

    >>> answers_per_second([{"at": at, "answered": 50 * at} for at in range(9)], 2.5, 6.5)
    50.0
    """
    within = [line for line in said if since <= line["at"] <= until]
    if len(within) < 2:
        raise LookupError("the load said nothing")
    first, last = within[0], within[-1]
    return float((last["answered"] - first["answered"]) / (last["at"] - first["at"]))
