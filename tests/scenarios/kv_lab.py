"""The stage of the public labs' key/value scenarios, and the generic one (scenarios §2.2).

One group of 3, 5 or 7 servers owns all shards; its one controller is never stopped or cut off, for the labs' Clerks
reach every server at all times. Everything runs in virtual time: hops of 1 to 5 ms, commits of 1 to 5 ms. What "Raft
state" and "snapshot" are in bytes is said once, in ``scenario_cluster.Stage``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from scenario_cluster import PATIENT, SHARDS, Setting, SimStage
from twisted.internet.defer import Deferred, ensureDeferred

from twisted_kv.client.clerk import Clerk
from twisted_kv.errors import KVError
from twisted_kv.simulation.doors.network import Tally
from twisted_kv.simulation.doors.world import World, between, one_of, weighted
from twisted_kv.simulation.judges.history import Call, History, Verb
from twisted_kv.simulation.judges.linearizability import findings
from twisted_kv.simulation.lives.cluster import Cluster
from twisted_kv.simulation.lives.workload import LAB_MIX, Client
from twisted_kv.transport.wire import PEER_ROWS

GID = 100
ITERATIONS = 3
SNAPSHOTTING = 1000
"""The labs' maxraftstate, in bytes."""


class KvStage(SimStage):
    """One controller, and one group of so many servers.

    Args:
        shards: the labs' service has none, so one is the rule.

    Attributes:
        nodes: of the servers.
        history: what the clients of ``recorded`` and of the generic scenario asked, and were told.
    """

    def __init__(self, path: Path, servers: int, log_bytes_max: int = -1, shards: int = 1) -> None:
        self.nodes = range(1, servers + 1)
        self._shards = shards
        self.history = History()
        super().__init__(Setting(str(path), log_bytes_max, (GID,)))

    def perform(self, scenario: Callable[[KvStage], Coroutine[Any, Any, None]]) -> None:
        """Let the group own all shards, play the scenario, and judge what the clients were told."""

        async def whole(_: object) -> None:
            await self.join(GID)
            await scenario(self)

        self.play(whole)
        assert findings(self.history) == []
        assert (self.history.failed_count, self.history.unknown_count) == (0, 0), "a Clerk that never gives up, gave up"

    # ── faults ─────────────────────────────────────────────────────────────────────────────────────

    def server(self, node: int) -> str:
        """The host name of a server."""
        return self._name(GID, node)

    def partition(self, *sides: Iterable[str]) -> None:
        """Cut all links between hosts of different sides, and no others."""
        self.heal()
        self._cluster.hub.partition(*sides)

    def heal(self) -> None:
        self._cluster.hub.heal()

    async def stop_servers(self) -> None:
        for node in self.nodes:
            await self.stop(GID, node)

    async def start_servers(self) -> None:
        for node in self.nodes:
            await self.start(GID, node)

    # ── clients ────────────────────────────────────────────────────────────────────────────────────

    def named_clerk(self) -> tuple[str, Clerk]:
        """A Clerk, and the name of the host that it lives on."""
        name = self.next_client()
        return name, self.opened(self._cluster.clerk(name))

    def dice_of(self, actor: str) -> Random:
        return self._world.random_for(actor)

    def recorded(self, clerk: Clerk, verb: Verb, key: str, argument: str | None = None) -> Deferred[Any]:
        """One call of a get, put or append, written down. An absent key is the empty string."""
        call = self.history.begin("scenario", verb, key, argument, self.clock.seconds())

        def succeeded(result: Any) -> Any:
            self.history.succeeded(call, result)
            return "" if verb == "get" and result is None else result

        def failed(failure: Any) -> Any:
            failure.trap(KVError)
            self.history.unknown(call)
            return failure

        if verb == "get":
            asked: Deferred[Any] = clerk.get(key, None, timeout=PATIENT)
        else:
            asked = {"put": clerk.put, "append": clerk.append}[verb](key, argument or "", timeout=PATIENT)
        return asked.addCallbacks(succeeded, failed)

    # ── looking ────────────────────────────────────────────────────────────────────────────────────

    @property
    def tally(self) -> Tally:
        """What crossed the network."""
        return self._cluster.hub.tally

    def newest_term(self) -> int:
        """The highest term that a server believes to be in."""
        replicas = [self._cluster.replica(self.server(node)) for node in self.nodes]
        return max(replica.standing.term for replica in replicas if replica is not None)

    def check_sizes(self) -> None:
        """The labs' limits: Raft state ≤ 8 × maxraftstate on every server; with −1 no snapshot anywhere.

        An entry that carries a batch counts as one row, with all of its commands.
        """
        limit = self.setting.log_bytes_max
        for node in self.nodes:
            if limit < 0:
                assert self.checkpoint_index(GID, node) == self.snapshot_bytes(GID, node) == 0
                assert PEER_ROWS not in self.tally.attempts
            else:
                assert self.checkpoint_index(GID, node) > 0, "nothing was ever cut"
                assert self.raft_state_bytes(GID, node) <= 8 * limit

    def _new_cluster(self, world: World, place: str, gids: Iterable[int]) -> Cluster:
        return Cluster(world, self.setting.path, 1, {GID: len(self.nodes)}, self._shards, self.setting.log_bytes_max)

    def directory(self, gid: int, node: int) -> str:
        return str(Path(self.setting.path) / self._name(gid, node))


