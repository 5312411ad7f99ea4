"""One replica from directory to doors: recover, form, run, stop; the same for controllers and groups.

Everything concrete is given to it (``Parts``): which core, which machine, which disk, network and clock. So the
real servers and the simulated ones are this very class. Knows the order of starting and stopping, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Literal, Protocol

from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_kv.codec import Codec, Malformed
from twisted_kv.consensus.types import CopySeen, Entry, NodeID, Restored, Role, SnapshotSource, Standing
from twisted_kv.constants import ROWS_CHUNK_BYTES
from twisted_kv.errors import BadRequest, StartRefused
from twisted_kv.interfaces import Door, IConsensus, IDataStore, IDisk, ILogStore, INetwork, IStateMachine, SaveRefused
from twisted_kv.machines.rows import RowKey
from twisted_kv.replica.checkpoints import Checkpoints
from twisted_kv.replica.formation import Formation, Voters, group_identity
from twisted_kv.replica.mail import Mail
from twisted_kv.replica.reconciler import Reconciler
from twisted_kv.replica.replica import Replica
from twisted_kv.replica.snapshots import Snapshots
from twisted_kv.replica.waits import Waits
from twisted_kv.transport.wire import IAM, PEER_HELLO, PEER_ROWS, PEER_STEP, WHO, Hello, Iam

Kind = Literal["controller", "group"]
MakeCore = Callable[[NodeID, frozenset[NodeID], Restored, int], IConsensus]


class IDirectory(Protocol):
    """An open replica directory (storage). What changes it runs on the disk of its log."""

    @property
    def log(self) -> ILogStore:
        """Hard state and entries."""

    @property
    def data(self) -> IDataStore:
        """The applied state."""

    def release_ballast(self) -> None:
        """Give up the room held back for a full disk."""

    def reserve_ballast(self) -> bool:
        """Hold room back again; False if there is none."""

    def close(self) -> None:
        """Close the files and give up the lock."""


class IChores(Protocol):
    """What carries out the chores of a machine (replica/reconciler)."""

    @property
    def work(self) -> Mapping[type, Callable[[Any], Any]]:
        """Chore type → coroutine function."""


@dataclass(frozen=True)
class Parts:
    """The concretes of one member.

    Attributes:
        peers: node → client endpoint string of every member, this one included.
        log_disk: saves; nothing is answered before it has.
        data_disk: writes checkpoints, large commits among them.
        read_disk: reads rows, at a start and for a peer, a row a step.
        make_core: (node, voters, restored, applied) → core.
        codec: of tuples of the core's messages.
        consensus: the name of the core, fixed with the directory.
        log_bytes_max: bytes applied between two checkpoints, −1 never.
    """

    kind: Kind
    gid: int
    node: NodeID
    peers: Mapping[NodeID, str]
    directory: IDirectory
    log_disk: IDisk
    data_disk: IDisk
    read_disk: IDisk
    network: INetwork
    clock: IReactorTime
    random: Random
    make_core: MakeCore
    codec: Codec[tuple[Any, ...]]
    consensus: str
    machine: IStateMachine
    log_bytes_max: int


class Member:
    """A replica that can be started and stopped once.

    Args:
        parts: what it is made of.
        doors: the machine's own doors (replica/doors), given a way to the running replica, and whom to keep waiting.
        chores: what carries out the machine's chores, given the running replica and the group's identity.
        failed: told when the member has stopped by itself; the process should end.
    """

    log = Logger()

    def __init__(
        self,
        parts: Parts,
        doors: Callable[[Callable[[], Replica | None], Waits], Mapping[str, Door]],
        chores: Callable[[Replica, str], IChores],
        failed: Callable[[Failure], None],
    ) -> None:
        self._parts = parts
        self._make_chores = chores
        self._report = failed
        self._replica: Replica | None = None
        self._checkpoints: Checkpoints | None = None
        self._reconciler: Reconciler | None = None
        self._voters: Voters = {}
        self._stopped = False
        self._stopping: Deferred[None] | None = None
        self._waits = Waits(parts.clock)
        self._snapshots = Snapshots(parts.gid, parts.directory.data, parts.read_disk, parts.clock)
        self._formation = Formation(
            bound_hello(parts),
            parts.peers,
            parts.directory.log,
            parts.log_disk,
            parts.network,
            parts.clock,
            self._copy_seen,
            lambda refusal: self.failed(Failure(refusal)),
        )
        self._doors: dict[str, Door] = {
            PEER_HELLO: self._formation.answer,
            PEER_STEP: self._receive,
            PEER_ROWS: self._snapshots.answer,
            WHO: self._who,
            **doors(lambda: self._replica, self._waits),
        }

    @property
    def doors(self) -> Mapping[str, Door]:
        """verb → door; they may be opened before ``start``, and say Busy until the group has formed."""
        return self._doors

    @property
    def replica(self) -> Replica | None:
        """The corridor, once the group has formed."""
        return self._replica

    @property
    def machine(self) -> IStateMachine:
        """The machine, for status and checks."""
        return self._parts.machine

    @property
    def identity(self) -> str:
        """The group's identity, "" until it has formed."""
        return group_identity(self._voters) if self._voters else ""

    def start(self) -> Deferred[None]:
        """Recover what is on disk, then form. Fires when the replica runs; that may take as long as peers do.

        Fails with StartRefused when the directory and the options do not belong together.
        """
        return ensureDeferred(self._start())

    def stop(self) -> Deferred[None]:
        """Hand over leadership, release everybody, close the files.

        Fires when all is closed, also if the member was stopping by itself already: a disk's thread that nobody
        waits for would keep the process alive.
        """
        closed: Deferred[None] = Deferred()
        self._begin_stop(hand_over=True).addBoth(closed.callback)
        return closed

    def status(self) -> dict[str, Any]:
        """Plain facts for people; needs no quorum."""
        parts = self._parts
        facts: dict[str, Any] = {"node": parts.node, "gid": parts.gid, "kind": parts.kind, "voter": False}
        if self._replica is None:
            facts |= {"role": "forming", "term": 0, "leader": 0, "applied": 0}
        else:
            core = self._replica.status()
            role = "stopped" if self._stopped else core.role.value
            facts |= {"role": role, "term": core.term, "leader": core.leader, "applied": core.applied}
            facts |= {"commit": core.commit, "voter": core.role is not Role.COPY}
        if self._checkpoints is not None:
            facts |= self._checkpoints.status()
        return facts | dict(parts.machine.status())

    # ── start and stop ─────────────────────────────────────────────────────────────────────────────

    async def _start(self) -> None:
        parts = self._parts
        # Nothing else is done with the log yet, and to read it takes a while.
        restored = await parts.data_disk.run(parts.directory.log.restore)
        index, _ = await parts.data_disk.run(parts.directory.data.position)
        await self._load()
        if self._stopped:
            return
        voters = await self._formation.start()
        if not self._stopped:
            self._run(voters, restored, index)

    async def _load(self) -> None:
        """Build the machine from the rows on disk; who asks meanwhile is answered."""
        parts = self._parts
        after: RowKey | None = None
        parts.machine.clear()
        while not self._stopped:
            rows = await parts.read_disk.run(partial(parts.directory.data.rows, after, ROWS_CHUNK_BYTES))
            if not rows:
                break
            parts.machine.load(rows)
            after = rows[-1].key
            await deferLater(parts.clock, 0)
        parts.machine.take_changes()

    def _run(self, voters: Voters, restored: Restored, applied: int) -> None:
        parts = self._parts
        me = -parts.node if self._formation.is_copy else parts.node
        self._voters = voters
        core = parts.make_core(me, frozenset(voters), restored, applied)
        incarnation = self._formation.hello.incarnation
        mail = Mail(parts.gid, me, incarnation, voters, parts.peers, parts.codec, parts.network)
        log_store = parts.directory.log
        self._replica = Replica(core, parts.machine, log_store, parts.log_disk, mail, parts.clock, applied, self)
        self._checkpoints = Checkpoints(
            parts.gid,
            self._replica,
            parts.machine,
            log_store,
            parts.directory.data,
            parts.log_disk,
            parts.data_disk,
            parts.network,
            parts.clock,
            parts.log_bytes_max,
            core.compact,
            self.failed,
        )
        chores = self._make_chores(self._replica, self.identity)
        self._reconciler = Reconciler(self._replica, parts.machine.chores, chores.work, parts.clock)
        self._replica.start()
        self._reconciler.start()

    def _begin_stop(self, hand_over: bool) -> Deferred[None]:
        if self._stopping is None:
            self._stopping = ensureDeferred(self._stop(hand_over))
        return self._stopping

    async def _stop(self, hand_over: bool) -> None:
        if self._reconciler is not None:
            self._reconciler.stop()
        if self._replica is not None and hand_over:
            await self._replica.hand_over()
        self._stopped = True
        self._formation.stop()
        if self._replica is not None:
            self._replica.stop()
        self._waits.close()
        if self._checkpoints is not None:
            await self._checkpoints.stop()
        self._snapshots.stop()
        await self._parts.read_disk.close()
        await self._parts.data_disk.close()
        await self._parts.log_disk.close()
        self._parts.directory.close()

    # ── what the corridor tells (replica.IWitness) ─────────────────────────────────────────────────

    def applied(self, entries: tuple[Entry, ...]) -> None:
        """Entries were applied: count them for the next checkpoint, look at the chores."""
        assert self._checkpoints is not None
        assert self._reconciler is not None
        self._checkpoints.applied(entries)
        self._reconciler.poke()
        self._waits.look()

    def stood(self, standing: Standing) -> None:
        """Role, term or leader changed."""
        assert self._reconciler is not None
        self._reconciler.poke()
        self._waits.look()

    def fetch_asked(self, source: SnapshotSource) -> None:
        """The core wants the rows of a peer."""
        assert self._checkpoints is not None
        self._checkpoints.fetch(source, self._parts.peers[abs(source.peer)])

    def make_room(self) -> Deferred[None]:
        """The disk is full: bring the state to disk in the room held back, and cut the log behind it."""
        return ensureDeferred(self._make_room())

    async def _make_room(self) -> None:
        assert self._checkpoints is not None
        directory, run = self._parts.directory, self._parts.log_disk.run
        await run(directory.release_ballast)
        await self._checkpoints.make_room()
        if not self._stopped:
            await run(directory.reserve_ballast)

    def failed(self, failure: Failure) -> None:
        """Something failed whose outcome is unknown: close without another word."""
        if self._stopped:
            return
        self.log.critical("Stopped: {error}", error=failure.getErrorMessage())
        stopping = self._begin_stop(hand_over=False)
        stopping.addErrback(lambda late: self.log.failure("Closing failed too", late))
        self._report(failure)

    # ── doors of its own ───────────────────────────────────────────────────────────────────────────

    def _receive(self, body: bytes) -> Deferred[bytes]:
        """One way, so nobody hears of an error; raised, it is told in the log at the rate that the door allows."""
        try:
            if self._replica is not None:
                self._replica.receive(body)
        except Malformed as error:
            return fail(BadRequest(str(error)))
        return succeed(b"")

    def _who(self, _: bytes) -> Deferred[bytes]:
        return succeed(IAM.encode(Iam(self._parts.gid, self._parts.node, self.identity)))

    def _copy_seen(self, node: NodeID, is_another: bool) -> None:
        if self._replica is not None:
            self._replica.step(CopySeen(-node, is_another))


