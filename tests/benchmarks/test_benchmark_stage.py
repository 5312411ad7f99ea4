"""A measurement ends in order, and its results are written however it ends; a cluster of any shape is described."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from benchmarks.children import Failed
from benchmarks.command import Ended
from benchmarks.peers.cluster import Cluster
from benchmarks.report import Table
from benchmarks.stage import Found, Stage, play


def found() -> Found:
    return Found(["what was done"], [Table(("head", "n"), [("line", "1")])], {"facts": 1})


@pytest.mark.parametrize(
    ("raised", "status", "words"),
    [(None, 0, "what was done"), (Failed("no such thing"), 1, "FAILED: no such thing"), (Ended(2), 130, "ended early")],
)
def test_results_are_written_however_it_ends(
    tmp_path: Path, raised: BaseException | None, status: int, words: str
) -> None:
    def act(stage: Stage) -> None:
        (stage.servers / "data").write_text("x")
        if raised is not None:
            raise raised

    assert play("name", tmp_path / "out", act, found) == status
    assert words in (tmp_path / "out" / "name.txt").read_text()
    assert "| line | 1 |" in (tmp_path / "out" / "name.md").read_text()
    assert json.loads((tmp_path / "out" / "name.json").read_text())["samples"] == {"facts": 1}
    assert not (tmp_path / "out" / "servers").exists()


def test_every_process_is_stopped(tmp_path: Path) -> None:
    stages: list[Stage] = []

    def act(stage: Stage) -> None:
        stages.append(stage)
        stage.children.start("sleeper", ["sleep", "600"])
        raise Ended(signal.SIGTERM)

    assert play("name", tmp_path, act, found) == 128 + signal.SIGTERM
    assert stages[0].children.pids() == {}


def test_every_server_knows_its_peers_and_the_controllers(tmp_path: Path) -> None:
    cluster = Cluster([100, 200], controllers=2, replicas=3)
    commands = cluster.commands(tmp_path)
    groups = [f"group-{gid}-{node}" for gid in (100, 200) for node in (1, 2, 3)]
    assert list(commands) == ["controller-1", "controller-2", *groups]
    words = commands["group-200-3"]
    assert "kv-group" in words and "--gid=200" in words and "--node=3" in words
    assert [word for word in words if word.startswith("--controller=")] == [
        f"--controller={endpoint}" for endpoint in cluster.endpoints()
    ]
    assert [word.partition("=")[2] for word in words if word.startswith("--peer=")] == [
        f"{node}={endpoint}" for node, endpoint in enumerate(cluster.servers(200), 1)
    ]
    assert len({*cluster.endpoints(), *cluster.servers(100), *cluster.servers(200)}) == 8
