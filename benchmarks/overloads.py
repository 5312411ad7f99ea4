"""Load far beyond saturation: what is still done, what the others are told, and what it costs in memory.

Source: issue 4: beyond saturation throughput stays flat, memory bounded, and callers get Overloaded with retry_after,
not timeouts; shown at 10 times the saturating load. Decides the order: a closed loop says what saturation is, then an
open loop offers multiples of that, and the last step offers once more what the first did. Each step has load processes
of its own, so what one held in memory is not counted for the next.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from benchmarks.children import Failed
from benchmarks.loads.flood import Flood
from benchmarks.machine import cpu_seconds_of
from benchmarks.peers.cluster import Cluster
from benchmarks.peers.peer import python
from benchmarks.quota import Quotas
from benchmarks.report import Table
from benchmarks.stage import Found, Stage, play
from benchmarks.tasks import PATIENCE_SECONDS, Task

GID: Final = 100
KEYS: Final = 10_000


@dataclass(frozen=True)
class FloodPlan:
    """A load of several processes.

    Attributes:
        processes: each with so many ``connections`` and, in a closed loop, so many ``callers``.
    """

    processes: int
    connections: int
    callers: int
    timeout_seconds: float
    warmup_seconds: float
    seconds: float
    value_bytes: int


@dataclass(frozen=True)
class Step:
    """One kind of load.

    Attributes:
        times: of what the closed loop reached; 0 for the closed loop itself.
        offered: puts per second, of all processes.
        flooded: what each of them said.
        server_rss: server → bytes of memory at the end of the step.
        server_cores: server → what it used of a core.
    """

    times: float
    offered: float
    seconds: float
    flooded: list[dict[str, Any]]
    server_rss: dict[str, int]
    server_cores: dict[str, float]

    @property
    def goodput(self) -> float:
        """Puts per second that were answered."""
        done: int = sum(each["done"] for each in self.flooded)
        return done / self.seconds

    def errors(self, *names: str) -> int:
        """How many calls failed with these."""
        return sum(each["errors"].get(name, 0) for each in self.flooded for name in names)

    def other_errors(self, *names: str) -> int:
        """How many failed with anything else."""
        return sum(count for each in self.flooded for name, count in each["errors"].items() if name not in names)


def overload(stage: Stage, plan: FloodPlan, times: Sequence[float], share: float, steps: list[Step]) -> None:
    """A closed loop, then multiples of what it reached; ``steps`` is filled as they come.

    Args:
        share: of a core that each server of the group gets; 0: as much as it likes.
    Raises:
        Failed: a process would not do what it should.
    """
    cluster, children, quotas = Cluster([GID]), stage.children, Quotas(share)
    try:
        cluster.start(children, stage.servers / "overload")
        cluster.join([GID])
        fill(stage, cluster, plan.value_bytes)
        quotas.hold({name: pid for name, pid in children.pids().items() if name.startswith("group")})
        steps.append(flooded_by(stage, cluster, plan, callers=plan.callers))
        saturation = steps[0].goodput
        stage.told(f"the closed loop reaches {saturation:,.0f}/s")
        for each in times:
            steps.append(flooded_by(stage, cluster, plan, times=each, rate=each * saturation))
            stage.told(f"{each:g} times that is offered: {steps[-1].goodput:,.0f}/s")
    finally:
        children.stop()
        quotas.close()


def fill(stage: Stage, cluster: Cluster, value_bytes: int) -> None:
    """Put every key once, with all the processors that there are."""
    tasks = (
        Task(cluster.endpoints(), "ready", value_bytes=value_bytes),
        Task(cluster.endpoints(), "fill", keys=KEYS, value_bytes=value_bytes),
    )
    for task in tasks:
        stage.children.asked("fill", python("benchmarks.loads.ours", task.as_argument()))
        if stage.children.ended("fill", PATIENCE_SECONDS) != 0:
            raise Failed(f"{task.kind}: {stage.children.tail('fill')}")


def flooded_by(
    stage: Stage, cluster: Cluster, plan: FloodPlan, *, callers: int = 0, times: float = 0.0, rate: float = 0.0
) -> Step:
    """One load: a closed loop of so many callers in each process, or so many puts per second of all together.

    Raises:
        Failed: a process would not do what it should.
    """
    children = stage.children
    servers = children.pids()
    loads = {}
    for number in range(plan.processes):
        task = Flood(
            cluster.endpoints(),
            callers,
            rate / plan.processes,
            plan.connections,
            plan.timeout_seconds,
            plan.warmup_seconds,
            plan.seconds,
            KEYS,
            plan.value_bytes,
            number,
        )
        loads[f"load-{number}"] = children.asked(f"load-{number}", python("benchmarks.loads.flood", task.as_argument()))
    marks: list[dict[str, float]] = []
    rss: dict[str, int] = {}
    flooded = []
    for name, load in loads.items():
        assert load.stdout is not None
        last = ""
        for line in load.stdout:
            last = line.decode(errors="replace").strip()
            if last in ("begin", "end") and name == "load-0":
                marks.append({server: cpu_seconds_of(pid) for server, pid in servers.items()})
                rss = {server: resident_bytes(pid) for server, pid in servers.items()}
        if children.ended(name, PATIENCE_SECONDS) != 0 or len(marks) != 2:
            raise Failed(f"the load failed: {children.tail(name)}")
        flooded.append(json.loads(last))
    children.check()
    cores = {server: (marks[1][server] - marks[0][server]) / plan.seconds for server in servers}
    return Step(times, rate, plan.seconds, flooded, rss, cores)


def resident_bytes(pid: int) -> int:
    """The memory that a process has resident now; 0 where it cannot be known."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def table(steps: Sequence[Step]) -> Table:
    """A line for each step."""
    head = (
        "offered",
        "offered/s",
        "done/s",
        "of the first step",
        "p50, p99 ms",
        "Overloaded/s",
        "told after p50, p99 ms",
        "retry_after s",
        "OutcomeUnknown",
        "other errors",
        "servers MB",
        "a load process MB",
        "load late ms",
    )
    lines = []
    base = next((each.goodput for each in steps if each.times), 0.0)
    for each in steps:
        flooded = each.flooded
        asked = sum(one["asked"] for one in flooded) / each.seconds
        waits = [one["retry_after"][1] for one in flooded if one["retry_after"]]
        lines.append(
            (
                f"{each.times:g} ×" if each.times else "closed loop",
                f"{asked:,.0f}",
                f"{each.goodput:,.0f}",
                f"{each.goodput / base:.0%}" if each.times and base else "–",
                _both(flooded, "p50_ms", "p99_ms"),
                f"{each.errors('Overloaded') / each.seconds:,.0f}",
                _both(flooded, "error_p50_ms", "error_p99_ms") if each.errors("Overloaded") else "–",
                f"{statistics.median(waits):.2f}" if waits else "–",
                f"{each.errors('OutcomeUnknown'):,}",
                f"{each.other_errors('Overloaded', 'OutcomeUnknown'):,}",
                f"{max(each.server_rss.values(), default=0) / 1e6:.0f}",
                f"{max(one['rss'] for one in flooded) / 1e6:.0f}",
                f"{max(one['late_ms'] for one in flooded):.0f}",
            )
        )
    return Table(head, lines)


