"""The Clerk against naive servers and scripted faults, in virtual time."""

from __future__ import annotations

import fake_cluster as fake
import pytest
from fake_cluster import FakeCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError

from twisted_kv.constants import KEY_BYTES_MAX, VALUE_BYTES_CEILING, VALUE_BYTES_DEFAULT
from twisted_kv.errors import (
    BadRequest,
    KeyTooLong,
    KVError,
    NoSuchShard,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
    ValueTooLarge,
    WrongType,
)
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.machines.commands import GROUP_COMMANDS, Expired, WrongGroup
from twisted_kv.machines.configuration import Configuration, Member, shard_of
from twisted_kv.transport.wire import ANSWERS, CTL_QUERY, KV_OPEN, KV_READ, KV_WRITE, Busy, Outcomes, Rejected


@pytest.fixture
def cluster():
    return FakeCluster()


def failed(deferred):
    """The error of a Deferred that has failed; it is handled."""
    failures = []
    deferred.addErrback(failures.append)
    assert failures, "it has not failed"
    return failures[0].value


def warm(cluster, key="k", **given):
    """A Clerk that knows its way: one write is done."""
    clerk = cluster.clerk(**given)
    cluster.result(clerk.put(key, "warm"))
    cluster.network.calls.clear()
    return clerk


# ── what the calls do ──────────────────────────────────────────────────────────────────────────────


def test_every_call_answers_as_the_contract_says(cluster):
    """Contract §3."""
    clerk = cluster.clerk()
    run = cluster.result
    assert run(clerk.get("k")) == ""
    assert run(clerk.get("k", default=None)) is None
    assert run(clerk.put("k", "v")) is None
    assert run(clerk.append("k", "w")) is None
    assert run(clerk.get("k", default=None)) == "vw"
    assert run(clerk.put_hash("k", "x")) == "vw"
    assert run(clerk.put_hash("absent", "x")) == ""
    assert run(clerk.delete("k")) is True
    assert run(clerk.delete("k")) is False