# ── the generic scenario ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Row:
    """A row of the labs' matrix.

    Attributes:
        log_bytes_max: maxraftstate.
        random_keys: clients share the keys, which lie in many shards; otherwise each has its own, in one shard.
        seconds: virtual, that clients call in each iteration; the labs take 5.
        calls_min: below it the run says nothing.
    """

    clients: int
    servers: int
    unreliable: bool = False
    crash: bool = False
    partitions: bool = False
    log_bytes_max: int = -1
    random_keys: bool = False
    seconds: float = 5.0
    calls_min: int = 1000


def generic(path: Path, row: Row) -> Tally:
    """The labs' generic scenario: three iterations of clients that call amid the row's faults, then calm.

    Asserts:
        - every call comes back, and none fails;
        - fixed keys: every get tells what the client expects, and in the end each key holds every token once, in order;
        - with maxraftstate the Raft state of every server is ≤ 8 × that after each iteration, and was cut; with −1 no
          server has written a snapshot;
        - all calls on each key, those of all iterations, are linearizable; undecided is a failure;
        - at least ``calls_min`` calls were made, and the faults cost at least one leader.
    Returns:
        what crossed the network.
    """
    stage = KvStage(path, row.servers, row.log_bytes_max, SHARDS if row.random_keys else 1)

    async def scenario(stage: KvStage) -> None:
        stage.set_unreliable(row.unreliable)
        first = stage.newest_term()
        for iteration in range(ITERATIONS):
            await iterate(stage, row, iteration)
            stage.check_sizes()
        assert stage.newest_term() > first or not (row.crash or row.partitions)

    stage.perform(scenario)
    assert len(stage.history) >= row.calls_min
    return stage.tally


async def iterate(stage: KvStage, row: Row, iteration: int) -> None:
    """One iteration of the generic scenario."""
    clients = [new_client(stage, row, iteration, number) for number in range(row.clients)]
    for client in clients:
        client.start()
    partitioner = Partitioner(stage, iteration) if row.partitions else None
    await stage.sleep(row.seconds)
    for client in clients:
        client.stop()
    if partitioner is not None:
        await partitioner.stop()
        stage.heal()
        await stage.sleep(1.0)
    if row.crash:
        await stage.stop_servers()
        await stage.sleep(1.0)
        await stage.start_servers()
    while not all(client.idle for client in clients):
        await stage.sleep(0.01)
    assert [client.wrong for client in clients] == [[] for _ in clients]
    auditor = stage.clerk()
    for client in clients:
        value = await stage.recorded(auditor, "get", client.key)
        if isinstance(client, Owner):
            assert value == "".join(client.tokens), f"key {client.key} has other tokens than its owner wrote"


class Partitioner:
    """From the second second on, assigns each server to one of two sides by a coin, again and again."""

    def __init__(self, stage: KvStage, iteration: int) -> None:
        self._stage = stage
        self._dice = stage.dice_of(f"partitioner {iteration}")
        self._stopping = False
        self._living = ensureDeferred(self._live())

    async def stop(self) -> None:
        """Wait for the present partition to have lasted long enough."""
        self._stopping = True
        await self._living

    async def _live(self) -> None:
        await self._stage.sleep(1.0)
        while not self._stopping:
            sides: tuple[list[str], list[str]] = ([], [])
            for node in self._stage.nodes:
                sides[self._dice.getrandbits(1)].append(self._stage.server(node))
            self._stage.partition(*sides)
            await self._stage.sleep(between(self._dice, 1.0, 1.2))


class LabClient(Client):
    """A client of the generic scenario, with a Clerk of its own.

    Args:
        number: of the client, and its key.
    """

    def __init__(self, stage: KvStage, iteration: int, number: int) -> None:
        name = f"{iteration}/{number}"
        dice = stage.dice_of(f"client {name}")
        super().__init__(name, stage.clerk(), stage.history, stage.clock, dice, (0.0, 0.0), PATIENT)
        self.key = str(number)

    def token(self) -> str:
        self._tokens += 1
        return f"x {self.name} {self._tokens} y"


class Owner(LabClient):
    """Empties its key, then appends tokens and reads; what a read must tell is known.

    Attributes:
        tokens: appended and acknowledged, in order.
    """

    tokens: list[str]

    def choose(self) -> tuple[Verb, str, str | None]:
        if not hasattr(self, "tokens"):
            return "put", self.key, ""
        if self._random.random() < 0.5:
            return "append", self.key, self.token()
        return "get", self.key, None

    def succeeded(self, call: Call) -> None:
        if call.verb == "put":
            self.tokens = []
        elif call.verb == "append":
            self.tokens.append(str(call.argument))
        elif call.result != "".join(self.tokens):
            self.wrong.append(f"{self.name} read {call.result!r}, not {self.tokens}")


class Rambler(LabClient):
    """Calls anything on anybody's key; only the history can judge it."""

    def __init__(self, stage: KvStage, iteration: int, number: int, keys: Sequence[str]) -> None:
        super().__init__(stage, iteration, number)
        self._keys = keys

    def choose(self) -> tuple[Verb, str, str | None]:
        key, verb = one_of(self._random, self._keys), weighted(self._random, LAB_MIX)
        return verb, key, None if verb == "get" else self.token()


def new_client(stage: KvStage, row: Row, iteration: int, number: int) -> LabClient:
    """What the row asks for."""
    if row.random_keys:
        return Rambler(stage, iteration, number, [str(other) for other in range(row.clients)])
    return Owner(stage, iteration, number)
