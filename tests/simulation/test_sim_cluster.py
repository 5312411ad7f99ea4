"""The production classes, assembled on simulated doors."""

import pytest

from twisted_kv.errors import StartRefused
from twisted_kv.machines.commands import READS, Done, Read
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.knobs import Knobs
from twisted_kv.simulation.judges.checkers import ONE_WRITER
from twisted_kv.simulation.lives.cluster import CONTROLLERS, SUPERVISOR_SECONDS, Cluster
from twisted_kv.storage import directory
from twisted_kv.transport.wire import ANSWERS, KV_READ, PEER_STEP, Outcomes


class Site:
    """A cluster that serves, a clerk, an administrator."""

    def __init__(self, path, seed=1, **shape):
        self.world = World(seed)
        self.cluster = Cluster(self.world, str(path), **shape)
        self.clerk = self.cluster.clerk("clerk")
        self.admin = self.cluster.controller_clerk("admin")
        gids = [gid for gid in self.cluster.groups if gid != CONTROLLERS]
        self.told(self.admin.join({gid: self.cluster.endpoints(gid) for gid in gids}, timeout=30))
        assert self.cluster.settle()

    def told(self, deferred, seconds=60):
        outcome = []
        deferred.addBoth(outcome.append)
        assert self.world.run_until(lambda: outcome, seconds)
        return outcome[0]

    def end(self):
        for name in self.cluster.alive:
            self.cluster.kill(name)
        assert self.cluster.watch.wrong == []
        assert self.cluster.hub.broken == []


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path, groups={100: 3}, controllers=1)
    yield site
    site.end()


def test_every_call_of_a_clerk_and_of_an_administrator_works(tmp_path):
    """Contract §3, from Clerk to disk and back without a socket."""
    site = Site(tmp_path)
    told, clerk = site.told, site.clerk
    assert told(clerk.put("k", "v")) is None
    assert told(clerk.append("k", "w")) is None
    assert told(clerk.get("k")) == "vw"
    assert told(clerk.put_hash("k", "x")) == "vw"
    assert told(clerk.delete("k")) is True
    assert told(clerk.get("k", None)) is None
    assert told(site.admin.leave([101])).shards == (100,) * 10
    assert told(site.admin.query(-1)).num == 2
    assert site.cluster.settle()
    site.end()


def test_killing_everybody_at_once_loses_nothing_acknowledged(site):
    """Hazard 30; house: restart = read rows, replay the log's tail."""
    for number in range(20):
        assert site.told(site.clerk.append("k", f"<{number}>")) is None
    for name in site.cluster.alive:
        site.cluster.kill(name)
    assert site.cluster.alive == []
    site.world.run_for(5)
    for name in site.cluster.dead:
        site.cluster.restart(name)
    assert site.told(site.clerk.get("k")) == "".join(f"<{number}>" for number in range(20))


def test_a_group_serves_without_a_minority_and_not_without_a_majority(site):
    """Contract §5.5."""
    first, second, third = site.cluster.groups[100]
    site.cluster.kill(first)
    assert site.told(site.clerk.put("k", "v", timeout=5)) is None
    site.cluster.kill(second)
    assert site.told(site.clerk.get("k", timeout=5)).value.retryable
    site.cluster.restart(second)
    assert site.told(site.clerk.get("k", timeout=5)) == "v"
    assert site.cluster.alive == ["ctl-1", second, third]


def test_a_held_leader_answers_nothing_stale_when_it_goes_on(site):
    """Scenario §3.6-54, hazards 22 and 25: it believes to lead, and has a read waiting in its socket."""
    site.told(site.clerk.put("k", "old"))
    leader = site.cluster.leader(100)
    site.cluster.hold(leader)
    assert site.told(site.clerk.put("k", "new")) is None
    assert site.cluster.leader(100) != leader
    reading = site.cluster.hub.at(site.world.host("reader")).call(
        f"sim:{leader}", KV_READ, READS.encode(Read(("k",))), 5.0
    )
    site.world.run_for(0.1)
    assert site.cluster.replica(leader).leads
    site.cluster.release(leader)
    answer = ANSWERS.decode(site.told(reading))
    assert not isinstance(answer, Outcomes) or answer.outcomes == (Done("new"),)