def test_bytes_come_back_as_bytes(cluster):
    """Contract §3: the same type comes back; mixing them is a clear error, of the machine."""
    clerk = cluster.clerk()
    cluster.result(clerk.put("k", b"\x00\xff"))
    assert cluster.result(clerk.get("k")) == b"\x00\xff"
    with pytest.raises(WrongType):
        cluster.result(clerk.append("k", "text"))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda clerk: clerk.put("", "v"), KeyTooLong),
        (lambda clerk: clerk.get("é" * (KEY_BYTES_MAX // 2 + 1)), KeyTooLong),
        (lambda clerk: clerk.get(b"k"), WrongType),
        (lambda clerk: clerk.get("\ud800"), WrongType),
        (lambda clerk: clerk.put("k", 7), WrongType),
        (lambda clerk: clerk.put("k", "\ud800"), WrongType),
        (lambda clerk: clerk.append("k", None), WrongType),
        (lambda clerk: clerk.put("k", b"x" * (VALUE_BYTES_CEILING + 1)), ValueTooLarge),
    ],
)
def test_a_bad_argument_fails_through_the_deferred_and_reaches_no_server(cluster, call, error):
    """Contract §6: refused before it enters the log."""
    assert type(failed(call(cluster.clerk()))) is error
    assert cluster.network.calls == []


class Text(str):
    """As an enumeration of text, or marked-up text, is."""


class Octets(bytes):
    """Bytes of another name."""


def test_kinds_of_text_and_bytes_are_their_content(cluster):
    """Nothing else can cross; and one such call must not spoil those that share its request."""
    clerk = cluster.clerk()
    calls = [clerk.put(Text("k"), Text("v")), clerk.put("b", Octets(b"\xff")), clerk.put("n", "w")]
    for call in calls:
        cluster.result(call)
    assert [cluster.result(clerk.get(key)) for key in (Text("k"), "b", "n")] == ["v", b"\xff", "w"]


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", None])
def test_a_timeout_is_a_number_of_seconds(cluster, timeout):
    """Argument errors too come through the Deferred."""
    for call in (cluster.clerk().get("k", timeout=timeout), cluster.controller_clerk().query(timeout=timeout)):
        assert isinstance(failed(call), BadRequest)
    assert cluster.network.calls == []


def test_the_limit_of_the_cluster_is_enforced_once_it_is_known(cluster):
    """Contract §6: the limit stands in the configuration."""
    clerk = warm(cluster)
    assert isinstance(failed(clerk.put("k", b"x" * (VALUE_BYTES_DEFAULT + 1))), ValueTooLarge)


def test_scan_gives_keys_in_order(cluster):
    clerk = cluster.clerk()
    for key in ("{t}b", "{t}a"):
        cluster.result(clerk.put(key, key))
    configuration = cluster.result(clerk.configuration())
    shard = next(shard for shard, copy in cluster.groups[1].copies.items() if copy.values)
    scanned = cluster.result(clerk.scan(shard, None, 1000))
    assert configuration.num == 1
    assert (scanned.keys, scanned.values, scanned.last) == (("{t}a", "{t}b"), ("{t}a", "{t}b"), True)
    assert cluster.result(clerk.scan(shard, "{t}a", 1000)).keys == ("{t}b",)


def test_scan_waits_for_a_shard_on_its_way_and_refuses_one_that_is_not_there():
    cluster = FakeCluster(gids=(1, 2))
    clerk = warm(cluster)
    cluster.configure((2,) * 8)
    assert cluster.result(clerk.scan(0, None, 1000)).last
    with pytest.raises(NoSuchShard):
        cluster.result(clerk.scan(8, None, 1000))
    cluster.configure((0,) * 8)
    for group in cluster.groups.values():
        group.copies.clear()
    with pytest.raises(Unavailable):
        cluster.result(clerk.scan(0, None, 1000, timeout=1.0))
    cluster.result(clerk.close())
    with pytest.raises(Unavailable):
        cluster.result(clerk.scan(0, None, 1000))


# ── batches ────────────────────────────────────────────────────────────────────────────────────────


def test_the_calls_of_a_turn_share_one_request(cluster):
    """House, 'A put': the Clerk batches the turn's calls per group; sessions of all shards are opened in one call."""
    clerk = cluster.clerk()
    puts = [clerk.put(f"k{n}", f"v{n}") for n in range(100)]
    cluster.result(puts[-1])
    assert all(put.called for put in puts)
    # Following the hint to the leader may cost a call more.
    assert cluster.network.count(KV_OPEN) <= 3
    assert cluster.network.count(KV_WRITE) == 1
    assert [operation.key for operation in cluster.executed] == [f"k{n}" for n in range(100)], "issue order is kept"
    gets = [clerk.get(f"k{n}") for n in range(100)]
    cluster.run(0.1)
    assert [cluster.result(get) for get in gets] == [f"v{n}" for n in range(100)]
    assert cluster.network.count(KV_READ) == 1


def test_groups_are_asked_apart():
    cluster = FakeCluster(gids=(1, 2))
    clerk = cluster.clerk()
    for _ in range(2):
        puts = [clerk.put(f"k{n}", "v") for n in range(50)]
        cluster.run(1)
        assert all(put.called for put in puts)
        writes = [endpoint for endpoint, verb in cluster.network.calls if verb == KV_WRITE]
        assert sorted(writes) == ["g1a", "g2a"]
        cluster.network.calls.clear()


def test_no_more_stands_above_the_floor_than_a_server_keeps(cluster):
    """House, 'Sessions': calls in flight are capped; the rest waits in the Clerk."""
    clerk = cluster.clerk()
    puts = [clerk.put(f"{{tag}}{n}", f"v{n}") for n in range(2000)]
    cluster.run(5)
    assert all(put.called for put in puts)
    assert len(cluster.executed) == 2000
    [most] = [session.most for copy in cluster.groups[1].copies.values() for session in copy.sessions.values()]
    assert 256 <= most <= 512


def test_one_bad_call_does_not_spoil_its_neighbours(cluster):
    """A batch that is Rejected is divided until the bad call stands alone."""
    clerk = warm(cluster)

    def picky(cluster, endpoint, verb, body):
        if any(operation.value == "bad" for operation in GROUP_COMMANDS.decode(body).operations):
            return ANSWERS.encode(Rejected(1, "ValueTooLarge", "too large here"))
        return fake.fine(cluster, endpoint, verb, body)

    cluster.faults = [picky] * 50
    puts = [clerk.put("k", "bad" if n == 5 else f"v{n}") for n in range(20)]
    cluster.run(1)
    assert isinstance(failed(puts.pop(5)), ValueTooLarge)
    assert [cluster.result(put) for put in puts] == [None] * 19
    assert cluster.times_executed("bad") == 0


def test_an_answer_that_is_too_short_is_asked_for_again(cluster):
    """Outcomes that did not fit are fetched with the same ids: executed once, answered later."""
    clerk = warm(cluster)

    def curt(cluster, endpoint, verb, body):
        answer = ANSWERS.decode(cluster.serve(endpoint, verb, body))
        return ANSWERS.encode(Outcomes(answer.node, answer.outcomes[:1]))

    cluster.faults = [curt, curt]
    puts = [clerk.put("k", f"v{n}") for n in range(3)]
    cluster.run(1)
    assert [cluster.result(put) for put in puts] == [None] * 3
    assert [cluster.times_executed(f"v{n}") for n in range(3)] == [1, 1, 1]
    cluster.faults = [curt]
    gets = [clerk.get("k") for _ in range(2)]
    cluster.run(1)
    assert [cluster.result(get) for get in gets] == ["v2", "v2"]


# ── exactly once ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fault",
    [fake.refused, fake.dropped, fake.silent, fake.lost, fake.unsettled, fake.unsettled_done, fake.busy, fake.nonsense],
)
def test_hazard_40_a_retry_carries_the_same_ids(cluster, fault):
    """Hazard 40; scenario §3.2-11: whatever became of the first attempts, it takes effect once."""
    clerk = warm(cluster)
    cluster.faults = [fault, fault]
    cluster.result(clerk.append("k", "+"))
    assert cluster.times_executed("+") == 1
    assert cluster.result(clerk.get("k")) == "warm+"


