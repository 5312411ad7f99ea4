"""The ledger numbers changes, forgets the ones that were followed by others, and is the same after a restart."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_kv.machines.ledger import _SUPERSEDED_MAX, Ledger

NAMES = st.lists(st.sampled_from("abcdefg"), max_size=60)


def noted(names, ledger=None):
    ledger = Ledger() if ledger is None else ledger
    for name in names:
        ledger.note("key", name)
    return ledger


def restarted(ledger):
    again = Ledger()
    for name, value in sorted(ledger.take().items()):
        again.load(name, value)
    return again


@settings(deadline=None, derandomize=True, max_examples=100)
@given(NAMES, NAMES, st.integers(0, 130))
def test_what_changed_behind_a_number_comes_once_and_in_order(before, after, number):
    """Decisions/0007: also of a replica that was restarted in between. The naive twin: the list of all changes."""
    changes = [*before, *after]
    last = {name: place for place, name in enumerate(changes, 1)}
    wanted = [(place, "key", name) for name, place in sorted(last.items(), key=lambda item: item[1]) if place > number]
    ledger = noted(before)
    again = noted(after, restarted(ledger))
    noted(after, ledger)
    for either in (ledger, again):
        assert either.count == len(changes)
        assert list(either.beyond(number)) == wanted


def test_a_row_is_named_by_space_and_name():
    ledger = Ledger()
    ledger.note("key", "a/b")
    ledger.note("session", "a/b")
    assert list(restarted(ledger).beyond(0)) == [(1, "key", "a/b"), (2, "session", "a/b")]


def test_rows_are_owed_when_they_changed():
    """House rule, Storage: a checkpoint costs what changed."""
    ledger = noted("aab")
    assert ledger.take() == {"key/a": "2", "key/b": "3"}
    assert ledger.take() == {}
    noted("b", ledger)
    assert ledger.take() == {"key/b": "4"}


def test_a_row_that_changes_all_the_time_takes_no_more_room():
    ledger = noted("a" * 10 * _SUPERSEDED_MAX)
    assert [number for number, _, _ in ledger.beyond(0)] == [10 * _SUPERSEDED_MAX]
    assert len(ledger._order) == len(ledger._rows) == len(ledger._numbers) == 1
