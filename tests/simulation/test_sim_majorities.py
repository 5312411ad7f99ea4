"""A majority that can talk has a leader: who counts as able, and what excuses a group."""

import pytest
from planted_service import Leaderless, looked_at

from twisted_kv.simulation.doors.network import UNRELIABLE
from twisted_kv.simulation.faults.plans import STORM
from twisted_kv.simulation.judges.checkers import LED


@pytest.fixture
def cluster():
    return Leaderless()


def test_a_group_that_nobody_leads_is_told_of(cluster):
    assert {violation.checker for violation in looked_at(cluster)} == {LED}


def test_a_minority_may_be_anything(cluster):
    cluster.alive.remove("a")
    cluster.hub.conditions = UNRELIABLE
    assert looked_at(cluster)


@pytest.mark.parametrize(
    "spoil", ["led", "dead", "cut", "one way", "stormy", "hung", "slow", "stopping", "wiped", "rivals"]
)
def test_what_excuses_a_group(cluster, spoil):
    wiped = ()
    match spoil:
        case "led":
            cluster.leading.add("b")
        case "dead":
            cluster.alive[:] = ["a"]
        case "cut":
            cluster.hub.partition(["a"], ["b"], ["c"])
        case "one way":
            for source, target in ("ab", "bc", "ca"):
                cluster.hub.cut(source, target)
        case "stormy":
            cluster.hub.conditions = STORM
        case "hung" | "slow":
            for name in ("a", "b"):
                log, _ = cluster.disks(name)
                log.stalled = spoil == "hung"
                log.seconds = (0.02, 0.2) if spoil == "slow" else log.seconds
        case "stopping":
            cluster.stopping.update("ab")
        case "wiped":
            wiped = ("a", "b")
        case "rivals":
            cluster.groups = {-100: cluster.groups[100]}
    assert not looked_at(cluster, wiped)