def test_hazard_41_the_retry_at_the_new_owner_is_a_repeat():
    """Hazard 41; scenario §3.2-14 and 15: executed at one group, answered by another, with the same ids."""
    cluster = FakeCluster(gids=(1, 2))
    clerk = warm(cluster)

    def moved(cluster, endpoint, verb, body):
        cluster.serve(endpoint, verb, body)
        cluster.configure(tuple(3 - gid for gid in cluster.newest.shards))
        return LostAnswer("lost")

    cluster.faults = [moved]
    cluster.result(clerk.append("k", "+"))
    assert cluster.times_executed("+") == 1
    assert cluster.result(clerk.get("k")) == "warm+"


def test_hazard_42_a_late_retry_in_a_lost_session_is_not_run_anew(cluster):
    """Hazard 42; house, 'Sessions': the session is gone and an attempt may have been executed: nobody knows."""
    clerk = warm(cluster)
    cluster.faults = [fake.lost, fake.forgetful]
    with pytest.raises(OutcomeUnknown):
        cluster.result(clerk.append("k", "+"))
    assert cluster.times_executed("+") == 1


def test_hazard_42_a_lost_session_is_replaced_when_nothing_can_have_happened(cluster):
    """Design: Expired at the first attempt is safe to send again under a new session."""
    clerk = warm(cluster)
    cluster.faults = [fake.refused, fake.forgetful]
    puts = [clerk.put("k", f"+{n}") for n in range(3)]
    assert [cluster.result(put) for put in puts] == [None] * 3
    assert [cluster.times_executed(f"+{n}") for n in range(3)] == [1] * 3
    assert cluster.result(clerk.append("k", "!")) is None


