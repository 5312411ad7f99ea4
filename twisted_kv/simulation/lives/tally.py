"""Many lives, counted: by plan, by rare event, and whether all of them together prove anything.

Decides when a sweep has failed: after a violation; when more than one life in VOID_ONE_IN was void; when nothing was
lived at all; and, if that is asked for, when a rare event was never reached. It runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from twisted_kv.simulation.doors.rare import RARE, SELDOM
from twisted_kv.simulation.lives.reports import OK, VIOLATED, VOID, Report, replay_command

VOID_ONE_IN: Final = 50
FAILED_SHOWN_MAX: Final = 50


class PlanCount(msgspec.Struct):
    """What the lives of one plan came to."""

    lives: int = 0
    violated: int = 0
    void: int = 0
    calls: int = 0
    faults: int = 0

    def add(self, other: PlanCount) -> None:
        """Count these as well."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class RareCount(msgspec.Struct):
    """How often a rare event was seen, and in how many lives."""

    times: int = 0
    lives: int = 0

    def add(self, other: RareCount) -> None:
        """Count these as well."""
        self.times += other.times
        self.lives += other.lives


class Failed(msgspec.Struct, frozen=True):
    """A life that is not ok: which, and by the word of whom.

    Attributes:
        checkers: who found something; none: the life is void.
    """

    seed: int
    plan: str
    checkers: tuple[str, ...]


class Tally(msgspec.Struct):
    """What many lives came to.

    Attributes:
        plans: name → count.
        rare: name of a rare event → count.
        failed: lives that are not ok.
    """

    plans: dict[str, PlanCount] = {}
    rare: dict[str, RareCount] = {}
    failed: list[Failed] = []

    def count(self, report: Report) -> None:
        """One life more."""
        verdict, figures = report.verdict, report.figures
        plan = PlanCount(1, verdict == VIOLATED, verdict == VOID, int(figures["calls"]), int(figures["faults"]))
        self.plans.setdefault(report.plan, PlanCount()).add(plan)
        for name, times in report.reached.items():
            self.rare.setdefault(name, RareCount()).add(RareCount(times, 1))
        if verdict != OK:
            checkers = dict.fromkeys(violation.checker for violation in report.violations)
            self.failed.append(Failed(report.seed, report.plan, tuple(checkers)))

    def add(self, other: Tally) -> None:
        """As many lives more as another one has counted."""
        for plan, count in other.plans.items():
            self.plans.setdefault(plan, PlanCount()).add(count)
        for name, seen in other.rare.items():
            self.rare.setdefault(name, RareCount()).add(seen)
        self.failed += other.failed

    @property
    def total(self) -> PlanCount:
        """All plans together."""
        total = PlanCount()
        for count in self.plans.values():
            total.add(count)
        return total

    @property
    def unreached(self) -> Sequence[str]:
        """Rare events that were never seen."""
        return [name for name in RARE if name not in self.rare and name not in SELDOM]

    def why_failed(self, demand_rare: bool = False) -> str:
        """Why these lives prove nothing, or the contrary; "" if all is well."""
        total = self.total
        if total.violated:
            return f"{total.violated} lives with violations"
        if not total.lives:
            return "nothing was lived"
        if total.void * VOID_ONE_IN > total.lives:
            return f"{total.void} of {total.lives} lives are void: more than one in {VOID_ONE_IN}"
        if demand_rare and self.unreached:
            return f"never reached: {', '.join(self.unreached)}"
        return ""

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: what each plan came to, and the sum."""
        counts = [*sorted(self.plans.items()), ("all", self.total)]
        header = ["plan", "lives", "violated", "void", "calls", "faults"]
        return header, [
            [name, *(f"{number:,}" for number in (count.lives, count.violated, count.void, count.calls, count.faults))]
            for name, count in (counts if len(self.plans) > 1 else counts[:1])
        ]

    def rare_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: each rare event that was reached, most often seen last."""
        seen = sorted(self.rare.items(), key=lambda item: (item[1].lives, item[0]))
        return ["rare event", "lives", "times"], [[name, f"{c.lives:,}", f"{c.times:,}"] for name, c in seen]

    def failures(self) -> list[str]:
        """A line for each life that is not ok, with the command that replays it."""
        lines = [
            f"{replay_command(failed.seed, failed.plan)}  # {', '.join(failed.checkers) or VOID}"
            for failed in sorted(self.failed, key=lambda failed: (failed.plan, failed.seed))
        ]
        more = len(lines) - FAILED_SHOWN_MAX
        return lines if more <= 0 else [*lines[:FAILED_SHOWN_MAX], f"… and {more} more"]
