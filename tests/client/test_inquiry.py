"""Questions of a server: the leader is found once and remembered."""

from __future__ import annotations

import random

import fake_cluster as fake
import pytest
from fake_cluster import FakeCluster

from twisted_kv.client.inquiry import REMEMBERED_MAX, Inquiry
from twisted_kv.errors import Unavailable
from twisted_kv.machines.commands import READS, Done, Read
from twisted_kv.transport.wire import KV_READ

BODY = READS.encode(Read(("k",)))


@pytest.fixture
def cluster():
    return FakeCluster()


@pytest.fixture
def ask(cluster):
    return Inquiry(cluster.clock, random.Random(1), cluster.network)


def test_the_leader_is_found_and_remembered(cluster, ask):
    """interfaces.Ask: hints are followed and other servers tried."""
    cluster.groups[1].leader = 2
    for _ in range(3):
        assert cluster.result(ask(cluster.groups[1].endpoints, KV_READ, BODY, 5.0)).outcomes == (Done(None),)
    assert [endpoint for endpoint, _ in cluster.network.calls[-2:]] == ["g1c", "g1c"]
    assert len(cluster.network.calls) <= 5


def test_it_fails_when_the_time_is_up_and_can_be_cancelled(cluster, ask):
    """A question is never of unknown outcome, whatever was lost."""
    cluster.nemesis = lambda: fake.silent
    with pytest.raises(Unavailable):
        cluster.result(ask(("g1a",), KV_READ, BODY, 2.0))
    question = ask(("g1a",), KV_READ, BODY, 5.0)
    question.addErrback(lambda _: None)
    cluster.run(0.1)
    question.cancel()
    assert cluster.clock.getDelayedCalls() == []


def test_nobody_to_ask_is_an_error_like_any_other(cluster, ask):
    """A holder whose endpoints were forgotten (Configuration.endpoints_of) has none."""
    with pytest.raises(Unavailable):
        cluster.result(ask((), KV_READ, BODY, 2.0))


def test_it_does_not_remember_everybody(cluster, ask):
    """Groups come and go; those whose questions are under way are kept."""
    cluster.nemesis = lambda: fake.fine
    for number in range(REMEMBERED_MAX + 5):
        cluster.result(ask(("g1a",) * (number + 1), KV_READ, BODY, 5.0))
    assert len(ask._seekers) == REMEMBERED_MAX
