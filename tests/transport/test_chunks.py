"""Large bodies: in parts, whole or not at all, bounded."""

import pytest
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, fail, succeed
from twisted.internet.task import Clock

from twisted_kv.constants import OUTBOX_BYTES_MAX, WIRE_BODY_BYTES_MAX, WIRE_PART_BYTES
from twisted_kv.errors import BadRequest, OutcomeUnknown, Overloaded
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.transport import chunks
from twisted_kv.transport.chunks import (
    RESERVE_BYTES,
    UNFINISHED_MAX,
    UNTOUCHED_SECONDS,
    Answers,
    Reserve,
    Uploads,
    collect,
    hand_over,
    part_count,
)

PART = WIRE_PART_BYTES


def uploads(reserve=None, clock=None):
    return Uploads(reserve or Reserve(), clock or Clock())


# ── the server's end ───────────────────────────────────────────────────────────────────────────────


def test_a_body_is_there_when_its_last_part_is_and_can_be_taken_once():
    """Scenario §3.6-50: atomic at the receiver."""
    up = uploads()
    up.part(7, 0, 2, b"a" * PART)
    with pytest.raises(BadRequest):
        up.take(7)
    up.part(7, 1, 2, b"b")
    assert up.take(7) == b"a" * PART + b"b"
    with pytest.raises(BadRequest):
        up.take(7)


@pytest.mark.parametrize(
    "second",
    [(7, 2, 3, b"x"), (7, 0, 3, b"x"), (7, 1, 4, b"x"), (7, 1, 3, b""), (7, 1, 3, b"x" * (PART + 1)), (8, 1, 3, b"x")],
)
def test_a_part_out_of_order_or_of_a_wrong_size_ends_the_upload_and_gives_its_memory_back(second):
    """A hole must never be filled with something else."""
    reserve = Reserve()
    up = uploads(reserve)
    up.part(7, 0, 3, b"x" * 100)
    with pytest.raises(BadRequest):
        up.part(*second)
    if second[0] == 7:
        assert reserve.free == RESERVE_BYTES
        with pytest.raises(BadRequest):
            up.part(7, 1, 3, b"x")


