"""Whole lives: every plan, the same again for the same seed, and mutants that must not survive."""

import os
import subprocess
import sys

import msgspec
import pytest

from twisted_kv.machines.copies import Copies
from twisted_kv.machines.migration import Leaving
from twisted_kv.machines.sessions import Sessions
from twisted_kv.replica.checkpoints import Checkpoints
from twisted_kv.replica.replica import Replica
from twisted_kv.simulation import run as run_module
from twisted_kv.simulation.nemesis import PLANS
from twisted_kv.simulation.run import Shape, main, run_seed
from twisted_kv.storage.log_store import LogStore

SMALL = Shape(
    groups={100: 3, 101: 3},
    log_bytes_max=2_000,
    owners=2,
    ramblers=2,
    keys=2,
    full_mix=False,
    timeouts=(1.5,),
    seconds=5.0,
)


@pytest.fixture(autouse=True)
def faults_are_logged(logged_errors):
    """Injected faults are; run_seed itself judges what was logged."""
    yield
    logged_errors.clear()


@pytest.fixture
def small(monkeypatch):
    """Lives that are short and alike."""
    monkeypatch.setattr(run_module, "draw_shape", lambda random: SMALL)


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
    program = "from twisted_kv.simulation.run import PLANS, run_seed; print(run_seed(2, PLANS['everything']).digest)"
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == here
    assert run_seed(2, PLANS["lossy"]).digest != here


def forget_sessions(monkeypatch):
    """A repeat is executed again (hazard 40)."""
    monkeypatch.setattr(Sessions, "recall", lambda *_: None)
    monkeypatch.setattr(Sessions, "record", lambda *_: None)


def vote_without_saving(monkeypatch):
    """Hazard 1."""
    save = LogStore.save
    without = msgspec.structs.replace
    monkeypatch.setattr(LogStore, "save", lambda self, ready: save(self, without(ready, hard_state=None)))


def answer_before_saving(monkeypatch):
    """Hazard 16: an acknowledgment leaves before the entry is durable."""
    save = Replica._save

    def early(self, ready):
        self._mail.post(ready.messages)
        save(self, ready)

    monkeypatch.setattr(Replica, "_save", early)


def serve_what_is_leaving(monkeypatch):
    """Contract §5.4: two groups serve a shard."""
    turn = Copies.turn

    def turned(self, shard, copy, num, state):
        served = self.serving.get(shard)
        turn(self, shard, copy, num, state)
        if isinstance(state, Leaving) and served is not None:
            self.serving[shard] = served

    monkeypatch.setattr(Copies, "turn", turned)


def claim_a_later_checkpoint(monkeypatch):
    """Hazard 18: the rows stand at one index and say another."""
    write = Checkpoints._write

    async def written(self, changes, index, term):
        await write(self, changes, index + 1, term)

    monkeypatch.setattr(Checkpoints, "_write", written)


@pytest.mark.parametrize(
    ("mutant", "plan"),
    [
        (forget_sessions, "lossy"),
        (vote_without_saving, "crashes"),
        (answer_before_saving, "calm"),
        (serve_what_is_leaving, "churn"),
        (claim_a_later_checkpoint, "crashes"),
    ],
)
def test_a_mutant_does_not_survive(mutant, plan, small, monkeypatch):
    """Hazards §3 rung 4: seeds without mutants prove little."""
    mutant(monkeypatch)
    assert any(run_seed(seed, PLANS[plan]).violations for seed in range(1, 9))


def test_a_violation_is_told_with_its_replay_command(small, monkeypatch):
    """Contract §2, simulate: seed, command, exit status 1."""
    answer_before_saving(monkeypatch)
    lines = []
    assert main(seeds=1, jobs=1, seed=None, plan="calm", trace=False, echo=lines.append) == 1
    text = "\n".join(lines)
    assert "VIOLATION" in text
    assert "replay: twisted-kv simulate --seed 1 --plan calm --trace" in text
    assert lines[-1] == "1 seeds of plan calm: 1 with violations"


def test_a_single_seed_can_be_traced(small):
    lines = []
    assert main(seeds=0, jobs=1, seed=1, plan="calm", trace=True, echo=lines.append) == 0
    assert "peer_hello" in "\n".join(lines)
    assert lines[-1].startswith("seed 1, plan calm: ok")


def test_seeds_spread_over_processes():
    lines = []
    assert main(seeds=2, jobs=2, seed=None, plan="lossy", trace=False, echo=lines.append) == 0
    assert sorted(lines)[0].startswith("2 seeds of plan lossy: 0")


def test_what_hangs_is_a_violation(small, monkeypatch):
    """Scenario §2.2-4: nothing may hang."""
    monkeypatch.setattr(run_module, "RETURN_SECONDS", 1.0)
    monkeypatch.setattr(run_module.Cluster, "settle", lambda *_: True)
    monkeypatch.setattr(
        run_module.Nemesis, "calm", lambda self: [self._victim.kill(name) for name in self._victim.alive]
    )
    assert "calls have not come back" in str(run_seed(1, PLANS["calm"]))


def test_what_does_not_settle_is_a_violation(small, monkeypatch):
    monkeypatch.setattr(run_module.Cluster, "settle", lambda *_: False)
    assert "after 60.0 s" in str(run_seed(1, PLANS["calm"]))


def test_an_unknown_plan_is_refused():
    with pytest.raises(KeyError):
        main(1, 1, None, "no such plan", False, print)
