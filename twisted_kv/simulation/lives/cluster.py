"""A whole cluster in one world: the production classes on simulated doors.

It decides who exists, where everybody listens and how each is booted, killed, held and booted again; what runs is the
very Member, core, machine, stores and Clerks of a real server. A boot is one life of one process: its host, its open
directory, its disks. Killing it is losing everything but what the directory has committed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Final

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from twisted_kv.client.clerk import Clerk
from twisted_kv.client.controller_clerk import ControllerClerk
from twisted_kv.consensus.types import NotLeader
from twisted_kv.errors import KVError, Overloaded, StartRefused
from twisted_kv.machines.commands import QueryConfiguration
from twisted_kv.machines.configuration import Configuration
from twisted_kv.replica.pending import LeadershipLost, Overwritten
from twisted_kv.replica.replica import Replica
from twisted_kv.simulation.doors import damage
from twisted_kv.simulation.doors.disk import InjectedError, InjectedFull, SimDisk
from twisted_kv.simulation.doors.network import Hub
from twisted_kv.simulation.doors.wired import WiredHub
from twisted_kv.simulation.doors.world import Host, World
from twisted_kv.simulation.faults.echoes import Echoes
from twisted_kv.simulation.faults.knobs import USUAL, Knobs
from twisted_kv.simulation.judges.checkers import ONE_WRITER
from twisted_kv.simulation.judges.ids import ClerkNetwork
from twisted_kv.simulation.judges.invariants import Watch
from twisted_kv.simulation.judges.service import ended
from twisted_kv.simulation.judges.sights import Sights
from twisted_kv.simulation.lives.boot import Boot, Booting, Seat
from twisted_kv.storage.directory import open_directory

CONTROLLERS: Final = 0
"""The gid under which the controllers are listed here."""

SUPERVISOR_SECONDS: Final = 0.5
"""After this time a member that stopped by itself is started again, as a supervisor would do."""

TERMINATE_SECONDS: Final = 10.0
"""A server stops cleanly within this time (contract §1)."""

OPERATOR_SECONDS: Final = 2.0
"""After this time an operator looks again whether a group that moved house is listed where it is now."""


class Cluster:
    """Controllers and groups, none of them joined at first. It is a ``Victim`` for a Nemesis.

    Args:
        path: an empty directory for the files of all members.
        groups: gid → number of members.
        shards: of the cluster, once founded.
        log_bytes_max: as the option of the servers; small: checkpoints and snapshots all the time.
        knobs: how the programs are set.
        one_process: all members live and die together, as in kv-node.
        rivals: gid → number of processes of a second set under it, dead at first. It is listed under −gid.
        wire: all that crosses goes through the production transport (simulation/doors/wired).

    Attributes:
        watch: what it found wrong with any replica.
        sights: what was seen of all replicas.
        echoes: what was said, and may come back.
    """

    def __init__(
        self,
        world: World,
        path: str,
        controllers: int = 3,
        groups: Mapping[int, int] = {100: 3, 101: 3},
        shards: int = 10,
        log_bytes_max: int = 1 << 20,
        knobs: Knobs = USUAL,
        one_process: bool = False,
        rivals: Mapping[int, int] = {},
        wire: bool = False,
    ) -> None:
        self.world = world
        self.hub = WiredHub(world) if wire else Hub(world)
        self._wire = wire
        self._shards = shards
        self.watch = Watch()
        self.sights = Sights(world)
        self.echoes = Echoes(world, self._say_again)
        self.watch.moves.book.sessions_max = knobs.sessions_max
        self.watch.moves.book.results_max = knobs.results_max
        self._one_process = one_process
        self._closing = False
        self._houses: dict[int, int] = {}
        self._down: set[int] = set()
        self._torn: set[str] = set()
        self._booting = Booting(
            world,
            self.hub,
            self.watch,
            self.sights,
            knobs,
            shards,
            log_bytes_max,
            self._torn,
            self.echoes,
            partial(self.endpoints, CONTROLLERS),
        )
        self._flipped: set[str] = set()
        self._boots: dict[str, Boot] = {}
        self._boot_count = 0
        self._path = path
        self._seats: dict[int, list[Seat]] = {}
        self._by_name: dict[str, Seat] = {}
        for gid, count in {CONTROLLERS: controllers, **groups}.items():
            self._settle_down(gid, count)
        self._rivals = dict(rivals)

    def _settle_down(self, key: int, count: int) -> None:
        """Seats for a group, and its first boot."""
        kind = f"g{key}" if key > 0 else f"rival{-key}" if key < 0 else "ctl"
        self._seats[key] = seats = [
            Seat(f"{kind}-{node}", key, node, os.path.join(self._path, f"{kind}-{node}"), self._wire)
            for node in range(1, count + 1)
        ]
        self._by_name.update({seat.name: seat for seat in seats})
        for seat in seats:
            if seat.name not in self._boots:
                self.restart(seat.name)

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
        """Where the members of a group listen for everybody but each other, at the moment."""
        return tuple(seat.announced(self._houses.get(gid, 0)) for seat in self._seats[gid])

    @property
    def addresses(self) -> Mapping[int, Sequence[str]]:
        """gid → endpoints, for administrators, as they are whenever they are looked up."""
        return _Addresses(self)

    @property
    def moment(self) -> Callable[[str, str], None]:
        """Called with the name of a moment (simulation/faults/moments) and of the member that has come to it."""
        return self.sights.moment

    @moment.setter
    def moment(self, told: Callable[[str, str], None]) -> None:
        self.sights.moment = told

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
        """Boot a dead member on what its directory holds; one whose files were flipped may refuse, and has then lost
        its disk."""
        assert name not in self._boots
        if self._by_name[name].key in self._down:
            self._down.discard(self._by_name[name].key)
            self.world.reach("whole group down")
        for mate in self._mates(name):
            if mate in self._boots:
                continue
            try:
                self._boot_up(mate)
            except StartRefused as refusal:
                if mate not in self._flipped:
                    raise
                self._refused(mate, refusal)
                self._boot_up(mate)

    def kill(self, name: str, torn: bool = False) -> None:
        """At this very instant it does nothing more; what was not committed is gone.

        Args:
            torn: the power fails: files stay as they lay, and end in a transaction that was being written.
        """
        for mate in self._mates(name):
            if mate in self._boots:
                self._kill(mate, torn)
        key = self._by_name[name].key
        if not any(mate in self._boots for mate in self.groups[key]):
            self._down.add(key)

    def flip(self, name: str) -> None:
        """Kill a member, if it lives, by a power cut; then one bit in one of its files is another (hazard 34)."""
        if name in self._boots:
            self.kill(name, torn=True)
        where = damage.flip(self._by_name[name].path, self.world.random_for(f"{name}/{self._boot_count}/flip"))
        self._flipped.add(name)
        self.watch.wiped.add(name)  # it may count for nothing from now on
        self.world.trace.tell(name, "has a flipped bit", where=where)

    def terminate(self, name: str) -> None:
        """SIGTERM: leadership, listener and files are given up in that order; then the supervisor starts it again.

        Whatever does not end within TERMINATE_SECONDS is killed.
        """
        for mate in self._mates(name):
            boot = self._boots[mate]
            self.world.trace.tell(mate, "is asked to stop")
            ensureDeferred(self._stop(mate, boot)).addErrback(lambda failure: self.watch.report(failure.getTraceback()))
            self.world.clock.callLater(TERMINATE_SECONDS, self._end, mate, boot)

    def cut_at_start(self, name: str) -> None:
        """The power fails once more while it opens its directory at its next start."""
        self._booting.cut_at_start.add(name)

    def start_twice(self, name: str) -> None:
        """Another process is started on the directory of a member: it is refused, and nobody is the worse for it."""
        try:
            second = open_directory(self._by_name[name].path, ballast_bytes=0)
        except StartRefused:
            self.world.reach("second process refused")
            return
        second.close()
        self.watch.found(ONE_WRITER, f"the directory of {name}, which runs, was opened by another process")

    def wipe(self, name: str) -> None:
        """Kill a member, if it lives, and empty its directory."""
        if name in self._boots:
            self.kill(name)
        for file in os.scandir(self._by_name[name].path):
            os.unlink(file.path)
        self._flipped.discard(name)
        self._torn.discard(name)
        self.sights.forgotten(name)
        self.watch.forgotten(name)

    def hold(self, name: str, frozen: bool = False) -> None:
        """SIGSTOP.

        Args:
            frozen: its clock stands still as well, as that of a suspended machine.
        """
        for mate in self._mates(name):
            self._boots[mate].host.clock.hold(frozen)
        self.world.trace.tell(name, "is held", frozen=frozen)

    def release(self, name: str) -> None:
        for mate in self._mates(name):
            self._boots[mate].host.clock.release()
        self.world.trace.tell(name, "goes on")

    def leap(self, name: str, seconds: float) -> None:
        """Its clock shows so much more at once."""
        self._boots[name].host.clock.leap(seconds)
        self.world.trace.tell(name, "leaps in time", seconds=seconds)

    def move_house(self, gid: int) -> None:
        """A group is found under other endpoints from now on, by all but its own members; an operator tells the
        controllers until they know."""
        before = self.endpoints(gid)
        first = not self._houses
        self._houses[gid] = self._houses.get(gid, 0) + 1
        self.world.trace.tell("operator", "moves house", gid=gid, house=self._houses[gid])
        for old, new, seat in zip(before, self.endpoints(gid), self._seats[gid], strict=True):
            if self.hub.listens(old):
                self.hub.unlisten(old)
                boot = self._boots[seat.name]
                self.hub.listen(new, boot.host, boot.member.doors)
        if first:
            ensureDeferred(self._readdress(self.controller_clerk("operator"))).addErrback(
                lambda failure: self.watch.report(failure.getTraceback())
            )

    def _say_again(self, gid: int, verb: str, command: bytes) -> None:
        """A command of the past goes to the leader of a group, in a turn of its own (faults/echoes)."""
        name = self.leader(gid)
        if name is not None:
            boot = self._boots[name]
            boot.host.clock.callLater(0, self._said_again, boot, verb, command)

    def _said_again(self, boot: Boot, verb: str, command: bytes) -> None:
        member = boot.member
        if verb:
            member.doors[verb](command).addErrback(self.hub.broken.append)
        elif member.replica is not None and member.replica.leads:
            try:
                again = member.replica.submit(command)
            except (NotLeader, Overloaded):
                return  # its core may lead no longer, and not have said so yet
            again.addErrback(lambda failure: failure.trap(LeadershipLost, Overwritten))

    def invade(self) -> None:
        """The second sets of processes boot, if there are any that never did."""
        for gid, count in self._rivals.items():
            self._settle_down(-gid, count)
        self._rivals = {}

    async def _readdress(self, clerk: ControllerClerk) -> None:
        while True:
            await deferLater(self.world.clock, OPERATOR_SECONDS)
            try:
                listed = (await clerk.query(-1, timeout=5.0)).groups
                for gid in sorted(self._houses):
                    if gid in listed and listed[gid] != self.endpoints(gid):
                        await clerk.readdress(gid, self.endpoints(gid), timeout=5.0)
            except KVError:
                continue  # the next look finds out what became of it

    # ── clients ────────────────────────────────────────────────────────────────────────────────────

    def clerk(self, name: str) -> Clerk:
        """A Clerk on a host of its own."""
        host, random = self._client(name)
        network = ClerkNetwork(self.hub.at(host), self.watch.found, name, self._shards)
        return Clerk(self.endpoints(CONTROLLERS), host.clock, random, network)

    def controller_clerk(self, name: str) -> ControllerClerk:
        """A ControllerClerk on a host of its own."""
        host, random = self._client(name)
        return ControllerClerk(self.endpoints(CONTROLLERS), host.clock, random, self.hub.at(host))

    def _client(self, name: str) -> tuple[Host, Random]:
        return self.world.host(name), self.world.random_for(f"{name}/clerk")

    def close(self, seconds_max: float = 2 * TERMINATE_SECONDS) -> bool:
        """Everybody stops cleanly and nobody starts again, and clients, who have come to their end, close their
        networks; whether all of that was done in time.

        What a host then has not given back, ``hub.left`` tells.
        """
        self._closing = True
        servers = [boot.host for boot in self._boots.values()]
        closing = [ensureDeferred(self._stop(name, boot)) for name, boot in list(self._boots.items())]
        closing += [self.hub.closed(host) for host in self.hub.hosts if host not in servers]
        closed: list[None] = []
        for each in closing:
            each.addCallbacks(closed.append, lambda failure: self.watch.report(failure.getTraceback()))
        return self.world.run_until(lambda: len(closed) == len(closing), seconds_max)

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
        configuration = self.newest_configuration()
        newest = configuration.num
        for gid in self._seats:
            if gid == CONTROLLERS:
                continue
            if configuration.groups.get(gid, self.endpoints(gid)) != self.endpoints(gid):
                return f"group {gid} is listed at {configuration.groups[gid]}"
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

    def _mates(self, name: str) -> Sequence[str]:
        """Who lives and dies with a member, itself included."""
        return list(self._by_name) if self._one_process else [name]

    def _boot_up(self, name: str) -> None:
        seat = self._by_name[name]
        self._boot_count += 1
        self.world.trace.tell(name, "boots")
        peers = {other.node: other.endpoint for other in self._seats[seat.key]}
        self._boots[name] = boot = self._booting.boot(
            seat, f"{name}/{self._boot_count}", peers, partial(self._stopped_by_itself, name)
        )
        for endpoint in self._listening(seat):
            self.hub.listen(endpoint, boot.host, boot.member.doors)
        boot.host.clock.callLater(0, self._start, name, boot)

    def _kill(self, name: str, torn: bool) -> None:
        boot, seat = self._boots.pop(name), self._by_name[name]
        self.world.trace.tell(name, "is killed", torn=torn)
        ended(boot.member.replica, self.watch.found, name)
        self.hub.died(boot.host, silent=torn)
        boot.host.clock.stop()
        self.sights.died(seat.key, name)
        if torn:
            damage.power_cut(seat.path, boot.directory.close, boot.directory.unsynced())
            damage.tear(seat.path, self.world.random_for(f"{name}/{self._boot_count}/torn"))
            self._torn.add(name)
        else:
            boot.directory.close()

    def _refused(self, name: str, refusal: BaseException) -> None:
        """A member does not start on damaged files: its disk is lost."""
        self.world.trace.tell(name, "refuses to start", error=type(refusal).__name__)
        self.world.reach("flipped bit refused")
        self.wipe(name)

    def _listening(self, seat: Seat) -> Sequence[str]:
        return (seat.endpoint, seat.announced(self._houses.get(seat.key, 0)))

    def _unlisten(self, seat: Seat) -> None:
        for endpoint in self._listening(seat):
            if self.hub.listens(endpoint):
                self.hub.unlisten(endpoint)

    def _start(self, name: str, boot: Boot) -> None:
        boot.member.start().addErrback(lambda failure: self._stopped_by_itself(name, boot.host, failure))

    def _stopped_by_itself(self, name: str, host: Host, failure: Failure) -> None:
        """The process ends now; its supervisor starts it again. Only a fault that was injected may be the reason."""
        boot = self._boots.get(name)
        if boot is None or boot.host is not host:
            return
        self.world.trace.tell(name, "stops by itself", error=failure.type.__name__ if failure.type else "?")
        if name in self._flipped and failure.check(StartRefused) is not None:
            self.world.clock.callLater(0, self._end_without_disk, name, boot, failure.value)
            return
        if failure.check(InjectedError, InjectedFull) is None:
            self.watch.report(f"{name} stopped by itself: {failure.getTraceback()}")
        self.world.clock.callLater(0, self._end, name, boot)

    def _end_without_disk(self, name: str, boot: Boot, refusal: BaseException) -> None:
        if self._boots.get(name) is boot:
            self._refused(name, refusal)
            self.world.clock.callLater(SUPERVISOR_SECONDS, self._start_again, name)

    async def _stop(self, name: str, boot: Boot) -> None:
        if boot.member.replica is not None:
            await boot.member.replica.hand_over()
        if self._boots.get(name) is boot:
            self._unlisten(self._by_name[name])
        await boot.member.stop()
        await self.hub.closed(boot.host)
        self._end(name, boot)

    def _end(self, name: str, boot: Boot) -> None:
        if self._boots.get(name) is boot:
            self.kill(name)
            self.world.clock.callLater(SUPERVISOR_SECONDS, self._start_again, name)

    def _start_again(self, name: str) -> None:
        if name not in self._boots and not self._closing:
            self.restart(name)


class _Addresses(Mapping[int, Sequence[str]]):
    """Where the groups of a cluster are; the controllers and second sets of processes are not listed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __getitem__(self, gid: int) -> Sequence[str]:
        return self._cluster.endpoints(gid)

    def __iter__(self) -> Iterator[int]:
        return iter([gid for gid in self._cluster.groups if gid > 0])

    def __len__(self) -> int:
        return sum(1 for _ in self)
