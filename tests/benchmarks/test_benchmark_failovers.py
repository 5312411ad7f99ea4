"""The order of ends and starts, with processes that never were."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from paper_children import PaperChildren

from benchmarks import failovers
from benchmarks.children import Failed
from benchmarks.failovers import CALM_SECONDS, DOWN_SECONDS, Plan, Record, Run, table
from benchmarks.peers.peer import Missing, Replicated
from benchmarks.tasks import Outcome, Task

PLAN = Plan(rounds=2, times=2, signum=signal.SIGKILL, period_seconds=5.0, clients=4, value_bytes=8)


class World(PaperChildren):
    """Time, and processes that write down what becomes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.gaps: list[list[float]] = []
        self.latencies = [5_000]

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    # Children:

    def asked(self, name: str, command: list[str]) -> Any:
        self.happened.append(" ".join(command))
        return SimpleNamespace(stdout=io.BytesIO(b"begin\n"))

    def said(self, name: str) -> list[str]:
        return ["end", Outcome(1.0, 0.0, self.latencies, gaps=self.gaps, first_error="refused").as_line()]

    def ended(self, name: str, seconds: float) -> int:
        return self.status if name.endswith("load") else -9

    def start(self, name: str, command: list[str]) -> None:
        self.happened.append(f"{self.now:g} {name} {' '.join(command)}")

    def signal(self, name: str, signum: int) -> None:
        self.happened.append(f"{self.now:g} {name} {signum}")


class Pair(Replicated):
    title: ClassVar[str] = "a pair"
    promises: ClassVar[str] = ""

    def __init__(self, name: str, leaders: str = "1212", missing: str = "") -> None:
        self.name = name  # type: ignore[misc]
        self._leaders = iter(leaders)
        self._missing = missing

    def prepare(self, directory: Path) -> str:
        if self._missing:
            raise Missing(self._missing)
        return "1.0"

    def commands(self, directory: Path) -> dict[str, list[str]]:
        return {f"{self.name}{node}": ["serve", directory.name] for node in "12"}

    def leader(self) -> str:
        node = next(self._leaders, "")
        if not node:
            raise Failed("no member leads")
        return f"{self.name}{node}"

    def joined(self, children: Any) -> None:
        children.happened.append(f"{self.name} joined")

    def endpoints(self) -> tuple[str, ...]:
        return ()

    def load(self, task: Task) -> list[str]:
        return [self.name, task.kind]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(failovers, "time", world)
    return world


def run(world: World, tmp_path: Path, *peers: Pair) -> Record:
    record = Record()
    Run(PLAN, peers, tmp_path, world, record, lambda _: None).go()  # type: ignore[arg-type]
    return record


def test_the_leader_of_the_moment_ends_and_is_started_again(world: World, tmp_path: Path) -> None:
    record = run(world, tmp_path, Pair("a"), Pair("b"))
    started = ["1000 a1 serve a", "1000 a2 serve a", "a joined", "a ready", "a put"]
    first, second = 1000 + CALM_SECONDS, 1000 + CALM_SECONDS + PLAN.period_seconds
    ends = [
        f"{first:g} a1 9",
        f"{first + DOWN_SECONDS:g} a1 serve a",
        f"{second:g} a2 9",
        f"{second + DOWN_SECONDS:g} a2 serve a",
        "stop",
    ]
    assert world.happened[: len(started) + len(ends)] == started + ends
    assert [(each.system, each.round) for each in record.silences] == [
        (name, number) for number in range(2) for name in "aabb"
    ]
    assert sum("joined" in line for line in world.happened) == 2, "once each"


def test_gaps_are_those_of_the_period(world: World, tmp_path: Path) -> None:
    begins = 1000 + CALM_SECONDS
    world.gaps = [[begins, begins + 0.4], [begins + 5.0, begins + 5.7]]
    record = run(world, tmp_path, Pair("a"))
    assert [each.next_ms for each in record.silences][:2] == pytest.approx([400.0, 700.0])
    (line,) = table([Pair("a")], record).lines
    assert line[:2] == ("a pair", "4")
    assert line[4:] == ("700", "700", "5")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 1}, "the load ended with status 1: its last words"),
        ({"latencies": []}, "nothing was answered: refused"),
    ],
)
def test_what_fails_is_out_of_the_run_with_a_reason(
    world: World, tmp_path: Path, fault: dict[str, Any], reason: str
) -> None:
    vars(world).update(fault)
    record = run(world, tmp_path, Pair("a"))
    assert record.reasons == {"a": f"round 1: {reason}"}
    assert world.happened[-1] == "stop"
    (line,) = table([Pair("a")], record).lines
    assert reason in line[0]


def test_nobody_who_leads_and_nothing_to_start(world: World, tmp_path: Path) -> None:
    record = run(world, tmp_path, Pair("a", leaders="1"), Pair("b", missing="install it"), Pair("c"))
    assert record.reasons == {"a": "round 1: no member leads", "b": "install it"}
    assert {each.system for each in record.silences} == {"c"}


def test_the_command_reports_what_it_found(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failovers, "PEERS", {"a": lambda: Pair("a"), "b": lambda: Pair("b", missing="install it")})
    monkeypatch.setattr(failovers, "Children", lambda logs: world)
    options = ["--peers", "a,b", "--rounds", "1", "--times", "2", "--signal", "TERM", "--out", str(tmp_path)]
    found = CliRunner().invoke(failovers.command, options, standalone_mode=False)
    assert found.return_value == 1, found.output
    assert "SIGTERM to the leader every 5 s, 1 × 2 times" in found.output
    assert json.loads((tmp_path / "failover.json").read_text())["reasons"] == {"b": "install it"}
    assert "| a pair |" in (tmp_path / "failover.md").read_text()
    assert CliRunner().invoke(failovers.command, ["--peers", "x"]).exit_code == 2
