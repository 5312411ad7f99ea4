"""Errors: what they say about the write, and their names on the wire (contract §6)."""

import inspect

import pytest

from twisted_kv import errors
from twisted_kv.errors import KVError, Overloaded, by_name

EVERY = sorted(
    (kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, KVError)),
    key=lambda kind: kind.__name__,
)
BAD_REQUESTS = {"KeyTooLong", "ValueTooLarge", "WrongType", "NoSuchGroup", "NoSuchShard", "GroupExists"}


def test_the_names_of_the_contract_are_there() -> None:
    """Contract §6: fixed, since black-box tests use them."""
    names = {kind.__name__ for kind in EVERY}
    assert names >= {"OutcomeUnknown", "Unavailable", "BadRequest", "Overloaded", "NotAuthorized"} | BAD_REQUESTS
    assert {kind.__name__ for kind in errors.BadRequest.__subclasses__()} == BAD_REQUESTS
    assert {*errors.__all__} == names | {"by_name"}


def test_only_an_unknown_outcome_is_not_definite() -> None:
    """Hazard 40: "unknown" never becomes "failed", nor the other way round."""
    assert [kind.__name__ for kind in EVERY if not kind.definite] == ["OutcomeUnknown"]


def test_what_may_be_asked_again() -> None:
    assert [kind.__name__ for kind in EVERY if kind.retryable] == ["Overloaded", "Unavailable"]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_is_found_again_by_its_name(kind: type[KVError]) -> None:
    error = by_name(kind.__name__, "why")
    assert type(error) is kind and error.text == "why"
    outcome = "definite" if kind.definite else "unknown"
    again = "retryable" if kind.retryable else "final"
    assert error.described() == f"{kind.__name__}: why; {outcome}; {again}", "contract §4: the form a script reads"


def test_the_name_of_a_newer_version_is_a_plain_error() -> None:
    assert type(by_name("TooHot", "90 °C")) is KVError
    assert by_name("TooHot", "90 °C").text == "90 °C"


def test_overloaded_says_when_to_come_back() -> None:
    assert Overloaded().retry_after > 0
    assert Overloaded("full", 2.5).retry_after == 2.5
    assert Overloaded("full", 2.5).text == "full"


def test_an_error_without_words() -> None:
    assert KVError().text == ""
