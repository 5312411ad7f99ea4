"""Sessions: a write takes effect once, also many in flight, also after a restart or a move of the shard."""

from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from twisted_kv.codec import Malformed
from twisted_kv.machines import sessions as sessions_module
from twisted_kv.machines.commands import Done, Expired, Refused, WrongGroup
from twisted_kv.machines.sessions import COUNTER_ROW, RESULT_INLINE_BYTES, Sessions

NONCE = b"n" * 16
DIGEST = 7


def execute(sessions: Sessions, number: int, sequence: int, value: Any = None, floor: int = 0) -> Done:
    assert sessions.recall(number, sequence, floor, DIGEST) is None
    sessions.record(number, sequence, DIGEST, Done(value))
    return Done(value)


def reloaded(sessions: Sessions, **limits: int) -> Sessions:
    copy = Sessions(**limits)
    for name, value in sessions.rows():
        copy.load(name, value)
    return copy


def test_the_same_nonce_opens_the_same_session() -> None:
    """Hazard 42: a repeated Open finds the session that the first one made."""
    sessions = Sessions()
    number = sessions.open(NONCE)
    assert sessions.open(b"other") != number
    assert sessions.open(NONCE) == number
    assert len(sessions) == 2


def test_a_repeat_gets_the_stored_result() -> None:
    """Scenario §3.2-13; hazard 40."""
    sessions = Sessions()
    number = sessions.open(NONCE)
    execute(sessions, number, 1, "old")
    execute(sessions, number, 3, b"older")
    assert sessions.recall(number, 1, 0, DIGEST) == Done("old")
    assert sessions.recall(number, 3, 0, DIGEST) == Done(b"older")
    assert sessions.recall(number, 2, 0, DIGEST) is None, "in flight between the two"


def test_a_refusal_is_stored_like_a_result() -> None:
    """An append that would have grown too large must not succeed later under the same sequence."""
    sessions = Sessions()
    number = sessions.open(NONCE)
    refused = Refused("ValueTooLarge", "3 MiB")
    assert sessions.recall(number, 1, 0, DIGEST) is None
    sessions.record(number, 1, DIGEST, refused)
    assert reloaded(sessions).recall(number, 1, 0, DIGEST) == refused


def test_an_unknown_session_is_refused_never_executed() -> None:
    """House, Sessions; hazard 42."""
    assert Sessions().recall(1, 1, 0, DIGEST) == Expired()


def test_hazard_42_reused_sequence_with_another_payload_is_an_error() -> None:
    """Hazard 42: never a silent ok, and the first result stays."""
    sessions = Sessions()
    number = sessions.open(NONCE)
    execute(sessions, number, 1, "first")
    answer = sessions.recall(number, 1, 0, DIGEST + 1)
    assert isinstance(answer, Refused) and answer.error == "BadRequest"
    assert sessions.recall(number, 1, 0, DIGEST) == Done("first")


def test_hazard_42_late_retry_is_refused_not_run_anew() -> None:
    """Hazard 42: below the floor, and after the eviction of the session."""
    sessions = Sessions(sessions_max=1)
    number = sessions.open(NONCE)
    execute(sessions, number, 1)
    execute(sessions, number, 2, floor=2)
    assert sessions.recall(number, 1, 0, DIGEST) == Expired(), "the floor never goes back"
    assert sessions.recall(number, 2, 0, DIGEST) == Done(None)
    sessions.open(b"another")
    assert sessions.recall(number, 2, 0, DIGEST) == Expired()
    assert sessions.open(NONCE) != number, "a number is never given twice"


def test_the_own_floor_of_a_write_counts_before_its_sequence() -> None:
    sessions = Sessions()
    number = sessions.open(NONCE)
    assert sessions.recall(number, 4, 5, DIGEST) == Expired()


