"""The stage in real time: every server listens on a socket of loopback and speaks real Perspective Broker.

All servers live in this one process and on its one reactor, each with a Life of its own: the production Member, its
own PBNetwork and listener, real SQLite files, behind the production start (service/server). A killed server's life is
over at that instant: no timer, connection or disk of it does anything more, and its files are closed with nothing
committed. The files are not synced, for speed: what dies here is a process, never the machine under it.

In bad weather LossyNetwork delays and loses what servers and Clerks hand to their network doors; the sockets
themselves stay reliable. Nothing here is deterministic but the dice of the scenario.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from scenario_cluster import NODES, SECONDS_MAX, SHARDS, Entrance, Scenario, Setting, Stage
from twisted.internet.defer import Deferred, TimeoutError, ensureDeferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from twisted_kv.client.clerk import Clerk
from twisted_kv.client.controller_clerk import ControllerClerk
from twisted_kv.client.inquiry import Inquiry
from twisted_kv.consensus.types import NodeID, Restored
from twisted_kv.interfaces import Door, IConsensus, INetwork, LostAnswer
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.group import GroupMachine
from twisted_kv.replica.doors import ControllerDoors, GroupDoors
from twisted_kv.replica.member import IChores, Member, Parts
from twisted_kv.replica.reconciler import ControllerChores, GroupChores
from twisted_kv.replica.replica import Replica
from twisted_kv.replica.waits import Waits
from twisted_kv.service.assembly import CORES, fresh_random
from twisted_kv.service.server import ListeningServer, Tenants
from twisted_kv.simulation.judges.invariants import Watch, WatchedCore, WatchedLog, WatchedMachine, WatchedNetwork
from twisted_kv.simulation.lives.boot import Directory
from twisted_kv.simulation.lives.cluster import CONTROLLERS
from twisted_kv.storage.directory import open_directory
from twisted_kv.storage.disk import InlineDisk
from twisted_kv.transport.network import PBNetwork

DELAY_SECONDS_MAX = 0.026
LOSS = 0.1
CONSENSUS = CORES["raft"]


class SocketStage(Stage):
    """Controllers and groups on sockets of loopback, in real time."""

    def __init__(self, setting: Setting) -> None:
        from twisted.internet import reactor

        super().__init__(setting)
        self._reactor: Any = reactor
        self._weather = Weather()
        self._first = SocketCluster(reactor, setting, "first", setting.gids, self._weather)
        self._clusters = [self._first]

    def play(self, scenario: Scenario) -> Deferred[None]:  # type: ignore[override]
        """As a Deferred: a test runs in the reactor's own greenlet, so it must not wait here."""
        return ensureDeferred(self._play(scenario))

    @property
    def clock(self) -> IReactorTime:
        clock: IReactorTime = self._reactor
        return clock

    def endpoints(self, gid: int) -> tuple[str, ...]:
        return self._first.endpoints(gid)

    def directory(self, gid: int, node: int) -> str:
        return self._first.seats[gid, node].path

    def leader(self, gid: int) -> int | None:
        return self._first.leader(gid)

    async def start(self, gid: int, node: int) -> None:
        self._first.start(gid, node)

    async def stop(self, gid: int, node: int) -> None:
        await self._first.kill(gid, node)

    def set_unreliable(self, unreliable: bool) -> None:
        self._weather.bad = unreliable

    def second_controllers(self) -> Entrance:
        second = SocketCluster(self._reactor, self.setting, "second", (), self._weather)
        self._clusters.append(second)
        second.start_all()
        return second

    def clerk(self) -> Clerk:
        return self._first.clerk()

    def controller_clerk(self) -> ControllerClerk:
        return self._first.controller_clerk()

    async def _play(self, scenario: Scenario) -> None:
        self._first.start_all()
        playing = Deferred.fromCoroutine(scenario(self)).addTimeout(SECONDS_MAX, self._reactor)
        try:
            await playing
        except TimeoutError:
            raise AssertionError(f"not finished after {SECONDS_MAX} s: {self._first.standings()}") from None
        finally:
            for cluster in self._clusters:
                await cluster.end()
        wrong = [str(violation) for cluster in self._clusters for violation in cluster.watch.wrong]
        assert not wrong, "\n".join(wrong)


class Seat(NamedTuple):
    """One place in a group, whoever sits there."""

    gid: int
    node: NodeID
    port: int
    path: str

    @property
    def name(self) -> str:
        return f"g{self.gid}-{self.node}" if self.gid else f"ctl-{self.node}"

    @property
    def endpoint(self) -> str:
        return f"tcp:127.0.0.1:{self.port}"