def _both(flooded: Sequence[dict[str, Any]], first: str, second: str) -> str:
    return f"{max(one[first] for one in flooded):.1f}, {max(one[second] for one in flooded):.0f}"


def multiples(_: click.Context, __: click.Parameter, text: str) -> tuple[float, ...]:
    """Of saturation, each above 0."""
    try:
        chosen = tuple(float(each) for each in text.split(","))
    except ValueError:
        chosen = (0.0,)
    if min(chosen) <= 0:
        raise click.BadParameter(f"{text!r} is not numbers like 1,2,5,10")
    return chosen


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--times", default="1,2,5,10,1", callback=multiples, help="Of what the closed loop reaches.")
@click.option(
    "--share", default=0.15, type=click.FloatRange(0, 1), help="Of a core for each server; 0: all they can get."
)
@click.option("--processes", default=2, type=click.IntRange(1), help="Of load.")
@click.option("--connections", default=4, type=click.IntRange(1), help="Clerks in each of them.")
@click.option("--callers", default=256, type=click.IntRange(1), help="In each of them, in the closed loop.")
@click.option("--timeout", default=10.0, type=click.FloatRange(0, min_open=True), help="Seconds, of each call.")
@click.option("--warmup", default=5.0, type=click.FloatRange(0), help="Seconds before each step counts.")
@click.option("--seconds", default=15.0, type=click.FloatRange(0, min_open=True), help="Of each step.")
@click.option("--value", default=256, type=click.IntRange(1), help="Bytes of a value.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Results; default: a new directory.")
def command(
    times: tuple[float, ...],
    share: float,
    processes: int,
    connections: int,
    callers: int,
    timeout: float,
    warmup: float,
    seconds: float,
    value: int,
    out: Path | None,
) -> int:
    """Offer far more than can be served, and tell what is done, what is refused, and how.

    Results go to a directory: overload.txt, overload.md, overload.json, and what every process said.
    """
    plan = FloodPlan(processes, connections, callers, timeout, warmup, seconds, value)
    steps: list[Step] = []
    held = f"each server is held to {share:.0%} of a core" if share else "servers take what they can get"
    about = [
        f"{processes} load processes of {connections} Clerks; puts of {value} bytes, timeout {timeout:g} s; {held}",
        f"the closed loop: {callers} callers in each process; every step counts {seconds:g} s after {warmup:g} s",
    ]

    def found() -> Found:
        return Found(
            about,
            [table(steps)] if steps else [],
            {"plan": asdict(plan), "share": share, "steps": [asdict(s) for s in steps]},
        )

    return play("overload", out, lambda stage: overload(stage, plan, times, share, steps), found)
