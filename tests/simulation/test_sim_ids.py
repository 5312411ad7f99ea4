"""Who was told that a session is forgotten must not use its id again; all else is no concern of this judge."""

from collections import deque

from twisted.internet.defer import succeed

from twisted_kv.machines.commands import OPENS, WRITES, Done, Expired, Open, Operation, Write
from twisted_kv.simulation.judges.book import home_of
from twisted_kv.simulation.judges.checkers import FRESH_ID
from twisted_kv.simulation.judges.ids import ClerkNetwork
from twisted_kv.transport.wire import ANSWERS, KV_OPEN, KV_READ, KV_WRITE, Busy, Outcomes

SHARDS = 5
SHARD = home_of("k", SHARDS)
NONCE, OTHER = bytes(16), bytes([1]) * 16


class Wire:
    """Answers what it was told to, in turn."""

    def __init__(self, *answers):
        self.answers = deque(ANSWERS.encode(answer) for answer in answers)
        self.asked = []
        self.send = self.close = None

    def call(self, endpoint, verb, body, timeout):
        self.asked.append((endpoint, verb, body, timeout))
        return succeed(self.answers.popleft())


def heard(*exchange):
    """What is found in an exchange of requests and answers; each answer comes through as it is."""
    found, wire = [], Wire(*(answer for _, answer in exchange))
    network = ClerkNetwork(wire, lambda checker, text: found.append(checker), "client-1", SHARDS)
    for (verb, body), answer in exchange:
        told = []
        network.call("e", verb, body, 1.0).addCallback(told.append)
        assert ANSWERS.decode(told[0]) == answer
    assert wire.asked == [("e", verb, body, 1.0) for (verb, body), _ in exchange]
    return found


def opens(nonce, *shards):
    return KV_OPEN, OPENS.encode(Open(shards, nonce))


WRITES_K = KV_WRITE, WRITES.encode(Write((Operation("a", "k", "x", 7, 1, 1),)))
OPENED, FORGOTTEN = Outcomes(1, (Done(7),)), Outcomes(1, (Expired(),))


def test_an_id_that_is_forgotten_is_not_used_again():
    """Hazard 42."""
    before = ((opens(NONCE, SHARD), OPENED), (WRITES_K, FORGOTTEN))
    assert heard(*before, (opens(NONCE, SHARD), OPENED)) == [FRESH_ID]
    assert heard(*before, (opens(OTHER, SHARD), OPENED)) == []
    assert heard(*before, (opens(NONCE, (SHARD + 1) % SHARDS), OPENED)) == []


def test_what_was_not_told_need_not_be_known():
    assert heard((opens(NONCE, SHARD), Busy(1, 0.1)), (WRITES_K, FORGOTTEN), (opens(NONCE, SHARD), OPENED)) == []
    assert heard((opens(NONCE, SHARD), OPENED), (WRITES_K, Busy(1, 0.1)), (opens(NONCE, SHARD), OPENED)) == []
    assert heard((opens(NONCE, SHARD), OPENED), (WRITES_K, Outcomes(1, (Done(),))), (opens(NONCE, SHARD), OPENED)) == []
    assert heard(((KV_READ, b"anything"), OPENED)) == []
