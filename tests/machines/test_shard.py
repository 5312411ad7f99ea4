"""One copy's contents: exactly once, rows in and out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_scripts import filled, opened

from twisted_kv.constants import SESSION_RESULT_BYTES_MAX
from twisted_kv.machines.commands import Done, Expired, Operation, Refused
from twisted_kv.machines.giving import Giving
from twisted_kv.machines.rows import BEGINNING, Row
from twisted_kv.machines.shard import KEY_SPACE, SESSION_SPACE, Shard

LIMIT = 1000


def measured(shard):
    return sum(len(part.encode() if isinstance(part, str) else part) for item in shard.data.items() for part in item)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from("pahd"), st.sampled_from(["x", "é", "z"]), st.sampled_from(["1", "2é", b"3"])),
        max_size=12,
    ),
    st.lists(st.integers(0, 11), max_size=30),
)
def test_repeats_in_any_order_change_nothing_scenario_13(script, repeats):
    """Scenarios §3.2-11 to 13: the first execution counts; a repeat, however late, is answered the same."""
    shard = opened()
    operations = [
        Operation(verb, key, None if verb == "d" else value, 1, sequence, 1)
        for sequence, (verb, key, value) in enumerate(script, 1)
    ]
    outcomes = [shard.execute(operation, LIMIT) for operation in operations]
    after = dict(shard.data)
    for position in repeats:
        if position < len(operations):
            assert shard.execute(operations[position], LIMIT) == outcomes[position]
    assert shard.data == after
    assert shard.bytes == measured(shard)


def test_unknown_sessions_and_passed_floors_never_execute_hazard_42():
    """Hazard 42; contract §5.2: what comes too late is refused, never executed again."""
    shard = opened()
    assert shard.execute(Operation("p", "k", "v", 9, 1, 1), LIMIT) == Expired()
    assert shard.execute(Operation("p", "k", "new", 1, 7, 7), LIMIT) == Done()
    assert shard.execute(Operation("p", "k", "late", 1, 6, 6), LIMIT) == Expired()
    assert shard.data == {"k": "new"}


def test_a_sequence_reused_for_another_payload_is_an_error_hazard_42():
    """Hazard 42: never a silent ok."""
    shard = opened()
    shard.execute(Operation("p", "k", "v", 1, 1, 1), LIMIT)
    answer = shard.execute(Operation("p", "k", "w", 1, 1, 1), LIMIT)
    assert isinstance(answer, Refused)
    assert shard.data == {"k": "v"}


def test_a_refusal_of_the_operation_is_recorded():
    """Scenario §3.2-13: a refused append stays refused for its retry, even if it would succeed by now."""
    shard = opened()
    shard.execute(Operation("p", "k", b"bytes", 1, 1, 1), LIMIT)
    refused = shard.execute(Operation("a", "k", "text", 1, 2, 1), LIMIT)
    assert isinstance(refused, Refused) and refused.error == "WrongType"
    shard.execute(Operation("d", "k", None, 1, 3, 1), LIMIT)
    assert shard.execute(Operation("a", "k", "text", 1, 2, 1), LIMIT) == refused
    assert shard.data == {}


def test_an_answer_without_room_is_refused_and_nothing_is_changed():
    """House rule: bytes of stored results are capped. The refusal is not recorded: the retry is executed."""
    shard = opened()
    half = SESSION_RESULT_BYTES_MAX // 2 + 1
    for sequence, key in ((1, "a"), (2, "b")):
        shard.execute(Operation("p", key, "x" * half, 1, sequence, 1), half)
    assert shard.execute(Operation("h", "a", "1", 1, 3, 1), half) == Done("x" * half)
    refused = shard.execute(Operation("h", "b", "1", 1, 4, 1), half)
    assert isinstance(refused, Refused) and refused.error == "Overloaded"
    assert shard.data["b"] == "x" * half
    assert shard.execute(Operation("h", "b", "1", 1, 4, 4), half) == Done("x" * half)


def test_taken_changes_are_values_as_they_stood():
    """House rule, Storage: the map is swapped; what is applied later shows in the next take only."""
    shard = opened()
    shard.execute(Operation("p", "k", "1", 1, 1, 1), LIMIT)
    shard.execute(Operation("p", "gone", "1", 1, 2, 1), LIMIT)
    first = shard.take()
    shard.execute(Operation("a", "k", "2", 1, 3, 1), LIMIT)
    shard.execute(Operation("d", "gone", None, 1, 4, 1), LIMIT)
    assert first[KEY_SPACE]["k"] == "1" and first[KEY_SPACE]["gone"] == "1"
    second = shard.take()
    assert second[KEY_SPACE]["k"] == "12" and second[KEY_SPACE]["gone"] is None
    assert shard.take() == {}


def test_installed_rows_are_owed_to_the_checkpoint_hazard_32():
    """Hazard 32: a staging copy is stored like everything else, sessions included, and can be read back half."""
    giver, taker = filled(5), Shard()
    giving = Giving(0, 1, giver)
    assert giving.prepare()
    rows, _, _ = giving.chunk(BEGINNING, 10**6)
    taker.install(rows)
    taken = [Row(0, 1, space, *row) for space, named in taker.take().items() for row in named.items()]
    assert {(row.space, row.name): row.value for row in taken} == {(row.space, row.name): row.value for row in rows}
    assert {row.space for row in taken} == {KEY_SPACE, SESSION_SPACE}
    half = Shard()
    for row in taken:
        half.load(row.space, row.name, row.value, complete=False)
    assert half.digest() == taker.digest()
    half.complete()
    taker.complete()
    assert half.digest() == taker.digest() == giver.digest()


def test_digest_knows_types_and_forgets_order_hazard_20():
    """Hazard 20: equal on replicas whatever the order of their dictionaries; text is not bytes."""

    def digest(*items):
        shard = Shard()
        for key, value in items:
            shard.load(KEY_SPACE, key, value)
        return shard.digest()

    assert digest(("a", "1"), ("b", "2")) == digest(("b", "2"), ("a", "1"))
    assert digest(("a", "1"), ("b", "2")) != digest(("a", "2"), ("b", "1"))
    assert digest(("a", "1")) != digest(("a", b"1"))
    assert digest() != digest(("a", ""))
    assert opened().digest() != digest(), "sessions count as well"


def test_taking_changes_hands_over_the_map_itself():
    """However many keys have changed: nothing is done for each of them in the turn of the checkpoint."""
    shard = filled(5)
    shard.take()
    shard.execute(Operation("p", "k", "1", 1, 20, 20), LIMIT)
    changed = shard._changed
    assert shard.take()[KEY_SPACE] is changed


def test_keys_that_come_at_once_are_as_those_that_come_one_by_one():
    keys = {"a": "1", "é": "\N{EURO SIGN}", "b": b"\0\xff"}
    one, other = Shard(), Shard()
    for name, value in keys.items():
        one.load(KEY_SPACE, name, value)
    other.load_keys({"a": "1"})
    other.load_keys({name: value for name, value in keys.items() if name != "a"})
    assert (one.data, one.bytes, one.digest()) == (other.data, other.bytes, other.digest())
    with pytest.raises(AssertionError, match="a key comes once"):
        other.load_keys({"a": "2"})