def test_a_body_beyond_the_limit_is_refused_at_the_part_that_passes_it():
    """Hazards S4: one body has at most WIRE_BODY_BYTES_MAX."""
    up, piece, count = uploads(), b"x" * PART, part_count(WIRE_BODY_BYTES_MAX) + 1
    for index in range(WIRE_BODY_BYTES_MAX // PART):
        up.part(1, index, count, piece)
    with pytest.raises(BadRequest):
        for index in range(WIRE_BODY_BYTES_MAX // PART, count):
            up.part(1, index, count, piece)


def test_unfinished_uploads_are_bounded_in_number_and_all_together_in_bytes():
    """Hazards S5: and the refusal is definite, since nothing has happened."""
    up = uploads()
    for upload in range(UNFINISHED_MAX):
        up.part(upload, 0, 2, b"x")
    with pytest.raises(Overloaded):
        up.part(UNFINISHED_MAX, 0, 2, b"x")
    reserve = Reserve(1_000)
    first, second = uploads(reserve), uploads(reserve)
    first.part(1, 0, 2, b"x" * 600)
    with pytest.raises(Overloaded):
        second.part(1, 0, 2, b"x" * 600)
    first.clear()
    second.part(1, 0, 2, b"x" * 600)


def test_a_body_that_was_taken_counts_until_it_is_released():
    """The door still holds it."""
    reserve = Reserve(1_000)
    up = uploads(reserve)
    up.part(1, 0, 1, b"x" * 600)
    body = up.take(1)
    with pytest.raises(Overloaded):
        up.part(2, 0, 1, b"x" * 600)
    up.release(body)
    up.part(3, 0, 1, b"x" * 600)


def test_what_nobody_touches_expires():
    """Incomplete uploads and answers nobody fetches must not stay for ever."""
    clock, reserve = Clock(), Reserve()
    up, answers = uploads(reserve, clock), Answers(reserve, clock)
    up.part(1, 0, 3, b"x")
    number, _ = answers.keep(b"y" * 2 * PART)
    clock.advance(UNTOUCHED_SECONDS)
    up.part(2, 0, 3, b"x")
    up.part(1, 1, 3, b"x")
    answers.fetch(number, 0)
    clock.advance(UNTOUCHED_SECONDS / 2)
    up.expire()
    answers.expire()
    up.part(1, 2, 3, b"x")
    answers.fetch(number, 0)
    clock.advance(UNTOUCHED_SECONDS * 2)
    up.expire()
    answers.expire()
    with pytest.raises(BadRequest):
        up.take(1)
    with pytest.raises(BadRequest):
        answers.fetch(number, 0)
    assert reserve.free == RESERVE_BYTES


def test_an_answer_is_fetched_part_by_part_and_forgotten_with_the_last():
    reserve = Reserve()
    answers = Answers(reserve, Clock())
    number, size = answers.keep(b"a" * PART + b"b")
    assert size == PART + 1
    assert answers.fetch(number, 0) == b"a" * PART
    for index in (-1, 2):
        with pytest.raises(BadRequest):
            answers.fetch(number, index)
    assert answers.fetch(number, 1) == b"b"
    with pytest.raises(BadRequest):
        answers.fetch(number, 0)
    assert reserve.free == RESERVE_BYTES


def test_an_answer_for_which_there_is_no_room_is_unknown_and_not_overloaded():
    """Overloaded would say that nothing happened; the call has been carried out."""
    answers = Answers(Reserve(100), Clock())
    with pytest.raises(OutcomeUnknown):
        answers.keep(b"x" * 101)
    with pytest.raises(OutcomeUnknown):
        Answers(Reserve(), Clock()).keep(b"x" * (WIRE_BODY_BYTES_MAX + 1))
    many = Answers(Reserve(), Clock())
    for _ in range(UNFINISHED_MAX):
        many.keep(b"x")
    with pytest.raises(OutcomeUnknown):
        many.keep(b"x")


def test_an_answer_that_comes_after_the_connection_is_gone_takes_no_memory():
    reserve = Reserve()
    answers = Answers(reserve, Clock())
    answers.keep(b"x" * 100)
    answers.clear()
    with pytest.raises(OutcomeUnknown):
        answers.keep(b"x" * 100)
    assert reserve.free == RESERVE_BYTES


def test_the_reserve_holds_the_largest_body_several_times():
    assert RESERVE_BYTES >= 4 * WIRE_BODY_BYTES_MAX
    assert OUTBOX_BYTES_MAX >= WIRE_BODY_BYTES_MAX


# ── the caller's end ───────────────────────────────────────────────────────────────────────────────


class Root:
    """A root that answers when told to."""

    def __init__(self):
        self.called = []
        self.waiting = []

    def call(self, verb, *arguments, pbanswer=True):
        self.called.append((verb, *arguments))
        if not pbanswer:
            return None
        self.waiting.append(Deferred())
        return self.waiting[-1]


def fired(coroutine):
    got = []
    running = Deferred.fromCoroutine(coroutine)
    running.addBoth(got.append)
    return running, got


def test_a_large_request_goes_in_parts_with_few_in_flight():
    root, slots, body = Root(), DeferredSemaphore(2), b"a" * PART + b"b" * PART + b"c"
    _, got = fired(hand_over(root.call, slots, 5, body))
    assert root.called == [(chunks.PART, 5, 0, 3, b"a" * PART), (chunks.PART, 5, 1, 3, b"b" * PART)]
    root.waiting[0].callback(None)
    assert root.called[2:] == [(chunks.PART, 5, 2, 3, b"c")]
    root.waiting[2].callback(None)
    assert got == []
    root.waiting[1].callback(None)
    assert got == [None] and slots.tokens == 2


def test_transfers_of_one_link_take_turns():
    """One large body must not keep another waiting until it is through."""
    root, slots = Root(), DeferredSemaphore(1)
    fired(hand_over(root.call, slots, 1, b"x" * 3 * PART))
    fired(hand_over(root.call, slots, 2, b"x" * 3 * PART))
    for _ in range(5):
        root.waiting.pop().callback(None)
    assert [upload for _, upload, *_ in root.called] == [1, 1, 2, 1, 2, 2]


@pytest.mark.parametrize("error", [Overloaded(), LostAnswer("lost"), NotSent("down"), OutcomeUnknown("odd")])
def test_a_part_that_does_not_arrive_means_that_nothing_was_sent(error):
    """INetwork: only the call that names the whole has an effect."""
    root, slots = Root(), DeferredSemaphore(2)
    _, got = fired(hand_over(root.call, slots, 5, b"x" * 9 * PART))
    root.waiting[0].errback(error)
    root.waiting[1].callback(None)
    assert type(got[0].value) is NotSent
    assert len(root.called) == 2 and slots.tokens == 2


@pytest.mark.parametrize("answered", [0, 1])
def test_cancelling_a_transfer_tells_the_other_side_and_frees_the_slots(answered):
    for coroutine, told in (
        (lambda call, slots: hand_over(call, slots, 5, b"x" * 3 * PART), (chunks.CANCEL, 5)),
        (lambda call, slots: collect(call, slots, 5, 3 * PART), (chunks.FORGET, 5)),
    ):
        root, slots = Root(), DeferredSemaphore(2)
        running, got = fired(coroutine(root.call, slots))
        for waiting in root.waiting[:answered]:
            waiting.callback(b"x" * PART)
        running.cancel()
        assert got[0].check(CancelledError)
        assert root.called[-1] == told
        for waiting in root.waiting:
            if not waiting.called:
                waiting.callback(b"")
        assert slots.tokens == 2


def test_a_large_answer_is_put_together_in_order_whatever_comes_first():
    root, slots = Root(), DeferredSemaphore(2)
    _, got = fired(collect(root.call, slots, 9, PART + 1))
    assert root.called == [(chunks.FETCH, 9, 0), (chunks.FETCH, 9, 1)]
    root.waiting[1].callback(b"b")
    root.waiting[0].callback(b"a" * PART)
    assert got == [b"a" * PART + b"b"]


@pytest.mark.parametrize("size", [0, -1, WIRE_BODY_BYTES_MAX + 1])
def test_an_impossible_announcement_is_a_lost_answer(size):
    """The other side may say anything; nothing of that size is fetched."""
    root = Root()
    _, got = fired(collect(root.call, DeferredSemaphore(2), 9, size))
    assert type(got[0].value) is LostAnswer and root.called == []


@pytest.mark.parametrize("part", [b"short", None, "x" * 100, BadRequest("gone"), LostAnswer("lost"), NotSent("down")])
def test_a_part_that_does_not_come_or_is_wrong_is_a_lost_answer(part):
    """The call has been carried out: even a definite error says nothing about it."""

    def call(verb, *arguments):
        return fail(part) if isinstance(part, Exception) else succeed(part)

    _, got = fired(collect(call, DeferredSemaphore(2), 9, 100))
    assert type(got[0].value) is LostAnswer


def test_a_body_in_very_many_parts_is_refused():
    """What a part costs beside its bytes is bounded by their number."""
    reserve = Reserve()
    up = uploads(reserve)
    with pytest.raises(BadRequest):
        up.part(1, 0, chunks.PARTS_MAX + 1, b"ab")
    assert reserve.free == RESERVE_BYTES
    assert part_count(WIRE_BODY_BYTES_MAX) <= chunks.PARTS_MAX
    up.part(2, 0, chunks.PARTS_MAX, b"ab")
