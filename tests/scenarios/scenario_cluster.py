"""The stage on which the public labs' cluster scenarios are played (scenarios §2.3 and §2.4).

A scenario is an ``async def`` that is given a Stage and sees nothing else: servers to start and stop, Clerks, time, the
weather of the network, and what lies on disk. It decides nothing about how these are made. SimStage makes them in
virtual time; a kind of stage added to STAGES plays every scenario too.
"""

from __future__ import annotations

import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import CancelledError, Deferred, FirstError, ensureDeferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from twisted_kv.client.clerk import Clerk
from twisted_kv.client.controller_clerk import ControllerClerk
from twisted_kv.machines.configuration import Configuration, shard_of
from twisted_kv.simulation.doors.network import RELIABLE, UNRELIABLE, SimNetwork
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.lives.cluster import CONTROLLERS, Cluster
from twisted_kv.storage.schema import DATA, LOG
from twisted_kv.storage.sqlite_file import open_reader

SHARDS = 10
GIDS = (100, 101, 102)
NODES = (1, 2, 3)
PATIENT = 60.0
"""Seconds that a call may take: the labs' Clerks never give up."""
SECONDS_MAX = 120.0
"""A scenario that takes longer has failed (§2.0.1)."""


def key_in(shard: int, place: int = 0) -> str:
    """The key number ``place`` of a shard: of the decimal numbers in ascending order, those that lie in it.

    Says the rule of contract §3 in its own words.
    """
    number = -1
    for _ in range(place + 1):
        number += 1
        while zlib.crc32(b"%d" % number) % SHARDS != shard:
            number += 1
    return str(number)


KEYS = tuple(key_in(shard) for shard in range(SHARDS))
"""Key i lies in shard i."""

LAB_UNRELIABLE = msgspec.structs.replace(UNRELIABLE, silence=0.0)
"""In the labs the caller of what was lost always sees a failure (§2.0.1)."""

