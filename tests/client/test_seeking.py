"""Who is asked next, and when, by the answers alone."""

from __future__ import annotations

import random

import fake_cluster as fake
import pytest
from fake_cluster import FakeCluster
from twisted.internet.defer import CancelledError, ensureDeferred

from twisted_kv.client.seeking import NoAnswer, NotReached, Seeker
from twisted_kv.constants import CONFIGURATION_HELD_SECONDS, MIB
from twisted_kv.errors import NotAuthorized, OutcomeUnknown, Overloaded, Unavailable
from twisted_kv.machines.commands import READS, Done, Read
from twisted_kv.transport.wire import CTL_NEXT, KV_READ, Busy, NotLeading, Outcomes, Rejected, Unsettled

BODY = READS.encode(Read(("k",)))


@pytest.fixture
def cluster():
    return FakeCluster()


class Zero(random.Random):
    """The first endpoint first, and the shortest pauses."""

    def random(self):
        return 0.0


@pytest.fixture
def seeker(cluster):
    return Seeker(cluster.groups[1].endpoints, cluster.clock, Zero(), cluster.network)


def attempt(cluster, seeker, fault=None, seconds_max=10.0):
    if fault is not None:
        cluster.faults = [fault]
    return cluster.result(seeker.attempt(KV_READ, BODY, seconds_max))


def asked(cluster):
    return [endpoint for endpoint, _ in cluster.network.calls]


def test_a_leader_that_answered_is_asked_again(cluster, seeker):
    """Sticky: no call is spent on others."""
    for _ in range(3):
        assert attempt(cluster, seeker) == Outcomes(1, (Done(None),))
        assert seeker.found
    assert asked(cluster) == ["g1a"] * 3


def test_a_hint_to_a_known_node_is_followed(cluster, seeker):
    """Design, 'Leader hints': a client learns endpoint → node from answers."""
    cluster.groups[1].leader = None
    for _ in range(3):
        attempt(cluster, seeker)
    cluster.groups[1].leader = 2
    assert asked(cluster) == ["g1a", "g1b", "g1c"]
    attempt(cluster, seeker)
    attempt(cluster, seeker)
    assert asked(cluster)[3:] == ["g1a", "g1c"], "not by way of g1b"
    assert seeker.found


def test_a_hint_to_an_unknown_node_leads_to_the_next_endpoint(cluster, seeker):
    cluster.groups[1].leader = 1
    attempt(cluster, seeker)
    assert attempt(cluster, seeker) == Outcomes(2, (Done(None),))
    assert asked(cluster) == ["g1a", "g1b"]


def test_a_hint_to_a_server_that_just_failed_is_not_followed(cluster, seeker):
    """A dead leader is named by its followers until they notice."""
    for _ in range(2):
        attempt(cluster, seeker)
    attempt(cluster, seeker, fake.refused)
    attempt(cluster, seeker)
    attempt(cluster, seeker)
    assert asked(cluster)[2:] == ["g1a", "g1b", "g1c"]


def test_rounds_in_vain_are_followed_by_growing_pauses(cluster, seeker):
    """Scenario 47: never give up silently, nor hammer."""
    pauses = []
    for _ in range(6):
        for _ in range(2):
            attempt(cluster, seeker, fake.refused)
            assert seeker.pause() == 0
        attempt(cluster, seeker, fake.refused)
        pauses.append(seeker.pause())
        cluster.run(seeker.pause())
    assert pauses == pytest.approx([0.01, 0.02, 0.04, 0.05, 0.05, 0.05])
    attempt(cluster, seeker)
    assert seeker.pause() == 0


def test_news_of_a_server_that_was_left_already_changes_nothing(cluster, seeker):
    """Several attempts under way fail together; only the first moves on."""
    cluster.faults = [fake.refused, fake.refused, fake.refused]
    first, second, third = (seeker.attempt(KV_READ, BODY, 10.0) for _ in range(3))
    cluster.result(third)
    assert first.called and second.called
    attempt(cluster, seeker)
    assert asked(cluster) == ["g1a", "g1a", "g1a", "g1b"]


