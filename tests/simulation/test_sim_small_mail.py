"""The network between cores alone: late, twice, out of order, or never."""

from __future__ import annotations

from random import Random

from twisted_kv.consensus.raft.messages import AppendAck, Heartbeat, HeartbeatAck
from twisted_kv.simulation.small.mail import Mail


def beat(round: int, to: int = 2, term: int = 1) -> Heartbeat:
    return Heartbeat(1, to, term, 0, round)


def mail(turn: int = 1) -> Mail:
    made = Mail(Random(5))
    made.turn = turn
    return made


def arrived(made: Mail, turn: int, deaf: tuple[int, ...] = ()) -> list[object]:
    made.turn = turn
    return list(made.arriving(deaf))


def test_what_is_sent_arrives_in_its_turn() -> None:
    made = mail()
    made.post(beat(1))
    assert arrived(made, 1) == [beat(1)]
    assert arrived(made, 1) == []
    made.delays = (2,)
    made.post(beat(2))
    assert [arrived(made, turn) for turn in (1, 2, 3)] == [[], [], [beat(2)]]


def test_what_is_sent_between_two_turns_arrives_in_the_next() -> None:
    made = mail()
    made.post(beat(1))
    assert arrived(made, 2) == [beat(1)]


def test_what_is_sent_meanwhile_arrives_too() -> None:
    made = mail()
    made.post(beat(1))
    seen = []
    for message in made.arriving(()):
        seen.append(message.round)
        if message.round < 3:
            made.post(beat(message.round + 1))
    assert seen == [1, 2, 3]


def test_a_cut_link_lets_nothing_through_and_the_other_direction_does() -> None:
    made = mail()
    made.cut = {(1, 2)}
    made.post(beat(1))
    made.post(HeartbeatAck(2, 1, 1, 1))
    made.post(beat(2, to=-2))
    assert arrived(made, 1) == [HeartbeatAck(2, 1, 1, 1)]


def test_the_deaf_hear_it_later() -> None:
    made = mail()
    made.post(beat(1))
    assert arrived(made, 1, (2,)) == []
    assert arrived(made, 2) == [beat(1)]


def test_messages_are_lost_and_doubled() -> None:
    made = mail()
    made.loss = 1.0
    made.post(beat(1))
    made.loss, made.duplicate = 0.0, 1.0
    made.post(beat(2))
    assert [message for turn in range(1, 13) for message in arrived(made, turn)] == [beat(2), beat(2)]


def test_limbo_ends_when_it_is_released() -> None:
    released = []
    made = Mail(Random(5), lambda: released.append(1))
    made.limbo_kinds = ("Heartbeat",)
    for round in range(20):
        made.post(beat(round))
    made.post(AppendAck(2, 1, 1, 1))
    assert arrived(made, 0) == [AppendAck(2, 1, 1, 1)]
    made.release()
    late = [message for turn in range(6) for message in arrived(made, turn)]
    assert len(late) == len(released) >= 10
    made.forget()
    made.release()
    assert not [message for turn in range(6, 12) for message in arrived(made, turn)]


def test_kinds_are_withheld_from_one_receiver() -> None:
    made = mail()
    made.withheld = {2: ("Heartbeat",), 3: ()}
    for message in (beat(1), beat(1, to=4), HeartbeatAck(1, 3, 1, 1), AppendAck(1, 2, 1, 1)):
        made.post(message)
    assert sorted(map(str, arrived(made, 1))) == sorted(map(str, [beat(1, to=4), AppendAck(1, 2, 1, 1)]))


def test_the_past_arrives_again() -> None:
    made = mail()
    for term in (1, 2):
        made.post(beat(1, term=term))
    made.post(AppendAck(1, 2, 1, 9))
    arrived(made, 1)
    assert made.kinds_sent(2) == {"Heartbeat": 2, "AppendAck": 1}
    assert made.replay(2, lambda message: message.term == 2) == 1
    assert arrived(made, 1) == [beat(1, term=2)]
    assert made.replay(1, lambda message: True) == 0
