"""Batches: what goes together, what waits, what goes again."""

from __future__ import annotations

import fake_cluster as fake
import pytest
from fake_cluster import FakeCluster

from twisted_kv.client.lanes import BATCH_BYTES, BATCH_CALLS_MAX, BATCHES_UNDER_WAY_MAX
from twisted_kv.errors import Overloaded
from twisted_kv.machines.commands import GROUP_COMMANDS, READS
from twisted_kv.transport.wire import KV_READ, KV_WRITE, Busy


@pytest.fixture
def cluster():
    return FakeCluster()


@pytest.fixture
def clerk(cluster):
    """It knows its way: one write is done."""
    clerk = cluster.clerk()
    cluster.result(clerk.put("k", "warm"))
    cluster.network.calls.clear()
    return clerk


@pytest.fixture
def batches(cluster):
    """Number of calls in each batch that reached the leader, in order."""
    seen = []

    def watched(cluster, endpoint, verb, body):
        if verb == KV_WRITE:
            seen.append(len(GROUP_COMMANDS.decode(body).operations))
        elif verb == KV_READ:
            seen.append(len(READS.decode(body).keys))
        return fake.fine(cluster, endpoint, verb, body)

    cluster.nemesis = lambda: watched
    return seen


def test_a_batch_holds_so_many_calls(cluster, clerk, batches):
    gets = [clerk.get("k") for _ in range(BATCH_CALLS_MAX + 10)]
    cluster.run(1)
    assert all(get.called for get in gets)
    assert batches == [BATCH_CALLS_MAX, 10]


def test_a_batch_holds_so_many_bytes(cluster, clerk, batches):
    """A value beyond a batch travels alone."""
    sizes = [BATCH_BYTES // 3, BATCH_BYTES // 3, BATCH_BYTES // 2, 2 * BATCH_BYTES, 10]
    puts = [clerk.put("k", "x" * size) for size in sizes]
    cluster.run(5)
    assert all(put.called for put in puts)
    assert batches == [2, 1, 1, 1]


def test_under_load_the_rest_waits_and_grows_into_one_batch(cluster, clerk, batches):
    """Natural batching: a window of batches, then everything that came meanwhile at once."""
    gets = []
    for _ in range(BATCHES_UNDER_WAY_MAX + 50):
        gets.append(clerk.get("k"))
        cluster.run(0.00001)
    assert len(cluster.network.calls) == BATCHES_UNDER_WAY_MAX
    cluster.run(1)
    assert all(get.called for get in gets)
    assert batches == [1] * BATCHES_UNDER_WAY_MAX + [50]


def test_while_the_leader_is_sought_one_batch_seeks_it(cluster, batches):
    """A dead group is not asked by many batches at once."""
    clerk = cluster.clerk()
    cluster.network.cut = dict.fromkeys(cluster.groups[1].endpoints)
    gets = []
    for _ in range(20):
        gets.append(clerk.get("k", timeout=30.0))
        cluster.run(0.001)
    assert cluster.network.count(KV_READ) == 1
    cluster.network.cut = {}
    cluster.run(5)
    assert all(get.called for get in gets)


def test_writes_do_not_wait_for_reads_nor_reads_for_writes(cluster, clerk):
    """A read waits for no disk."""
    cluster.faults = [fake.silent] * BATCHES_UNDER_WAY_MAX
    for _ in range(BATCHES_UNDER_WAY_MAX):
        clerk.put("k", "v")
        cluster.run(0.0001)
    assert cluster.result(clerk.get("k"), seconds=0.1) == "warm"


def test_a_batch_that_goes_again_keeps_its_order_and_takes_newcomers_along(cluster, clerk, batches):
    cluster.faults = [fake.refused]
    puts = [clerk.append("k", f"{number},") for number in range(3)]
    cluster.run(0.0001)
    puts.append(clerk.append("k", "3,"))
    cluster.faults.append(fake.refused)
    cluster.run(1)
    assert all(put.called for put in puts)
    assert cluster.result(clerk.get("k")) == "warm0,1,2,3,"
    assert batches[0] == 4


def test_calls_on_their_way_to_a_group_that_is_gone_find_the_new_one():
    """A retired lane hands back what comes back to it."""
    cluster = FakeCluster(gids=(1, 2))
    clerk = cluster.clerk()
    cluster.result(clerk.put("k", "warm"))
    old = next(group for group in cluster.groups.values() if group.copies)
    new = cluster.groups[3 - old.gid]
    cluster.faults = [fake.dropped]
    flying = clerk.append("k", "+")
    cluster.run(0.001)
    cluster.configure((new.gid,) * 8)
    newest = cluster.configurations[-1]
    kept = tuple(member for member in newest.members if member.gid == new.gid)
    cluster.configurations[-1] = fake.Configuration(newest.num, newest.shards, kept, newest.holders)
    cluster.network.cut = dict.fromkeys(old.endpoints)
    cluster.result(clerk.configuration())
    cluster.result(flying, seconds=3)
    assert cluster.times_executed("+") == 1


def test_what_was_turned_away_goes_first_when_there_is_room(cluster, clerk):
    """Behind all that came meanwhile its time would be up."""
    seen = []

    def watched(cluster, endpoint, verb, body):
        seen.extend(operation.key for operation in GROUP_COMMANDS.decode(body).operations)
        return fake.fine(cluster, endpoint, verb, body)

    cluster.faults = [fake.answering(Busy(1, 0.5, leads=True))]
    cluster.nemesis = lambda: watched
    early = [clerk.put(f"{{k}}early{number}", "v") for number in range(3)]
    cluster.run(0.1)
    late = [clerk.put(f"{{k}}late{number}", "v") for number in range(BATCH_CALLS_MAX)]
    cluster.run(2)
    assert all(put.called for put in early + late)
    assert seen[:4] == ["{k}early0", "{k}early1", "{k}early2", "{k}late0"]


RATE, TIMEOUT, TURN = 1000, 5.0, 0.01


@pytest.mark.parametrize("times", [1, 4])
def test_far_too_many_calls_are_refused_at_once_and_the_others_are_done(cluster, clerk, times):
    """Issue 4: beyond saturation throughput stays flat, and callers get Overloaded with retry_after, not timeouts."""
    room = [0.0, cluster.clock.seconds()]

    def limited(cluster, endpoint, verb, body):
        """A leader that can do RATE calls per second."""
        count = len(GROUP_COMMANDS.decode(body).operations) if verb == KV_WRITE else 0
        now = cluster.clock.seconds()
        room[:] = min(room[0] + RATE * (now - room[1]), 0.3 * RATE), now
        if count > room[0]:
            return fake.answering(Busy(1, 0.1, leads=True))(cluster, endpoint, verb, body)
        room[0] -= count
        return fake.fine(cluster, endpoint, verb, body)

    cluster.nemesis = lambda: limited
    done, failures, most = [], [], 0
    for _ in range(round(8 / TURN)):
        for _ in range(round(times * RATE * TURN)):
            put = clerk.put(f"{{k{len(done) % 50}}}", "v", timeout=TIMEOUT)
            put.addCallback(done.append)
            put.addErrback(failures.append)
        most = max(most, len(clerk._calls.pending))
        cluster.run(TURN)
    cluster.run(TIMEOUT)
    assert {failure.type for failure in failures} <= {Overloaded}
    assert all(failure.value.retry_after >= 0.1 for failure in failures)
    assert most < TIMEOUT * RATE
    assert len(done) >= 0.85 * 8 * RATE
    assert bool(failures) == (times > 1)
