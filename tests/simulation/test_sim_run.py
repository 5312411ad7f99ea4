"""Many lives, in one process or several, as long as they are wanted."""

from itertools import count

import pytest

from twisted_kv.simulation.lives import run
from twisted_kv.simulation.lives.cores import CorePlan
from twisted_kv.simulation.lives.reports import Report
from twisted_kv.simulation.lives.run import ALL, PLANS, lives, plan_of, run_seed, spans


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
