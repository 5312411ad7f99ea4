"""The twin of what groups do for clients: a real group is told to be right, and each thing that is wrong is told."""

from collections import deque
from functools import partial
from random import Random

import pytest

from twisted_kv.machines import shard
from twisted_kv.machines.commands import (
    GROUP_COMMANDS,
    Configure,
    Done,
    Expired,
    Open,
    Operation,
    PullAnswer,
    PullRows,
    Read,
    Refused,
    Scan,
    Scanned,
    Write,
    WrongGroup,
)
from twisted_kv.machines.configuration import Member, empty_configuration, shard_of, successor
from twisted_kv.machines.group import GroupMachine
from twisted_kv.machines.rows import BEGINNING
from twisted_kv.machines.sessions import Sessions
from twisted_kv.simulation.judges.book import Book, home_of
from twisted_kv.simulation.judges.checkers import BY_THE_BOOK

SHARDS = 2
KEYS = ("a", "b", "{}c", "{a}d", "{e", "}{f")
VALUE_BYTES_MAX = 40


class Group:
    """A group that owns everything, beside its book.

    Args:
        answers: what it says instead of its real answers, one after the other.
    """

    def __init__(self, *answers, sessions_max=3, results_max=2):
        self.found = []
        self.book = Book(lambda checker, text: self.found.append((checker, text)))
        self.book.sessions_max, self.book.results_max = sessions_max, results_max
        self.machine = GroupMachine(1)
        self.index = 0
        self.answers = deque(answers)
        configuration = successor(
            empty_configuration(SHARDS, VALUE_BYTES_MAX), [Member(1, 1, ("sim:1",))], (1,) * SHARDS
        )
        self.apply(Configure("c", configuration, True))

    def apply(self, command):
        self.index += 1
        return self.machine.apply(self.index, GROUP_COMMANDS.encode(command))

    def write(self, *operations):
        write = Write(operations)
        outcomes = self.apply(write)
        self.book.wrote(write, (self.answers.popleft(),) if self.answers else outcomes, self.machine, "g1-1")
        return outcomes

    def open(self, nonce, shards=(0, 1)):
        opening = Open(shards, nonce)
        outcomes = self.apply(opening)
        self.book.opened(opening, (self.answers.popleft(),) if self.answers else outcomes, self.machine, "g1-1")
        return outcomes


@pytest.fixture
def small_tables(monkeypatch):
    monkeypatch.setattr(shard, "Sessions", partial(Sessions, sessions_max=3, results_max=2))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_said_of_the_real_group(seed, small_tables):
    """Hazards 40 to 42: repeats, late ones, reused numbers, forgotten sessions, full ones; every verb."""
    random, group, kinds = Random(seed), Group(), set()
    for _ in range(400):
        if random.random() < 0.1:
            group.open(bytes([int(random.random() * 6)]) * 16)
        operations = []
        for _ in range(1 + int(random.random() * 3)):
            verb = "padh"[int(random.random() * 4)]
            key = KEYS[int(random.random() * len(KEYS))]
            value = None if verb == "d" else "xyzä"[int(random.random() * 4)] * int(random.random() * 9)
            if value is not None and random.random() < 0.2:
                value = value.encode()
            sequence = 1 + int(random.random() * 8) + group.index // 40
            floor = max(1, sequence - int(random.random() * 4))
            operations.append(Operation(verb, key, value, int(random.random() * 9), sequence, floor))
        kinds |= {getattr(outcome, "error", type(outcome)) for outcome in group.write(*operations)}
    assert group.found == []
    assert kinds >= {Done, Expired, "BadRequest"}


def test_where_keys_belong_is_said_twice_alike():
    """Scenario 48: what is between braces, unless it is nothing or does not end."""
    for key in (*KEYS, "", "{", "}", "{}", "{{a}}", "a{b}c{d}", "{ä}"):
        assert home_of(key, 7) == shard_of(key, 7)


WRITE = Operation("a", "a", "x", 1, 1, 1)


@pytest.mark.parametrize(
    ("answer", "due"),
    [
        (WrongGroup(1, 2), "Done"),
        (Expired(), "Done"),
        (Refused("Overloaded", "full"), "Done"),
        (Done("y"), "Done"),
    ],
)
def test_an_answer_that_is_not_due(answer, due):
    group = Group()
    group.open(bytes(16))
    group.answers.append(answer)
    group.write(WRITE)
    assert [checker for checker, _ in group.found] == [BY_THE_BOOK]
    assert f"due is: {due}" in group.found[0][1]


def test_a_write_that_is_executed_for_a_session_that_nobody_opened():
    """Hazard 42."""
    group = Group(Done())
    group.write(WRITE)
    assert "due is: Expired" in group.found[0][1]


def test_a_number_that_is_used_for_another_request():
    """Hazard 42."""
    group = Group()
    group.open(bytes(16))
    group.write(WRITE)
    group.answers.append(Done())
    group.write(Operation("a", "a", "y", 1, 1, 1))
    assert "due is: Refused(error='BadRequest'" in group.found[0][1]


def test_a_number_of_a_session_that_is_given_twice():
    """Hazard 42: two Clerks would answer for each other."""
    group = Group()
    group.open(bytes(16), (0,))
    group.answers.append(Done(1))
    group.open(bytes([1]) * 16, (0,))
    assert "due is: Done(value=2)" in group.found[0][1]


def test_a_write_that_was_answered_and_not_carried_out(monkeypatch):
    """Scenario 14: a retry that is swallowed."""
    group = Group()
    group.open(bytes(16))
    monkeypatch.setattr(group.machine, "query", lambda query: (Done(None),) * len(query.keys))
    group.write(WRITE)
    assert "holds Done(value=None) for a, not 'x'" in group.found[0][1]


def test_who_does_not_serve_a_shard_executes_nothing_of_it():
    """Hazard 26."""
    group = Group(Done())
    group.machine = GroupMachine(1)
    group.write(WRITE)
    assert "it is served elsewhere" in group.found[0][1]


def test_reads_and_scans_are_answered_by_who_serves():
    """Hazard 44."""
    group = Group()
    asked = partial(group.book.asked, machine=group.machine, name="g1-1")
    for query in (Read(("a", "b")), Scan(0, None, 10)):
        asked(query, group.machine.query(query))
    asked(PullRows(0, 1, BEGINNING, 10, True), PullAnswer("gone"))
    assert group.found == []
    asked(Read(("a", "b")), (Done("x"), WrongGroup(1, 2)))
    asked(Scan(0, None, 10), WrongGroup(1, 2))
    group.machine = GroupMachine(1)
    group.book.asked(Scan(0, None, 10), Scanned((), (), True), group.machine, "g1-1")
    assert [checker for checker, _ in group.found] == [BY_THE_BOOK] * 3


def test_text_and_bytes_are_refused_alike():
    group = Group()
    group.open(bytes(16))
    group.write(Operation("p", "a", b"x", 1, 1, 1), Operation("a", "a", "y", 1, 2, 1))
    assert group.found == []
    assert group.machine.query(Read(("a",))) == (Done(b"x"),)
