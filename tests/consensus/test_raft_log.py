"""The log in memory, against a plain list and a plain disk."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twisted_kv.consensus.raft.log import Log, entry_bytes
from twisted_kv.consensus.types import Entry, Position


def entries(first, *terms):
    return [Entry(first + place, term, (b"x",)) for place, term in enumerate(terms)]


class LogAgainstList(RuleBasedStateMachine):
    """Whatever is appended, cut, saved and compacted: the log equals a list, and its disk follows it."""

    def __init__(self):
        super().__init__()
        self.log = Log()
        self.twin: list[Entry] = []
        self.boundary = Position()
        self.term = 1
        self.disk: dict[int, Entry] = {}
        self.in_flight = None
        self.serial = 0

    @rule(count=st.integers(1, 4), newer=st.booleans())
    def append(self, count, newer):
        self.term += newer
        last = self.boundary.index + len(self.twin)
        self.serial += 1
        new = [Entry(last + 1 + place, self.term, (b"%d" % self.serial,)) for place in range(count)]
        self.log.append(new)
        self.twin += new

    @precondition(lambda self: self.twin)
    @rule(data=st.data())
    def cut(self, data):
        place = data.draw(st.integers(0, len(self.twin) - 1))
        self.log.cut(self.twin[place].index)
        del self.twin[place:]
        self.term += 1

    @precondition(lambda self: self.in_flight is None)
    @rule()
    def take(self):
        self.in_flight = self.log.take_unsaved()

    @precondition(lambda self: self.in_flight is not None)
    @rule()
    def saved(self):
        cut, new = self.in_flight
        if cut is not None:
            self.disk = {index: entry for index, entry in self.disk.items() if index < cut}
        self.disk.update((entry.index, entry) for entry in new)
        self.in_flight = None
        self.log.saved_what_was_taken()

    @precondition(lambda self: self.log.saved > self.boundary.index)
    @rule(data=st.data())
    def compact(self, data):
        index = data.draw(st.integers(self.boundary.index + 1, self.log.saved))
        self.log.compact(index)
        gone = index - self.boundary.index
        self.boundary = Position(index, self.twin[gone - 1].term)
        del self.twin[:gone]
        self.disk = {at: entry for at, entry in self.disk.items() if at > index}

    @precondition(lambda self: self.in_flight is None)
    @rule(beyond=st.integers(1, 5))
    def reset(self, beyond):
        self.boundary = Position(self.log.last + beyond, self.term)
        self.log.reset(self.boundary)
        self.twin, self.disk = [], {}

    @invariant()
    def equals_the_list(self):
        log = self.log
        assert (log.boundary, log.last) == (self.boundary, self.boundary.index + len(self.twin))
        assert log.last_term == (self.twin[-1].term if self.twin else self.boundary.term)
        assert [log.entry_at(entry.index) for entry in self.twin] == self.twin
        assert log.term_at(log.first - 1) == self.boundary.term
        assert log.term_at(log.first - 2) is None and log.term_at(log.last + 1) is None
        if self.twin:
            assert log.span(log.first, log.last, 1 << 20) == (tuple(self.twin), sum(map(entry_bytes, self.twin)))

    @invariant()
    def what_counts_as_saved_is_on_disk(self):
        """Hazard 16, with every order of cut and save."""
        for entry in self.twin:
            if entry.index <= self.log.saved:
                assert self.disk[entry.index] == entry

    @invariant()
    def a_last_save_makes_the_disk_equal(self):
        if self.in_flight is None:
            cut = self.log._cut
            disk = {index: entry for index, entry in self.disk.items() if cut is None or index < cut}
            disk.update((entry.index, entry) for entry in self.twin if entry.index > self.log._handed)
            assert [disk[index] for index in sorted(disk)] == self.twin

    @invariant()
    def last_at_most_finds_what_a_walk_finds(self):
        log = self.log
        for term in range(self.boundary.term, self.term + 1):
            for index in (log.last + 1, log.last, (log.first + log.last) // 2):
                walk = min(index, log.last)
                while walk > self.boundary.index and log.term_at(walk) > term:
                    walk -= 1
                assert log.last_at_most(index, term) == walk


TestLogAgainstList = LogAgainstList.TestCase
TestLogAgainstList.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_cut_is_told_to_the_disk_only_if_the_disk_can_hold_what_it_cuts():
    """Ready.cut is explicit, and None unless something given out is replaced."""
    log = Log()
    log.append(entries(1, 1, 1, 1))
    log.cut(2)
    assert log.take_unsaved() == (None, tuple(entries(1, 1)))
    log.append(entries(2, 1))
    log.cut(1)
    log.append(entries(1, 3, 3))
    log.cut(1)
    log.append(entries(1, 2, 2))
    assert log.take_unsaved() == (1, tuple(entries(1, 2, 2)))


def test_hazard_16_a_cut_during_a_save_rolls_the_durable_index_back():
    log = Log()
    log.append(entries(1, 1, 1, 1))
    log.take_unsaved()
    log.cut(2)
    log.append(entries(2, 2, 2))
    log.saved_what_was_taken()
    assert log.saved == 1
    assert log.take_unsaved() == (2, tuple(entries(2, 2, 2)))
    log.saved_what_was_taken()
    assert log.saved == 3


def test_a_span_is_bounded_but_never_empty():
    log = Log()
    log.append(Entry(index, 1, (b"x" * 1000,)) for index in range(1, 6))
    assert [entry.index for entry in log.span(2, 5, 2500)[0]] == [2, 3]
    assert [entry.index for entry in log.span(2, 5, 1)[0]] == [2]
    assert log.span(6, 5, 100) == ((), 0)


def test_back_up_skips_whole_terms_and_sees_below_the_boundary():
    """Scenario §3.1-6: one step, however many entries a term has."""
    log = Log(Position(10, 2), entries(11, *[2] * 50, *[4] * 50))
    assert log.last_at_most(200, 3) == 60
    assert log.last_at_most(60, 2) == 60
    assert log.last_at_most(200, 1) == 9, "one below the boundary: nothing held here"


def test_a_gap_is_a_programmers_error():
    with pytest.raises(AssertionError):
        Log(Position(), entries(2, 1))