def test_hazard_42_a_session_that_was_declared_lost_is_never_numbered_anew(cluster):
    """Hazard 42: the new session has a new nonce, or its numbers would be taken for those of the old one."""
    clerk = warm(cluster)
    cluster.faults = [fake.answering(Outcomes(1, (Expired(),)))]
    cluster.result(clerk.append("k", "+"))
    assert cluster.times_executed("+") == 1
    opened = {shard: copy.opened for shard, copy in cluster.groups[1].copies.items()}
    assert opened.pop(shard_of("k", len(cluster.newest.shards))) == 2
    assert list(opened.values()) == [1], "and one of another shard with it"


def test_who_writes_to_many_shards_one_after_the_other_asks_for_sessions_a_few_times(cluster):
    """Each time as many again are opened ahead, of shards of the same group."""
    clerk = cluster.clerk()
    first = {shard_of(key, len(cluster.newest.shards)): key for key in map(str, range(1000))}
    assert len(first) == len(cluster.newest.shards) >= 8
    for key in first.values():
        cluster.result(clerk.put(key, "v"))
    assert [copy.opened for copy in cluster.groups[1].copies.values()] == [1] * len(cluster.newest.shards)
    doublings = len(cluster.newest.shards).bit_length()
    # Following the hint to the leader may cost a call more.
    assert cluster.network.count(KV_OPEN) <= doublings + 1


def test_sessions_are_opened_ahead_at_the_group_that_serves_the_shard():
    cluster = FakeCluster(gids=(1, 2))
    clerk = cluster.clerk()
    for key in map(str, range(200)):
        cluster.result(clerk.put(key, "v"))
    mine = [set(cluster.groups[gid].copies) for gid in (1, 2)]
    assert not mine[0] & mine[1]
    assert all(copy.opened == 1 for gid in (1, 2) for copy in cluster.groups[gid].copies.values())


def test_a_session_that_was_opened_ahead_in_vain_is_opened_when_it_is_needed(cluster):
    """The servers may be busy, or their answer lost."""
    clerk = warm(cluster)
    cluster.faults = [fake.lost, fake.lost, fake.lost]
    for key in map(str, range(200)):
        cluster.result(clerk.put(key, "v"))
    assert [copy.opened for copy in cluster.groups[1].copies.values()] == [1] * len(cluster.newest.shards)


def test_hazard_42_two_clerks_never_share_a_session(cluster):
    """Hazard 42; scenario §3.2-12: ids are random, so a second Clerk is not taken for a repeat of the first."""
    first, second = cluster.clerk(seed=1), cluster.clerk(seed=2)
    cluster.result(first.append("k", "a"))
    cluster.result(second.append("k", "b"))
    assert cluster.result(first.get("k")) == "ab"
    assert sum(len(copy.sessions) for copy in cluster.groups[1].copies.values()) == 2


def test_an_open_that_lost_its_answer_finds_the_same_session(cluster):
    """Open is repeated with the same nonce."""
    cluster.faults = [fake.fine, fake.fine, fake.fine, fake.lost, fake.lost, fake.lost]
    clerk = cluster.clerk()
    cluster.result(clerk.put("k", "v"))
    assert [copy.opened for copy in cluster.groups[1].copies.values()] == [1]


def test_a_cancelled_call_is_not_sent_again_and_its_late_copy_is_refused(cluster):
    """House, 'Sessions': cancelled calls advance the floor."""
    clerk = warm(cluster)
    cluster.faults = [fake.late]
    put = clerk.append("k", "late")
    cluster.run(0.003)
    put.cancel()
    assert isinstance(failed(put), CancelledError)
    cluster.result(clerk.append("k", "+"))
    cluster.run(5)
    assert cluster.times_executed("late") == 0
    assert cluster.result(clerk.get("k")) == "warm+"


