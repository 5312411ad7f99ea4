"""Counting lives, and when a sweep has failed."""

import pytest

from twisted_kv.simulation.doors.rare import RARE, SELDOM
from twisted_kv.simulation.judges.checkers import EQUAL, ONE_OWNER, Violation
from twisted_kv.simulation.lives.reports import Report
from twisted_kv.simulation.lives.tally import FAILED_SHOWN_MAX, VOID_ONE_IN, Tally

RARE_1, RARE_2 = list(RARE)[:2]


def life(seed=1, plan="calm", violations=(), void="", reached=()):
    return Report(seed, plan, violations, (), "", {"calls": 10.0, "faults": 2.0}, dict(reached), void)


def counted(*reports):
    tally = Tally()
    for report in reports:
        tally.count(report)
    return tally


BAD = (Violation(EQUAL, "x"), Violation(EQUAL, "y"), Violation(ONE_OWNER, "z"))


def test_lives_are_counted_by_plan():
    tally = counted(life(1), life(2), life(3, "lossy", BAD), life(4, "lossy", void="no load"))
    assert tally.table()[1] == [
        ["calm", "2", "0", "0", "20", "4"],
        ["lossy", "2", "1", "1", "20", "4"],
        ["all", "4", "1", "1", "40", "8"],
    ]
    assert len(counted(life()).table()[1]) == 1


def test_what_failed_is_named_with_its_checkers_and_its_command():
    tally = counted(life(4, "lossy", void="no load"), life(3, "lossy", BAD))
    assert tally.failures() == [
        "twisted-kv simulate --seed 3 --plan lossy --trace  # equal digests, one owner",
        "twisted-kv simulate --seed 4 --plan lossy --trace  # void",
    ]
    many = counted(*(life(seed, violations=BAD) for seed in range(FAILED_SHOWN_MAX + 9)))
    assert len(many.failures()) == FAILED_SHOWN_MAX + 1
    assert many.failures()[-1] == "… and 9 more"


def test_rare_events_are_counted_and_the_missing_named():
    tally = counted(life(reached={RARE_1: 5}), life(reached={RARE_1: 2}))
    assert tally.rare_table()[1] == [[RARE_1, "2", "7"]]
    assert tally.unreached == [name for name in list(RARE)[1:] if name not in SELDOM]
    assert tally.why_failed() == ""
    assert "never reached" in tally.why_failed(demand_rare=True)
    demanded = [name for name in RARE if name not in SELDOM]
    assert counted(life(reached=dict.fromkeys(demanded, 1))).why_failed(demand_rare=True) == ""


@pytest.mark.parametrize(
    ("reports", "why"),
    [
        ([], "nothing was lived"),
        ([life()], ""),
        ([life(violations=BAD)], "1 lives with violations"),
        ([life(void="no load")], "1 of 1 lives are void"),
        ([life()] * (VOID_ONE_IN - 1) + [life(void="no load")], ""),
        ([life()] * (VOID_ONE_IN - 2) + [life(void="no load")], "void: more than one in"),
    ],
)
def test_when_a_sweep_has_failed(reports, why):
    """Nothing lived and too little load are no proof."""
    failed = counted(*reports).why_failed()
    assert bool(failed) == bool(why)
    assert why in failed


def test_two_tallies_make_one():
    one, other = counted(life(reached={RARE_1: 5})), counted(life(2, "lossy", BAD, reached={RARE_2: 1, RARE_1: 1}))
    one.add(other)
    assert (one.total.lives, one.total.violated, one.rare[RARE_1].times, one.rare[RARE_1].lives) == (2, 1, 6, 2)
    assert one.failed == other.failed