@pytest.mark.parametrize("outcome", [WrongGroup(3, 100), Expired()])
def test_what_was_not_executed_is_never_recorded(outcome: Any) -> None:
    """Scenario §3.2-14: else the retry at the new owner is swallowed."""
    sessions = Sessions()
    number = sessions.open(NONCE)
    with pytest.raises(AssertionError):
        sessions.record(number, 1, DIGEST, outcome)


def test_the_least_recently_used_in_log_order_goes() -> None:
    """House, Sessions: a recall is a use, and so is a repeated open."""
    sessions = Sessions(sessions_max=3)
    a, b, c = (sessions.open(nonce) for nonce in (b"a", b"b", b"c"))
    execute(sessions, a, 1)
    sessions.open(b"b")
    sessions.open(b"d")
    assert sessions.recall(c, 1, 0, DIGEST) == Expired()
    sessions.open(b"e")
    assert sessions.recall(a, 1, 0, DIGEST) == Expired()
    assert sessions.recall(b, 1, 0, DIGEST) is None


def test_too_many_waiting_answers_are_refused_but_the_lowest_gets_in() -> None:
    """House, Sessions: calls in flight are capped; nothing that could move the floor is kept out."""
    sessions = Sessions(results_max=2)
    number = sessions.open(NONCE)
    execute(sessions, number, 2, floor=1)
    execute(sessions, number, 3, floor=1)
    answer = sessions.recall(number, 4, 1, DIGEST)
    assert isinstance(answer, Refused) and answer.error == "Overloaded"
    assert sessions.recall(number, 2, 1, DIGEST) == Done(None), "a repeat needs no room"
    execute(sessions, number, 1, floor=1)
    execute(sessions, number, 4, floor=4)
    execute(sessions, number, 5, floor=4)  # what the floor has passed takes no room


@pytest.mark.parametrize("value", ["x" * 60, b"x" * 60, "é" * 30])
def test_bytes_of_waiting_answers_are_capped(value: str | bytes) -> None:
    """House, Sessions: old values of put_hash count, in bytes."""
    sessions = Sessions(result_bytes_max=100)
    number = sessions.open(NONCE)
    assert sessions.room_for(number, 100) and not sessions.room_for(number, 101)
    assert not sessions.room_for(number + 1, 0), "an unknown session has none"
    execute(sessions, number, 1, value, floor=1)
    assert sessions.room_for(number, 40) and not sessions.room_for(number, 41)
    assert reloaded(sessions, result_bytes_max=100).room_for(number, 40)
    assert not reloaded(sessions, result_bytes_max=100).room_for(number, 41)
    execute(sessions, number, 2, b"y" * 40, floor=1)
    answer = sessions.recall(number, 3, 1, DIGEST)
    assert isinstance(answer, Refused) and answer.error == "Overloaded"
    assert sessions.recall(number, 3, 3, DIGEST) is None, "the floor gave the room back"
    assert sessions.room_for(number, 100)


def test_clients_that_vanished_do_not_hold_memory_for_ever() -> None:
    """A client that puts a hash over a large value and goes never moves its floor."""
    sessions = Sessions(result_bytes_max=100)
    numbers = []
    for client in range(6):
        numbers.append(sessions.open(bytes([client])))
        execute(sessions, numbers[-1], 1, "x" * 90)
    known = [sessions.recall(number, 1, 0, DIGEST) == Done("x" * 90) for number in numbers]
    assert known == [False, False, True, True, True, True]


LARGE = "l" * (RESULT_INLINE_BYTES + 1)
OUTCOMES = st.one_of(
    st.sampled_from([Done(None), Done(True), Done(False), Done(LARGE), Done(LARGE.encode()), Done(41)]),
    st.builds(Done, st.text(max_size=8)),
    st.builds(Done, st.binary(max_size=8)),
    st.builds(Refused, st.just("WrongType"), st.text(max_size=8)),
)