def test_the_neighbours_of_a_cancelled_call_get_their_own_answers(cluster):
    """Scenario §3.2-18: outcomes belong to the calls as they were sent, whoever waits no longer when they come."""
    clerk = warm(cluster)
    for begin, verb, own in ((clerk.delete, KV_WRITE, [True, False]), (clerk.get, KV_READ, ["warm", ""])):
        cluster.result(clerk.put("k", "warm"))
        cluster.network.calls.clear()
        first, second, third = begin("{k}gone"), begin("k"), begin("{k}never")
        cluster.run(0.0005)
        assert cluster.network.count(verb) == 1, "all on their way"
        first.cancel()
        assert isinstance(failed(first), CancelledError)
        assert [cluster.result(second), cluster.result(third)] == own
        assert cluster.network.count(verb) == 1


def test_a_call_cancelled_before_it_left_is_never_sent(cluster):
    clerk = warm(cluster)
    put = clerk.put("k", "never")
    put.cancel()
    assert isinstance(failed(put), CancelledError)
    cluster.run(1)
    assert cluster.network.calls == []


# ── deadlines ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (fake.refused, Unavailable),
        (fake.undialled, Unavailable),
        (fake.not_leading, Unavailable),
        (fake.dropped, OutcomeUnknown),
        (fake.silent, OutcomeUnknown),
        (fake.unsettled, OutcomeUnknown),
        (fake.nonsense, OutcomeUnknown),
        (fake.busy, Overloaded),
    ],
)
def test_what_is_said_when_the_time_is_up(cluster, fault, error):
    """Scenario §3.2-20; contract §6: OutcomeUnknown if and only if some attempt may have entered a log."""
    clerk = warm(cluster)
    cluster.faults = [fault] * 10_000
    put, get = clerk.put("k", "v", timeout=3.0), clerk.get("k", timeout=3.0)
    start = cluster.clock.seconds()
    with pytest.raises(error) as raised:
        cluster.result(put)
    assert cluster.clock.seconds() == pytest.approx(start + 3.0)
    assert raised.value.definite is (error is not OutcomeUnknown)
    assert isinstance(failed(get), Overloaded if error is Overloaded else Unavailable), "never unknown for a get"


def test_one_unsettled_attempt_makes_the_outcome_unknown_for_good(cluster):
    """Hazard 40: later definite refusals do not take back what may have happened."""
    clerk = warm(cluster)
    cluster.faults = [fake.dropped] + [fake.refused] * 10_000
    with pytest.raises(OutcomeUnknown):
        cluster.result(clerk.put("k", "v", timeout=3.0))
    cluster.faults = [fake.dropped] + [fake.rejected] * 10
    with pytest.raises(OutcomeUnknown):
        cluster.result(clerk.put("k", "v", timeout=3.0))


def test_what_was_reported_as_not_done_is_never_sent_again(cluster):
    """Contract §6: definite means that it will not happen either."""
    clerk = warm(cluster)
    cluster.faults = [fake.refused] * 10_000
    put = clerk.put("k", "too late", timeout=1.0)
    waiting = clerk.put("k", "in time", timeout=20.0)
    cluster.run(2)
    assert isinstance(failed(put), Unavailable)
    cluster.faults = []
    cluster.result(waiting)
    assert (cluster.times_executed("too late"), cluster.times_executed("in time")) == (0, 1)


def test_the_last_attempt_has_its_say_before_the_deadline(cluster):
    """Contract §6: servers that cannot be dialled have done nothing, also for calls whose deadlines differ."""
    clerk = warm(cluster)
    cluster.nemesis = lambda: fake.undialled
    puts = [clerk.put("k", "v", timeout=1.5 + 0.3 * number) for number in range(10)]
    cluster.run(5)
    assert [type(failed(put)) for put in puts] == [Unavailable] * 10


def test_a_call_without_time_is_not_sent(cluster):
    clerk = warm(cluster)
    put = clerk.put("k", "v", timeout=0.005)
    cluster.run(1)
    assert isinstance(failed(put), Unavailable)
    assert cluster.network.calls == []


def test_overloaded_says_when_to_come_back(cluster):
    """Contract §6: .retry_after."""
    clerk = warm(cluster)
    cluster.faults = [fake.answering(Busy(1, 0.7))] * 10_000
    with pytest.raises(Overloaded) as raised:
        cluster.result(clerk.put("k", "v", timeout=2.0))
    assert raised.value.retry_after == 0.7
    assert raised.value.definite
    assert cluster.network.count(KV_WRITE) < 10, "it waits between attempts"