class SocketCluster(Entrance):
    """Controllers and groups that know each other, the Clerks that were let in, and what a Watch saw of all.

    Attributes:
        seats: by (gid, node).
        watch: what it found wrong with any replica.
    """

    def __init__(self, reactor: Any, setting: Setting, place: str, gids: Sequence[int], weather: Weather) -> None:
        self._reactor = reactor
        self._weather = weather
        self._log_bytes_max = setting.log_bytes_max
        self._servers: dict[tuple[int, NodeID], SocketServer] = {}
        self._clerks: list[tuple[Clerk | ControllerClerk, INetwork]] = []
        places = [(gid, node) for gid in (CONTROLLERS, *gids) for node in NODES]
        self._reserved = [reserved_port() for _ in places]
        self.watch = Watch()
        self.seats = {
            (gid, node): Seat(gid, node, held.getsockname()[1], os.path.join(setting.path, place, f"{gid}-{node}"))
            for (gid, node), held in zip(places, self._reserved, strict=True)
        }

    def endpoints(self, gid: int) -> tuple[str, ...]:
        """Where the members of a group listen."""
        return tuple(self.seats[gid, node].endpoint for node in NODES)

    def leader(self, gid: int) -> NodeID | None:
        """The node that leads in the highest term, as far as the members themselves know."""
        leading = [
            (server.member.replica.standing.term, node)
            for (other, node), server in self._servers.items()
            if other == gid and server.member.replica is not None and server.member.replica.leads
        ]
        return max(leading)[1] if leading else None

    def standings(self) -> Mapping[str, Any]:
        """What each member that is alive says of itself."""
        return {self.seats[place].name: server.member.status() for place, server in self._servers.items()}

    def start_all(self) -> None:
        """Start everybody."""
        for place in self.seats:
            self.start(*place)

    def start(self, gid: int, node: NodeID) -> None:
        """Start a server that does not run."""
        assert (gid, node) not in self._servers
        peers = {other: self.seats[gid, other].endpoint for other in NODES}
        self._servers[gid, node] = SocketServer(
            Life(self._reactor),
            self.seats[gid, node],
            peers,
            self.endpoints(CONTROLLERS),
            self._log_bytes_max,
            self._weather,
            self.watch,
        )

    async def kill(self, gid: int, node: NodeID) -> None:
        """At this instant it does nothing more; wait until the kernel has taken its sockets down."""
        await self._servers.pop((gid, node)).kill()

    def clerk(self) -> Clerk:
        network = self._door()
        clerk = Clerk(self.endpoints(CONTROLLERS), self._reactor, fresh_random(), network)
        self._clerks.append((clerk, network))
        return clerk

    def controller_clerk(self) -> ControllerClerk:
        network = self._door()
        clerk = ControllerClerk(self.endpoints(CONTROLLERS), self._reactor, fresh_random(), network)
        self._clerks.append((clerk, network))
        return clerk

    async def end(self) -> None:
        """Close what clients hold, and kill everybody."""
        for clerk, network in self._clerks:
            await clerk.close()
            await network.close()
        for place in list(self._servers):
            await self.kill(*place)
        for held in self._reserved:
            held.close()

    def _door(self) -> LossyNetwork:
        return LossyNetwork(PBNetwork(self._reactor), self._reactor, fresh_random(), self._weather)


class SocketServer:
    """One life of one server process: starts at once, and can only be killed.

    Attributes:
        member: its replica.
    """

    def __init__(
        self,
        life: Life,
        seat: Seat,
        peers: Mapping[NodeID, str],
        controllers: Sequence[str],
        log_bytes_max: int,
        weather: Weather,
        watch: Watch,
    ) -> None:
        self._life = life
        self._seat = seat
        self._watch = watch
        opened = open_directory(seat.path, synchronous="OFF", ballast_bytes=0)
        self._directory = Directory(opened, WatchedLog(opened.log, watch, seat.name))
        links = PBNetwork(life)
        random = fresh_random()
        network = WatchedNetwork(LossyNetwork(links, life, random, weather), watch, seat.name)
        machine: Any = GroupMachine(seat.gid) if seat.gid else ControllerMachine()
        asked_at: dict[tuple[int, int], float] = {}

        def doors(replica: Callable[[], Replica | None], waits: Waits) -> Mapping[str, Door]:
            if seat.gid:
                return GroupDoors(seat.node, replica, machine, life, asked_at).doors
            return ControllerDoors(seat.node, replica, peers, network, waits).doors

        def chores(replica: Replica, identity: str) -> IChores:
            if not seat.gid:
                return ControllerChores(replica, random, SHARDS)
            ask = Inquiry(life, random, network)
            return GroupChores(seat.gid, identity, replica, controllers, ask, life, machine, asked_at, self._stranger)

        def make_core(node: NodeID, voters: frozenset[NodeID], restored: Restored, applied: int) -> IConsensus:
            core = CONSENSUS.make(node, voters, restored, random, applied)
            return WatchedCore(core, watch, seat.gid, seat.name, applied)

        parts = Parts(
            kind="group" if seat.gid else "controller",
            gid=seat.gid,
            node=seat.node,
            peers=peers,
            directory=self._directory,
            log_disk=MortalDisk(life),
            data_disk=MortalDisk(life),
            read_disk=MortalDisk(life),
            network=network,
            clock=life,
            random=random,
            make_core=make_core,
            codec=CONSENSUS.codec,
            consensus="raft",
            machine=WatchedMachine(machine, watch, seat.gid, seat.name),
            log_bytes_max=log_bytes_max,
        )
        self.member = Member(parts, doors, chores, self._failed)
        bound = f"tcp:{seat.port}:interface=127.0.0.1"
        server = ListeningServer(bound, links, lambda _: Tenants((self.member,), (), {}), self._failed)
        server.start().addErrback(self._failed)

    async def kill(self) -> None:
        """As SIGKILL would; nothing of the member is told."""
        closed = self._life.end()
        self._directory.close()
        await closed

    def _stranger(self, refusal: Exception) -> None:
        self._failed(Failure(refusal))

    def _failed(self, failure: Failure) -> None:
        """Nothing that happens here is a reason for a server to stop by itself."""
        self._watch.report(f"{self._seat.name} stopped by itself: {failure.getTraceback()}")


