"""The command ``twisted-kv explore``."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from twisted_kv.admin.cli import cli
from twisted_kv.consensus.raft import election
from twisted_kv.simulation.explorer.cluster import Cluster
from twisted_kv.simulation.explorer.cores import CORES
from twisted_kv.simulation.explorer.run import PLANS, budgets_from


def explored(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["explore", *arguments], standalone_mode=False)
    return result.return_value if result.exception is None else 2, result.output + str(result.exception or "")


def test_a_search_prints_its_layers_and_its_end() -> None:
    status, output = explored("--budget", "elections=1")
    assert status == 0
    assert "budget: core raft, 3 nodes, elections=1\n" in output
    assert "1 spent" in output and "states visited, depth 1, exhausted (" in output and "node states" in output


def test_breadth_first_to_a_depth() -> None:
    status, output = explored("--budget", "elections=2", "--depth", "4", "--walks", "3", "--walk-depth", "20")
    assert status == 0
    assert "  4 steps" in output and "depth 4, bound reached" in output and "seed 1: 3 walks, " in output


def test_a_violation_is_told_with_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "is_up_to_date", lambda state, index, term: 1 // 0)
    status, output = explored("--budget", "elections=1")
    assert status == 1
    assert "   1  1 times out\n" in output
    assert "assertion: ZeroDivisionError in <lambda>" in output
    assert "again: twisted-kv explore --core raft --budget elections=1\n" in output


@pytest.mark.parametrize("arguments", [("--core", "none"), ("--plan", "none"), ("--budget", "tides=1")])
def test_what_is_not_there_is_refused(arguments: tuple[str, ...]) -> None:
    status, output = explored(*arguments)
    assert (status == 2 and "none" in output) or "tides" in output


def test_budgets_are_read() -> None:
    assert budgets_from("elections=2,reads=1") == {"elections": 2, "reads": 1}
    for text in ("elections", "elections=x", "=1", "tides=1"):
        with pytest.raises(ValueError, match="is not KIND=COUNT"):
            budgets_from(text)


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_can_be_begun(name: str) -> None:
    model = Cluster(CORES["raft"], PLANS[name])
    assert list(model.steps(model.initial()))
