"""Whole lives: every plan, the same again for the same seed, and mutants that must not survive."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from small_lives import SMALL
from twisted.internet.task import deferLater
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from twisted_kv.replica.checkpoints import Checkpoints
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.knobs import USUAL
from twisted_kv.simulation.faults.nemesis import PLANS, Hints, Plan
from twisted_kv.simulation.lives import life as life_module
from twisted_kv.simulation.lives.life import ENDINGS, Life, draw_shape, run_seed
from twisted_kv.simulation.lives.workload import Administrator
from twisted_kv.storage.log_store import LogStore


@pytest.fixture(autouse=True)
def faults_are_logged(logged_errors):
    """Injected faults are; run_seed itself judges what was logged."""
    yield
    logged_errors.clear()


@pytest.fixture
def small(monkeypatch):
    """Lives that are short and alike."""
    monkeypatch.setattr(life_module, "draw_shape", lambda random, plan: SMALL)


@pytest.mark.parametrize("name", PLANS)
def test_a_life_by_each_plan(name):
    """Hazards §3 rung 3: safety while things go wrong, liveness when they are healed."""
    report = run_seed(2, PLANS[name])
    assert not report.violations, str(report)
    assert report.figures["calls"] > 50


def test_one_seed_gives_one_trace():
    """House, four doors: a seed reproduces a run exactly, in another process and with other string hashes too."""
    here = run_seed(2, PLANS["everything"]).digest
    assert run_seed(2, PLANS["everything"]).digest == here
    program = (
        "from twisted_kv.simulation.lives.run import PLANS, run_seed; print(run_seed(2, PLANS['everything']).digest)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == here
    assert run_seed(2, PLANS["lossy"]).digest != here


def claim_a_later_checkpoint(monkeypatch):
    """Hazard 18: the rows stand at one index and say another."""
    write = Checkpoints._write

    async def written(self, changes, index, term):
        await write(self, changes, index + 1, term)

    monkeypatch.setattr(Checkpoints, "_write", written)


def vote_without_saving(monkeypatch):
    """Hazard 1."""
    save = LogStore.save
    without = msgspec.structs.replace
    monkeypatch.setattr(LogStore, "save", lambda self, ready: save(self, without(ready, hard_state=None)))


@pytest.mark.parametrize("mutant", [claim_a_later_checkpoint, vote_without_saving])
def test_a_mutant_does_not_survive(mutant, small, monkeypatch):
    """Hazards §3 rung 4: seeds without mutants prove little. More of them: test_sim_checkers, tests/mutants."""
    mutant(monkeypatch)
    assert any(run_seed(seed, PLANS["crashes"]).violations for seed in range(1, 9))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("plan", ["calm", "crashes"])
def test_each_way_in_which_faults_stop(ending, plan, small, monkeypatch):
    """Issue: a random majority heals; no acknowledged write is lost after a total restart."""
    told = lived(monkeypatch, plan, ending=ending, apart_from_clients=plan == "calm")
    assert ("the rest heals" in told, "the power fails" in told) == (
        ending == "a majority heals",
        ending == "the power fails",
    )


def lived(monkeypatch, plan, **shape):
    """What was told of a life that is ok."""
    monkeypatch.setattr(life_module, "draw_shape", lambda random, plan: msgspec.structs.replace(SMALL, **shape))
    told = []
    report = run_seed(1, PLANS[plan], lambda event: told.append(event.what))
    assert report.verdict == "ok", str(report)
    return told


def test_calls_are_not_left_waiting_for_groups_that_have_all_left(monkeypatch):
    """Regression churn 149: the last change of the last administrator."""

    async def leaves_at_last(self):
        await deferLater(self._clock, SMALL.seconds - 0.5)
        await self._clerk.leave(self._groups, timeout=5.0)
        self.changes, self.idle = 1, True

    monkeypatch.setattr(Administrator, "_live", leaves_at_last)
    lived(monkeypatch, "churn")


@pytest.mark.parametrize(("seconds", "warm", "why"), [(0.1, 0.5, "during the faults"), (3.0, 0.0, "before the faults")])
def test_a_life_with_too_little_load_is_void(seconds, warm, why, small, monkeypatch):
    """Hazards §1, habit e: neither green nor a violation."""
    monkeypatch.setattr(life_module, "WARM_SECONDS", warm)
    monkeypatch.setattr(life_module, "LONGER_SECONDS", 0.0)
    shape = msgspec.structs.replace(SMALL, seconds=seconds)
    monkeypatch.setattr(life_module, "draw_shape", lambda random, plan: shape)
    report = run_seed(1, PLANS["calm"])
    assert (report.verdict, report.violations) == ("void", ())
    assert why in report.void


def test_what_is_told_of_a_life_can_be_read(small):
    """Issue: a timeline a person can read. What is logged is told with its figures filled in."""
    told = []
    run_seed(1, PLANS["crashes"], told.append)
    text = "\n".join(map(str, told))
    assert re.search(r"g10\d-\d +Standing: leader in term \d+, leader \d", text)
    # Keys have braces, which say where they live.
    assert "{" not in "".join(event.what for event in told if not event.what.startswith("["))
    assert any(re.match(r"\[\d+ append\(.*\) \d+\] -> None", event.what) for event in told)
    assert "/" not in "".join(event.what for event in told if event.what.startswith("Stopped"))


def test_plans_and_hints_shape_lives():
    """What a plan wishes is drawn, and what is gentle has knobs as usual."""

    def shapes(plan):
        return [draw_shape(World(seed).random_for("shape"), plan) for seed in range(60)]

    assert {shape.ending for shape in shapes(PLANS["everything"])} == set(ENDINGS)
    assert {shape.knobs for shape in shapes(PLANS["calm"])} == {USUAL}
    wish = Plan("x", {"crash": 1.0}, shape=Hints(controllers=(5,), groups=(1,), members=(5,), reads=0.9, rivals=True))
    shape = shapes(wish)[0]
    assert (shape.controllers, shape.groups, shape.reads, shape.rivals) == (5, {100: 5}, 0.9, {100: 5})
    alone = shapes(Plan("y", shape=Hints(one_process=True)))
    assert "a majority heals" not in {shape.ending for shape in alone}
    for shape in shapes(wish):
        settings, drift = shape.knobs.settings, shape.knobs.drift
        assert settings.heartbeat_ticks / (1 - drift) < settings.election_ticks / (1 + drift)


def test_a_process_that_was_killed_says_nothing_more(tmp_path):
    """Regression moves 11: a fault may strike in the middle of a call, and the call goes on to its end."""
    life = Life(World(1), PLANS["calm"], SMALL, str(tmp_path))
    event = {"log_level": LogLevel.critical, "log_format": "broke", "log_failure": Failure(ValueError("x"))}
    life.world.run_for(1.0)
    life.world.clock.callLater(0.0, life._cluster.kill, "g100-1")
    life.world.run_for(0.1)
    for name, count in (("g100-1", 0), ("g100-2", 1)):
        life.world.clock.running = name
        life.heard(event)
        assert len(life.wrong) == count
    life.end()


def regressions():
    """Lives that failed once: plan, seed, commit of the mending, reason (regressions.txt)."""
    lines = (Path(__file__).parent / "regressions.txt").read_text().splitlines()
    return [line.split(maxsplit=3) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(("plan", "seed", "commit", "reason"), regressions())
def test_a_life_that_failed_once(plan, seed, commit, reason):
    """The same dice; but a changed program lives another life by them, so each has a directed test as well."""
    assert len(commit) >= 7 and reason
    report = run_seed(int(seed), PLANS[plan])
    assert not report.violations, str(report)
