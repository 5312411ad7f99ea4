"""The checker against planted violations, and against a twin that tries every order."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_kv.simulation.judges.history import Call, History
from twisted_kv.simulation.judges.linearizability import Verdict, check_key, findings, fnv1a, step, without_unseen

UNKNOWN = object()


def calls(*told):
    """Calls from (client, verb, argument, invoked, returned, result); returned None: unknown."""
    made = []
    for client, verb, argument, invoked, returned, result in sorted(told, key=lambda one: one[3]):
        call = Call(client, verb, "k", argument, invoked, float(invoked))
        if returned is not None:
            call.returned, call.result = returned, result
        made.append(call)
    return made


def verdict(*told):
    return check_key("k", calls(*told)).verdict


def test_concurrent_writes_may_be_seen_in_any_order():
    for seen in ("ab", "ba"):
        assert (
            verdict(
                ("x", "append", "a", 1, 5, None),
                ("y", "append", "b", 2, 6, None),
                ("x", "get", None, 7, 8, seen),
            )
            is Verdict.OK
        )


PLANTED = {
    "stale read": [
        ("x", "put", "a", 1, 2, None),
        ("x", "put", "b", 3, 4, None),
        ("y", "get", None, 5, 6, "a"),
    ],
    "stale read of an appended key": [
        ("x", "append", "a.", 1, 2, None),
        ("x", "append", "b.", 3, 4, None),
        ("y", "get", None, 5, 6, "a."),
    ],
    "read that goes back": [
        ("x", "append", "a.", 1, 9, None),
        ("y", "get", None, 2, 3, "a."),
        ("z", "get", None, 4, 5, None),
    ],
    "lost write": [
        ("x", "append", "a.", 1, 2, None),
        ("y", "append", "b.", 3, 4, None),
        ("y", "get", None, 5, 6, "b."),
    ],
    "double append": [
        ("x", "append", "a.", 1, 2, None),
        ("y", "get", None, 3, 4, "a.a."),
    ],
    "double append of unknown outcome": [
        ("x", "append", "a.", 1, None, None),
        ("y", "get", None, 3, 4, "a.a."),
    ],
    "split histories": [
        ("x", "append", "a.", 1, 9, None),
        ("y", "append", "b.", 2, 10, None),
        ("x", "get", None, 11, 12, "a.b."),
        ("y", "get", None, 13, 14, "b.a."),
    ],
    "value from nowhere": [("x", "get", None, 1, 2, "a")],
    "delete that finds what was deleted": [
        ("x", "put", "a", 1, 2, None),
        ("x", "delete", None, 3, 4, True),
        ("y", "delete", None, 5, 6, True),
    ],
    "hash chain broken": [
        ("x", "put_hash", "a", 1, 2, ""),
        ("y", "put_hash", "b", 3, 4, ""),
    ],
    "refused write that came true later than a read denied it": [
        ("x", "put", "a", 1, 2, None),
        ("x", "put", "b", 3, None, None),
        ("y", "get", None, 5, 6, "b"),
        ("y", "get", None, 7, 8, "a"),
    ],
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violation_is_found(name):
    """Hazards §3 rung 7; scenario §3.7: a checker that cannot fail proves nothing."""
    finding = check_key("k", calls(*PLANTED[name]))
    assert finding.verdict is Verdict.VIOLATION
    assert finding.reason


def test_unknown_outcome_may_take_effect_late_or_never():
    """Scenario §3.2-20: it stays open-ended."""
    write = ("x", "put", "a", 1, None, None)
    before = ("y", "get", None, 5, 6, None)
    assert verdict(write, before, ("y", "get", None, 7, 8, "a")) is Verdict.OK
    assert verdict(write, before) is Verdict.OK
    assert verdict(write, ("y", "delete", None, 7, 8, True)) is Verdict.OK


def test_unseen_write_is_left_out_only_where_nobody_can_have_seen_it():
    """Hazards §3: dropping is sound for puts and appends; a delete or an unknown hash sees without naming."""
    unseen = ("x", "put", "a.", 1, None, None)
    read = ("y", "get", None, 3, 4, "b.")
    assert len(without_unseen(calls(unseen, read))) == 1
    assert len(without_unseen(calls(unseen, ("y", "get", None, 3, 4, "ba.")))) == 2
    assert len(without_unseen(calls(unseen, ("y", "delete", None, 3, 4, True)))) == 2
    assert len(without_unseen(calls(unseen, ("y", "put_hash", "c", 3, None, None)))) == 2


def test_many_unseen_writes_cost_nothing():
    """Hazards §3: 59.5 s became 2.1 s."""
    told = [("x", "append", f"<{i}>", i, None, None) for i in range(200)]
    told += [("y", "append", f"[{i}]", 1000 + 2 * i, 1001 + 2 * i, None) for i in range(100)]
    told.append(("z", "get", None, 5000, 5001, "".join(f"[{i}]" for i in range(100))))
    finding = check_key("k", calls(*told))
    assert finding.verdict is Verdict.OK
    assert finding.steps <= 101


def test_beyond_the_limit_it_is_undecided_and_that_is_reported():
    """Scenario §3.7: the labs take a time-out for success; here it is a finding."""
    told = [(f"c{i}", "put", f"{i}", i + 1, 100 + i, None) for i in range(16)]
    told.append(("z", "get", None, 500, 501, "no such value"))
    finding = check_key("k", calls(*told), steps_max=1000)
    assert finding.verdict is Verdict.UNDECIDED
    history = History()
    made = [history.begin(f"c{i}", "put", "k", str(i), 0.0) for i in range(16)]
    for call in made:
        history.succeeded(call, None)
    history.succeeded(history.begin("z", "get", "k", None, 0.0), "no such value")
    assert [found.verdict for found in findings(history, steps_max=1000)] == [Verdict.UNDECIDED]


def test_a_long_history_of_overlapping_appends_is_quick():
    value, told = "", []
    for i in range(400):
        told.append((f"c{i % 5}", "append", f"({i})", 10 * i + 1, 10 * i + 35, None))
        value += f"({i})"
        if i % 7 == 0:
            told.append(("r", "get", None, 10 * i + 36, 10 * i + 37, "".join(f"({j})" for j in range(i + 1))))
    assert check_key("k", calls(*told)).verdict is Verdict.OK
    assert check_key("k", calls(*told)).steps < 20_000


def test_unknown_writes_in_any_order_that_nobody_saw_are_tried_once():
    """A delete keeps them from being left out; what nobody was told is one value."""
    told = [(f"c{i}", "append", f"<{i}>", i, None, None) for i in range(12)]
    told += [("y", "put", f"[{i}]", 100 + 2 * i, 101 + 2 * i, None) for i in range(20)]
    told += [("y", "delete", None, 200, 201, True), ("y", "get", None, 202, 203, "impossible")]
    assert check_key("k", calls(*told)).verdict is Verdict.VIOLATION


def test_fnv1a_is_the_published_function():
    """Contract §3. Vectors of the FNV authors' reference."""
    assert fnv1a("a") == str(0xE40C292C)
    assert fnv1a("foobar") == str(0xBF9CF968)


