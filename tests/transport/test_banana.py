"""Expressions under a budget."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.spread.banana import SIZE_LIMIT, Banana, BananaError, encode

from twisted_kv.transport import banana
from twisted_kv.transport.banana import PREFIX_MAX, Budget, Decoder, Violation

WIDE = Budget(1 << 20, 1 << 14, 16)

expressions = st.recursive(
    st.integers(-(2**64), 2**64) | st.floats(allow_nan=False) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


def decoded(data, budget=WIDE, pieces=None):
    got = []
    decoder = Decoder(budget, got.append)
    start = 0
    for size in pieces or ():
        decoder.feed(data[start : start + size])
        start += size
    decoder.feed(data[start:])
    return got


@given(st.lists(expressions, min_size=1, max_size=4), st.lists(st.integers(1, 40), max_size=30))
def test_decodes_what_stock_banana_encodes_however_it_is_cut(sent, pieces):
    """The naive twin is Twisted's own encoder."""
    assert decoded(b"".join(map(encode, sent)), pieces=pieces) == sent


def stock(expression, dialect):
    """What Twisted's own broker would write."""
    pieces = []
    encoder = Banana(isClient=False)
    encoder.setPrefixLimit(64)
    encoder.currentDialect = dialect
    encoder._encode(expression, pieces.append)
    return b"".join(pieces)


@given(expressions | st.sampled_from([*Banana.outgoingVocabulary]) | st.tuples(st.integers(), st.just(b"message")))
def test_encodes_as_stock_banana_does(expression):
    """Wire-compatible: the naive twin is Twisted's own encoder, with the vocabulary and without."""
    assert banana.encode(expression) == stock(expression, b"pb")
    assert banana.encode(expression, {}) == stock(expression, b"none")


@pytest.mark.parametrize("edge", [0, 127, 128, 2**14 - 1, 2**14, 2**31 - 1, 2**31, 2**448 - 1])
def test_encodes_integers_at_their_edges_as_stock_banana_does(edge):
    for number in (edge, -edge):
        assert banana.encode(number) == stock(number, b"pb")


@pytest.mark.parametrize(
    "expression",
    [bytes(SIZE_LIMIT + 1), [0] * (SIZE_LIMIT + 1), 2**448, -(2**448), "text", None, {b"a": 1}, [1, [object()]]],
    ids=["string", "list", "integer", "negative", "text", "nothing", "dict", "within"],
)
def test_what_stock_banana_refuses_to_send_is_refused(expression):
    for encoding in (banana.encode, lambda refused: stock(refused, b"pb")):
        with pytest.raises(BananaError):
            encoding(expression)


def test_knows_the_vocabulary_of_profile_pb():
    for word, number in Banana.outgoingVocabulary.items():
        assert decoded(bytes([number, 0x87])) == [word]
    with pytest.raises(Violation):
        decoded(b"\x7f\x87")


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=10))
def test_any_bytes_are_expressions_or_a_violation(data, pieces):
    """Hazards §3-8: nothing else is raised."""
    with contextlib.suppress(Violation):
        decoded(data, pieces=pieces)


def test_refuses_an_unknown_type_byte():
    with pytest.raises(Violation):
        decoded(b"\x01\x90")


def test_integers_have_at_most_ten_digits_on_either_side_of_a_cut():
    """Hazards S3: this also ends sets and dicts of thousands of colliding integers."""
    assert decoded(encode(2 ** (7 * PREFIX_MAX) - 1)) == [2 ** (7 * PREFIX_MAX) - 1]
    for huge in (encode(2 ** (7 * PREFIX_MAX)), b"\x01" * (PREFIX_MAX + 1)):
        with pytest.raises(Violation):
            decoded(huge)
        with pytest.raises(Violation):
            decoded(huge, pieces=[1] * PREFIX_MAX)


@pytest.mark.parametrize(
    ("expression", "budget"),
    [
        (b"x" * 90, Budget(100, 0, 0)),
        ([b"x" * 40, b"y" * 45], Budget(100, 2, 1)),
        ([1] * 10, Budget(100, 10, 1)),
        ([[1, 2], [3, [4]]], Budget(100, 7, 3)),
    ],
)
def test_an_expression_just_within_its_budget_passes_and_less_does_not(expression, budget):
    """Each of the three figures bounds for itself."""
    data = encode(expression)
    exact = Budget(len(data), budget.items_max, budget.depth_max)
    assert decoded(data + data, exact) == [expression, expression]
    tighter = [exact._replace(bytes_max=exact.bytes_max - 1)]
    if isinstance(expression, list):
        tighter += [exact._replace(items_max=exact.items_max - 1), exact._replace(depth_max=exact.depth_max - 1)]
    for budget in tighter:
        with pytest.raises(Violation):
            decoded(data, budget)


def test_a_string_or_list_is_refused_when_it_is_declared_not_when_it_has_come():
    """Hazards §0.4: the memory must not be spent first."""
    for opener in (encode(b"x" * 2_000)[:3], encode([1] * 2_000)[:3]):
        assert opener[-1] in (0x80, 0x82)
        decoded(opener, Budget(3_000, 3_000, 4))
        with pytest.raises(Violation):
            decoded(opener, Budget(1_000, 1_000, 4))


def test_a_long_string_that_dribbles_in_is_joined_once():
    """One copy of 600 kB for each byte that comes would be an attack by itself."""
    got = []
    decoder = Decoder(WIDE, got.append)
    data = encode(b"x" * 600_000)
    decoder.feed(data[:590_000])
    for position in range(590_000, len(data)):
        decoder.feed(data[position : position + 1])
        assert got or len(decoder._pieces) == position - 590_000 + 2
    assert got == [b"x" * 600_000]


def test_the_rest_of_a_stream_is_ignored_once_closed():
    got = []
    decoder = Decoder(WIDE, lambda item: (got.append(item), setattr(decoder, "closed", True)))
    decoder.feed(encode(1) + encode(2))
    assert got == [1]