def test_a_wiped_member_comes_back_as_a_copy(site):
    """Hazard 9: it catches up, and neither votes nor counts."""
    for number in range(5):
        site.told(site.clerk.put(f"k{number}", "v"))
    wiped = site.cluster.groups[100][0]
    site.cluster.wipe(wiped)
    site.cluster.restart(wiped)
    assert site.cluster.settle()
    assert site.cluster.replica(wiped).status().voter is False
    digests = {site.cluster.machine(name).digest() for name in site.cluster.groups[100]}
    assert len(digests) == 1
    site.cluster.kill(site.cluster.groups[100][1])
    assert site.told(site.clerk.put("k0", "w", timeout=3)).value.retryable is not None, (
        "one voter of three is no quorum"
    )
    site.cluster.restart(site.cluster.groups[100][1])
    assert site.told(site.clerk.put("k0", "x", timeout=5)) is None


def test_a_member_whose_disk_fails_stops_and_is_started_again(site, logged_errors):
    """Hazard 27: it acknowledges nothing further; a supervisor boots it on what the disk holds."""
    leader = site.cluster.leader(100)
    site.cluster.disks(leader)[0].fails_after = 1.0
    assert site.told(site.clerk.put("k", "v")) is None
    site.world.run_until(lambda: leader in site.cluster.dead, 5)
    site.world.run_for(SUPERVISOR_SECONDS + 0.1)
    assert site.cluster.dead == []
    assert site.told(site.clerk.get("k")) == "v"
    assert logged_errors
    logged_errors.clear()


def test_a_member_that_is_asked_to_stop_hands_over_and_loses_nobodys_call(site):
    """Contract §1: SIGTERM stops cleanly; no client waits for an election."""
    site.told(site.clerk.put("k", "v"))
    leader = site.cluster.leader(100)
    term = site.cluster.replica(leader).standing.term
    site.cluster.terminate(leader)
    began = site.world.clock.seconds()
    assert site.world.run_until(lambda: leader in site.cluster.dead, 1)
    assert site.told(site.clerk.put("k", "w", timeout=1)) is None
    assert site.world.clock.seconds() - began < 0.4, "an election timeout would be longer"
    assert site.cluster.replica(site.cluster.leader(100)).standing.term == term + 1
    site.world.run_for(SUPERVISOR_SECONDS + 0.1)
    assert site.cluster.dead == []


def test_what_is_left_to_do_has_a_name(site):
    assert site.cluster.unsettled() == ""
    site.told(site.clerk.put("k", "v"))
    leader = site.cluster.leader(100)
    site.cluster.kill(leader)
    assert "has no leader" in site.cluster.unsettled()
    site.cluster.wait_for_leader(100)
    assert "stand at" in site.cluster.unsettled()


def test_an_idle_group_is_quiet(site):
    """Scenario §3.1-9: at most 60 messages per second over 3 servers."""
    before = site.cluster.hub.tally.attempts[PEER_STEP]
    site.world.run_for(10)
    assert (site.cluster.hub.tally.attempts[PEER_STEP] - before) / 10 <= 60


def test_a_member_comes_back_after_a_power_cut_in_the_middle_of_a_write(site):
    """Hazard 30: the torn rest of what was never acknowledged is harmless."""
    for number in range(10):
        site.told(site.clerk.append("k", f"<{number}>"))
    for name in site.cluster.alive:
        site.cluster.kill(name, torn=True)
    for name in site.cluster.dead:
        site.cluster.restart(name)
    assert site.told(site.clerk.get("k")) == "".join(f"<{number}>" for number in range(10))
    assert site.world.reached["torn write-ahead log harmless"] == 4
    assert site.world.reached["whole group down"] == 2


def test_a_member_with_flipped_bits_serves_no_damage(tmp_path):
    """Hazard 34: it refuses and comes back as a copy, or the bit was where nothing is."""
    site = Site(tmp_path, groups={100: 3}, controllers=1, log_bytes_max=2_000)
    for number in range(30):
        site.told(site.clerk.put(f"k{number}", "v" * 50))
    name = site.cluster.groups[100][0]
    flips = 0
    while name not in site.cluster.watch.wiped or site.cluster.replica(name).status().voter:
        site.cluster.flip(name)
        site.cluster.restart(name)
        flips += 1
        assert site.cluster.settle()
        digests = {site.cluster.machine(member).digest() for member in site.cluster.groups[100]}
        assert len(digests) == 1
    assert flips < 30
    assert site.world.reached["flipped bit refused"] == 1
    site.end()


