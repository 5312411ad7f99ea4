"""What must come right when faults have stopped, and what counts as one election."""

import pytest

from twisted_kv.consensus.types import TransferLeadership
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.judges.checkers import EQUAL, ONE_ELECTION, QUIET, SETTLES
from twisted_kv.simulation.judges.history import History
from twisted_kv.simulation.lives.cluster import Cluster
from twisted_kv.simulation.lives.recovery import GRACE_SECONDS, Recovery, Stuck
from twisted_kv.transport.wire import PEER_STEP


class Site:
    """A cluster of one group that has formed."""

    def __init__(self, path, members=3):
        self.world = World(1)
        self.cluster = Cluster(self.world, str(path), 3, {100: members})
        self.cluster.watch.now = self.world.clock.seconds
        self.history = History()
        self.wrong = []
        self.recovery = Recovery(self.world, self.cluster, {100}, self.history, self.wrong)
        self.recovery.form()
        clerk = self.cluster.clerk("clerk")
        done = clerk.put("k", "v", timeout=5)
        assert self.world.run_until(lambda: done.called, 10)
        self.history.succeeded(self.history.begin("clerk", "put", "k", "v", 0.0), None)

    def end(self):
        for name in self.cluster.alive:
            self.cluster.kill(name)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.end()


def test_a_majority_is_enough_for_everything(site):
    """Contract §5.5: progress with any minority of each group and of the controllers dead or cut off."""
    healed = site.recovery.cut_off_the_rest(["clerk"])
    assert {gid: len(names) for gid, names in healed.items()} == {0: 2, 100: 2}
    site.recovery.come_right([], healed)
    assert site.recovery.final == {"k": "v"}
    assert site.wrong == []
    standing = {site.cluster.machine(name).digest() for name in healed[100]}
    assert len(standing) == 1


def test_the_rest_is_dead_or_hears_nobody(site):
    healed = site.recovery.cut_off_the_rest([])
    for gid, names in site.cluster.groups.items():
        for name in set(names) - set(healed[gid]):
            assert name in site.cluster.dead or all(site.cluster.hub.severed(name, other) for other in healed[gid])


def test_a_member_that_was_wiped_is_no_part_of_a_majority(tmp_path):
    site = Site(tmp_path, members=5)
    for name in ("g100-2", "g100-4"):
        site.cluster.wipe(name)
        site.cluster.restart(name)
    healed = site.recovery.cut_off_the_rest([])
    assert healed[100] == ["g100-1", "g100-3", "g100-5"]
    site.end()


def test_less_than_a_majority_settles_nothing(site, monkeypatch):
    monkeypatch.setattr("twisted_kv.simulation.lives.recovery.RETURN_SECONDS", 2.0)
    for name in site.cluster.groups[100][:2]:
        site.cluster.kill(name)
    with pytest.raises(Stuck) as stuck:
        site.recovery.come_right([], {100: site.cluster.groups[100][2:]})
    assert stuck.value.violation.checker == SETTLES
    assert "g100-3" in str(stuck.value)


@pytest.mark.parametrize(
    ("moments", "booted", "blamed"),
    [
        ([], 0.0, False),
        ([GRACE_SECONDS + 1], 0.0, False),
        ([GRACE_SECONDS / 2, GRACE_SECONDS + 1], 0.0, False),
        ([GRACE_SECONDS + 1, GRACE_SECONDS + 2], 0.0, True),
        ([GRACE_SECONDS + 1, GRACE_SECONDS + 2], 1.5, False),
    ],
)
def test_one_election_once_the_healed_have_found_each_other(site, moments, booted, blamed):
    """Hazard 8; a member that boots late gives everybody an election timeout more."""
    now = site.world.clock.seconds()
    site.recovery._since = now
    site.cluster.watch.elections += [(now + moment, 100) for moment in moments]
    site.cluster.watch.boots["g100-2"] = now + booted
    site.recovery._elect_once(site.cluster.groups)
    assert [violation.checker for violation in site.wrong] == [ONE_ELECTION] * blamed


def test_replicas_that_differ_are_named(site):
    site.cluster.machine("g100-2").digest = lambda: 1
    site.recovery._be_equal(site.cluster.groups)
    assert site.wrong[0].checker == EQUAL
    assert "g100-2" in site.wrong[0].text


@pytest.mark.parametrize(("rate", "blamed"), [(24, False), (26, True)])
def test_idle_members_are_quiet(site, monkeypatch, rate, blamed):
    """Scenario §3.1-9. Regression rivals 2: whoever talks counts as a member, also a rival."""
    groups = {**site.cluster.groups, -100: ["rival100-1", "rival100-2"]}
    monkeypatch.setattr(Cluster, "groups", groups)
    monkeypatch.setattr(site.recovery, "_terms", dict)
    members = sum(map(len, groups.values()))
    said = {PEER_STEP: 0}
    monkeypatch.setattr(site.cluster.hub.tally, "attempts", said)
    talks = lambda seconds: said.update({PEER_STEP: int(rate * members * seconds)})  # noqa: E731
    monkeypatch.setattr(site.world, "run_for", talks)
    site.recovery.rest()
    assert [violation.checker for violation in site.wrong] == [QUIET] * blamed


@pytest.mark.parametrize(("ends", "blamed"), [(True, False), (False, True)])
def test_who_was_asked_to_stop_before_the_calm_may_still_end(site, ends, blamed):
    """Regression elections 509035903: a leader that handed over, and ended, three seconds after the last fault."""
    leader, clock = site.cluster.leader(100), site.world.clock
    clock.callLater(1.0, lambda: site.cluster.replica(leader).step(TransferLeadership()))
    if ends:
        clock.callLater(3.5, site.cluster.kill, leader)
        clock.callLater(4.0, site.cluster.restart, leader)
    site.recovery.rest()
    assert [violation.checker for violation in site.wrong] == [ONE_ELECTION] * blamed
