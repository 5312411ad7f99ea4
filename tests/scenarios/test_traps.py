"""What is easy to get wrong (scenarios §3), where no room's own tests say it; mostly seen from outside, on a simulated
cluster.

Which test shows which item stands in docs/evidence.md. Each test here names a fault of one line that makes it fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from raft_stage import Stage, restored
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from twisted_kv.machines.commands import QUERIES, READS, ConfigurationAnswer, QueryConfiguration, Read
from twisted_kv.machines.configuration import shard_of
from twisted_kv.simulation.doors.world import World, between, one_of
from twisted_kv.simulation.lives.cluster import CONTROLLERS, Cluster
from twisted_kv.transport.wire import ANSWERS, CTL_QUERY, KV_READ, NotLeading, Unsettled

PATIENT = 60.0
SHARDS = 10


class Site:
    """A cluster, a Clerk and an administrator, who has joined the listed groups."""

    def __init__(self, path: Path, groups: dict[int, int], controllers: int = 1, log_bytes_max: int = 1 << 20) -> None:
        self.world = World(1)
        self.cluster = Cluster(self.world, str(path), controllers, groups, SHARDS, log_bytes_max)
        self.clerk = self.cluster.clerk("clerk")
        self.admin = self.cluster.controller_clerk("admin")

    def told(self, call: Deferred[Any], seconds: float = PATIENT) -> Any:
        """What a call fires with; what it fails with is raised."""
        outcome: list[Any] = []
        call.addBoth(outcome.append)
        assert self.world.run_until(lambda: bool(outcome), seconds), f"nothing after {seconds} s"
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]

    def join(self, *gids: int) -> Any:
        """By one call; then let everything settle."""
        groups = {gid: self.cluster.endpoints(gid) for gid in gids}
        configuration = self.told(self.admin.join(groups, timeout=PATIENT))
        assert self.cluster.settle()
        return configuration

    def ask(self, name: str, verb: str, body: bytes) -> Any:
        """What this very server answers, or the failure to."""
        network = self.cluster.hub.at(self.world.host("somebody"))
        answer = self.told(network.call(f"sim:{name}", verb, body, 5.0).addErrback(lambda failure: failure.value))
        return ANSWERS.decode(answer) if isinstance(answer, bytes) else answer

    def leader(self, gid: int) -> str:
        return self.cluster.wait_for_leader(gid)

    def kill(self, *names: str) -> None:
        for name in names:
            self.cluster.kill(name)

    def start(self, *names: str) -> None:
        for name in names:
            self.cluster.restart(name)

    def restart_all(self, gid: int) -> None:
        """Kill all at once, and start them again."""
        self.kill(*(name for name in self.cluster.groups[gid] if name in self.cluster.alive))
        self.start(*self.cluster.groups[gid])

    def depose(self, gid: int) -> str:
        """Put a leader to sleep, cut off from its peers, until another one leads."""
        leader = self.leader(gid)
        others = [name for name in self.cluster.groups[gid] if name != leader]
        self.cluster.hub.partition([leader], others)
        self.cluster.hold(leader)
        assert self.world.run_until(lambda: self.cluster.leader(gid) in others, 5)
        return leader

    def wake(self, name: str) -> None:
        """Let it go on as if it had not slept."""
        self.cluster.release(name)
        assert self.cluster.replica(name).leads, "it should believe so still"

    def end(self) -> None:
        self.kill(*self.cluster.alive)
        assert self.cluster.watch.wrong == []
        assert self.cluster.hub.broken == []


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Any]:
    """Makes sites; what a Watch found wrong with one fails the test."""
    made: list[Site] = []

    def make(groups: dict[int, int], **shape: int) -> Site:
        made.append(Site(tmp_path, groups, **shape))
        return made[-1]

    yield make
    for site in made:
        site.end()


# ── §3.1 Raft ──────────────────────────────────────────────────────────────────────────────────────


def test_scenario_01_figure_8_never_commits_two_entries_at_one_index() -> None:
    """Scenario §3.1-1, Figure 8 (c) to (d): 1 brings its entry of term 2 to a majority and crashes; 5, whose term 3 is
    newer, is elected and replaces it.

    Fails if ``advance_commit`` does not compare the entry's term with its own.
    """
    voters = frozenset(range(1, 6))
    first = Stage(1, voters, restored(1, 2, term=3))
    first.lead()
    first.ack(2, 3, index=2)
    fifth = Stage(5, voters, restored(1, 3, term=4))
    fifth.lead()
    fifth.ack(1, 2)
    committed = [entry for stage in (first, fifth) for ready in stage.readies for entry in ready.committed]
    terms = {entry.index: entry.term for entry in committed}
    assert terms == {1: 1, 2: 3, 3: 5}
    assert len(committed) == len(terms), "an index was committed twice"


def test_scenario_03_a_crash_anywhere_finds_state_and_log_together(sites: Any) -> None:
    """Scenario §3.1-3 (SnapshotInit): checkpoints and cuts all the time, members killed right before or right after any
    write of either file, then everybody twice in a row: nobody refuses its directory, nothing acknowledged is lost.

    Fails if the log is cut before the checkpoint is committed, or if a restart forgets where the log begins.
    """
    site = sites({100: 3}, log_bytes_max=400)
    site.join(100)
    cluster, dice = site.cluster, Random(3)
    written: list[str] = []
    stopping: list[bool] = []

    async def write() -> None:
        while not stopping:
            token = f"<{len(written)}>"
            await site.clerk.append("k", token, timeout=PATIENT)
            written.append(token)

    writing = ensureDeferred(write())
    for round in range(32):
        site.world.run_for(between(dice, 0.05, 0.3))
        victim = one_of(dice, cluster.groups[100])
        disk = cluster.disks(victim)[round % 2]
        setattr(disk, ("trap_before", "trap_after")[round // 2 % 2], lambda victim=victim: cluster.kill(victim))
        assert site.world.run_until(lambda: bool(cluster.dead), 5)
        site.start(victim)
    for _ in range(2):
        site.restart_all(100)
        assert cluster.settle()
    stopping.append(True)
    site.told(writing)
    assert len(written) > 100
    assert site.told(site.clerk.get("k")) == "".join(written)


def test_scenario_07_a_leader_that_was_deposed_answers_no_read(sites: Any) -> None:
    """Scenario §3.1-7: it slept, cut off from its peers, and wakes up believing to lead: it may not answer from what it
    holds, and cannot ask a quorum.

    Fails if a leader confirms reads without a quorum.
    """
    site = sites({100: 3})
    site.join(100)
    site.told(site.clerk.put("k", "old"))
    deposed = site.depose(100)
    site.told(site.clerk.put("k", "new"))
    site.wake(deposed)
    answer = site.ask(deposed, KV_READ, READS.encode(Read(("k",))))
    assert isinstance(answer, NotLeading | Unsettled), answer
    site.cluster.hub.heal()
    assert site.told(site.clerk.get("k")) == "new"


def test_scenario_10_after_a_total_restart_reads_and_configurations_go_on_without_writes(sites: Any) -> None:
    """Scenario §3.1-10: the leader's log ends in an entry of an earlier term that nobody else has, and no client
    writes: its no-op commits it, so a read is answered; and the next configuration is applied.

    Fails if ``lead`` does not open its term with a no-op.
    """
    # With every entry checkpointed no configuration is left to be applied again, which would be a write of the group's.
    site = sites({100: 3, 101: 3}, log_bytes_max=1)
    site.join(100)
    site.told(site.clerk.put("k", "v"))
    leader = site.leader(100)
    followers = [name for name in site.cluster.groups[100] if name != leader]
    site.kill(*followers)
    writing = site.clerk.put("k", "w", timeout=0.3).addErrback(lambda failure: failure.value)
    assert site.told(writing).definite is False
    site.kill(leader)
    site.start(leader, followers[0])
    assert site.leader(100) == leader, "its log is the longest"
    assert site.told(site.clerk.get("k"), seconds=1.0) == "w"
    site.start(followers[1])
    assert site.join(101).num == 2


# ── §3.2 clients ───────────────────────────────────────────────────────────────────────────────────


def test_hazard_17_a_group_of_one_answers_only_after_its_save(sites: Any) -> None:
    """Hazard 17: with its disk hung, one server alone acknowledges nothing; the write counts once it goes on.

    Fails if the pump goes on without waiting for the save.
    """
    site = sites({100: 1})
    site.join(100)
    site.told(site.clerk.append("k", "a"))
    (name,) = site.cluster.groups[100]
    log_disk = site.cluster.disks(name)[0]
    log_disk.stalled = True
    appending = site.clerk.append("k", "b", timeout=PATIENT)
    site.world.run_for(5)
    assert not appending.called
    log_disk.resume()
    site.told(appending)
    assert site.told(site.clerk.get("k")) == "ab"


def test_scenario_19_a_get_that_asks_the_old_owner_is_executed_by_the_new_one(sites: Any) -> None:
    """Scenario §3.2-19: a Clerk that knows only the configuration before the move asks the old owner, is told so, and
    reads at the new owner what was written there.

    Fails if ``GroupMachine`` reads without looking whether the shard is served, or if a Clerk takes WrongGroup for
    "absent".
    """
    site = sites({100: 3, 101: 3})
    site.join(100)
    late = site.cluster.clerk("late")
    site.told(late.put("k", "old"))
    site.join(101)
    site.told(site.admin.move(shard_of("k", SHARDS), 101))
    assert site.cluster.settle()
    site.told(site.clerk.put("k", "new"))
    served = dict(site.cluster.hub.tally.served)
    assert site.told(late.get("k")) == "new"
    asked = {name for name, count in site.cluster.hub.tally.served.items() if count > served.get(name, 0)}
    assert asked & {*site.cluster.endpoints(100)} and asked & {*site.cluster.endpoints(101)}


# ── §3.3 configurations ────────────────────────────────────────────────────────────────────────────


def test_scenario_27_a_move_goes_on_under_every_new_leader(sites: Any) -> None:
    """Scenario §3.3-27: while five shards move, in several chunks each, the leaders of giver and taker are killed again
    and again: what is left to do is found in the state, the move ends, and every value is there.

    Fails if ``GroupMachine.chores`` leaves out pulls that have begun.
    """
    site = sites({100: 3, 101: 3}, log_bytes_max=100_000)
    site.join(100)
    values = {f"key {number}": chr(ord("A") + number) * 120_000 for number in range(40)}
    for key, value in values.items():
        site.told(site.clerk.put(key, value))
    site.told(site.admin.join({101: site.cluster.endpoints(101)}))
    killed = 0
    while site.cluster.unsettled() and killed < 8:
        site.world.run_for(0.03)
        leader = site.cluster.leader((100, 101)[killed % 2])
        if leader in site.cluster.alive:
            site.kill(leader)
            killed += 1
            site.world.run_for(0.5)
            site.start(leader)
    assert killed >= 4, "the move was over too soon"
    assert site.cluster.settle()
    assert {gid: site.cluster.machine(site.leader(gid)).status()["shards"] for gid in (100, 101)} == {100: 5, 101: 5}
    for key, value in values.items():
        assert site.told(site.clerk.get(key)) == value


# ── §3.4 the controller ────────────────────────────────────────────────────────────────────────────


def test_scenario_43_the_newest_configuration_is_never_asked_of_one_server_alone(sites: Any) -> None:
    """Scenario §3.4-43 (FreshQuery): neither a server that lags nor a leader that was deposed tells a configuration
    that is not the newest; through a quorum every completed change shows.

    Fails if a leader confirms reads without a quorum.
    """
    site = sites({100: 1}, controllers=3)
    assert site.told(site.admin.query(-1)).num == 0
    deposed = site.depose(CONTROLLERS)
    site.told(site.admin.join({100: site.cluster.endpoints(100)}))
    site.wake(deposed)
    newest = QUERIES.encode(QueryConfiguration(-1))
    assert isinstance(site.ask(deposed, CTL_QUERY, newest), NotLeading | Unsettled)
    assert site.cluster.machine(deposed).query(QueryConfiguration(-1)).configuration.num == 0, "it does not lag"
    assert isinstance(site.ask(deposed, CTL_QUERY, newest), NotLeading | Unsettled)
    assert site.told(site.admin.query(-1)).num == 1
    site.cluster.hub.heal()
    assert site.told(site.cluster.controller_clerk("another").query(-1)).num == 1
    assert isinstance(site.ask(site.leader(CONTROLLERS), CTL_QUERY, newest), ConfigurationAnswer)


def test_scenario_46_controllers_that_all_restart_know_history_and_whom_they_answered(sites: Any) -> None:
    """Scenarios §3.4-44 and 46: configurations and sessions of administrators are on disk, behind a log that is cut. A
    move whose answers were lost, retried after a total restart, makes no second configuration.

    Fails if the controller's rows leave out its history or its sessions.
    """
    site = sites({100: 1, 101: 1}, controllers=3, log_bytes_max=200)
    seen = [site.told(site.admin.query(0)), site.join(100), site.join(101)]
    for shard in range(SHARDS):
        seen.append(site.told(site.admin.move(shard, 201 - seen[-1].shards[shard])))
    controllers = site.cluster.groups[CONTROLLERS]
    for name in controllers:
        site.cluster.hub.cut(name, "admin")
    moving = site.admin.move(0, 201 - seen[-1].shards[0], timeout=PATIENT)
    assert site.world.run_until(lambda: site.cluster.newest_configuration().num == len(seen), 5)
    site.told(site.clerk.configuration())
    site.world.run_for(1.0)
    assert not moving.called
    site.restart_all(CONTROLLERS)
    site.cluster.hub.heal()
    assert site.told(moving).num == len(seen)
    assert [site.told(site.admin.query(num)) for num in range(len(seen))] == seen
    assert site.told(site.admin.query(-1)).num == len(seen)


# ── §3.6 Python ────────────────────────────────────────────────────────────────────────────────────


def test_scenario_53_what_was_asked_is_what_it_was_when_it_was_asked(sites: Any) -> None:
    """Scenario §3.6-53: the caller may use its own lists again at once.

    Fails if a change is built when it is sent, not when it is asked for.
    """
    site = sites({100: 1})
    endpoints = list(site.cluster.endpoints(100))
    groups = {100: endpoints}
    joining = site.admin.join(groups)
    endpoints.append("sim:nobody")
    groups[101] = ["sim:nobody"]
    assert site.told(joining).groups == {100: site.cluster.endpoints(100)}