def test_without_a_controller_nothing_has_happened(cluster):
    cluster.network.cut = dict.fromkeys(fake.CONTROLLERS)
    with pytest.raises(Unavailable):
        cluster.result(cluster.clerk().put("k", "v", timeout=2.0))


def test_controllers_that_reject_fail_the_call_at_once(cluster):
    cluster.faults = [fake.answering(Rejected(1, "NotAuthorized", "no"))]
    with pytest.raises(KVError, match="no"):
        cluster.result(cluster.clerk().put("k", "v"), seconds=1)


# ── where calls go ─────────────────────────────────────────────────────────────────────────────────


def test_a_shard_of_nobody_is_waited_for(cluster):
    """Scenario 47: refresh and wait, do not fail."""
    cluster.configure((0,) * 8)
    clerk = cluster.clerk()
    put = clerk.put("k", "v")
    cluster.run(2)
    assert not put.called
    assert 10 < cluster.network.count(CTL_QUERY) < 60, "about ten times a second"
    cluster.configure((1,) * 8)
    start = cluster.clock.seconds()
    cluster.result(put)
    assert cluster.clock.seconds() - start < 0.2


def test_a_configuration_that_the_controllers_do_not_have_is_looked_for_at_the_usual_pace(cluster):
    """Scenario §2.4 Rejection5A: a group that follows other controllers tells of numbers that ours never reach."""

    def ahead(cluster, endpoint, verb, body):
        if endpoint in fake.CONTROLLERS:
            return fake.fine(cluster, endpoint, verb, body)
        return ANSWERS.encode(Outcomes(1, (WrongGroup(cluster.newest.num + 1, 9),)))

    cluster.nemesis = lambda: ahead
    get = cluster.clerk().get("k")
    cluster.run(2)
    assert not get.called
    assert 10 < cluster.network.count(CTL_QUERY) < 60, "about ten times a second"


def test_a_shard_of_nobody_says_so_when_the_time_is_up(cluster):
    cluster.configure((0,) * 8)
    with pytest.raises(Unavailable, match="no group serves shard"):
        cluster.result(cluster.clerk().put("k", "v", timeout=1.0))


def test_wrong_group_makes_the_clerk_look_and_retry_with_the_same_ids():
    """Scenario 47: on WrongGroup refresh and retry at the owner."""
    cluster = FakeCluster(gids=(1, 2))
    clerk = warm(cluster)
    cluster.configure(tuple(3 - gid for gid in cluster.newest.shards))
    start = cluster.clock.seconds()
    cluster.result(clerk.append("k", "+"))
    assert cluster.clock.seconds() - start < 0.05, "a newer configuration is fetched without waiting"
    assert cluster.times_executed("+") == 1
    assert cluster.result(clerk.get("k")) == "warm+"


def test_the_group_that_still_serves_is_asked_without_waiting():
    """House, 'How a shard moves': PULLING names the group that still serves; and that one names the taker at last."""
    cluster = FakeCluster(gids=(1, 2))
    clerk = warm(cluster)
    owner = next(group.gid for group in cluster.groups.values() if group.copies)
    cluster.configure((3 - owner,) * 8, move=False)
    cluster.result(clerk.configuration())
    start = cluster.clock.seconds()
    cluster.result(clerk.append("k", "+"))
    assert cluster.clock.seconds() - start < 0.05
    cluster.network.calls.clear()
    cluster.result(clerk.append("k", "+"))
    assert len(cluster.network.calls) == 1, "the detour is remembered"
    for shard in range(8):
        cluster.move(shard, 3 - owner)
    cluster.result(clerk.append("k", "+"))
    assert cluster.result(clerk.get("k")) == "warm+++"