def test_who_is_held_back_by_intent_is_given_the_time(cluster, seeker):
    """A server that keeps a question until there is news is not taken for a dead one meanwhile."""
    cluster.faults = [fake.silent]
    cluster.result(seeker.attempt(CTL_NEXT, BODY, 10.0))
    assert cluster.network.timeouts == pytest.approx([1.0 + CONFIGURATION_HELD_SECONDS], rel=0.01)


def test_patience_grows_with_silence_and_ends_with_the_deadline(cluster, seeker):
    """A slow server is not asked again and again; nobody is waited for beyond the deadline."""
    for _ in range(5):
        attempt(cluster, seeker, fake.silent, seconds_max=6.0)
    assert cluster.network.timeouts == pytest.approx([1.0, 2.0, 4.0, 6.0, 6.0], rel=0.01)
    while not seeker.found:
        attempt(cluster, seeker)
    attempt(cluster, seeker)
    assert cluster.network.timeouts[-1] == pytest.approx(1.0, rel=0.01)
    cluster.result(seeker.attempt(KV_READ, READS.encode(Read(("k" * 4 * MIB,))), 10.0))
    assert cluster.network.timeouts[-1] == pytest.approx(5.0, rel=0.01)


def test_a_lost_connection_is_no_reason_for_more_patience(cluster, seeker):
    for _ in range(3):
        attempt(cluster, seeker, fake.dropped)
    assert cluster.network.timeouts == pytest.approx([1.0] * 3, rel=0.01)


def test_a_server_that_could_not_be_reached_is_not_waited_for_as_long(cluster, seeker):
    """Contract §6: a killed leader costs less than 1 s; the network may sit out a pause before it dials again."""
    attempt(cluster, seeker, fake.refused)
    for _ in range(2):
        attempt(cluster, seeker, fake.not_leading)
    attempt(cluster, seeker, fake.not_leading)
    assert cluster.network.calls[0] == cluster.network.calls[3]
    assert cluster.network.timeouts == pytest.approx([1.0, 1.0, 1.0, 0.02], rel=0.01)
    for _ in range(3):
        attempt(cluster, seeker, fake.not_leading)
    assert cluster.network.timeouts[-1] == pytest.approx(1.0, rel=0.01), "it has answered"


def test_a_busy_leader_is_waited_for_and_a_busy_stranger_is_passed_by(cluster, seeker):
    attempt(cluster, seeker)
    attempt(cluster, seeker, fake.answering(Busy(1, 0.3)))
    assert seeker.pause() == pytest.approx(0.3)
    cluster.run(0.3)
    attempt(cluster, seeker, fake.answering(Busy(1, 0.3)))
    assert seeker.pause() == 0
    attempt(cluster, seeker)
    assert asked(cluster) == ["g1a", "g1a", "g1a", "g1b"]


def test_a_leader_that_says_that_it_leads_is_waited_for_as_often_as_it_says(cluster, seeker):
    """Nobody else could do it: to ask the others would only make work, and more of it for the leader as well."""
    attempt(cluster, seeker)
    pauses = []
    for _ in range(4):
        attempt(cluster, seeker, fake.answering(Busy(1, 0.4, leads=True)))
        pauses.append(seeker.pause())
        cluster.run(seeker.pause())
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 0.8])
    attempt(cluster, seeker)
    attempt(cluster, seeker, fake.answering(Busy(1, 0.4, leads=True)))
    assert seeker.pause() == pytest.approx(0.2), "it had room meanwhile"
    assert asked(cluster) == ["g1a"] * 7


def test_several_that_were_turned_away_together_count_as_one(cluster, seeker):
    attempt(cluster, seeker)
    cluster.faults = [fake.answering(Busy(1, 0.4, leads=True))] * 3
    for asked_together in [seeker.attempt(KV_READ, BODY, 10.0) for _ in range(3)]:
        cluster.result(asked_together)
    assert 0.1 < seeker.pause() <= 0.2