@given(st.lists(OUTCOMES, max_size=20))
@settings(max_examples=60, deadline=None)
def test_rows_round_trip_with_exact_types(outcomes: list[Done | Refused]) -> None:
    """Hazard 41: what was str comes back as str, what was bytes as bytes."""
    sessions = Sessions()
    number = sessions.open(NONCE)
    for sequence, outcome in enumerate(outcomes, 1):
        assert sessions.recall(number, sequence, 0, DIGEST) is None
        sessions.record(number, sequence, DIGEST, outcome)
    copy = reloaded(sessions)
    assert copy.digest() == sessions.digest()
    assert [*copy.rows()] == [*sessions.rows()]
    assert [name for name, _ in copy.rows()] == sorted(name for name, _ in copy.rows())
    for sequence, outcome in enumerate(outcomes, 1):
        answer = copy.recall(number, sequence, 0, DIGEST)
        assert answer == outcome
        if isinstance(outcome, Done):
            assert isinstance(answer, Done) and type(answer.value) is type(outcome.value)


def test_no_row_outgrows_a_command() -> None:
    """Two answers of the largest kind stand in rows of their own, and go when the floor passes them."""
    sessions = Sessions()
    number = sessions.open(NONCE)
    execute(sessions, number, 1, LARGE)
    execute(sessions, number, 2, LARGE)
    sizes = {name: len(value) for name, value in sessions.take_dirty() if value is not None}
    assert len(sizes) == 4 and max(sizes.values()) < len(LARGE) + 100
    assert sessions.recall(number, 3, 2, DIGEST) is None
    gone = [name for name, value in sessions.take_dirty() if value is None]
    assert gone == [name for name in sizes if name.endswith(".0000000000000001")]
    assert [*sessions.take_dirty()] == []


def test_a_record_is_a_change_of_its_own() -> None:
    """Changes may be taken between a recall and its record: the result must be in the next ones."""
    sessions = Sessions()
    number = sessions.open(NONCE)
    assert sessions.recall(number, 1, 0, DIGEST) is None
    store = dict(sessions.take_dirty())
    sessions.record(number, 1, DIGEST, Done("late"))
    store.update(sessions.take_dirty())
    assert store == dict(sessions.rows())


def test_changes_are_taken_as_they_stood() -> None:
    """A checkpoint writes the state of one index, whatever is applied while it is written."""
    sessions = Sessions()
    number = sessions.open(NONCE)
    execute(sessions, number, 1, "before")
    taken = sessions.take_dirty()
    execute(sessions, number, 2, "after")
    copy = Sessions()
    for name, value in taken:
        assert value is not None
        copy.load(name, value)
    assert copy.recall(number, 1, 0, DIGEST) == Done("before")
    assert copy.recall(number, 2, 0, DIGEST) is None


def test_nothing_is_dirty_twice() -> None:
    sessions = Sessions()
    sessions.open(NONCE)
    assert [name for name, _ in sessions.take_dirty()] == ["0000000000000001", COUNTER_ROW]
    assert [*sessions.take_dirty()] == []
    assert sessions.recall(99, 1, 0, DIGEST) == Expired()
    assert [*sessions.take_dirty()] == [], "a stranger leaves no trace"


def test_damaged_rows_are_malformed() -> None:
    sessions = Sessions()
    number = sessions.open(NONCE)
    execute(sessions, number, 1, LARGE)
    for name, value in sessions.rows():
        assert isinstance(value, bytes)
        with pytest.raises(Malformed):
            reloaded(sessions).load(name, value[:-1] + bytes([value[-1] ^ 1]))
    orphan = next((name, value) for name, value in sessions.rows() if "." in name)
    with pytest.raises(Malformed):
        Sessions().load(*orphan)


