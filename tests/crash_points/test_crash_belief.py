"""What may be expected of the files, from markers alone."""

import pytest
from crash_belief import Belief, Data, Log, digest

ENTRIES = [(1, 1, 11), (2, 1, 12), (3, 1, 13)]
SAVE = ["save", (1, 1), None, ENTRIES]


@pytest.fixture
def belief():
    return Belief()


def pairs(belief):
    return belief.expected().pairs


def test_in_flight_is_before_or_after_and_then_after(belief):
    saved = Log(1, 1, entries=tuple(ENTRIES))
    belief.take(["try", "log", SAVE])
    assert pairs(belief) == {(Log(), Data()), (saved, Data())}
    belief.take(["done", "log"])
    assert pairs(belief) == {(saved, Data())}


def test_refused_is_certainly_before(belief):
    belief.take(["try", "log", SAVE])
    belief.take(["refused", "log"])
    assert pairs(belief) == {(Log(), Data())}


def test_unknown_stays_open_until_somebody_has_looked(belief):
    belief.take(["try", "log", SAVE])
    belief.take(["unknown", "log"])
    assert len(pairs(belief)) == 2
    belief.take(["opened", digest(Log()), digest(Data())])
    assert pairs(belief) == {(Log(), Data())}


def test_a_killed_life_leaves_what_was_in_flight_open(belief):
    belief.take(["try", "data", ["commit", 2, 1, False, []]])
    belief.take(["opened", 0, 0])
    belief.take(["try", "log", SAVE])
    assert len({data for _, data in pairs(belief)}) == 2


def test_cuts_trims_and_resets():
    log = Log().after(SAVE)
    assert log.after(["save", None, 2, [(2, 2, 22)]]).entries == ((1, 1, 11), (2, 2, 22))
    assert log.after(["trim", 2, 1]) == Log(1, 1, (2, 1), ((3, 1, 13),))
    assert log.after(["trim", 2, 1]).after(["trim", 1, 1]).boundary == (2, 1)
    assert log.after(["reset", 9, 2]) == Log(1, 1, (9, 2))
    assert log.after(["bind", {"b": "2"}]).after(["bind", {"a": "1"}]).identity == (("a", "1"), ("b", "2"))


def test_an_opened_log_covers_the_data():
    log = Log().after(SAVE)
    assert log.agreeing(Data(2, 1)) == log
    assert log.agreeing(Data(2, 2)) == Log(1, 1, (2, 2))
    assert log.agreeing(Data(9, 1)) == Log(1, 1, (9, 1))


def test_a_checkpoint_is_its_steps_in_order():
    first, second = (0, 1, "key", "a"), (0, 1, "key", "b")
    data = Data().after(["commit", 1, 1, False, [["write", [[first, 1], [second, 2]]]]])
    assert data == Data(1, 1, ((first, 1), (second, 2)))
    dropped = data.after(["commit", 2, 1, False, [["drop", 0, 1, 1], ["write", [[first, 3]]]]])
    assert dropped.rows == ((first, 3), (second, 2))
    assert data.after(["commit", 2, 1, True, [["write", [[second, None]]]]]).rows == ()


def test_what_a_leader_was_told_holds_until_it_is_overwritten(belief):
    belief.take(["voted", 3, 2])
    belief.take(["acked", ENTRIES])
    belief.take(["overwritten", 3])
    expected = belief.expected()
    assert (expected.vote, expected.acked) == ((3, 2), tuple(ENTRIES[:2]))


def test_commands_asked_and_answered(belief):
    for command in (b"a", b"b", b"c"):
        belief.take(["asked", command])
    belief.take(["answered", 1])
    belief.take(["withdrawn", 1])
    assert (belief.expected().answered, belief.expected().asked, belief.commands) == (1, 2, [b"a", b"b"])
