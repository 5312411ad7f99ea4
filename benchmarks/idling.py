"""An idle controller with many groups: what it costs that nothing changes, and how often it is asked.

Source: issue 4, with 100 groups an idle controller needs less than 5 % of a core. Knows nothing of how groups learn of
configurations.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.children import Failed
from benchmarks.loads.idle_groups import Crowd
from benchmarks.machine import cpu_seconds_of
from benchmarks.peers.cluster import Cluster
from benchmarks.peers.peer import python
from benchmarks.report import Table
from benchmarks.stage import Stage
from benchmarks.tasks import PATIENCE_SECONDS

CONTROLLERS = 3


@dataclass(frozen=True)
class Idle:
    """What was seen with so many groups.

    Attributes:
        cores: controller → share of a core that it used.
        calls_per_second: verb → calls of all groups together.
        groups_cores: what the process of all the groups used.
    """

    groups: int
    seconds: float
    cores: dict[str, float]
    calls_per_second: dict[str, float]
    groups_cores: float


def idle(stage: Stage, groups: int, seconds: float) -> Idle:
    """Measure, with controllers of its own that are stopped afterwards.

    Raises:
        Failed: a process would not do what it should.
    """
    cluster, children = Cluster([], CONTROLLERS), stage.children
    directory = stage.servers / f"idle-{groups}"
    try:
        cluster.start(children, directory)
        controllers = children.pids()
        crowd = Crowd(cluster.endpoints(), str(directory), groups, seconds)
        load = children.asked("crowd", python("benchmarks.loads.idle_groups", crowd.as_argument()))
        marks: list[dict[str, float]] = []
        last = ""
        assert load.stdout is not None
        for line in load.stdout:
            last = line.decode(errors="replace").strip()
            if last in ("begin", "end"):
                marks.append({name: cpu_seconds_of(pid) for name, pid in (controllers | {"crowd": load.pid}).items()})
        status = children.ended("crowd", PATIENCE_SECONDS)
        children.check()
        if status != 0 or len(marks) != 2:
            raise Failed(f"the groups ended with status {status}: {children.tail('crowd')}")
    finally:
        children.stop()
    used = {name: (marks[1][name] - marks[0][name]) / seconds for name in marks[0]}
    crowd_used = used.pop("crowd")
    calls = {verb: count / seconds for verb, count in sorted(json.loads(last).items())}
    return Idle(groups, seconds, used, calls, crowd_used)


def idle_table(found: list[Idle]) -> Table:
    """A line for each number of groups."""
    head = ("idle groups", "controller that uses most, % of a core", "all controllers, %", "calls of groups/s")
    lines = []
    for each in found:
        used = each.cores.values()
        calls = sum(each.calls_per_second.values())
        lines.append((str(each.groups), f"{100 * max(used):.1f}", f"{100 * sum(used):.1f}", f"{calls:,.1f}"))
    return Table(head, lines)
