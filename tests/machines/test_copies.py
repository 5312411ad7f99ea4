"""The shelf of copies: current and leaving ones side by side, renamed ones, rows."""

from __future__ import annotations

from twisted_kv.machines.configuration import Holder
from twisted_kv.machines.copies import Copies
from twisted_kv.machines.migration import Absent, Handing, Leaving, Parked, Serving
from twisted_kv.machines.rows import ChangedRows

TAKER = Holder(2, 2, 2)


def names(copies):
    return [(copy.shard, copy.num, copy.rows_num) for copy in copies]


def reloaded(copies):
    spaces = {}
    assert copies.take(spaces) == []
    again = Copies()
    for row in ChangedRows(spaces).rows():
        again.load(row, row.value)
    return again


def test_a_leaving_copy_stands_beside_the_current_one_scenario_30():
    """Scenario §3.3-30: A → B → A; each is found by its name, configurations see one."""
    copies = Copies()
    copies.turn(4, None, 1, Serving())
    old = copies.current(4)
    copies.turn(4, old, 1, Leaving(TAKER))
    assert copies.current(4) is None
    assert copies.serving == {}
    copies.turn(4, None, 3, Serving())
    assert copies.find(4, 1) is old
    assert copies.serving == {4: copies.current(4)} == {4: copies.find(4, 3)}
    copies.turn(4, old, 1, Absent())
    assert copies.find(4, 1) is None
    assert names(copies) == [(4, 3, 3)]
    assert copies.take({}) == [(4, 1)]
    assert copies.take({}) == []


def test_handing_is_served_parked_is_not():
    """House rule, *How a shard moves*: the served copies follow the states."""
    copies = Copies()
    copies.turn(0, None, 1, Serving())
    copy = copies.serving[0]
    copies.turn(0, copy, 1, Handing(TAKER))
    assert copies.serving == {0: copy}
    copies.turn(0, copy, 1, Parked())
    assert copies.serving == {}
    assert reloaded(copies).serving == {}
    copies.turn(0, copy, 1, Serving())
    assert 0 in reloaded(copies).serving


def test_a_renamed_copy_keeps_its_rows_where_they_are_scenario_33():
    """Scenario §3.3-33: regained by those who parked it; only its own row is written, under the old num."""
    copies = Copies()
    copies.turn(7, None, 2, Parked())
    copy = copies.find(7, 2)
    copy.contents.load("key", "k", "v")
    copies.take({})
    copies.turn(7, copy, 9, Serving())
    assert copies.find(7, 9) is copy and copies.find(7, 2) is None
    rows = {}
    copies.take(rows)
    assert list(ChangedRows(rows)) == [(7, 2, "copy", "")]
    copies.turn(7, copy, 9, Serving())
    assert names(reloaded(copies)) == [(7, 9, 2)]
    copies.turn(7, copy, 9, Absent())
    assert copies.take({}) == [(7, 2)]


def test_copies_come_in_one_order_hazard_20():
    """Hazard 20: the order does not depend on the order in which they came or were loaded."""
    copies = Copies()
    for shard, num in ((5, 1), (2, 8), (9, 1)):
        copies.turn(shard, None, num, Serving())
    copies.turn(2, copies.find(2, 8), 8, Leaving(TAKER))
    copies.turn(2, None, 3, Serving())
    assert names(copies) == [(2, 3, 3), (2, 8, 8), (5, 1, 1), (9, 1, 1)] == names(reloaded(copies))