# ── a process that can be killed ───────────────────────────────────────────────────────────────────


class Life:
    """The reactor as one server process has it. When the life is over nothing calls into that process any more."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._ports: list[Any] = []
        self._protocols: list[Any] = []
        self.over = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def callLater(self, delay: float, work: Callable[..., Any], *args: Any, **kwargs: Any) -> IDelayedCall:
        call: IDelayedCall = self._reactor.callLater(delay, self._run, work, args, kwargs)
        if self.over:
            call.cancel()
        return call

    def listenTCP(self, port: int, factory: Any, *args: Any, **kwargs: Any) -> Any:
        listening = self._reactor.listenTCP(port, self._heeded(factory), *args, **kwargs)
        self._ports.append(listening)
        return listening

    def connectTCP(self, host: str, port: int, factory: Any, *args: Any, **kwargs: Any) -> Any:
        return self._reactor.connectTCP(host, port, self._heeded(factory), *args, **kwargs)

    def end(self) -> Deferred[Any]:
        """Now. Fires when its ports are free and its connections closed."""
        self.over = True
        for call in self._reactor.getDelayedCalls():
            if getattr(call.func, "__self__", None) is self:
                call.cancel()
        for protocol in self._protocols:
            transport = protocol.transport
            if transport is not None and not transport.disconnected:
                transport.unregisterProducer()
                transport.protocol = Protocol()
                transport.abortConnection()
        closed = gatherResults([port.stopListening() for port in self._ports])
        return closed.addCallback(lambda _: deferLater(self._reactor, 0))

    def _run(self, work: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if not self.over:
            work(*args, **kwargs)

    def _heeded(self, factory: Any) -> Any:
        """The factory, with its protocols kept in mind; it makes none when the life is over."""
        build = factory.buildProtocol

        def build_protocol(address: Any) -> Any:
            protocol = None if self.over else build(address)
            if protocol is not None:
                self._protocols.append(protocol)
            return protocol

        factory.buildProtocol = build_protocol
        return factory


class MortalDisk(InlineDisk):
    """The disk of a life."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        return Deferred() if self._life.over else super().run(work)


def reserved_port() -> socket.socket:
    """A socket bound to a free port of loopback and not listening.

    As long as it is open the kernel gives that port to no connection going out, not even to one that dials the port
    itself while its server is down; a server may listen there all the same.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


# ── weather ────────────────────────────────────────────────────────────────────────────────────────


class Weather:
    """Of a whole network, from now on.

    Attributes:
        bad: what is handed over is delayed, and some of it lost.
    """

    bad = False


class LossyNetwork:
    """An INetwork over another one, in a certain weather.

    In a bad one (§2.0.1) a request first waits up to DELAY_SECONDS_MAX; a tenth is then lost, and a tenth of the
    answers; the caller sees a failure at once and cannot know which of both it was.
    """

    def __init__(self, network: INetwork, clock: IReactorTime, random: Random, weather: Weather) -> None:
        self._network = network
        self._clock = clock
        self._random = random
        self._weather = weather

    def send(self, endpoint: str, verb: str, body: bytes) -> None:
        if not self._weather.bad:
            self._network.send(endpoint, verb, body)
        elif not self._lost():
            self._clock.callLater(self._delay(), self._network.send, endpoint, verb, body)

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        if not self._weather.bad:
            return self._network.call(endpoint, verb, body, timeout)
        return ensureDeferred(self._call(endpoint, verb, body, timeout))

    def close(self) -> Deferred[None]:
        return self._network.close()

    async def _call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> bytes:
        delay = min(self._delay(), timeout)
        await deferLater(self._clock, delay)
        if self._lost():
            raise LostAnswer(f"{endpoint}: the request was lost")
        answer = await self._network.call(endpoint, verb, body, timeout - delay)
        if self._lost():
            raise LostAnswer(f"{endpoint}: the answer was lost")
        return answer

    def _delay(self) -> float:
        return DELAY_SECONDS_MAX * self._random.random()

    def _lost(self) -> bool:
        return self._random.random() < LOSS
