"""The ControllerClerk against naive controllers and scripted faults, in virtual time."""

from __future__ import annotations

import fake_cluster as fake
import pytest
from fake_cluster import FakeCluster
from twisted.internet.defer import CancelledError

from twisted_kv.errors import BadRequest, NoSuchShard, OutcomeUnknown, Overloaded, Unavailable, WrongType
from twisted_kv.interfaces import NotSent
from twisted_kv.machines.commands import Expired, Join, Leave, Move, Readdress, Refused
from twisted_kv.transport.wire import CTL_CHANGE, CTL_ENROLL, Iam


@pytest.fixture
def cluster():
    return FakeCluster()


@pytest.fixture
def clerk(cluster):
    """It knows its way, and is enrolled."""
    clerk = cluster.controller_clerk()
    cluster.result(clerk.leave([9]))
    cluster.changes.clear()
    cluster.network.calls.clear()
    return clerk


def failed(deferred):
    failures = []
    deferred.addErrback(failures.append)
    assert failures, "it has not failed"
    return failures[0].value


def test_changes_are_sent_as_they_were_asked_for(cluster, clerk):
    """Contract §3: each answers the configuration that it made."""
    num = cluster.newest.num
    calls = [
        clerk.join({7: ["b", "a"], 2: ("c",)}, identities={7: "id"}),
        clerk.leave((3, 4)),
        clerk.move(5, 7),
        clerk.readdress(7, ["d"]),
    ]
    made = [cluster.result(call).num for call in calls]
    assert cluster.changes == [
        Join(((2, ("c",)), (7, ("b", "a"))), ((7, "id"),)),
        Leave((3, 4)),
        Move(5, 7),
        Readdress(7, ("d",)),
    ]
    assert made == [num + 1, num + 2, num + 3, num + 4]


def test_query_asks_for_any_configuration(cluster, clerk):
    """Contract §5.7."""
    assert cluster.result(clerk.query()).num == cluster.newest.num
    assert cluster.result(clerk.query(0)).num == 0
    with pytest.raises(NoSuchShard):
        cluster.result(clerk.query(-2))


@pytest.mark.parametrize(
    "fault",
    [fake.refused, fake.dropped, fake.silent, fake.lost, fake.late, fake.unsettled_done, fake.busy, fake.nonsense],
)
def test_a_retried_change_makes_one_configuration(cluster, clerk, fault):
    """Contract §5.7; hazard 40."""
    num = cluster.newest.num
    cluster.faults = [fault, fault]
    assert cluster.result(clerk.move(1, 1)).num == num + 1
    cluster.run(5)
    assert cluster.changes == [Move(1, 1)]


def test_enrolment_is_retried_and_shared(cluster):
    cluster.faults = [fake.refused, fake.lost, fake.not_leading]
    clerk = cluster.controller_clerk()
    calls = [clerk.move(shard, 1) for shard in range(3)]
    for call in calls:
        cluster.result(call)
    assert sorted(change.shard for change in cluster.changes) == [0, 1, 2]
    cluster.network.calls.clear()
    cluster.result(clerk.move(3, 1))
    assert cluster.network.count(CTL_ENROLL) == 0


def test_an_unsettled_change_in_a_lost_session_is_of_unknown_outcome(cluster, clerk):
    """Hazard 42: refused, never run anew."""
    cluster.faults = [fake.lost, fake.forgetful]
    with pytest.raises(OutcomeUnknown):
        cluster.result(clerk.move(1, 1))
    assert cluster.changes == [Move(1, 1)]
    cluster.result(clerk.move(2, 1))
    assert cluster.changes == [Move(1, 1), Move(2, 1)], "the next change enrolls again"


def test_a_lost_session_is_replaced_when_nothing_can_have_happened(cluster, clerk):
    cluster.faults = [fake.answering(Expired())]
    cluster.result(clerk.move(1, 1))
    assert cluster.changes == [Move(1, 1)]
    assert cluster.network.count(CTL_ENROLL) == 1


