"""The report: tables as plain text and as Markdown, and JSON with every sample.

Decides what a reader is told. Nothing is left out silently: a system that could not be started, or a row that says
nothing of it, stands there with the reason. Pure; figures come from ``figures``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.figures import BASE, Cell, Spread, cells
from benchmarks.machine import BUSY_CORES, Machine
from benchmarks.peers.peer import Peer
from benchmarks.rounds import Plan, Record

OURS = "ours"


@dataclass(frozen=True)
class Table:
    """A heading and lines of cells, of which the first column is words."""

    head: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """As Markdown."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        return "".join(f"| {' | '.join(line)} |\n" for line in (self.head, rule, *self.lines))

    def text(self) -> str:
        """As plain text in columns."""
        widths = [max(len(line[column]) for line in (self.head, *self.lines)) for column in range(len(self.head))]
        rule = tuple("-" * width for width in widths)
        return "".join(_in_columns(line, widths) + "\n" for line in (self.head, rule, *self.lines))


def _in_columns(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()


@dataclass(frozen=True)
class Report:
    """All that a run says."""

    plan: Plan
    peers: Sequence[Peer]
    machine: Machine
    record: Record
    began: str

    def text(self) -> str:
        """For a terminal."""
        parts = [self._about(), self.throughput().text(), self.details().text(), self._notes()]
        return "\n".join(parts)

    def markdown(self) -> str:
        """For a document."""
        about = "".join(f"- {line}\n" for line in self._about().splitlines())
        notes = "".join(f"- {line}\n" for line in self._notes().splitlines())
        parts = [f"# Benchmark of {self.began}\n", about, "## Operations per second\n", self.throughput().markdown()]
        parts += ["## Latency and processor time\n", self.details().markdown(), "## Notes\n", notes]
        return "\n".join(parts)

    def throughput(self) -> Table:
        """A line for each row, a column for each system: the median, least and greatest of the rounds."""
        known = cells(self.record.samples)
        head = ("operations/s: median (least–greatest)", *(peer.title for peer in self.peers), f"ours / {BASE}", "goal")
        lines = [("an acknowledgement means", *(peer.promises for peer in self.peers), "", "")]
        for row in self.plan.rows:
            figures = tuple(self._figure(peer, row.name, known) for peer in self.peers)
            ours = known.get((OURS, row.name))
            ratio = _ratio(ours.ratio) if ours is not None and ours.ratio is not None else "–"
            goal = "–" if row.goal is None else f"≥ {row.goal:g}{_met(ours, row.goal)}"
            lines.append((row.title, *figures, ratio, goal))
        return Table(head, lines)

    def details(self) -> Table:
        """A line for each row and system."""
        known = cells(self.record.samples)
        head = (
            "row, system",
            f"× {BASE}",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
            "load µs/op",
            "leader µs/op",
            "others µs/op",
            "errors",
        )
        lines = []
        for row in self.plan.rows:
            for peer in self.peers:
                if (cell := known.get((peer.name, row.name))) is not None:
                    ratio = "–" if cell.ratio is None else _ratio(cell.ratio)
                    latencies = (cell.p50_ms, cell.p99_ms, cell.p999_ms, cell.max_ms)
                    used = (cell.load_cpu_us, cell.busiest_cpu_us, cell.others_cpu_us)
                    figures = (*(f"{each:.2f}" for each in latencies), *(f"{each:.0f}" for each in used))
                    lines.append((f"{row.name}, {peer.title}", ratio, *figures, str(cell.errors)))
        return Table(head, lines)

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "began": self.began,
            "machine": asdict(self.machine),
            "plan": {**asdict(self.plan), "rows": [row.name for row in self.plan.rows]},
            "systems": [
                {
                    "name": peer.name,
                    "title": peer.title,
                    "promises": peer.promises,
                    "version": self.record.versions.get(peer.name),
                    "reason": self.record.reasons.get(peer.name),
                }
                for peer in self.peers
            ],
            "refusals": [
                {"system": one, "row": row, "reason": why} for (one, row), why in self.record.refusals.items()
            ],
            "others_cores": self.record.others,
            "samples": [asdict(sample) for sample in self.record.samples],
            "cells": [
                {"system": system, "row": row, **asdict(cell)}
                for (system, row), cell in cells(self.record.samples).items()
            ],
        }

    def _figure(self, peer: Peer, row: str, known: dict[tuple[str, str], Cell]) -> str:
        cell = known.get((peer.name, row))
        if cell is None:
            refused = (peer.name, row) in self.record.refusals
            return "not run" if peer.name in self.record.reasons and not refused else "–"
        spread = cell.throughput
        return f"{spread.median:,.0f} ({spread.least:,.0f}–{spread.greatest:,.0f})"

    def _about(self) -> str:
        plan = self.plan
        lines = [
            *self.machine.lines(),
            f"{plan.rounds} rounds, one system at a time, {plan.seconds:g} s a sample after {plan.warmup_seconds:g} s "
            f"of warm-up; {plan.keys:,} keys, values of {plan.value_bytes} bytes, closed loop",
            *(f"{peer.title}: {self.record.versions[peer.name]}" for peer in self.peers if self._known(peer)),
        ]
        return "".join(line + "\n" for line in lines)

    def _known(self, peer: Peer) -> bool:
        return peer.name in self.record.versions

    def _notes(self) -> str:
        titles = {peer.name: peer.title for peer in self.peers}
        reasons = self.record.reasons.items()
        lines = [f"NOT RUN, or not to the end: {titles[name]}: {reason}" for name, reason in reasons]
        if not any(sample.system == BASE for sample in self.record.samples):
            lines.append(f"there is no {BASE} in this run, so nothing here compares")
        if self.machine.forgets:
            lines.append("the servers' files are in memory: an fsync costs nothing here; choose another --out")
        others = self.record.others
        if others:
            busy = "A BUSY MACHINE, so no figures to keep: " if median(others) > BUSY_CORES else ""
            lines.append(
                f"{busy}other programs used {median(others):.2f} cores (at most {max(others):.2f}) before the turns"
            )
        for system, title in titles.items():
            for (one, row), why in self.record.refusals.items():
                if one == system:
                    lines.append(f"{title}, {row}: {why}")
        errors = [sample for sample in self.record.samples if sample.errors]
        lines += [
            f"{titles[each.system]}, {each.row}, round {each.round + 1}: {each.errors} errors, first {each.first_error}"
            for each in errors
        ]
        return "".join(line + "\n" for line in lines)


def _ratio(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.least:.2f}–{spread.greatest:.2f})"


def _met(ours: Cell | None, goal: float) -> str:
    if ours is None or ours.ratio is None:
        return ""
    return ", met" if ours.ratio.median >= goal else ", not met"