def test_a_damaged_directory_that_nobody_flipped_is_no_harmless_matter(site):
    """Only an injected fault may be the reason for a refusal."""
    name = site.cluster.groups[100][0]
    site.cluster.kill(name)
    with open(f"{site.cluster._by_name[name].path}/data.sqlite3", "r+b") as file:
        file.write(b"x" * 100)
    with pytest.raises(StartRefused):
        site.cluster.restart(name)


def test_another_process_on_a_directory_in_use_is_refused_and_harms_nobody(site, monkeypatch):
    """Hazard 37; a lock that several may hold is found."""
    told, world = site.told, site.world
    assert told(site.clerk.put("k", "v")) is None
    names = site.cluster.groups[100]
    site.cluster.hold(names[1])
    for name in names:
        site.cluster.start_twice(name)
    site.cluster.release(names[1])
    assert world.reached["second process refused"] == 3
    assert told(site.clerk.append("k", "w")) is None
    site.cluster.kill(names[0])
    monkeypatch.setattr(directory.fcntl, "LOCK_EX", directory.fcntl.LOCK_SH)
    site.cluster.restart(names[0])
    site.cluster.start_twice(names[0])
    assert [violation.checker for violation in site.cluster.watch.wrong] == [ONE_WRITER]
    site.cluster.watch.wrong.clear()


def test_members_of_one_process_live_and_die_together(tmp_path):
    """kv-node: a controller and a group of one."""
    site = Site(tmp_path, groups={100: 1}, controllers=1, one_process=True)
    assert site.told(site.clerk.put("k", "v")) is None
    site.cluster.hold("g100-1")
    assert site.cluster.held("ctl-1")
    site.cluster.release("ctl-1")
    site.cluster.kill("ctl-1", torn=True)
    assert site.cluster.dead == ["ctl-1", "g100-1"]
    site.cluster.restart("g100-1")
    assert site.told(site.clerk.get("k")) == "v"
    site.cluster.terminate("g100-1")
    assert site.world.run_until(lambda: site.cluster.dead, 20)
    assert site.world.run_until(lambda: not site.cluster.dead, 5)
    assert site.told(site.clerk.get("k")) == "v"
    site.end()


def test_a_second_set_of_processes_under_a_gid_never_serves(tmp_path):
    """Scenario §3.3-34, decision 0002: others have claimed the member before."""
    site = Site(tmp_path, groups={100: 3}, controllers=1, rivals={100: 3})
    site.told(site.clerk.put("k", "v"))
    assert -100 not in site.cluster.groups
    site.cluster.invade()
    site.cluster.invade()
    assert len(site.cluster.groups[-100]) == 3
    assert site.cluster.settle()
    assert site.world.reached["another group of the gid"] == 1
    assert all(site.cluster.machine(name).status()["copies"] == 0 for name in site.cluster.groups[-100])
    assert site.told(site.clerk.get("k")) == "v"
    assert list(site.cluster.addresses) == [100]
    site.end()


def test_a_group_that_moves_house_is_readdressed_and_found(site):
    """A group with new endpoints: nothing moves but the address."""
    site.told(site.clerk.put("k", "v"))
    assert site.cluster.settle()
    before = site.cluster.addresses[100]
    site.cluster.move_house(100)
    after = site.cluster.addresses[100]
    assert not set(before) & set(after)
    assert "is listed at" in site.cluster.unsettled()
    assert site.told(site.clerk.get("k", timeout=20)) == "v"
    assert site.cluster.newest_configuration().groups[100] == after
    site.cluster.move_house(100)
    assert site.cluster.settle()
    assert site.told(site.clerk.get("k", timeout=20)) == "v"
    assert site.world.reached["group readdressed"] >= 1


def test_clocks_drift_from_boot_to_boot_alike(tmp_path):
    site = Site(tmp_path, groups={100: 3}, controllers=1, knobs=Knobs(drift=0.5))
    names = site.cluster.groups[100]

    def rates():
        begun = [site.cluster._boots[name].host.clock.seconds() for name in names]
        site.world.run_for(1)
        return [
            round(site.cluster._boots[name].host.clock.seconds() - was, 6)
            for name, was in zip(names, begun, strict=True)
        ]

    first = rates()
    assert len(set(first)) == 3
    site.cluster.kill(names[0])
    site.cluster.restart(names[0])
    assert rates() == first
    site.end()
