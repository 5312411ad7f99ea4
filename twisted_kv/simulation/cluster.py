"""A whole cluster in one world: the production classes on simulated doors.

It decides who exists, where everybody listens and how each is booted, killed, held and booted again; what runs is the
very Member, core, machine, stores and Clerks of a real server. A boot is one life of one process: its host, its open
directory, its disks. Killing it is losing everything but what the directory has committed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from twisted_kv.client.clerk import Clerk
from twisted_kv.client.controller_clerk import ControllerClerk
from twisted_kv.client.inquiry import Inquiry
from twisted_kv.consensus.raft.messages import MESSAGES
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import NodeID, Restored
from twisted_kv.interfaces import Door, IConsensus, IDataStore, ILogStore, ISnapshot
from twisted_kv.machines.commands import QueryConfiguration
from twisted_kv.machines.configuration import Configuration
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.group import GroupMachine
from twisted_kv.replica.doors import ControllerDoors, GroupDoors
from twisted_kv.replica.member import IChores, Kind, Member, Parts
from twisted_kv.replica.reconciler import ControllerChores, GroupChores
from twisted_kv.replica.replica import Replica
from twisted_kv.simulation.disk import InjectedError, InjectedFull, SimDisk
from twisted_kv.simulation.invariants import Watch, WatchedCore, WatchedLog, WatchedMachine, WatchedNetwork
from twisted_kv.simulation.network import Hub
from twisted_kv.simulation.world import Host, World
from twisted_kv.storage.directory import ReplicaDirectory, open_directory

CONTROLLERS: Final = 0
"""The gid under which the controllers are listed here."""

SUPERVISOR_SECONDS: Final = 0.5
"""After this time a member that stopped by itself is started again, as a supervisor would do."""

TERMINATE_SECONDS: Final = 10.0
"""A server stops cleanly within this time (contract §1)."""


class Seat(NamedTuple):
    """One place in a group, whoever sits there: what the command line of a server says."""

    name: str
    gid: int
    node: NodeID
    path: str

    @property
    def endpoint(self) -> str:
        return f"sim:{self.name}"

    @property
    def kind(self) -> Kind:
        return "group" if self.gid else "controller"


class Boot(NamedTuple):
    """One life of one member."""

    host: Host
    member: Member
    machine: Any
    directory: Directory
    disks: tuple[SimDisk, SimDisk]


class Cluster:
    """Controllers and groups, none of them joined at first. It is a ``Victim`` for a Nemesis.

    Args:
        path: an empty directory for the files of all members.
        groups: gid → number of members.
        shards: of the cluster, once founded.
        log_bytes_max: as the option of the servers; small: checkpoints and snapshots all the time.

    Attributes:
        watch: what it found wrong with any replica.
    """

    def __init__(
        self,
        world: World,
        path: str,
        controllers: int = 3,
        groups: Mapping[int, int] = {100: 3, 101: 3},
        shards: int = 10,
        log_bytes_max: int = 1 << 20,
    ) -> None:
        self.world = world
        self.hub = Hub(world)
        self.watch = Watch()
        self._shards = shards
        self._log_bytes_max = log_bytes_max
        self._boots: dict[str, Boot] = {}
        self._boot_count = 0
        self._seats: dict[int, list[Seat]] = {
            gid: [self._seat(path, gid, node) for node in range(1, count + 1)]
            for gid, count in {CONTROLLERS: controllers, **groups}.items()
        }
        self._by_name = {seat.name: seat for seats in self._seats.values() for seat in seats}
        for name in self._by_name:
            self.restart(name)

    @staticmethod
    def _seat(path: str, gid: int, node: int) -> Seat:
        name = f"g{gid}-{node}" if gid else f"ctl-{node}"
        return Seat(name, gid, node, os.path.join(path, name))

    # ── who is there ───────────────────────────────────────────────────────────────────────────────

    @property
    def groups(self) -> Mapping[int, Sequence[str]]:
        """gid → names of its members; the controllers under CONTROLLERS."""
        return {gid: [seat.name for seat in seats] for gid, seats in self._seats.items()}

    @property
    def alive(self) -> Sequence[str]:
        return [name for name in self._by_name if name in self._boots]

    @property
    def dead(self) -> Sequence[str]:
        return [name for name in self._by_name if name not in self._boots]

    def held(self, name: str) -> bool:
        return self._boots[name].host.clock.held

    def disks(self, name: str) -> Sequence[SimDisk]:
        return self._boots[name].disks

    def endpoints(self, gid: int) -> tuple[str, ...]:
        """Where the members of a group listen."""
        return tuple(seat.endpoint for seat in self._seats[gid])

    def replica(self, name: str) -> Replica | None:
        """The corridor of a member; None while it is dead or its group has not formed."""
        return self._boots[name].member.replica if name in self._boots else None

    def machine(self, name: str) -> Any:
        """The machine of a member that is alive."""
        return self._boots[name].machine

    def leader(self, gid: int) -> str | None:
        """The member that leads in the highest term, as far as the members themselves know."""
        best: tuple[int, str] | None = None
        for seat in self._seats[gid]:
            replica = self.replica(seat.name)
            if replica is not None and replica.leads and (best is None or replica.standing.term > best[0]):
                best = (replica.standing.term, seat.name)
        return best[1] if best is not None else None

    # ── what can be done to it ─────────────────────────────────────────────────────────────────────

    def restart(self, name: str) -> None:
        """Boot a dead member on what its directory holds."""
        assert name not in self._boots
        seat = self._by_name[name]
        self._boot_count += 1
        self.world.trace.tell(name, "boots")
        self._boots[name] = boot = self._boot(seat, f"{name}/{self._boot_count}")
        self.hub.listen(seat.endpoint, boot.host, boot.member.doors)
        boot.host.clock.callLater(0, self._start, name, boot)

    def kill(self, name: str) -> None:
        """At this very instant it does nothing more; what was not committed is gone."""
        boot = self._boots.pop(name)
        self.world.trace.tell(name, "is killed")
        if self.hub.listens(self._by_name[name].endpoint):
            self.hub.unlisten(self._by_name[name].endpoint)
        boot.host.clock.stop()
        boot.directory.close()

    def terminate(self, name: str) -> None:
        """SIGTERM: leadership, listener and files are given up in that order; then the supervisor starts it again.

        Whatever does not end within TERMINATE_SECONDS is killed.
        """
        boot = self._boots[name]
        self.world.trace.tell(name, "is asked to stop")
        ensureDeferred(self._stop(name, boot)).addErrback(lambda failure: self.watch.report(failure.getTraceback()))
        self.world.clock.callLater(TERMINATE_SECONDS, self._end, name, boot)

    def wipe(self, name: str) -> None:
        """Kill a member, if it lives, and empty its directory."""
        if name in self._boots:
            self.kill(name)
        for file in os.scandir(self._by_name[name].path):
            os.unlink(file.path)
        self.watch.forgotten(name)

    def hold(self, name: str) -> None:
        self._boots[name].host.clock.hold()
        self.world.trace.tell(name, "is held")

    def release(self, name: str) -> None:
        self._boots[name].host.clock.release()
        self.world.trace.tell(name, "goes on")

    # ── clients ────────────────────────────────────────────────────────────────────────────────────

    def clerk(self, name: str) -> Clerk:
        """A Clerk on a host of its own."""
        host, random = self._client(name)
        return Clerk(self.endpoints(CONTROLLERS), host.clock, random, self.hub.at(host))

    def controller_clerk(self, name: str) -> ControllerClerk:
        """A ControllerClerk on a host of its own."""
        host, random = self._client(name)
        return ControllerClerk(self.endpoints(CONTROLLERS), host.clock, random, self.hub.at(host))

    def _client(self, name: str) -> tuple[Host, Random]:
        return self.world.host(name), self.world.random_for(f"{name}/clerk")

    # ── waiting ────────────────────────────────────────────────────────────────────────────────────

    def wait_for_leader(self, gid: int, seconds_max: float = 10.0) -> str:
        """Let time pass until a member of the group leads; returns its name."""
        found = self.world.run_until(lambda: self.leader(gid) is not None, seconds_max)
        name = self.leader(gid)
        assert found and name is not None, f"group {gid} has no leader after {seconds_max} s"
        return name

    def settle(self, seconds_max: float = 60.0) -> bool:
        """Let time pass until nothing is left to be done; whether that came true."""
        return self.world.run_until(lambda: not self.unsettled(), seconds_max)

    def unsettled(self) -> str:
        """What is left to be done by anybody before all stand still; "" when nothing is."""
        for gid in self._seats:
            if self.leader(gid) is None:
                return f"group {gid} has no leader"
            applied = {replica.applied if (replica := self.replica(name)) else -1 for name in self.groups[gid]}
            if len(applied) > 1:
                return f"members of group {gid} stand at {sorted(applied)}"
        newest = self.newest_configuration().num
        for gid in self._seats:
            if gid == CONTROLLERS:
                continue
            status = self.machine(self.groups[gid][0]).status()
            if status["configuration"] < newest:
                return f"group {gid} is at configuration {status['configuration']} of {newest}"
            if status["migrations"]:
                return f"group {gid} has {status['migrations']} migrations to finish"
        return ""

    def newest_configuration(self) -> Configuration:
        """As the controllers that are alive know it."""
        machines = [self.machine(name) for name in self.groups[CONTROLLERS] if name in self._boots]
        known: list[Configuration] = [machine.query(QueryConfiguration(-1)).configuration for machine in machines]
        return max(known, key=lambda configuration: configuration.num)

    # ── a boot ─────────────────────────────────────────────────────────────────────────────────────

    def _boot(self, seat: Seat, life: str) -> Boot:
        host = self.world.host(seat.name)
        random = self.world.random_for(life)
        network = WatchedNetwork(self.hub.at(host), self.watch, seat.name)
        opened = open_directory(seat.path, synchronous="OFF", ballast_bytes=0)
        directory = Directory(opened, WatchedLog(opened.log, self.watch, seat.name))
        disks = (
            SimDisk(host, self.world.random_for(f"{life}/log")),
            SimDisk(host, self.world.random_for(f"{life}/data")),
        )
        machine: Any = GroupMachine(seat.gid) if seat.gid else ControllerMachine()
        peers = {other.node: other.endpoint for other in self._seats[seat.gid]}

        def failed(failure: Failure) -> None:
            self._stopped_by_itself(seat.name, host, failure)

        def doors(replica: Callable[[], Replica | None]) -> Mapping[str, Door]:
            if seat.gid:
                return GroupDoors(seat.node, replica, machine).doors
            return ControllerDoors(seat.node, replica, peers, network).doors

        def chores(replica: Replica, identity: str) -> IChores:
            if not seat.gid:
                return ControllerChores(replica, random, self._shards)
            ask = Inquiry(host.clock, random, network)
            controllers = self.endpoints(CONTROLLERS)
            return GroupChores(
                seat.gid,
                identity,
                replica,
                controllers,
                ask,
                host.clock,
                machine,
                lambda refusal: failed(Failure(refusal)),
            )

        def make_core(node: NodeID, voters: frozenset[NodeID], restored: Restored, applied: int) -> IConsensus:
            core = RaftNode(node, voters, restored, random, applied=applied)
            return WatchedCore(core, self.watch, seat.gid, seat.name, applied)

        parts = Parts(
            kind=seat.kind,
            gid=seat.gid,
            node=seat.node,
            peers=peers,
            directory=directory,
            log_disk=disks[0],
            data_disk=disks[1],
            network=network,
            clock=host.clock,
            random=random,
            make_core=make_core,
            codec=MESSAGES,
            consensus="raft",
            machine=WatchedMachine(machine, self.watch, seat.gid, seat.name),
            log_bytes_max=self._log_bytes_max,
        )
        return Boot(host, Member(parts, doors, chores, failed), machine, directory, disks)

    def _start(self, name: str, boot: Boot) -> None:
        boot.member.start().addErrback(lambda failure: self._stopped_by_itself(name, boot.host, failure))

    def _stopped_by_itself(self, name: str, host: Host, failure: Failure) -> None:
        """The process ends now; its supervisor starts it again. Only a fault that was injected may be the reason."""
        boot = self._boots.get(name)
        if boot is None or boot.host is not host:
            return
        self.world.trace.tell(name, "stops by itself", error=failure.type.__name__ if failure.type else "?")
        if failure.check(InjectedError, InjectedFull) is None:
            self.watch.report(f"{name} stopped by itself: {failure.getTraceback()}")
        self.world.clock.callLater(0, self._end, name, boot)

    async def _stop(self, name: str, boot: Boot) -> None:
        if boot.member.replica is not None:
            await boot.member.replica.hand_over()
        if self.hub.listens(self._by_name[name].endpoint):
            self.hub.unlisten(self._by_name[name].endpoint)
        await boot.member.stop()
        self._end(name, boot)

    def _end(self, name: str, boot: Boot) -> None:
        if self._boots.get(name) is boot:
            self.kill(name)
            self.world.clock.callLater(SUPERVISOR_SECONDS, self._start_again, name)

    def _start_again(self, name: str) -> None:
        if name not in self._boots:
            self.restart(name)


class Directory:
    """A ReplicaDirectory that closes what a killed process leaves open."""

    def __init__(self, directory: ReplicaDirectory, log: ILogStore) -> None:
        self._directory = directory
        self.log = log
        self.data: IDataStore = _Data(directory.data)
        self.release_ballast = directory.release_ballast
        self.reserve_ballast = directory.reserve_ballast

    def close(self) -> None:
        self.data.close()
        self._directory.close()


class _Data:
    """An IDataStore that remembers the snapshots it gave out."""

    def __init__(self, store: IDataStore) -> None:
        self._store = store
        self._snapshots: list[ISnapshot] = []
        self.position = store.position
        self.rows = store.rows
        self.checkpoint = store.checkpoint

    def snapshot(self) -> ISnapshot:
        snapshot = self._store.snapshot()
        self._snapshots.append(snapshot)
        return snapshot

    def close(self) -> None:
        for snapshot in self._snapshots:
            snapshot.close()
