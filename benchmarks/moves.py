"""A large shard that moves between two groups under load: how long its keys are out of service, and what others feel.

Source: issue 4: a shard of 256 MB, at a quarter to half of saturation; longest unavailability of its keys under 200 ms,
p99 of keys that do not move under twice the normal one; resumes after the death of either leader. Decides when a leader
is killed.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from benchmarks.children import Failed
from benchmarks.loads.moving import Move
from benchmarks.peers.cluster import Cluster
from benchmarks.peers.peer import python
from benchmarks.report import Table
from benchmarks.stage import Found, Stage, play
from benchmarks.tasks import PATIENCE_SECONDS

GIVER, TAKER = 100, 200
GIDS: Final = {"giver": GIVER, "taker": TAKER}
DOWN_SECONDS: Final = 1.0
CALM: Final = "nobody"


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        kills: of each round, whose leader is killed when half of the shard has come: CALM, "giver" or "taker".
    """

    kills: tuple[str, ...]
    keys: int
    value_bytes: int
    share: float
    calm_seconds: float
    saturation_seconds: float


@dataclass(frozen=True)
class Sample:
    """One round.

    Attributes:
        moved: what the load said (loads/moving.Moved).
        status: what ``twisted-kv status`` said of the shard on its way, in a round in which somebody was killed.
        rss: server → the most memory it ever had, in bytes, at the end.
    """

    killed: str
    moved: dict[str, Any]
    status: list[Any] = field(default_factory=list)
    rss: dict[str, int] = field(default_factory=dict)


def moving(stage: Stage, plan: Plan, killed: str, number: int) -> Sample:
    """One round, with a cluster of its own.

    Raises:
        Failed: a process would not do what it should.
    """
    cluster, children, status = Cluster([GIVER, TAKER]), stage.children, []
    directory = stage.servers / f"round-{number}"
    try:
        cluster.start(children, directory)
        cluster.join([GIVER, TAKER])
        move = Move(
            cluster.endpoints(),
            (*cluster.servers(GIVER), *cluster.servers(TAKER)),
            GIVER,
            TAKER,
            plan.keys,
            plan.value_bytes,
            plan.share,
            plan.saturation_seconds,
            plan.calm_seconds,
        )
        load = children.asked("load", python("benchmarks.loads.moving", move.as_argument()))
        last = ""
        assert load.stdout is not None
        for line in load.stdout:
            last = line.decode(errors="replace").strip()
            if last == "half" and killed != CALM:
                status = arriving(cluster.status())
                stage.told(f"half has come: {status}")
                end(stage, cluster, directory, GIDS[killed])
        if children.ended("load", PATIENCE_SECONDS) != 0:
            raise Failed(f"the load failed: {children.tail('load')}")
        children.check()
        rss = {name: peak_bytes(pid) for name, pid in children.pids().items()}
    finally:
        children.stop()
    return Sample(killed, json.loads(last), status, rss)


def end(stage: Stage, cluster: Cluster, directory: Path, gid: int) -> None:
    """SIGKILL for the leader of a group; it is started again a little later."""
    leader = cluster.leader(gid)
    stage.told(f"{leader} is killed")
    stage.children.signal(leader, signal.SIGKILL)
    stage.children.ended(leader, PATIENCE_SECONDS)
    time.sleep(DOWN_SECONDS)
    stage.children.start(leader, cluster.commands(directory)[leader])


def arriving(status: Any) -> list[Any]:
    """What is on its way, as members of the taker say."""
    return [copy for member in status["groups"].get(str(TAKER), ()) for copy in member.get("arriving", ())]


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had resident; 0 where it cannot be known."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def table(samples: Sequence[Sample]) -> Table:
    """A column for each round."""
    rows: list[tuple[str, list[str]]] = [
        ("rate of puts/s (of what a closed loop reached)", [_rate(each.moved) for each in samples]),
        ("the move took, s", [f"{each.moved['move_seconds']:.1f}" for each in samples]),
        ("longest time without an answer of its keys, ms", [f"{each.moved['gap_ms']:.0f}" for each in samples]),
        ("greatest latency of its keys, ms", [f"{each.moved['meanwhile']['moved']['max_ms']:.0f}" for each in samples]),
    ]
    for stream, title in (("giver", "group it leaves"), ("taker", "group it comes to")):
        rows.append((f"p99 of others, {title}: before → meanwhile, ms", [_p99(each.moved, stream) for each in samples]))
    for stream, title in (("giver", "group it leaves"), ("taker", "group it comes to")):
        ratios = [_ratio(each.moved, stream) for each in samples]
        rows.append((f"p99 of others, {title}: times the normal one", ratios))
    rows += [
        ("longest stall of a server, ms", [f"{max(each.moved['stalls_ms'].values()):.0f}" for each in samples]),
        ("most memory of a server, MB", [f"{max(each.rss.values()) / 1e6:.0f}" for each in samples]),
        ("keys checked, with a wrong value", [f"{each.moved['checked']:,}, {each.moved['lost']}" for each in samples]),
        ("appends, wrong", [f"{each.moved['appends']:,}, {each.moved['appends_wrong']}" for each in samples]),
        ("failed calls", [", ".join(f"{n} {k}" for k, n in each.moved["errors"].items()) or "0" for each in samples]),
    ]
    head = ("killed in the middle: leader of the", *(each.killed for each in samples))
    return Table(head, [(title, *cells) for title, cells in rows])


def _rate(moved: Any) -> str:
    return f"{moved['rate']:,.0f} ({moved['rate'] / moved['saturation']:.0%})"


def _p99(moved: Any, stream: str) -> str:
    return f"{moved['calm'][stream]['p99_ms']:.1f} → {moved['meanwhile'][stream]['p99_ms']:.1f}"


def _ratio(moved: Any, stream: str) -> str:
    return f"{moved['meanwhile'][stream]['p99_ms'] / moved['calm'][stream]['p99_ms']:.2f}"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--kill", "kills", multiple=True, type=click.Choice([CALM, *GIDS]), help="A round each; default: all.")
@click.option("--keys", default=1_000_000, type=click.IntRange(1), help="In the shard that moves.")
@click.option("--value", default=256, type=click.IntRange(24), help="Bytes of a value.")
@click.option("--share", default=0.33, type=click.FloatRange(0, 1, min_open=True), help="Of saturation.")
@click.option("--calm", default=10.0, type=click.FloatRange(1), help="Seconds of load before the move, and after it.")
@click.option("--saturation", default=5.0, type=click.FloatRange(1), help="Seconds of the closed loop.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Results; default: a new directory.")
def command(
    kills: tuple[str, ...], keys: int, value: int, share: float, calm: float, saturation: float, out: Path | None
) -> int:
    """Move a large shard between two groups under load, and tell what is felt of it.

    Results go to a directory: moving.txt, moving.md, moving.json, and what every process said.
    """
    plan = Plan(kills or (CALM, *GIDS), keys, value, share, calm, saturation)
    samples: list[Sample] = []

    def act(stage: Stage) -> None:
        for number, killed in enumerate(plan.kills, 1):
            samples.append(moving(stage, plan, killed, number))
            stage.told(f"round {number}, {killed} killed: {samples[-1].moved['gap_ms']:.0f} ms")

    about = [
        f"a shard of {keys:,} values of {value} bytes moves while puts go on at {share:.0%} of what a closed loop "
        "reaches, a third of them to its keys"
    ]

    def found() -> Found:
        facts = {"plan": asdict(plan), "rounds": [asdict(sample) for sample in samples]}
        return Found(about, [table(samples)] if samples else [], facts)

    return play("moving", out, act, found)
