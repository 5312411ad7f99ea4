"""The four verbs against a naive twin, and what the door refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_kv.constants import KEY_BYTES_MAX
from twisted_kv.machines.commands import Done, Operation, Refused
from twisted_kv.machines.operations import OPERATIONS, check_key, check_operation, digest_of, fnv1a, size_of

LIMIT = 12

values = st.one_of(st.text(max_size=6), st.binary(max_size=6))


def execute(old, operation, limit):
    return OPERATIONS[operation.verb](old, operation.value, limit)


def twin(old, verb, argument):
    """The contract's sentences, taken word by word."""
    if verb == "p":
        return argument, Done()
    if verb == "d":
        return None, Done(old is not None)
    if verb == "h":
        octets = b"".join(part.encode() if isinstance(part, str) else part for part in (old, argument) if part)
        state = 2166136261
        for octet in octets:
            state ^= octet
            state = (state * 16777619) % 2**32
        return str(state), Done("" if old is None else old)
    if old is None:
        return argument, Done()
    if isinstance(old, str) != isinstance(argument, str):
        return old, "WrongType"
    joined = old + argument
    if len(joined.encode() if isinstance(joined, str) else joined) > LIMIT:
        return old, "ValueTooLarge"
    return joined, Done()


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from("paadh"), values), max_size=12))
def test_operations_agree_with_a_naive_twin(script):
    """Scenarios S1, S2; §3.5-49 (the put_hash chain); contract §3."""
    value = expected = None
    for verb, argument in script:
        operation = Operation(verb, "k", None if verb == "d" else argument, 1, 1, 1)
        value, outcome = execute(value, operation, LIMIT)
        expected, wanted = twin(expected, verb, argument)
        assert (value, type(value)) == (expected, type(expected))
        assert (outcome.error if isinstance(outcome, Refused) else outcome) == wanted


def test_put_hash_chain_item_49():
    """Scenario §3.5-49: decimal text of FNV-1a over old and new; an absent key counts as ""."""
    first, outcome = execute(None, Operation("h", "k", "foobar", 1, 1, 1), 100)
    assert (first, outcome) == (str(0xBF9CF968), Done(""))
    second, outcome = execute(first, Operation("h", "k", "é", 1, 2, 1), 100)
    assert outcome == Done(first)
    assert second == str(fnv1a(first.encode() + "é".encode()))


def test_a_refused_append_hands_back_the_same_value():
    """Contract §6: an append that would grow too large is refused by apply, with nothing changed."""
    for old, argument, error in (("é" * 5, "abc", "ValueTooLarge"), ("a", b"a", "WrongType"), (b"a", "a", "WrongType")):
        value, outcome = execute(old, Operation("a", "k", argument, 1, 1, 1), LIMIT)
        assert value is old
        assert isinstance(outcome, Refused) and outcome.error == error
    assert execute("é" * 5, Operation("a", "k", "ab", 1, 1, 1), LIMIT) == ("é" * 5 + "ab", Done())


@given(st.text(max_size=9))
def test_sizes_are_bytes_of_utf8(text):
    """Contract §6: limits are in bytes of UTF-8, not in characters."""
    assert size_of(text) == len(text.encode()) == size_of(text.encode())


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("", "KeyTooLong"),
        ("k" * (KEY_BYTES_MAX + 1), "KeyTooLong"),
        ("é" * (KEY_BYTES_MAX // 2) + "x", "KeyTooLong"),
        ("a\ud800", "WrongType"),
        (b"bytes", "WrongType"),
        (7, "WrongType"),
    ],
)
def test_keys_refused_at_the_door(key, error):
    """Contract §6: 1 … 4,096 bytes of UTF-8."""
    refused = check_key(key)
    assert refused is not None and refused.error == error
    assert check_operation(Operation("p", key, "v", 1, 1, 1), LIMIT) == refused


def test_keys_and_values_at_the_edge_pass():
    """Contract §6: the limits themselves are allowed."""
    assert check_key("k") is None
    assert check_key("é" * (KEY_BYTES_MAX // 2)) is None
    for value in ("é" * (LIMIT // 2), b"x" * LIMIT, "", b""):
        assert check_operation(Operation("a", "k", value, 1, 1, 1), LIMIT) is None
    assert check_operation(Operation("d", "k", None, 1, 9, 9), LIMIT) is None


@pytest.mark.parametrize(
    ("verb", "value", "numbers", "error"),
    [
        ("p", "x" * (LIMIT + 1), (1, 1, 1), "ValueTooLarge"),
        ("h", b"x" * (LIMIT + 1), (1, 1, 1), "ValueTooLarge"),
        ("a", "é" * 7, (1, 1, 1), "ValueTooLarge"),
        ("p", None, (1, 1, 1), "WrongType"),
        ("p", 7, (1, 1, 1), "WrongType"),
        ("p", ["x"], (1, 1, 1), "WrongType"),
        ("p", "\udfff", (1, 1, 1), "WrongType"),
        ("d", "x", (1, 1, 1), "WrongType"),
        ("x", "x", (1, 1, 1), "BadRequest"),
        ("p", "x", (-1, 1, 1), "BadRequest"),
        ("p", "x", (1, 0, 0), "BadRequest"),
        ("p", "x", (1, 1, 0), "BadRequest"),
        ("p", "x", (1, 1, 2), "BadRequest"),
        ("p", "x", (1, 2**63, 1), "BadRequest"),
        ("p", "x", (1, True, 1), "BadRequest"),
        ("p", "x", ("1", 1, 1), "BadRequest"),
    ],
)
def test_operations_refused_at_the_door(verb, value, numbers, error):
    """Contract §6: refused before it enters the log."""
    refused = check_operation(Operation(verb, "k", value, *numbers), LIMIT)
    assert refused is not None and refused.error == error


def test_digests_tell_payloads_apart_hazard_42():
    """Hazard 42: verb, key, value and the value's type are all in the digest; sequence and floor are not."""
    asked = [
        ("p", "ab", "c"),
        ("p", "a", "bc"),
        ("p", "abc", ""),
        ("p", "ab", b"c"),
        ("p", "abc", b""),
        ("a", "ab", "c"),
        ("h", "ab", "c"),
        ("d", "ab", None),
        ("d", "abc", None),
    ]
    digests = {digest_of(Operation(verb, key, value, 1, 1, 1)) for verb, key, value in asked}
    assert len(digests) == len(asked)
    assert digest_of(Operation("p", "k", "v", 1, 5, 1)) == digest_of(Operation("p", "k", "v", 1, 5, 4))
