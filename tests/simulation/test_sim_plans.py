"""Plans are whole: each fault is there, and what a plan wishes can be built."""

import pytest

from twisted_kv.simulation.faults.nemesis import Nemesis
from twisted_kv.simulation.faults.plans import PLANS


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_fault_of_a_plan_is_one_of_the_nemesis(plan):
    for fault, weight in plan.faults.items():
        assert callable(getattr(Nemesis, fault))
        assert weight > 0


def test_every_fault_of_the_nemesis_is_in_a_plan():
    told = {"start", "calm", "elected", "came"}
    public = {name for name in dir(Nemesis) if not name.startswith("_")} - told
    assert public == {fault for plan in PLANS.values() for fault in plan.faults}


def test_only_lives_without_faults_are_gentle():
    assert [name for name, plan in PLANS.items() if plan.is_gentle] == ["calm", "churn"]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_nobody_moves_house_where_groups_leave(plan):
    """What still fetches from the earlier membership of a gid would look for it in vain (docs/simulation.md)."""
    assert plan.churn_seconds is None or "move_house" not in plan.faults


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_shapes_have_at_least_one_of_everything(plan):
    shape = plan.shape
    for counts in (shape.controllers, shape.groups, shape.members, shape.administrators, shape.log_bytes_max):
        assert counts
        assert min(counts) >= 1
    assert not shape.one_process or shape.members == shape.controllers == (1,)
