"""Questions wait until there is something to say, each in time, and not too many of them."""

from twisted.internet.task import Clock

from twisted_kv.replica import waits
from twisted_kv.replica.waits import Waits


def test_a_question_is_looked_at_when_something_has_changed():
    clock, news = Clock(), []
    held = Waits(clock)
    waiting = [held.until(lambda word=word: word in news, 5.0) for word in ("a", "b")]
    held.look()
    assert len(held) == 2
    news.append("b")
    held.look()
    assert [one.called for one in waiting] == [False, True] and waiting[1].result is True
    clock.advance(5.0)
    assert waiting[0].result is True
    assert len(held) == 0 and not clock.getDelayedCalls()


def test_a_question_that_has_its_answer_does_not_wait():
    assert Waits(Clock()).until(lambda: True, 5.0).result is True


def test_at_the_end_all_are_told_that_nothing_comes():
    clock = Clock()
    held = Waits(clock)
    waiting = held.until(lambda: False, 5.0)
    held.close()
    assert waiting.result is False and held.until(lambda: True, 5.0).result is False
    assert not clock.getDelayedCalls()


def test_a_question_can_be_taken_back_while_others_are_answered():
    clock = Clock()
    held = Waits(clock)
    second = []
    first = held.until(lambda: bool(second), 5.0)
    first.addCallback(lambda _: second[0].cancel())
    second.append(held.until(lambda: bool(second), 5.0))
    second[0].addErrback(lambda _: None)
    held.look()
    assert first.called and len(held) == 0 and not clock.getDelayedCalls()


def test_not_everybody_may_wait(monkeypatch):
    monkeypatch.setattr(waits, "HELD_MAX", 1)
    held = Waits(Clock())
    first, second = held.until(lambda: False, 5.0), held.until(lambda: False, 5.0)
    assert not first.called and second.result is True
    held.close()
