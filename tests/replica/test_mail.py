"""Messages are addressed and checked: group, receiver, incarnation (hazards 9 and 37)."""

import msgspec
import pytest
from replica_stage import SeenNetwork

from twisted_kv.codec import Codec, Malformed
from twisted_kv.replica.mail import Mail


class Note(msgspec.Struct, frozen=True, tag="n", array_like=True):
    sender: int
    to: int
    text: str


CODEC = Codec(tuple[Note, ...])
VOTERS = {1: "i1", 2: "i2", 3: "i3"}
ENDPOINTS = {1: "e1", 2: "e2", 3: "e3"}


def office(me, incarnation=None, gid=7):
    network = SeenNetwork()
    return Mail(gid, me, incarnation or f"i{abs(me)}", VOTERS, ENDPOINTS, CODEC, network), network


def body_from(sender, to, **other):
    mail, network = office(sender, **other)
    mail.post([Note(sender, to, "x")])
    return network.sent[-1][2]


def test_one_body_per_receiver_in_order():
    mail, network = office(1)
    mail.post([Note(1, 2, "a"), Note(1, 3, "b"), Note(1, 2, "c")])
    assert [endpoint for endpoint, _, _ in network.sent] == ["e2", "e3"]
    assert [note.text for note in office(2)[0].opened(network.sent[0][2])] == ["a", "c"]


def test_hazard_37_another_group_is_not_listened_to():
    assert office(2)[0].opened(body_from(1, 2, gid=8)) == ()


def test_hazard_09_wiped_directory_is_not_the_voter():
    assert office(2)[0].opened(body_from(1, 2, incarnation="new")) == ()


def test_copy_is_heard_under_its_own_name():
    assert len(office(2)[0].opened(body_from(-1, 2, incarnation="new"))) == 1


def test_message_for_the_voter_does_not_reach_the_copy():
    assert office(-2)[0].opened(body_from(1, 2)) == ()
    assert len(office(-2)[0].opened(body_from(1, -2))) == 1


def test_forged_sender_is_refused():
    mail, network = office(1)
    mail.post([Note(3, 2, "x")])
    with pytest.raises(Malformed):
        office(2)[0].opened(network.sent[0][2])
