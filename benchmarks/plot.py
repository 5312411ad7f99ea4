"""The plot: operations per second and p99, each system beside the others, row by row.

Decides what is drawn; ``bars`` is what a test can look at. Drawn by matplotlib, which is looked for only here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import cells
from benchmarks.peers.peer import Missing
from benchmarks.report import Report

WIDTH_OF_ROW: Final = 0.84
COLOURS: Final = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#9c6b4e", "#a463f2", "#97bbf5")


@dataclass(frozen=True)
class Bars:
    """The bars of one system.

    Attributes:
        rows: at which rows, by their number, there is one.
        heights: operations per second, the medians.
        below, above: from there to the least and to the greatest of the rounds.
        p99_ms: medians.
    """

    title: str
    rows: tuple[int, ...]
    heights: tuple[float, ...]
    below: tuple[float, ...]
    above: tuple[float, ...]
    p99_ms: tuple[float, ...]


def bars(report: Report) -> list[Bars]:
    """Of every system with a figure, in the order of the report."""
    known = cells(report.record.samples)
    found = []
    for peer in report.peers:
        there = [
            (number, known[peer.name, row.name])
            for number, row in enumerate(report.plan.rows)
            if (peer.name, row.name) in known
        ]
        if there:
            spreads = [cell.throughput for _, cell in there]
            found.append(
                Bars(
                    title=peer.title,
                    rows=tuple(number for number, _ in there),
                    heights=tuple(spread.median for spread in spreads),
                    below=tuple(spread.median - spread.least for spread in spreads),
                    above=tuple(spread.greatest - spread.median for spread in spreads),
                    p99_ms=tuple(cell.p99_ms for _, cell in there),
                )
            )
    return found


def draw(report: Report, directory: Path) -> list[Path]:
    """Write plot.svg and plot.png.

    Raises:
        Missing: there is no matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Missing("no matplotlib: pip install matplotlib") from None
    drawn = bars(report)
    figure = Figure(figsize=(11, 8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for number, each in enumerate(drawn):
        width = WIDTH_OF_ROW / len(drawn)
        places = [row + (number + 0.5) * width - WIDTH_OF_ROW / 2 for row in each.rows]
        colour = COLOURS[number % len(COLOURS)]
        spread: Any = (each.below, each.above)
        upper.bar(places, each.heights, width, yerr=spread, label=each.title, color=colour, capsize=2)
        lower.bar(places, each.p99_ms, width, color=colour)
    _labelled(upper, "operations/s (median, least to greatest)")
    _labelled(lower, "p99, ms (median)")
    titles = [row.title.replace(", ", ",\n") for row in report.plan.rows]
    lower.set_xticks(range(len(titles)), titles, fontsize=8)
    figure.legend(loc="outside upper center", ncols=len(drawn) or 1, fontsize=8)
    figure.supxlabel(_caption(report), fontsize=7)
    paths = [directory / "plot.svg", directory / "plot.png"]
    for path in paths:
        figure.savefig(path, dpi=120)
    return paths


def _labelled(axes: Any, text: str) -> None:
    axes.set_yscale("log")
    axes.set_ylabel(text)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _caption(report: Report) -> str:
    lines: Sequence[str] = report.machine.lines()
    return f"{report.began}; {lines[0]}; {report.plan.rounds} rounds of {report.plan.seconds:g} s"
