"""One boot of one member: the very classes of a real server, assembled on simulated doors and watched.

It decides what a process consists of: its host, its open directory, its disks, its Member with core, machine and
doors, and what looks on. When it lives and dies is for the cluster to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from twisted.python.failure import Failure

from twisted_kv.client.inquiry import Inquiry
from twisted_kv.consensus.raft.messages import MESSAGES
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import NodeID, Restored
from twisted_kv.interfaces import Door, ICheckpoint, IConsensus, IDataStore, ILogStore, ISnapshot
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.group import GroupMachine
from twisted_kv.replica.doors import ControllerDoors, GroupDoors
from twisted_kv.replica.member import IChores, Kind, Member, Parts
from twisted_kv.replica.reconciler import ControllerChores, GroupChores
from twisted_kv.replica.replica import Replica
from twisted_kv.replica.waits import Waits
from twisted_kv.simulation.doors.disk import SimDisk, method_of
from twisted_kv.simulation.doors.names import cut_while_opening
from twisted_kv.simulation.doors.network import Hub
from twisted_kv.simulation.doors.wired import PEER_PORT
from twisted_kv.simulation.doors.world import Host, World
from twisted_kv.simulation.faults.echoes import Echoes, HeardCore, HeardMachine
from twisted_kv.simulation.faults.knobs import Knobs
from twisted_kv.simulation.faults.moments import SeenCore, SeenData, SeenLog, SeenMachine, SeenNetwork
from twisted_kv.simulation.judges.files import KeptLog, KeptRows
from twisted_kv.simulation.judges.invariants import (
    Watch,
    WatchedCore,
    WatchedData,
    WatchedLog,
    WatchedMachine,
    WatchedNetwork,
)
from twisted_kv.simulation.judges.moves import MovedMachine
from twisted_kv.simulation.judges.service import Forwards, SavingDisk, ServingCore
from twisted_kv.simulation.judges.sights import Sights
from twisted_kv.storage.directory import ReplicaDirectory, open_directory

NEEDS_ROOM: Final = frozenset({"save", "reset", "bind", "checkpoint", "write", "drop", "commit"})
"""What a full disk refuses. Reading goes on, and so does giving up the ballast, which makes room for a trim."""

SYNCS_COMMITS: Final = 2
"""FULL, as SQLite numbers it: the first level of ``synchronous`` at which a commit in WAL mode is on the disk."""

UNDONE: Final = frozenset({"write", "drop", "commit"})


class Seat(NamedTuple):
    """One place in a group, whoever sits there: what the command line of a server says.

    Attributes:
        key: under which the group is listed here: its gid, CONTROLLERS, or −gid for a second set of processes.
        wire: whether its endpoints are those of the production transport.
    """

    name: str
    key: int
    node: NodeID
    path: str
    wire: bool = False

    @property
    def gid(self) -> int:
        return abs(self.key)

    @property
    def endpoint(self) -> str:
        """Where its peers find it."""
        return f"tcp:{self.name}:{PEER_PORT}" if self.wire else f"peer:{self.name}"

    def announced(self, house: int) -> str:
        """Where everybody else finds it, after so many moves of house."""
        if self.wire:
            return f"tcp:{self.name}:{PEER_PORT + 1 + house}"
        return f"sim:{self.name}" if house == 0 else f"sim:{self.name}~{house}"

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


class Booting:
    """Assembles members.

    Args:
        watch, sights: look on.
        shards, log_bytes_max: as Cluster takes them.
        echoes: hear what is said.
        torn: names of members whose files end in a torn transaction; whoever comes up on them is taken out.
        controllers: where they listen, at the moment.

    Attributes:
        cut_at_start: names of members whose power fails at their next start; whoever has been there is taken out.
    """

    def __init__(
        self,
        world: World,
        hub: Hub,
        watch: Watch,
        sights: Sights,
        knobs: Knobs,
        shards: int,
        log_bytes_max: int,
        torn: set[str],
        echoes: Echoes,
        controllers: Callable[[], Sequence[str]],
    ) -> None:
        self._world = world
        self._hub = hub
        self._watch = watch
        self._sights = sights
        self._knobs = knobs
        self._shards = shards
        self._log_bytes_max = log_bytes_max
        self._torn = torn
        self._echoes = echoes
        self._controllers = controllers
        self.cut_at_start: set[str] = set()

    def boot(
        self,
        seat: Seat,
        life: str,
        peers: Mapping[NodeID, str],
        stopped: Callable[[Host, Failure], None],
    ) -> Boot:
        """Assemble a member on what its directory holds; it is not started.

        Args:
            life: names its dice; each boot has dice of its own.
            peers: node → endpoint of all members of its group.
            stopped: told when it stops by itself.
        Raises:
            StartRefused: the directory cannot be used.
        """
        host = self._world.host(seat.name)
        host.clock.drift(self._knobs.rate(self._world.random_for(f"{seat.name}/clock")))
        random = self._world.random_for(life)
        network = self._knobs.network(WatchedNetwork(self._hub.at(host), self._watch, seat.name))
        if seat.name in self.cut_at_start:
            self._power_fails(seat, life)
        opened = open_directory(seat.path, ballast_bytes=0)
        machine: Any = GroupMachine(seat.gid) if seat.gid else ControllerMachine()
        rows = KeptRows(machine, opened.data.position, self._watch.files, seat.key, seat.name)
        kept = KeptLog(opened.log, opened.data, self._watch.files, seat.name)
        log = SeenLog(WatchedLog(kept, self._watch, seat.name), self._sights, seat.key, seat.node, seat.name)
        watched_rows = partial(WatchedData, watch=self._watch, name=seat.name)
        directory = Directory(
            opened, log, lambda store: SeenData(watched_rows(rows.watched(store)), self._sights, seat.name)
        )
        disks = (
            SimDisk(host, self._world.random_for(f"{life}/log")),
            SimDisk(host, self._world.random_for(f"{life}/data")),
        )
        for disk in disks:
            disk.needs_room = _needs_room
            disk.refused = self._refused
            disk.betrayed = partial(self._sights.betrayed, seat.name)
        asked_at: dict[tuple[int, int], float] = {}

        def failed(failure: Failure) -> None:
            stopped(host, failure)

        def doors(replica: Callable[[], Replica | None], waits: Waits) -> Mapping[str, Door]:
            if seat.gid:
                return GroupDoors(seat.node, replica, machine, host.clock, asked_at).doors
            forwards = Forwards(network, self._watch.found, self._forward_lost, seat.name)
            return forwards.watched(ControllerDoors(seat.node, replica, peers, forwards, waits).doors)

        def chores(replica: Replica, identity: str) -> IChores:
            if not seat.gid:
                return ControllerChores(replica, random, self._shards)
            ask = Inquiry(host.clock, random, network)
            controllers = self._controllers()
            return GroupChores(
                seat.gid,
                identity,
                replica,
                controllers,
                ask,
                host.clock,
                machine,
                asked_at,
                lambda refusal: failed(Failure(refusal)),
            )

        def make_core(node: NodeID, voters: frozenset[NodeID], restored: Restored, applied: int) -> IConsensus:
            if seat.name in self._torn:
                self._torn.discard(seat.name)
                self._world.reach("torn write-ahead log harmless")
            core = RaftNode(node, voters, restored, random, applied=applied, settings=self._knobs.settings)
            watched = WatchedCore(core, self._watch, seat.key, seat.name, applied)
            seen = SeenCore(watched, core, self._sights, seat.key, seat.name)
            serving = ServingCore(seen, core, host.clock, lambda: member.replica, self._watch.found, seat.name)
            return HeardCore(serving, proposed)

        def term() -> int:
            return member.replica.standing.term if member.replica is not None else 0

        def proposed(command: bytes) -> None:
            self._echoes.proposed(seat.key, command)
            if seat.gid:
                self._watch.moves.proposed(command, machine, seat.name)

        watched: Any = WatchedMachine(rows.machine, self._watch, seat.key, seat.name)
        if seat.gid:
            watched = MovedMachine(watched, self._watch.moves, seat.key, seat.name)
        seen = SeenMachine(watched, self._sights, seat.key, seat.name)

        parts = Parts(
            kind=seat.kind,
            gid=seat.gid,
            node=seat.node,
            peers=peers,
            directory=directory,
            log_disk=SavingDisk(disks[0], self._watch.found, seat.name),
            data_disk=disks[1],
            read_disk=disks[1],
            network=SeenNetwork(network, self._sights, term),
            clock=host.clock,
            random=random,
            make_core=make_core,
            codec=MESSAGES,
            consensus="raft",
            machine=HeardMachine(seen, partial(self._echoes.applied, seat.key)),
            log_bytes_max=self._log_bytes_max,
        )
        member = Member(parts, doors, chores, failed)
        return Boot(host, member, machine, directory, disks)

    def _forward_lost(self) -> None:
        self._world.reach("forward lost")

    def _power_fails(self, seat: Seat, life: str) -> None:
        """Once while it opens its directory; then it tries again."""
        self.cut_at_start.discard(seat.name)
        opened = partial(open_directory, seat.path, ballast_bytes=0)
        lost = cut_while_opening(seat.path, self._world.random_for(f"{life}/names"), opened)
        self._world.trace.tell(seat.name, "loses power while it starts", names=lost)
        if lost:
            self._world.reach("name lost with the power")

    def _refused(self, work: Callable[[], Any]) -> None:
        _undo(work)
        self._sights.refused(work)


class Directory:
    """A ReplicaDirectory that closes what a killed process leaves open.

    Args:
        log: its log store, or what watches it.
        seen: makes what watches its data store.
    """

    def __init__(
        self,
        directory: ReplicaDirectory,
        log: ILogStore,
        seen: Callable[[IDataStore], IDataStore] = lambda store: store,
    ) -> None:
        self._directory = directory
        self._data = _Data(directory.data)
        self.log = log
        self.data = seen(self._data)
        self.release_ballast = directory.release_ballast
        self.reserve_ballast = directory.reserve_ballast

    def close(self) -> None:
        self._data.close()
        self._directory.close()

    def unsynced(self) -> list[str]:
        """The files whose commits wait for the next move of their write-ahead log to be synced: those whose writing
        connection is not set to sync each of them (https://sqlite.org/pragma.html#pragma_synchronous)."""
        stores = (self._directory.log, self._directory.data)
        files = {store._file.kind.file: store._file.connection for store in stores}
        return [
            file
            for file, connection in files.items()
            if connection.execute("PRAGMA synchronous").fetchone()[0] < SYNCS_COMMITS
        ]


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


def _undo(work: Callable[[], Any]) -> None:
    """As a store does: what of a checkpoint finds no room undoes all of it (interfaces.ICheckpoint)."""
    if method_of(work) in UNDONE:
        checkpoint: ICheckpoint = getattr(work, "func", work).__self__  # type: ignore[union-attr]
        checkpoint.abort()


def _needs_room(work: Callable[[], Any]) -> bool:
    return method_of(work) in NEEDS_ROOM
