"""What is written and recognized as a whole is what goes token by token, whatever comes and however it is cut."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twisted_kv.constants import WIRE_PART_BYTES
from twisted_kv.transport import shapes
from twisted_kv.transport.banana import Budget, Decoder, Violation, encode

BUDGET = Budget(4096, 64, 8)
NAMES = st.sampled_from([b"kv_write", b"peer_step", b"x", b"copy", b"message", b"p2p"])
BODIES = st.binary(max_size=300) | st.sampled_from([b"None", b"dictionary", b"not_logged_in", b"m" * 13, b"m" * 14])
NUMBERS = st.integers(0, 1 << 33)


def message(number, name, answered, body):
    return [b"message", number, b"root", name, int(answered), [b"tuple", body], [b"dictionary"]]


def read(stream, pieces, budget, **recognizing):
    """What a decoder makes of a stream that comes in pieces: expressions with their sizes, and the violation."""
    told = []
    decoder = Decoder(budget, lambda expression: told.append((decoder.size, expression)), **recognizing)
    try:
        for piece in pieces(stream):
            decoder.feed(piece)
            told.append(decoder.unfinished)
    except Violation as violation:
        told.append(str(violation))
    return told


def both(stream, pieces, budget):
    whole = read(stream, pieces, budget, recognize=shapes.recognized)
    return whole, read(stream, pieces, budget)


@given(NUMBERS, NAMES, st.booleans(), BODIES)
def test_a_call_is_written_as_it_would_be_token_by_token(number, name, answered, body):
    written = shapes.written(tuple(message(number, name, answered, body)))
    assert written in (None, encode(message(number, name, answered, body)))
    assert (written is None) == (len(body) <= 13 or number >= 1 << 31)


@given(NUMBERS, BODIES)
def test_an_answer_is_written_as_it_would_be_token_by_token(number, body):
    written = shapes.written((b"answer", number, body))
    assert written in (None, encode([b"answer", number, body]))
    assert (written is None) == (len(body) <= 13 or number >= 1 << 31)


def test_what_is_sent_in_parts_is_not_written_whole():
    body = bytes(WIRE_PART_BYTES + 1)
    assert shapes.written(message(1, b"kv_write", True, body)) is shapes.written([b"answer", 1, body]) is None


@pytest.mark.parametrize(
    "other",
    [
        (b"version", 6),
        (b"error", 1, [b"a failure"]),
        (b"answer", 1, [b"tuple", 1]),
        (b"answer", 1, 7),
        (b"message", 1, b"other", b"kv_write", 1, [b"tuple", b"b" * 20], [b"dictionary"]),
        (b"message", 1, b"root", b"kv_write", 1, [b"tuple", b"b" * 20], [b"dictionary", [b"k", b"v"]]),
        (b"message", 1, b"root", b"kv_write", 1, [b"tuple"], [b"dictionary"]),
        (b"message", 1, b"root", b"kv_write", 1, [b"tuple", b"b" * 20, 1], [b"dictionary"]),
        (b"message", 1, b"root", b"kv_write", 1, [b"list", b"b" * 20], [b"dictionary"]),
        (b"message", 1, b"root", b"kv_write", 1, [b"tuple", [b"unicode", b"b" * 20]], [b"dictionary"]),
    ],
)
def test_whatever_else_is_said_goes_token_by_token(other):
    assert shapes.written(other) is None


@given(NUMBERS.filter(lambda number: number < 1 << 31), NAMES, st.booleans(), st.binary(max_size=300))
def test_calls_and_answers_are_recognized(number, name, answered, body):
    """The point of it: nothing of ours takes the long way, but for names no door has."""
    body = b"no word at all" + body
    stream = b"before" + encode([b"answer", number, body])
    assert shapes.recognized(stream, 6, BUDGET) == (len(stream), [b"answer", number, body])
    stream = b"before" + encode(message(number, name, answered, body)) + b"behind"
    if name in (b"kv_write", b"peer_step", b"x"):
        assert shapes.recognized(stream, 6, BUDGET) == (len(stream) - 6, message(number, name, answered, body))


@given(
    st.lists(
        st.builds(message, NUMBERS, NAMES, st.booleans(), BODIES)
        | st.builds(lambda number, body: [b"answer", number, body], NUMBERS, BODIES)
        | st.builds(lambda body: [b"message", 7, b"root", b"kv_write", 1, [b"tuple", body], []], BODIES)
        | st.builds(lambda body: [b"message", 7, b"root", b"kv_write", 1, [b"list", body], [b"dictionary"]], BODIES),
        max_size=4,
    ),
    st.lists(st.integers(0, 1500), max_size=6),
    st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=2),
    st.sampled_from([BUDGET, Budget(60, 64, 8), Budget(4096, 9, 8), Budget(4096, 64, 1), Budget(256, 8, 1)]),
)
@example([message(1, b"kv_write", True, b"b" * 40)], [66], [], BUDGET)
def test_nothing_comes_out_that_would_not_token_by_token(expressions, cuts, strokes, budget):
    """Cut anywhere, damaged anywhere, under any budget."""
    stream = bytearray(b"".join(map(encode, expressions)))
    for place, byte in strokes:
        if stream:
            stream[place % len(stream)] = byte

    def pieces(stream):
        places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
        return [stream[a:b] for a, b in pairwise(places)]

    whole, token_by_token = both(bytes(stream), pieces, budget)
    assert whole == token_by_token


def test_a_long_body_is_refused_before_it_is_there():
    """Hazards §0.4: what is declared counts."""
    stream = encode([b"answer", 1, bytes(5000)])[:40]
    whole, token_by_token = both(stream, lambda stream: [stream], BUDGET)
    assert whole == token_by_token == ["an expression of more than 4096 bytes"]