@pytest.mark.parametrize("wrong", [NotSent, None])
def test_a_detour_to_a_group_that_is_gone_is_forgotten(wrong):
    """Scenario §2.4 JoinLeave, Challenge2Unaffected: the giver may be shut down once it has nothing more; the
    configuration, which is no newer, was right all the time."""
    cluster = FakeCluster(gids=(1, 2))
    clerk = warm(cluster)
    owner = next(group for group in cluster.groups.values() if group.copies)
    cluster.configure((3 - owner.gid,) * 8, move=False)
    cluster.result(clerk.configuration())
    cluster.result(clerk.append("k", "+"))
    for shard in range(8):
        cluster.move(shard, 3 - owner.gid)
    cluster.network.cut = dict.fromkeys(owner.endpoints, wrong)
    flying = clerk.append("k", "+")
    cluster.run(0.5)
    for call in (clerk.get("k"), clerk.put("another", "v"), flying):
        cluster.result(call, seconds=10)
    assert cluster.result(clerk.get("k")) == "warm++"


def test_a_scan_asks_where_the_configuration_says():
    """Scenario 47: a detour that a get has learned leads a scan to where the shard was."""
    cluster = FakeCluster(gids=(1, 2))
    clerk = warm(cluster)
    owner = next(group for group in cluster.groups.values() if group.copies)
    cluster.configure((3 - owner.gid,) * 8, move=False)
    cluster.result(clerk.configuration())
    assert cluster.result(clerk.get("k")) == "warm"
    for shard in range(8):
        cluster.move(shard, 3 - owner.gid)
    assert cluster.result(clerk.scan(shard_of("k", 8), None, 1000), seconds=3).keys == ("k",)


def test_two_groups_that_name_each_other_are_not_asked_all_the_time():
    cluster = FakeCluster(gids=(1, 2))
    clerk = warm(cluster)
    groups = list(cluster.groups.values())
    copies = [group.copies for group in groups]
    for group in groups:
        group.copies = {}
        group._copy = lambda shard, group=group: fake.WrongGroup(1, 3 - group.gid)
    put = clerk.append("k", "+")
    cluster.run(1)
    assert cluster.network.count(KV_WRITE) < 60
    for group, copy in zip(groups, copies, strict=True):
        group.copies = copy
        del group._copy
    cluster.result(put)
    assert cluster.times_executed("+") == 1


def test_a_group_that_lives_elsewhere_now_is_found(cluster):
    """Readdress: when a group cannot be reached, the Clerk looks for a newer configuration."""
    clerk = warm(cluster)
    old, group = cluster.newest, cluster.groups[1]
    cluster.network.cut = dict.fromkeys(group.endpoints, NotSent)
    group.endpoints = ("n1", "n2", "n3")
    put = clerk.append("k", "+")
    cluster.run(1)
    cluster.configurations.append(Configuration(2, old.shards, (Member(1, 1, group.endpoints),), old.holders))
    cluster.result(put)
    assert cluster.times_executed("+") == 1
    assert cluster.result(clerk.get("k")) == "warm+"


def test_a_killed_leader_costs_little(cluster):
    """Contract §6: less than 1 s; here the election itself takes no time."""
    clerk = warm(cluster)
    cluster.network.cut = {"g1a": NotSent}
    cluster.groups[1].leader = 2
    start = cluster.clock.seconds()
    cluster.result(clerk.append("k", "+"))
    assert cluster.clock.seconds() - start < 0.1


def test_a_session_without_room_is_waited_for(cluster):
    """Refused "Overloaded" is not kept by servers: it is not the last word on these ids."""
    clerk = warm(cluster)
    cluster.faults = [fake.answering(Outcomes(1, (fake.Refused("Overloaded", "answers waiting"),)))]
    cluster.result(clerk.append("k", "+"))
    assert cluster.times_executed("+") == 1


# ── the end ────────────────────────────────────────────────────────────────────────────────────────


def test_close_settles_every_call_honestly_and_leaves_nothing_behind(cluster):
    """Contract §3: close; no delayed call is left."""
    clerk = warm(cluster)
    cluster.faults = [fake.silent]
    flying = clerk.put("k", "flying")
    cluster.run(0.01)
    queued, read = clerk.put("k", "queued"), clerk.get("k")
    closing = clerk.close()
    assert closing.called
    assert isinstance(failed(flying), OutcomeUnknown)
    assert isinstance(failed(queued), Unavailable)
    assert isinstance(failed(read), Unavailable)
    assert isinstance(failed(clerk.put("k", "after")), Unavailable)
    assert clerk.close().called
    assert cluster.clock.getDelayedCalls() == []


