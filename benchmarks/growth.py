"""More groups, more throughput: each server is held to the same small share of a core, and groups are added.

Source: issue 4: over 1, 2, 4 groups throughput grows at least 0.9 times linearly, and what a Clerk costs does not grow
with the number of groups. Decides that a group brings its own callers, so that each has as much to do as before, and
that every number of groups has a cluster of its own; the numbers take turns, round by round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.idling import Idle, idle, idle_table
from benchmarks.overloads import KEYS, FloodPlan, fill, flooded_by
from benchmarks.peers.cluster import Cluster
from benchmarks.quota import Quotas
from benchmarks.report import Table
from benchmarks.stage import Found, Stage, play


@dataclass(frozen=True)
class Sample:
    """One number of groups in one round.

    Attributes:
        done: puts per second.
        clerk_us: of processor time of the load process for each put.
        server_cores: server → what it used of a core.
    """

    groups: int
    round: int
    done: float
    clerk_us: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]
    server_cores: dict[str, float]


def grown(stage: Stage, plan: FloodPlan, groups: int, share: float, number: int) -> Sample:
    """Measure so many groups.

    Raises:
        Failed: a process would not do what it should.
    """
    gids = [100 * (1 + place) for place in range(groups)]
    cluster, children, quotas = Cluster(gids), stage.children, Quotas(share)
    try:
        cluster.start(children, stage.servers / f"groups-{groups}-{number}")
        cluster.join(gids)
        fill(stage, cluster, plan.value_bytes)
        quotas.hold({name: pid for name, pid in children.pids().items() if name.startswith("group")})
        step = flooded_by(stage, cluster, plan, callers=plan.callers * groups)
    finally:
        children.stop()
        quotas.close()
    (load,) = step.flooded
    return Sample(
        groups,
        number,
        step.goodput,
        1e6 * load["cpu_seconds"] / load["done"],
        load["p50_ms"],
        load["p99_ms"],
        load["errors"],
        step.server_cores,
    )


def table(samples: Sequence[Sample]) -> Table:
    """A line for each number of groups: medians of the rounds."""
    head = (
        "groups",
        "puts/s: median (least–greatest)",
        "times the least",
        "of linear",
        "Clerk µs/put",
        "p50, p99 ms",
        "group servers, % of a core",
        "errors",
    )
    lines = []
    counts = sorted({each.groups for each in samples})
    for count in counts:
        own = [each for each in samples if each.groups == count]
        done = [each.done for each in own]
        bases = {each.round: each.done for each in samples if each.groups == counts[0]}
        times = median(each.done / bases[each.round] for each in own if each.round in bases)
        used = [cores for each in own for name, cores in each.server_cores.items() if name.startswith("group")]
        lines.append(
            (
                str(count),
                f"{median(done):,.0f} ({min(done):,.0f}–{max(done):,.0f})",
                f"{times:.2f}",
                f"{times * counts[0] / count:.2f}",
                f"{median(each.clerk_us for each in own):.0f}",
                f"{median(each.p50_ms for each in own):.0f}, {median(each.p99_ms for each in own):.0f}",
                f"{100 * median(used):.1f} (at most {100 * max(used):.1f})",
                str(sum(count for each in own for count in each.errors.values())),
            )
        )
    return Table(head, lines)


def numbers(_: click.Context, __: click.Parameter, text: str) -> list[int]:
    """Of groups, each at least 1; empty: none."""
    try:
        chosen = [int(each) for each in text.split(",") if each]
    except ValueError:
        chosen = [0]
    if chosen and min(chosen) < 1:
        raise click.BadParameter(f"{text!r} is not numbers like 1,2,4")
    return chosen


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--groups", default="1,2,4", callback=numbers, help="Numbers of groups that are compared.")
@click.option("--idle", "idle_groups", default="100", callback=numbers, help="Numbers of idle groups.")
@click.option("--rounds", default=3, type=click.IntRange(1))
@click.option("--share", default=0.08, type=click.FloatRange(0, 1, min_open=True), help="Of a core for each server.")
@click.option("--callers", default=128, type=click.IntRange(1), help="Of the closed loop, for each group.")
@click.option("--warmup", default=4.0, type=click.FloatRange(0), help="Seconds before each sample.")
@click.option("--seconds", default=10.0, type=click.FloatRange(1), help="Of each sample.")
@click.option("--value", default=256, type=click.IntRange(1), help="Bytes of a value.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Results; default: a new directory.")
def command(
    groups: list[int],
    idle_groups: list[int],
    rounds: int,
    share: float,
    callers: int,
    warmup: float,
    seconds: float,
    value: int,
    out: Path | None,
) -> int:
    """Measure what more groups bring, and what many that are idle cost their controllers.

    Results go to a directory: groups.txt, groups.md, groups.json, and what every process said.
    """
    plan = FloodPlan(1, 1, callers, 10.0, warmup, seconds, value)
    samples: list[Sample] = []
    idled: list[Idle] = []

    def act(stage: Stage) -> None:
        for number in idle_groups:
            idled.append(idle(stage, number, seconds))
            stage.told(f"{number} idle groups: {100 * max(idled[-1].cores.values()):.1f} % of a core")
        for number in range(rounds):
            for count in groups:
                samples.append(grown(stage, plan, count, share, number))
                stage.told(f"round {number + 1}, {count} groups: {samples[-1].done:,.0f}/s")

    def found() -> Found:
        about = [
            f"each server of a group is held to {share:.0%} of a core; {callers} callers for each group, one Clerk; "
            f"{KEYS:,} keys, values of {value} bytes",
        ]
        tables = [*([table(samples)] if samples else []), *([idle_table(idled)] if idled else [])]
        facts: Any = {"groups": [asdict(sample) for sample in samples], "idle": [asdict(each) for each in idled]}
        return Found(about, tables, facts)

    return play("groups", out, act, found)