Scenario = Callable[["Stage"], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Setting:
    """What a stage is to be set up with: maxraftstate of the labs is ``log_bytes_max`` here."""

    path: str
    log_bytes_max: int = -1
    gids: tuple[int, ...] = GIDS
    seed: int = 1


class Entrance(ABC):
    """A way into a cluster: new Clerks, each on a connection of its own."""

    @abstractmethod
    def clerk(self) -> Clerk: ...

    @abstractmethod
    def controller_clerk(self) -> ControllerClerk: ...

    @cached_property
    def admin(self) -> ControllerClerk:
        return self.controller_clerk()


class Stage(Entrance):
    """Controllers 1 to 3 (gid CONTROLLERS) and the groups of the setting, nodes 1 to 3 each: running, not joined.

    Attributes:
        dice: for what a scenario leaves to chance.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.dice = Random(setting.seed)

    # ── what a kind of stage provides ──────────────────────────────────────────────────────────────

    @abstractmethod
    def play(self, scenario: Scenario) -> None:
        """Set up, run the scenario to its end, take everything down, and fail if anything was wrong."""

    @property
    @abstractmethod
    def clock(self) -> IReactorTime: ...

    @abstractmethod
    def endpoints(self, gid: int) -> tuple[str, ...]:
        """Where the servers of a group listen."""

    @abstractmethod
    def directory(self, gid: int, node: int) -> str:
        """Where a server keeps its files."""

    @abstractmethod
    def leader(self, gid: int) -> int | None:
        """The node that leads, as far as the servers themselves know."""

    @abstractmethod
    async def start(self, gid: int, node: int) -> None:
        """Start a stopped server on what its directory holds."""

    @abstractmethod
    async def stop(self, gid: int, node: int) -> None:
        """Stop a server at this very moment, as SIGKILL would."""

    @abstractmethod
    def set_unreliable(self, unreliable: bool) -> None:
        """The weather of the whole network (§2.0.1)."""

    @abstractmethod
    def second_controllers(self) -> Entrance:
        """Start controllers of another cluster, of as many shards, whose Clerks reach the groups of this one."""

    # ── what follows from it ───────────────────────────────────────────────────────────────────────

    def sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self.clock, seconds)

    async def start_group(self, gid: int) -> None:
        for node in NODES:
            await self.start(gid, node)

    async def stop_group(self, gid: int) -> None:
        for node in NODES:
            await self.stop(gid, node)

    async def find_leader(self, gid: int) -> int:
        while True:
            leader = self.leader(gid)
            if leader is not None:
                return leader
            await self.sleep(0.05)

    async def join(self, *gids: int) -> Configuration:
        """All of them by one call."""
        return await self.admin.join({gid: self.endpoints(gid) for gid in gids}, timeout=PATIENT)

    async def leave(self, *gids: int) -> Configuration:
        """All of them by one call."""
        return await self.admin.leave(gids, timeout=PATIENT)

    async def move(self, shard: int, gid: int) -> Configuration:
        return await self.admin.move(shard, gid, timeout=PATIENT)

    async def query(self, num: int = -1) -> Configuration:
        return await self.admin.query(num, timeout=PATIENT)

    def raft_state_bytes(self, gid: int, node: int) -> int:
        """Bytes of what the labs call Raft state: term, vote, and every row of the log as it lies on disk.

        Serialized entries with their index and term at eight bytes each; rows that a cut has left behind count too.
        """
        size, count = self._ask(gid, node, LOG.file, "SELECT coalesce(sum(length(entry)), 0), count(*) FROM entries")
        return 16 + size + 16 * count

    def snapshot_bytes(self, gid: int, node: int) -> int:
        """Bytes of what the labs call the snapshot: all rows of the applied state on disk, names and values as UTF-8,
        shard and num at eight bytes each."""
        (size,) = self._ask(
            gid,
            node,
            DATA.file,
            "SELECT coalesce(sum(16 + length(CAST(space AS BLOB)) + length(CAST(name AS BLOB))"
            " + length(CAST(value AS BLOB))), 0) FROM rows",
        )
        return size

    def checkpoint_index(self, gid: int, node: int) -> int:
        """Up to where the applied state is on disk; 0 when no snapshot was ever written."""
        (index,) = self._ask(gid, node, DATA.file, "SELECT idx FROM position")
        return index

    def _ask(self, gid: int, node: int, file: str, sql: str) -> Sequence[int]:
        with closing(open_reader(os.path.join(self.directory(gid, node), file))) as connection:
            row: Sequence[int] = connection.execute(sql).fetchone()
            return row


class SimStage(Stage):
    """Everything in one world, in virtual time: hops of 1 to 5 ms, commits of 1 to 5 ms."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._world = World(setting.seed)
        self._clients = 0
        self._open: list[Clerk | ControllerClerk] = []
        self._cluster = self._new_cluster(self._world, "first", setting.gids)
        self._clusters = [self._cluster]

    def play(self, scenario: Scenario) -> None:
        outcome: list[Any] = []
        playing = ensureDeferred(scenario(self))
        playing.addBoth(outcome.append)
        try:
            finished = self._world.run_until(lambda: bool(outcome), SECONDS_MAX)
            assert finished, f"not finished after {SECONDS_MAX} s; {self._cluster.unsettled()}"
            if isinstance(outcome[0], Failure):
                outcome[0].raiseException()
            assert [cluster.watch.wrong for cluster in self._clusters] == [[] for _ in self._clusters]
            assert [cluster.hub.broken for cluster in self._clusters] == [[] for _ in self._clusters]
        finally:
            playing.cancel()
            self._end()

    @property
    def clock(self) -> IReactorTime:
        return self._world.clock

    def endpoints(self, gid: int) -> tuple[str, ...]:
        return self._cluster.endpoints(gid)

    def directory(self, gid: int, node: int) -> str:
        return os.path.join(self.setting.path, "first", self._name(gid, node))

    def leader(self, gid: int) -> int | None:
        name = self._cluster.leader(gid)
        return None if name is None else self._cluster.groups[gid].index(name) + 1

    async def start(self, gid: int, node: int) -> None:
        self._cluster.restart(self._name(gid, node))

    async def stop(self, gid: int, node: int) -> None:
        self._cluster.kill(self._name(gid, node))

    def set_unreliable(self, unreliable: bool) -> None:
        for cluster in self._clusters:
            cluster.hub.conditions = LAB_UNRELIABLE if unreliable else RELIABLE

    def clerk(self) -> Clerk:
        return self.opened(self._cluster.clerk(self.next_client()))

    def controller_clerk(self) -> ControllerClerk:
        return self.opened(self._cluster.controller_clerk(self.next_client()))

    def second_controllers(self) -> Entrance:
        # Time and trace are shared; dice of its own, or both clusters could draw the same id.
        world = World(self.setting.seed + 1)
        world.clock, world.trace = self._world.clock, self._world.trace
        second = self._new_cluster(world, "second", ())
        self._clusters.append(second)
        return _SecondEntrance(self, self._cluster, second)

    def next_client(self) -> str:
        """A name that no client had before."""
        self._clients += 1
        return f"client-{self._clients}"

    def opened(self, clerk: Any) -> Any:
        """Have it closed in the end."""
        self._open.append(clerk)
        return clerk

    def _new_cluster(self, world: World, place: str, gids: Iterable[int]) -> Cluster:
        path = os.path.join(self.setting.path, place)
        os.mkdir(path)
        groups = {gid: len(NODES) for gid in gids}
        return Cluster(world, path, len(NODES), groups, SHARDS, self.setting.log_bytes_max)

    def _name(self, gid: int, node: int) -> str:
        return self._cluster.groups[gid][node - 1]

    def _end(self) -> None:
        for clerk in self._open:
            clerk.close()
        for cluster in self._clusters:
            for name in cluster.alive:
                cluster.kill(name)


class _SecondEntrance(Entrance):
    """Clerks that ask the controllers of one simulated cluster and reach the groups of another."""

    def __init__(self, stage: SimStage, first: Cluster, second: Cluster) -> None:
        self._stage = stage
        self._first = first
        self._second = second

    def clerk(self) -> Clerk:
        world, name = self._second.world, self._stage.next_client()
        host, random = world.host(name), world.random_for(f"{name}/clerk")
        network = _TwoNetworks(self._controllers, self._second.hub.at(host), self._first.hub.at(host))
        return self._stage.opened(Clerk(self._controllers, host.clock, random, network))

    def controller_clerk(self) -> ControllerClerk:
        return self._stage.opened(self._second.controller_clerk(self._stage.next_client()))

    @property
    def _controllers(self) -> tuple[str, ...]:
        return self._second.endpoints(CONTROLLERS)


class _TwoNetworks:
    """An INetwork in which some endpoints are on one hub and all others on another."""

    def __init__(self, theirs: Iterable[str], there: SimNetwork, elsewhere: SimNetwork) -> None:
        self._theirs = frozenset(theirs)
        self._there = there
        self._elsewhere = elsewhere

    def send(self, endpoint: str, verb: str, body: bytes) -> None:
        self._to(endpoint).send(endpoint, verb, body)

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        return self._to(endpoint).call(endpoint, verb, body, timeout)

    def close(self) -> Deferred[Any]:
        return gatherResults([self._there.close(), self._elsewhere.close()])

    def _to(self, endpoint: str) -> SimNetwork:
        return self._there if endpoint in self._theirs else self._elsewhere


STAGES: Mapping[str, Callable[[Setting], Stage]] = {"simulated": SimStage}


def on_stage(log_bytes_max: int = -1, gids: tuple[int, ...] = GIDS) -> Callable[[Scenario], Callable[..., None]]:
    """Make a pytest test of a scenario: it is played once on every kind of stage.

    The scenario itself stays at hand as the attribute ``scenario``.
    """

    def decorate(scenario: Scenario) -> Callable[..., None]:
        @pytest.mark.parametrize("kind", STAGES)
        def test(kind: str, tmp_path: Any) -> None:
            STAGES[kind](Setting(str(tmp_path), log_bytes_max, gids)).play(scenario)

        test.__name__, test.__qualname__ = scenario.__name__, scenario.__qualname__
        test.__module__, test.__doc__ = scenario.__module__, scenario.__doc__
        test.scenario = scenario  # type: ignore[attr-defined]
        test.log_bytes_max = log_bytes_max  # type: ignore[attr-defined]
        test.gids = gids  # type: ignore[attr-defined]
        return test

    return decorate


# ── what several scenarios do ──────────────────────────────────────────────────────────────────────


async def together(awaitables: Iterable[Awaitable[Any]]) -> list[Any]:
    """Wait for all of them at once; the first that fails fails this."""
    try:
        return list(await gatherResults([ensureDeferred(_awaited(one)) for one in awaitables], consumeErrors=True))
    except FirstError as error:
        error.subFailure.raiseException()
        raise


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def text(dice: Random, length: int) -> str:
    """A random string of letters."""
    return "".join("abcdefghijklmnopqrstuvwxyz"[int(dice.random() * 26)] for _ in range(length))


async def put_all(clerk: Clerk, values: Mapping[str, str]) -> None:
    """One put after the other."""
    for key, value in values.items():
        await clerk.put(key, value, timeout=PATIENT)


async def check_all(clerk: Clerk, values: Mapping[str, str]) -> None:
    """One get after the other, and each tells what was written."""
    for key, value in values.items():
        assert await clerk.get(key, timeout=PATIENT) == value, f"key {key} of shard {shard_of(key, SHARDS)}"


async def check_and_append_all(stage: Stage, clerk: Clerk, values: dict[str, str]) -> None:
    """Each key: check, append five letters, and know so."""
    for key, value in values.items():
        assert await clerk.get(key, timeout=PATIENT) == value, f"key {key}"
        addition = text(stage.dice, 5)
        await clerk.append(key, addition, timeout=PATIENT)
        values[key] = value + addition


async def answered(stage: Stage, entrance: Entrance, keys: Iterable[str]) -> dict[str, str]:
    """One get per key, all at once, each by a Clerk of its own: those that came until 2 s passed without one."""
    answers: dict[str, str] = {}
    asked = []
    for key in keys:
        asking = entrance.clerk().get(key, timeout=PATIENT)
        asking.addCallback(lambda value, key=key: answers.update({key: value}))
        asked.append(asking)
    count = -1
    while len(answers) > count:
        count = len(answers)
        await stage.sleep(2.0)
    for asking in asked:
        asking.addErrback(lambda failure: failure.trap(CancelledError) and None)
        asking.cancel()
    await gatherResults(asked)
    return answers


class Appender:
    """Appends random letters to a key of its own, one call after the other, until stopped.

    Attributes:
        value: what the key holds as far as its owner was told.
        count: appends that came back.
    """

    def __init__(self, stage: Stage, key: str, value: str, length: int = 5, pause_seconds: float = 0.0) -> None:
        self.key = key
        self.value = value
        self.count = 0
        self._stage = stage
        self._clerk = stage.clerk()
        self._length = length
        self._pause_seconds = pause_seconds
        self._stopping = False
        self._living = ensureDeferred(self._live())

    def halt(self) -> None:
        """Make no further call."""
        self._stopping = True

    async def stop(self) -> None:
        """Halt, and wait for the call in flight."""
        self.halt()
        await self._living

    async def _live(self) -> None:
        while not self._stopping:
            addition = text(self._stage.dice, self._length)
            await self._clerk.append(self.key, addition, timeout=PATIENT)
            self.value += addition
            self.count += 1
            if self._pause_seconds:
                await self._stage.sleep(self._pause_seconds)


async def stop_and_check(appenders: Sequence[Appender], clerk: Clerk) -> None:
    """Stop them; then every key is exactly what its owner wrote."""
    await together(appender.stop() for appender in appenders)
    assert all(appender.count for appender in appenders)
    await check_all(clerk, {appender.key: appender.value for appender in appenders})
