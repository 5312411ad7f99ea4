"""What people see of many lives, and by which exit status they know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from twisted_kv.admin import render, simulating
from twisted_kv.admin.cli import cli
from twisted_kv.admin.running import Status
from twisted_kv.simulation.doors.rare import RARE, SELDOM
from twisted_kv.simulation.judges.checkers import EQUAL, Violation
from twisted_kv.simulation.lives import campaign, run
from twisted_kv.simulation.lives.reports import Report

BAD = (Violation(EQUAL, "x differs"),)


class Stage:
    """Lives that are over at once: ``wrong`` and ``void`` name the seeds that are not ok."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.wrong: set[int] = set()
        self.void: set[int] = set()
        self.reached: dict[str, int] = {}
        self.interrupted_at: int | None = None

    def run_seed(self, seed: int, plan: Any, sink: Any = None) -> Report:
        if seed == self.interrupted_at:
            raise KeyboardInterrupt
        if sink is not None:
            sink("an event")
        wrong, void = BAD if seed in self.wrong else (), "no load" if seed in self.void else ""
        return Report(seed, plan.name, wrong, (), f"digest{seed}", {"calls": 9.0, "faults": 1.0}, self.reached, void)

    def kv(self, *arguments: str) -> int:
        self.lines.clear()
        status: int = cli.main(args=["simulate", *arguments], standalone_mode=False)
        return status

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage()
    monkeypatch.setattr(run, "run_seed", stage.run_seed)
    monkeypatch.setattr(simulating, "run_seed", stage.run_seed)
    monkeypatch.setattr(simulating, "be_silent", lambda: None)
    monkeypatch.setattr(render, "write_line", stage.lines.append)
    yield stage


def test_a_sweep_shows_a_summary_and_nothing_of_what_is_ok(stage: Stage) -> None:
    assert stage.kv("--seeds", "5") == Status.DONE
    assert "seed 1" not in stage.text
    assert stage.lines[0].split() == ["plan", "lives", "violated", "void", "calls", "faults"]
    assert stage.lines[1].split() == ["everything", "5", "0", "0", "45", "5"]
    assert stage.lines[-1].startswith("5 lives in ")
    assert stage.lines[-1].endswith(": 0 violated, 0 void")


def test_what_failed_is_told_with_the_command_that_replays_it(stage: Stage) -> None:
    """Contract §2, simulate: seed, command, exit status 1."""
    stage.wrong = {3}
    assert stage.kv("--seeds", "5", "--plan", "lossy") == Status.NO
    assert "seed 3, plan lossy: VIOLATION\n  equal digests: x differs" in stage.text
    assert "twisted-kv simulate --seed 3 --plan lossy --trace" in stage.text
    assert stage.lines[-1] == "FAILED: 1 lives with violations"


def test_a_few_void_lives_are_named_and_more_fail(stage: Stage) -> None:
    """Too little load is not green."""
    stage.void = {3}
    assert stage.kv("--seeds", "60") == Status.DONE
    assert "seed 3, plan everything: void: no load" in stage.text
    assert stage.kv("--seeds", "5") == Status.NO
    assert stage.kv("--seed", "3") == Status.NO


def test_all_plans_in_turn_from_a_given_seed(stage: Stage) -> None:
    count = len(run.PLANS)
    assert stage.kv("--plan", "all", "--seeds", str(count), "--from", "1000", "--digests") == Status.DONE
    assert sorted(line.split()[0] for line in stage.lines) == sorted(run.PLANS)
    assert sorted(int(line.split()[1]) for line in stage.lines) == list(range(1000, 1000 + count))
    assert stage.lines[0].split()[2] == f"digest{stage.lines[0].split()[1]}"


def test_new_seeds_are_drawn_and_printed(stage: Stage) -> None:
    assert stage.kv("--new-seeds", "--seeds", "1", "--digests") == Status.DONE
    first = stage.lines[0]
    assert stage.lines[1].split()[1] == first.split()[2]
    stage.kv("--new-seeds", "--seeds", "1", "--digests")
    assert stage.lines[0] != first


