"""Many lives, in one process or several, as long as they are wanted."""

import os
import select
import signal
import subprocess
import sys
from itertools import count

import pytest

from twisted_kv.simulation.lives import run
from twisted_kv.simulation.lives.cores import CorePlan
from twisted_kv.simulation.lives.reports import Report
from twisted_kv.simulation.lives.run import ALL, PLANS, lives, plan_of, run_seed, spans, uninterrupted


@pytest.fixture
def quick(monkeypatch):
    """Lives that are over at once."""
    monkeypatch.setattr(run, "run_seed", lambda seed, plan: Report(seed, plan.name, (), (), "", {}))


def test_each_seed_lives_by_the_plan_that_was_named(quick):
    assert [(report.seed, report.plan) for report in lives([3, 5], "calm", 1)] == [(3, "calm"), (5, "calm")]
    with pytest.raises(KeyError):
        list(lives([1], "no such plan", 1))


def test_all_plans_are_lived_in_turn(quick):
    assert {report.plan for report in lives(range(len(PLANS)), ALL, 1)} == set(PLANS)
    assert plan_of(ALL, 7) is plan_of(ALL, 7 + len(PLANS))


def test_a_plan_of_cores_is_lived_by_cores_alone():
    """One place decides which kind of life a plan is for."""
    assert isinstance(plan_of("cores", 1), CorePlan)
    report = run_seed(3, PLANS["cores"])
    assert (report.plan, report.verdict) == ("cores", "ok")
    assert "turns" in report.figures


def test_no_more_seeds_are_taken_than_are_wanted(quick):
    """A sweep that is bounded in time draws from seeds without end."""
    answers = iter([True, True, False])
    seeds = count(1)
    assert [report.seed for report in lives(seeds, "calm", 1, lambda: next(answers))] == [1, 2]
    assert next(seeds) <= 4


def test_lives_spread_over_processes():
    """The digest of a life is the same in whatever process it is lived."""
    [here] = lives([2], "calm", 1)
    several = {report.seed: report for report in lives([1, 2], "calm", 2)}
    assert set(several) == {1, 2}
    assert several[2].digest == here.digest


@pytest.mark.parametrize(
    ("seeds", "rows"), [([], []), ([1], [(1, 1)]), ([3, 1, 2, 7, 7, 8], [(1, 3), (7, 8)]), ([9, 5], [(5, 5), (9, 9)])]
)
def test_unbroken_rows(seeds, rows):
    assert list(spans(seeds)) == rows


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_a_life(monkeypatch, signum):
    """Raised inside of one it would become a failure of it."""
    lived = []

    def long(seed, plan):
        os.kill(os.getpid(), signum)
        lived.append(seed)
        return Report(seed, plan.name, (), (), "", {})

    monkeypatch.setattr(run, "run_seed", long)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        list(lives([1, 2, 3], "calm", 1))
    assert lived == [1]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_fails_within_is_not_replaced_by_the_interrupt():
    with pytest.raises(ZeroDivisionError), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        raise ZeroDivisionError


@pytest.mark.process
def test_processes_end_with_the_one_that_counts():
    program = "from twisted_kv.simulation.lives.run import lives\n"
    program += "if __name__ == '__main__':\n    for _ in lives(range(10**6), 'calm', 2): print('lived', flush=True)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            children = [os.pidfd_open(int(child)) for child in file.read().split()]
        process.kill()
    assert len(children) >= 2
    for child in children:
        assert select.select([child], [], [], 60)[0], "somebody lives on alone"
        os.close(child)


def test_what_is_ignored_stays_so():
    """nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