def test_close_while_looking_for_a_configuration_leaves_nothing_behind(cluster):
    cluster.network.cut = dict.fromkeys(fake.CONTROLLERS)
    clerk = cluster.clerk()
    put = clerk.put("k", "v")
    cluster.run(0.1)
    clerk.close()
    assert isinstance(failed(put), Unavailable)
    assert cluster.clock.getDelayedCalls() == []
    cluster.configure((0,) * 8)
    cluster.network.cut = {}
    clerk = cluster.clerk()
    put = clerk.put("k", "v")
    cluster.run(0.5)
    clerk.close()
    assert isinstance(failed(put), Unavailable)
    cluster.run(1)
    assert cluster.clock.getDelayedCalls() == []


def test_calls_made_from_callbacks_are_calls_like_any_other(cluster):
    clerk = cluster.clerk()
    chained = clerk.put("k", "1").addCallback(lambda _: clerk.append("k", "2")).addCallback(lambda _: clerk.get("k"))
    assert cluster.result(chained) == "12"


def shuffled(cluster, endpoint, verb, body):
    """The shards move."""
    cluster.configure(tuple(cluster.random.choice((1, 2)) for _ in range(3)))
    return fake.fine(cluster, endpoint, verb, body)


FAULTS = [
    fake.refused,
    fake.dropped,
    fake.silent,
    fake.mute,
    fake.lost,
    fake.late,
    fake.unsettled,
    fake.unsettled_done,
    fake.busy,
    fake.not_leading,
    fake.forgetful,
    fake.elected,
    shuffled,
]


@settings(max_examples=300, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=5, unique=True),
    rate=st.sampled_from([0.2, 0.5, 0.8]),
    seed=st.integers(0, 1 << 32),
)
def test_what_was_acknowledged_happened_once_and_what_was_denied_never(kinds, rate, seed):
    """Contract §5.2; hazards 40-42: any faults; also copies that arrive long after the call was settled."""
    cluster = FakeCluster(gids=(1, 2), shards=3, seed=seed)
    dice = cluster.random
    clerk = cluster.clerk(seed)
    cluster.result(clerk.put("k0", ""))
    cluster.nemesis = lambda: dice.choice(kinds) if dice.random() < rate else fake.fine
    calls = {}
    for number in range(40):
        value = f"<{number}>"
        call = clerk.append(f"k{dice.randrange(4)}", value, timeout=dice.choice([0.01, 0.3, 2.0, 10.0]))
        calls[value] = []
        call.addBoth(calls[value].append)
        cluster.run(dice.choice([0.0, 0.01, 0.1, 1.0]))
        if dice.random() < 0.05:
            call.cancel()
    cluster.run(10)
    cluster.nemesis = lambda: fake.fine
    cluster.run(5)
    kept = "".join(cluster.result(clerk.get(f"k{key}")) for key in range(4))
    for value, results in calls.items():
        assert len(results) == 1, f"{value} was settled {len(results)} times"
        times = cluster.times_executed(value)
        assert times == kept.count(value)
        if results[0] is None:
            assert times == 1, f"{value} was acknowledged and executed {times} times"
            continue
        error = results[0].value
        assert isinstance(error, OutcomeUnknown | Unavailable | Overloaded | CancelledError), error
        denied = isinstance(error, KVError) and error.definite
        assert times <= (0 if denied else 1), f"{value}: {error!r}, executed {times} times"
    clerk.close()
    cluster.run(5)
    assert cluster.clock.getDelayedCalls() == []


def test_bad_request_is_the_root_of_argument_errors():
    assert all(issubclass(kind, BadRequest) for kind in (KeyTooLong, ValueTooLarge, WrongType, NoSuchShard))