def test_minutes_bound_a_sweep(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded by the wall clock, which is read here and in no life."""
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(simulating.time, "monotonic", lambda: float(next(clock)))
    assert stage.kv("--minutes", "1") == Status.DONE
    assert 1 <= int(stage.lines[-1].split()[0]) <= 6


def test_a_sweep_that_demands_rare_events_goes_on_as_long_again_for_them(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sweep(*arguments: str) -> int:
        clock = iter(range(0, 10_000, 10))
        monkeypatch.setattr(simulating.time, "monotonic", lambda: float(next(clock)))
        stage.kv("--minutes", "1", "--plan", "all", *arguments)
        return next(int(line.split()[0]) for line in stage.lines if " lives in " in line)

    bounded = sweep()
    longer = sweep("--demand-rare")
    assert longer > bounded
    stage.reached = dict.fromkeys(RARE, 1)
    assert sweep("--demand-rare") == bounded


def test_rare_events_that_were_never_reached(stage: Stage) -> None:
    stage.reached = {next(iter(RARE)): 2}
    assert stage.kv("--seeds", "100") == Status.DONE
    assert f"never reached: {list(RARE)[1]}" in stage.text
    assert stage.kv("--seeds", "3", "--plan", "all", "--demand-rare") == Status.NO
    demanded = [name for name in RARE if name not in SELDOM]
    assert stage.lines[-1] == f"FAILED: never reached: {', '.join(demanded[1:])}"
    stage.reached = dict.fromkeys(demanded, 1)
    assert stage.kv("--seeds", "100", "--plan", "all", "--demand-rare") == Status.DONE
    assert "never reached" not in stage.text


def test_ctrl_c_shows_what_was_done_so_far(stage: Stage) -> None:
    stage.interrupted_at = 4
    assert stage.kv("--seeds", "9") == Status.INTERRUPTED
    assert "3 lives in" in stage.text
    stage.wrong = {2}
    assert stage.kv("--seeds", "9") == Status.NO


def test_one_life_and_every_event_of_it(stage: Stage) -> None:
    assert stage.kv("--seed", "7", "--trace") == Status.DONE
    assert stage.lines == ["an event", "seed 7, plan everything: ok (calls 9, faults 1)"]
    stage.wrong = {7}
    assert stage.kv("--seed", "7", "--plan", "calm") == Status.NO


def test_a_campaign_goes_on_and_is_shown(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(campaign, "program_digest", lambda: "aaa")
    monkeypatch.setattr(simulating, "program_digest", lambda: "aaa")
    file = str(tmp_path / "lives.jsonl")
    assert stage.kv("--campaign", file, "--seeds", "5") == Status.DONE
    assert stage.kv("--campaign", file, "--seeds", "8") == Status.DONE
    assert stage.lines[0] == "program aaa: 5 lives on record, 3 to go"
    assert stage.kv("--campaign", file, "--report") == Status.DONE
    assert stage.lines[0] == "program aaa, plan everything, seeds 1-8"
    stage.wrong = {9}
    assert stage.kv("--campaign", file, "--seeds", "9") == Status.NO
    assert stage.kv("--campaign", file, "--report") == Status.NO
    assert stage.kv("--campaign", str(tmp_path / "none"), "--report") == Status.NO
    (tmp_path / "other").write_text("shopping\n")
    for more in ("--report",), ("--seeds", "1"):
        with pytest.raises(click.ClickException, match="is no campaign"):
            stage.kv("--campaign", str(tmp_path / "other"), *more)


def test_a_campaign_that_is_done_is_no_failure(stage: Stage, tmp_path: Path) -> None:
    file = str(tmp_path / "lives.jsonl")
    assert stage.kv("--campaign", file, "--seeds", "5") == Status.DONE
    assert stage.kv("--campaign", file, "--seeds", "5") == Status.DONE


def test_a_report_fails_for_any_plan_of_the_last_program(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = str(tmp_path / "lives.jsonl")

    def lived(program: str, plan: str, *wrong: int) -> None:
        monkeypatch.setattr(campaign, "program_digest", lambda: program)
        stage.wrong = set(wrong)
        stage.kv("--campaign", file, "--seeds", "2", "--plan", plan)

    lived("aaa", "calm", 1)
    lived("aaa", "cores")
    assert stage.kv("--campaign", file, "--report") == Status.NO
    assert stage.lines[-1] == "FAILED: plan calm: 1 lives with violations"
    assert stage.kv("--campaign", file, "--report", "--plan", "cores") == Status.DONE
    assert "plan calm" not in stage.text
    lived("bbb", "cores")
    assert stage.kv("--campaign", file, "--report") == Status.DONE
    assert stage.kv("--campaign", file, "--report", "--plan", "wipes") == Status.NO


def test_an_interrupted_campaign_is_judged_by_all_that_is_on_record(stage: Stage, tmp_path: Path) -> None:
    file = str(tmp_path / "lives.jsonl")
    stage.wrong = {2}
    assert stage.kv("--campaign", file, "--seeds", "3") == Status.NO
    stage.interrupted_at = 5
    assert stage.kv("--campaign", file, "--seeds", "9") == Status.NO
    assert stage.lines[-1] == "interrupted, and 1 lives with violations"


def test_a_campaign_that_cannot_be_written_lives_nothing(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match=r"x\.jsonl: No such file or directory"):
        stage.kv("--campaign", str(tmp_path / "none" / "x.jsonl"), "--seeds", "2")
    assert stage.lines == []


def test_a_campaign_that_can_be_written_no_more_ends_with_a_line(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(campaign.Campaign, "left", lambda *_: [1, 2])
    with pytest.raises(click.ClickException, match=r"x\.jsonl: No such file or directory"):
        stage.kv("--campaign", str(tmp_path / "gone" / "x.jsonl"), "--seeds", "2")


def test_who_reads_no_more_is_not_taken_for_the_campaign(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.wrong = {1}
    monkeypatch.setattr(simulating, "say", lambda text: (_ for _ in ()).throw(BrokenPipeError))
    with pytest.raises(BrokenPipeError):
        stage.kv("--seeds", "2")


def test_a_campaign_that_is_done_shows_what_is_on_record(stage: Stage, tmp_path: Path) -> None:
    file = str(tmp_path / "lives.jsonl")
    for _ in range(2):
        assert stage.kv("--campaign", file, "--seeds", "5") == Status.DONE
        assert stage.lines[2].split()[:2] == ["everything", "5"]


def test_bytes_are_no_campaign(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"\xab\xcd\n")
    with pytest.raises(click.ClickException, match="other is no campaign"):
        stage.kv("--campaign", str(tmp_path / "other"), "--seeds", "1")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seed", "1", "--seeds", "2"],
        ["--seed", "1", "--minutes", "2"],
        ["--seed", "1", "--from", "2"],
        ["--seed", "0", "--new-seeds"],
        ["--from", "3", "--new-seeds"],
        ["--seed", "1", "--campaign", "x"],
        ["--campaign", "x", "--new-seeds", "--seeds", "1"],
        ["--campaign", "x"],
        ["--trace"],
        ["--report"],
        ["--plan", "nonsense"],
        ["--demand-rare", "--plan", "calm"],
        ["--demand-rare"],
        ["--seed", "1", "--plan", "all", "--demand-rare"],
        ["--campaign", "x", "--report", "--plan", "all", "--demand-rare"],
        ["--campaign", "x", "--report", "--minutes", "1"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_together_is_refused(stage: Stage, arguments: list[str]) -> None:
    """Nothing that was typed is dropped in silence."""
    with pytest.raises(click.UsageError):
        stage.kv(*arguments)
    assert stage.lines == []