class SessionsBesideTwin(RuleBasedStateMachine):
    """A naive account of who did what, beside a table that is checkpointed and restarted at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions(sessions_max=3, results_max=4, result_bytes_max=3000)
        self.store: dict[str, Any] = {}
        self.used: OrderedDict[int, bytes] = OrderedDict()
        self.floors: dict[int, int] = {}
        self.results: dict[tuple[int, int], tuple[int, Done]] = {}
        self.opened = 0

    @rule(nonce=st.integers(0, 5))
    def open(self, nonce: int) -> None:
        body = bytes([nonce])
        number = next((number for number, known in self.used.items() if known == body), None)
        if number is None:
            self.opened += 1
            number = self.opened
            self.used[number] = body
            self.floors[number] = 0
        self.used.move_to_end(number)
        if len(self.used) > 3:
            evicted, _ = self.used.popitem(last=False)
            self.results = {key: result for key, result in self.results.items() if key[0] != evicted}
        assert self.sessions.open(body) == number

    @rule(
        back=st.integers(0, 4),
        sequence=st.integers(1, 12),
        floor=st.integers(0, 10),
        digest=st.integers(1, 2),
        value=st.sampled_from([None, True, "v", b"v", LARGE]),
    )
    def write(self, back: int, sequence: int, floor: int, digest: int, value: Any) -> None:
        number = self.opened - back
        answer = self.sessions.recall(number, sequence, floor, digest)
        if number not in self.used:
            assert answer == Expired()
            return
        self.used.move_to_end(number)
        self.floors[number] = max(self.floors[number], floor)
        self.results = {
            key: result for key, result in self.results.items() if key[0] != number or key[1] >= self.floors[number]
        }
        held = [result for key, result in self.results.items() if key[0] == number]
        held_bytes = sum(len(done.value) for _, done in held if isinstance(done.value, str | bytes))
        if sequence < self.floors[number]:
            assert answer == Expired()
        elif (number, sequence) in self.results:
            first, outcome = self.results[number, sequence]
            assert answer == outcome if first == digest else isinstance(answer, Refused)
        elif len(held) >= 4 and sequence > self.floors[number]:
            assert isinstance(answer, Refused) and answer.error == "Overloaded"
        else:
            assert answer is None
            size = len(value) if isinstance(value, str | bytes) else 0
            assert self.sessions.room_for(number, size) == (held_bytes + size <= 3000)
            if held_bytes + size <= 3000:
                self.sessions.record(number, sequence, digest, Done(value))
                self.results[number, sequence] = (digest, Done(value))

    @rule()
    def checkpoint(self) -> None:
        for name, value in self.sessions.take_dirty():
            self.store.pop(name, None) if value is None else self.store.update({name: value})
        assert self.store == dict(self.sessions.rows())

    @rule()
    def restart(self) -> None:
        """Only after a checkpoint: the log's tail is the replica's business."""
        self.checkpoint()
        digest = self.sessions.digest()
        self.sessions = Sessions(sessions_max=3, results_max=4, result_bytes_max=3000)
        for name in sorted(self.store):
            self.sessions.load(name, self.store[name])
        assert self.sessions.digest() == digest

    @invariant()
    def same_sessions(self) -> None:
        assert len(self.sessions) == len(self.used)


def test_sessions_agree_with_a_naive_twin() -> None:
    """Hazards 40-42: against a naive twin, with checkpoints and restarts at any point."""
    run_state_machine_as_test(
        SessionsBesideTwin, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )


def test_every_answer_may_have_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hunt lives some lives so: what is light still has its row, until the floor passes it."""
    monkeypatch.setattr(sessions_module, "RESULT_INLINE_BYTES", -1)
    sessions = Sessions()
    number = sessions.open(NONCE)
    store: dict[str, Any] = {}
    for sequence, floor, value in [(1, 1, None), (2, 1, True), (3, 2, None), (4, 4, "answer")]:
        assert sessions.recall(number, sequence, floor, DIGEST) is None
        sessions.record(number, sequence, DIGEST, Done(value))
        store.update(sessions.take_dirty())
        kept = {name: row for name, row in store.items() if row is not None}
        assert kept == dict(sessions.rows())