def bound_hello(parts: Parts) -> Hello:
    """What a member says of itself, from its directory; a blank directory is bound to it first.

    Raises:
        StartRefused: the directory belongs to another kind, group, node or consensus, or has no room to be bound.
    """
    log = parts.directory.log
    facts = dict(log.identity())
    wanted = {"kind": parts.kind, "gid": str(parts.gid), "node": str(parts.node), "consensus": parts.consensus}
    if "incarnation" not in facts:
        wanted["incarnation"] = f"{parts.random.getrandbits(128):032x}"
        try:
            log.bind(wanted)
        except SaveRefused as error:
            raise StartRefused(f"{error}: make room on the disk, then start again") from error
        facts |= wanted
    for name, value in wanted.items():
        if facts[name] != value:
            raise StartRefused(f"the directory belongs to {name} {facts[name]}, not {value}")
    return Hello(
        parts.kind,
        parts.gid,
        parts.node,
        facts["incarnation"],
        parts.consensus,
        read_voters(facts),
        bool(facts.get("formed")),
    )


def read_voters(facts: Mapping[str, str]) -> tuple[tuple[NodeID, str], ...]:
    """The voters as Formation wrote them.

    >>> read_voters({"voters": "1=a,2=b"})
    ((1, 'a'), (2, 'b'))
    """
    pairs: Sequence[str] = [pair for pair in facts.get("voters", "").split(",") if pair]
    return tuple((int(node), incarnation) for node, _, incarnation in (pair.partition("=") for pair in pairs))