@pytest.mark.parametrize("error", ["Overloaded", "Unavailable"])
def test_a_refusal_that_is_not_kept_settles_no_earlier_attempt(cluster, clerk, error):
    """Hazard 40: the first attempt may stand in a log yet."""
    cluster.faults = [fake.silent, fake.answering(Refused(error, "not now"))]
    with pytest.raises(OutcomeUnknown):
        cluster.result(clerk.move(1, 1))
    cluster.faults = [fake.answering(Refused(error, "not now"))]
    with pytest.raises((Overloaded, Unavailable)):
        cluster.result(clerk.move(1, 1))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (fake.refused, Unavailable),
        (fake.silent, OutcomeUnknown),
        (fake.unsettled, OutcomeUnknown),
        (fake.busy, Overloaded),
    ],
)
def test_what_is_said_when_the_time_is_up(cluster, clerk, fault, error):
    """Contract §6: a query is never of unknown outcome."""
    cluster.nemesis = lambda: fault
    change, query = clerk.leave([1], timeout=2.0), clerk.query(timeout=2.0)
    with pytest.raises(error):
        cluster.result(change, seconds=2.5)
    assert isinstance(failed(query), Overloaded if error is Overloaded else Unavailable)
    assert cluster.changes == []


def test_a_refusal_of_the_controller_is_that_error(cluster, clerk):
    with pytest.raises(BadRequest, match="a gid is at least 1"):
        cluster.result(clerk.join({0: ["a"]}))


@pytest.mark.parametrize(
    "call",
    [
        lambda clerk: clerk.join([1, 2]),
        lambda clerk: clerk.join({"1": ["a"]}),
        lambda clerk: clerk.join({1: "tcp:h:1"}),
        lambda clerk: clerk.join({1: [b"tcp:h:1"]}),
        lambda clerk: clerk.leave("12"),
        lambda clerk: clerk.leave(1),
        lambda clerk: clerk.move("1", 1),
        lambda clerk: clerk.move(1, True),
        lambda clerk: clerk.readdress(1, None),
        lambda clerk: clerk.query("newest"),
    ],
)
def test_a_bad_argument_fails_through_the_deferred_and_reaches_no_server(cluster, clerk, call):
    assert isinstance(failed(call(clerk)), WrongType)
    assert cluster.network.calls == []


def test_a_number_out_of_any_range_is_a_bad_request(cluster, clerk):
    assert isinstance(failed(clerk.move(1 << 70, 1)), BadRequest)


def test_a_cancelled_change_is_not_sent_again_and_its_late_copy_is_refused(cluster, clerk):
    """House, 'Sessions': cancelled calls advance the floor; here the controller sees it with the next change."""
    cluster.faults = [fake.silent]
    change = clerk.move(1, 1)
    cluster.run(0.1)
    change.cancel()
    assert isinstance(failed(change), CancelledError)
    cluster.run(5)
    assert cluster.network.count(CTL_CHANGE) == 1
    floors = []

    def watched(cluster, endpoint, verb, body):
        floors.append(fake.CONTROLLER_COMMANDS.decode(body).floor)
        return fake.fine(cluster, endpoint, verb, body)

    cluster.nemesis = lambda: watched
    cluster.result(clerk.move(2, 1))
    assert floors[-1] == 3, "the first change of all and the cancelled one have passed"


def test_probe_says_who_is_there(cluster, clerk):
    """Contract §2, join: servers are asked for their gid."""
    cluster.network.cut = {"g1b": None, "g1c": NotSent}
    said = cluster.result(clerk.probe(["g1a", "g1b", "g1c", "g1a"]))
    assert said == {"g1a": Iam(1, 1, "group 1"), "g1b": None, "g1c": None}
    cluster.faults = [fake.nonsense]
    assert cluster.result(clerk.probe(["g1a"])) == {"g1a": None}


def test_close_settles_every_call_honestly_and_leaves_nothing_behind(cluster, clerk):
    cluster.nemesis = lambda: fake.silent
    change, query, probe = clerk.move(1, 1), clerk.query(), clerk.probe(["g1a"])
    cluster.run(0.1)
    assert clerk.close().called
    assert isinstance(failed(change), OutcomeUnknown)
    assert isinstance(failed(query), Unavailable)
    assert cluster.result(probe) == {"g1a": None}
    assert isinstance(failed(clerk.move(1, 1)), Unavailable)
    assert cluster.clock.getDelayedCalls() == []