def test_an_answer_is_waited_for_as_long_as_answers_take(cluster, seeker):
    """Issue 4: who asks again before the answer can be there makes a slow leader slower still."""

    def slow(cluster, endpoint, verb, body):
        cluster.clock.advance(0.9)
        return fake.fine(cluster, endpoint, verb, body)

    attempt(cluster, seeker, slow)
    attempt(cluster, seeker)
    assert cluster.network.timeouts == pytest.approx([1.0, 2.7], rel=0.05)
    for _ in range(30):
        attempt(cluster, seeker)
    assert cluster.network.timeouts[-1] == pytest.approx(1.0, rel=0.01)


def test_what_went_wrong_is_told_apart(cluster, seeker):
    """INetwork: NotSent is certain, everything else is not."""
    assert isinstance(attempt(cluster, seeker, fake.refused), NotReached)
    assert isinstance(attempt(cluster, seeker, fake.dropped), NoAnswer)
    assert isinstance(attempt(cluster, seeker, fake.silent), NoAnswer)
    assert isinstance(attempt(cluster, seeker, fake.nonsense), NoAnswer)
    assert isinstance(attempt(cluster, seeker, lambda *_: RuntimeError("odd")), NoAnswer)


def ask(cluster, seeker, faults, changes=True, seconds=2.0):
    cluster.faults = list(faults)
    deadline = cluster.clock.seconds() + seconds
    return cluster.result(ensureDeferred(seeker.ask(KV_READ, BODY, deadline, changes)))


def test_ask_goes_on_until_somebody_answers(cluster, seeker):
    assert ask(cluster, seeker, [fake.refused] * 7) == (Outcomes(1, (Done(None),)), False)
    answer, unsettled = ask(cluster, seeker, [fake.dropped, fake.not_leading])
    assert answer.outcomes == (Done(None),)
    assert unsettled


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (NotLeading(1, 2), Unavailable),
        (Unsettled(1, 0), OutcomeUnknown),
        (Busy(1, 0.1), Overloaded),
        (Rejected(1, "NotAuthorized", "no"), NotAuthorized),
    ],
)
def test_ask_says_what_is_known_at_the_deadline(cluster, seeker, answer, error):
    """Design, 'Clerk's knowledge of the outcome'."""
    with pytest.raises(error):
        ask(cluster, seeker, [fake.answering(answer)] * 1000)
    if error is OutcomeUnknown:
        with pytest.raises(Unavailable):
            ask(cluster, seeker, [fake.answering(answer)] * 1000, changes=False)


def test_a_rejection_after_an_attempt_without_an_answer_leaves_the_outcome_unknown(cluster, seeker):
    no = fake.answering(Rejected(1, "NotAuthorized", "no"))
    with pytest.raises(OutcomeUnknown):
        ask(cluster, seeker, [fake.dropped, no])
    with pytest.raises(NotAuthorized):
        ask(cluster, seeker, [fake.dropped, no], changes=False)


def test_close_ends_attempts_and_sleeps(cluster, seeker):
    cluster.faults = [fake.silent]
    waiting = seeker.attempt(KV_READ, BODY, 10.0)
    sleeping = ensureDeferred(seeker.sleep(10.0))
    cluster.run(0.1)
    assert not seeker.idle
    seeker.close()
    assert isinstance(cluster.result(waiting), NoAnswer)
    assert cluster.result(sleeping) is None
    assert seeker.idle
    assert isinstance(cluster.result(seeker.attempt(KV_READ, BODY, 10.0)), NotReached)
    assert cluster.clock.getDelayedCalls() == []


def test_cancelling_an_ask_stops_it(cluster, seeker):
    cluster.faults = [fake.refused] * 100
    asking = ensureDeferred(seeker.ask(KV_READ, BODY, 10.0, False))
    cluster.run(0.1)
    asking.cancel()
    with pytest.raises(CancelledError):
        cluster.result(asking)
    assert cluster.clock.getDelayedCalls() == []
    assert seeker.idle
