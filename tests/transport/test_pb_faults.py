"""Errors on the wire, both ways."""

import pytest
from twisted.spread import pb
from twisted.spread.jelly import globalSecurity, unjelly

from twisted_kv import errors
from twisted_kv.errors import KVError, OutcomeUnknown
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.transport import faults
from twisted_kv.transport.faults import from_wire, internal_error, refusal, to_wire
from twisted_kv.transport.plain import to_jelly

KINDS = [getattr(errors, name) for name in errors.__all__ if name != "by_name"]


def raised_by_stock_client(sexp):
    """What ``await callRemote(...)`` raises in a script, and the CopiedFailure an errback gets."""
    copied = unjelly(sexp, globalSecurity, None, object())

    def waiting():
        yield

    generator = waiting()
    next(generator)
    with pytest.raises(pb.RemoteError) as raised:
        copied.throwExceptionIntoGenerator(generator)
    return raised.value, copied


@pytest.mark.parametrize("kind", KINDS)
def test_a_stock_client_reads_name_text_and_outcome(kind):
    """Contract §4: remoteType and the text; ``check`` works by name, for the base classes too."""
    error = kind("some words")
    raised, copied = raised_by_stock_client(to_wire(error))
    assert raised.remoteType == b"twisted_kv.errors." + kind.__name__.encode()
    assert str(raised) == error.described()
    assert copied.check(kind, KVError) and copied.check(KVError)
    assert copied.getErrorMessage() == error.described()


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_client_gets_the_error_back(kind):
    back = from_wire(to_wire(kind("some; words: here")))
    assert type(back) is kind
    assert back.text == "some; words: here"


def test_what_leaves_has_the_shape_of_a_stock_failure():
    """Ecosystem §1.1: with any other class than PB's own, a client that lacks it waits for ever."""
    stock = pb.failure2Copyable(pb.failure.Failure(KVError("x"))).getStateToCopy()
    tag, _ = to_wire(KVError("x"))
    assert tag == b"twisted.spread.pb.CopyableFailure"
    _, copied = raised_by_stock_client(to_wire(KVError("x")))
    assert {"type", "value", "traceback", "tb", "frames", "stack"} <= stock.keys() & copied.__dict__.keys()
    assert copied.getTraceback().strip().endswith("KVError: x; definite; final")


def test_long_and_ugly_texts_are_cut_and_escaped_and_keep_their_end():
    """Hazards S13."""
    raised, _ = raised_by_stock_client(to_wire(errors.Unavailable("a\nb\x1b\ud800" + "x" * 1_000_000)))
    assert len(str(raised)) <= faults.TEXT_MAX
    assert str(raised).startswith("Unavailable: a\\nb\\x1b\\ud800x")
    assert str(raised).endswith("; definite; retryable")


def test_an_unexpected_error_says_nothing_but_that_it_may_have_happened():
    """Hazards S12: its text could hold keys and values."""
    assert refusal(ValueError("the secret")) is None
    assert internal_error().described() == "OutcomeUnknown: internal error; unknown; final"


def test_the_network_doors_own_errors_become_what_a_user_can_act_on():
    assert type(refusal(NotSent("x"))) is errors.Unavailable
    assert type(refusal(LostAnswer("x"))) is OutcomeUnknown
    error = errors.KeyTooLong("x")
    assert refusal(error) is error


@pytest.mark.parametrize(
    "sexp",
    [
        b"",
        5,
        [],
        [b"os.system", b"x"],
        [b"twisted.spread.pb.CopyableFailure", [b"set"]],
        [b"twisted.spread.pb.CopyableFailure", to_jelly({})],
        [b"twisted.spread.pb.CopyableFailure", to_jelly({"type": 5, "value": 5})],
        [b"twisted.spread.pb.CopyableFailure", to_jelly({"type": b"builtins.ValueError", "value": "x"})],
        [b"twisted.spread.pb.CopyableFailure", to_jelly({"type": b"twisted_kv.errors.KeyTooLong", "value": "x"})],
        [b"other", to_jelly({"type": b"twisted_kv.errors.KVError", "value": KVError("x").described()})],
        [
            b"twisted.spread.pb.CopyableFailure",
            to_jelly({"type": b"twisted_kv.errors.Newer", "value": "Newer: x; unknown; final"}),
        ],
    ],
)
def test_what_cannot_be_read_may_have_happened(sexp):
    """A malformed or foreign error says nothing definite."""
    assert not from_wire(sexp).definite


def test_a_definite_error_of_a_newer_version_stays_definite():
    state = {"type": b"twisted_kv.errors.Newer", "value": "Newer: x; definite; final"}
    assert from_wire([b"twisted.spread.pb.CopyableFailure", to_jelly(state)]).definite