def brute_force(made):
    """Whether any order of any set of calls, the known ones all in it, explains the results."""
    known = [call for call in made if call.known]
    unknown = [call for call in made if not call.known and call.verb != "get"]
    for chosen in range(1 << len(unknown)):
        candidates = known + [call for i, call in enumerate(unknown) if chosen >> i & 1]
        if any(_explains(order) for order in permutations(candidates)):
            return True
    return False


def _explains(order):
    value = None
    for place, call in enumerate(order):
        if any(later.returned < call.invoked for later in order[place + 1 :]):
            return False
        fits, value = step(value, call)
        if not fits:
            return False
    return True


@st.composite
def small_histories(draw):
    """Up to six calls; results are mostly such as a register could have given at some moment."""
    values = [None, "", "a", "b", "ab", "ba", "aa", fnv1a("a"), fnv1a("ab")]
    made = []
    count = draw(st.integers(1, 6))
    moments = draw(st.permutations(range(2 * count)))
    for i in range(count):
        invoked, returned = sorted(moments[2 * i : 2 * i + 2])
        verb = draw(st.sampled_from(["get", "get", "append", "append", "put", "delete", "put_hash"]))
        argument = None if verb in ("get", "delete") else draw(st.sampled_from(["a", "b", "c"]))
        call = Call(f"c{i}", verb, "k", argument, invoked, 0.0)
        if draw(st.integers(0, 3)):
            call.returned = returned
            if verb == "get":
                call.result = draw(st.sampled_from(values))
            elif verb == "delete":
                call.result = draw(st.booleans())
            elif verb == "put_hash":
                call.result = draw(st.sampled_from(values[1:]))
        made.append(call)
    return sorted(made, key=lambda call: call.invoked)


@settings(max_examples=600, deadline=None)
@given(small_histories())
def test_agrees_with_trying_every_order(made):
    """Hazards §3 rung 7: the search, its memo, the pre-check and the dropping of unseen writes are all sound."""
    assert (check_key("k", made).verdict is Verdict.OK) == brute_force(made)
