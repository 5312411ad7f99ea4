"""What is recorded of a call, and that a record of what cannot have happened is found out."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from twisted_kv.errors import OutcomeUnknown, WrongType
from twisted_kv.simulation.judges.history import NEVER
from twisted_kv.simulation.lives.recording import Misused, NotLinearizable, RecordedHistory


@pytest.fixture
def history() -> RecordedHistory:
    return RecordedHistory(Clock())


@pytest.mark.parametrize(("wrote", "read"), [("a", "b"), (b"\x80a", b"\x80b"), ("a", None)])
def test_what_cannot_have_happened_is_found(history: RecordedHistory, wrote: Any, read: Any) -> None:
    history.record("ada", "put", "k", wrote, lambda: succeed(None))
    history.check()
    history.record("bob", "get", "k", None, lambda: succeed(read))
    with pytest.raises(NotLinearizable, match="'k': violation: ") as error:
        history.check()
    assert "ada: put" in str(error.value) and "bob: get" in str(error.value)


def test_what_comes_back_is_passed_on(history: RecordedHistory) -> None:
    answers: list[Any] = []
    asked: Deferred[Any] = Deferred()
    history.record("ada", "get", "k", None, lambda: asked).addCallback(answers.append)
    assert len(history.open) == 1
    asked.callback("v")
    assert answers == ["v"] and history.open == [] and history.calls[0].result == "v"


@pytest.mark.parametrize(
    ("error", "verb", "kept"),
    [(WrongType("no"), "put", 0), (OutcomeUnknown("?"), "put", 1), (ValueError(), "put", 1), (ValueError(), "get", 0)],
)
def test_what_failed_is_kept_only_if_it_may_have_happened(
    history: RecordedHistory, error: Exception, verb: Any, kept: int
) -> None:
    failures: list[Any] = []
    history.record("ada", verb, "k", None, lambda: fail(error)).addErrback(failures.append)
    assert failures[0].value is error
    assert [call.returned for call in history.calls] == [NEVER] * kept and history.open == []


def test_a_check_of_nothing_is_refused(history: RecordedHistory) -> None:
    with pytest.raises(Misused, match="nothing to check"):
        history.check()
