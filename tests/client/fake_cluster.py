"""A cluster of a few dictionaries behind a network with scripted faults: the servers' side of the contract, naively.

It speaks the bytes of transport/wire through the real codecs. ``executed`` lists every write that took effect, in
order, so a test can count. Time is a Clock; nothing happens unless the test lets it pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_kv.client.clerk import Clerk
from twisted_kv.client.controller_clerk import ControllerClerk
from twisted_kv.constants import VALUE_BYTES_DEFAULT
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    GROUP_COMMANDS,
    QUERIES,
    READS,
    SCANS,
    Administer,
    ConfigurationAnswer,
    Configured,
    Done,
    Expired,
    Join,
    Open,
    Operation,
    Refused,
    Scanned,
    Write,
    WrongGroup,
)
from twisted_kv.machines.configuration import Configuration, Member, shard_of
from twisted_kv.transport.wire import (
    ANSWERS,
    CTL_CHANGE,
    CTL_ENROLL,
    CTL_QUERY,
    IAM,
    KV_OPEN,
    KV_READ,
    KV_SCAN,
    KV_WRITE,
    WHO,
    Busy,
    Iam,
    NotLeading,
    Outcomes,
    Rejected,
    Unsettled,
)

LATENCY = 0.002
CONTROLLERS = ("c1", "c2", "c3")

Fault = Callable[["FakeCluster", str, str, bytes], Any]
"""(cluster, endpoint, verb, body) → what the caller sees: an answer, an exception, None for silence."""


class FakeCluster:
    """Controllers c1-c3; groups gid → endpoints such as g1a, g1b, g1c."""

    def __init__(self, gids: Sequence[int] = (1,), shards: int = 8, seed: int = 1) -> None:
        self.clock = Clock()
        self.random = random.Random(seed)
        self.network = FakeNetwork(self)
        self.groups = {gid: FakeGroup(self, gid) for gid in gids}
        self.leading_controller = 0
        self.configurations = [Configuration(0, (0,) * shards), self.assigned(1, gids, shards)]
        self.administrators: dict[int, dict[int, Any]] = {}
        self.changes: list[Any] = []
        self.executed: list[Operation] = []
        self.faults: list[Fault] = []
        self.nemesis: Callable[[], Fault] = lambda: fine

    @property
    def newest(self) -> Configuration:
        return self.configurations[-1]

    def assigned(self, num: int, gids: Sequence[int], shards: int) -> Configuration:
        owners = tuple(gids[shard % len(gids)] if gids else 0 for shard in range(shards))
        members = tuple(Member(gid, 1, group.endpoints) for gid, group in self.groups.items())
        return Configuration(num, owners, members, (None,) * shards, (None,) * shards, (), VALUE_BYTES_DEFAULT)

    def configure(self, shards: tuple[int, ...], move: bool = True) -> None:
        """A new configuration; the shards move at once, with their data and sessions, or not at all."""
        before = self.newest
        self.configurations.append(Configuration(before.num + 1, shards, before.members, before.holders))
        if move:
            for shard, gid in enumerate(shards):
                self.move(shard, gid)

    def move(self, shard: int, gid: int) -> None:
        """Bring the shard to this group, whoever had it."""
        for group in self.groups.values():
            if shard in group.copies and group.gid != gid and gid:
                self.groups[gid].copies[shard] = group.copies.pop(shard)

    def clerk(self, seed: int = 7) -> Clerk:
        return Clerk(CONTROLLERS, self.clock, random.Random(seed), self.network)

    def controller_clerk(self, seed: int = 8) -> ControllerClerk:
        return ControllerClerk(CONTROLLERS, self.clock, random.Random(seed), self.network)

    def run(self, seconds: float) -> None:
        """Let time pass, from one delayed call to the next."""
        end = self.clock.seconds() + seconds
        while self.clock.calls and self.clock.calls[0].getTime() <= end:
            self.clock.advance(max(0.0, self.clock.calls[0].getTime() - self.clock.seconds()))
        self.clock.advance(max(0.0, end - self.clock.seconds()))

    def result(self, deferred: Deferred[Any], seconds: float = 30.0) -> Any:
        """Let time pass until it fires; its result, or raises its error."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        end = self.clock.seconds() + seconds
        while not results and self.clock.calls and self.clock.calls[0].getTime() <= end:
            self.clock.advance(max(0.0, self.clock.calls[0].getTime() - self.clock.seconds()))
        assert results, f"nothing has fired in {seconds} s"
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def times_executed(self, value: str) -> int:
        return sum(operation.value == value for operation in self.executed)

    def serve(self, endpoint: str, verb: str, body: bytes) -> bytes:
        """What the server at this endpoint answers."""
        if endpoint in CONTROLLERS:
            return self._control(CONTROLLERS.index(endpoint), verb, body)
        for group in self.groups.values():
            if endpoint in group.endpoints:
                return group.serve(group.endpoints.index(endpoint), verb, body)
        raise AssertionError(endpoint)

    def _control(self, place: int, verb: str, body: bytes) -> bytes:
        if place != self.leading_controller:
            return ANSWERS.encode(NotLeading(place + 1, self.leading_controller + 1))
        if verb == CTL_QUERY:
            num = QUERIES.decode(body).num
            if num < -1:
                return ANSWERS.encode(Refused("NoSuchShard", "out of range"))
            configuration = self.configurations[num] if num < len(self.configurations) else self.newest
            return ANSWERS.encode(ConfigurationAnswer("cluster", configuration, ""))
        command = CONTROLLER_COMMANDS.decode(body)
        if verb == CTL_ENROLL:
            number = len(self.administrators) + 1
            self.administrators[number] = {}
            return ANSWERS.encode(Outcomes(place + 1, (Done(number),)))
        assert verb == CTL_CHANGE and isinstance(command, Administer)
        answers = self.administrators.get(command.session)
        if answers is None:
            return ANSWERS.encode(Expired())
        if command.sequence not in answers:
            answers[command.sequence] = self._change(command.change)
        return ANSWERS.encode(answers[command.sequence])

    def _change(self, change: Any) -> Any:
        self.changes.append(change)
        if isinstance(change, Join) and any(gid < 1 for gid, _ in change.groups):
            return Refused("BadRequest", "a gid is at least 1")
        self.configurations.append(self.assigned(self.newest.num + 1, tuple(self.groups), len(self.newest.shards)))
        return Configured(self.newest)


class FakeGroup:
    """Replicas of one state; only one leads."""

    def __init__(self, cluster: FakeCluster, gid: int) -> None:
        self.cluster = cluster
        self.gid = gid
        self.endpoints = tuple(f"g{gid}{letter}" for letter in "abc")
        self.leader: int | None = 0
        self.copies: dict[int, FakeShard] = {}

    def serve(self, place: int, verb: str, body: bytes) -> bytes:
        node = place + 1
        if verb == WHO:
            return IAM.encode(Iam(self.gid, node, f"group {self.gid}"))
        if place != self.leader:
            return ANSWERS.encode(NotLeading(node, 0 if self.leader is None else self.leader + 1))
        if verb == KV_SCAN:
            return self._scan(body)
        if verb == KV_READ:
            return self._tell(node, [self._read(key) for key in READS.decode(body).keys])
        command = GROUP_COMMANDS.decode(body)
        if verb == KV_OPEN:
            assert isinstance(command, Open)
            return self._tell(node, [self._open(shard, command.nonce) for shard in command.shards])
        assert verb == KV_WRITE and isinstance(command, Write)
        return self._tell(node, [self._write(operation) for operation in command.operations])

    def forget_sessions(self) -> None:
        for copy in self.copies.values():
            copy.sessions.clear()

    def copy(self, key: str) -> FakeShard | WrongGroup:
        return self._copy(shard_of(key, len(self.cluster.newest.shards)))

    def _copy(self, shard: int) -> FakeShard | WrongGroup:
        newest = self.cluster.newest
        if shard not in self.copies:
            elsewhere = [group.gid for group in self.cluster.groups.values() if shard in group.copies]
            if elsewhere or newest.shards[shard] != self.gid:
                return WrongGroup(newest.num, elsewhere[0] if elsewhere else newest.shards[shard])
            self.copies[shard] = FakeShard()
        return self.copies[shard]

    def _open(self, shard: int, nonce: bytes) -> Any:
        copy = self._copy(shard)
        return copy if isinstance(copy, WrongGroup) else Done(copy.open(nonce))

    def _read(self, key: str) -> Any:
        copy = self.copy(key)
        return copy if isinstance(copy, WrongGroup) else Done(copy.values.get(key))

    def _write(self, operation: Operation) -> Any:
        copy = self.copy(operation.key)
        return copy if isinstance(copy, WrongGroup) else copy.write(operation, self.cluster.executed)

    def _scan(self, body: bytes) -> bytes:
        scan = SCANS.decode(body)
        copy = self._copy(scan.shard)
        if isinstance(copy, WrongGroup):
            return ANSWERS.encode(copy)
        keys = sorted(key for key in copy.values if scan.after is None or key > scan.after)
        return ANSWERS.encode(Scanned(tuple(keys), tuple(copy.values[key] for key in keys), True))

    @staticmethod
    def _tell(node: int, outcomes: list[Any]) -> bytes:
        return ANSWERS.encode(Outcomes(node, tuple(outcomes)))


class FakeShard:
    """Values and sessions of one shard; they move together."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.opened = 0
        self.nonces: dict[bytes, int] = {}
        self.sessions: dict[int, FakeSession] = {}

    def open(self, nonce: bytes) -> int:
        number = self.nonces.get(nonce, 0)
        if number not in self.sessions:
            self.opened += 1
            number = self.nonces[nonce] = self.opened
            self.sessions[number] = FakeSession()
        return number

    def write(self, operation: Operation, executed: list[Operation]) -> Any:
        session = self.sessions.get(operation.session)
        if session is None:
            return Expired()
        session.floor = max(session.floor, operation.floor)
        for sequence in [sequence for sequence in session.results if sequence < session.floor]:
            del session.results[sequence]
        if operation.sequence < session.floor:
            return Expired()
        if operation.sequence not in session.results:
            executed.append(operation)
            session.results[operation.sequence] = self._execute(operation)
            session.most = max(session.most, len(session.results))
        return session.results[operation.sequence]

    def _execute(self, operation: Operation) -> Any:
        old = self.values.get(operation.key)
        match operation.verb:
            case "d":
                return Done(self.values.pop(operation.key, None) is not None)
            case "a" if old is not None and type(old) is not type(operation.value):
                return Refused("WrongType", "cannot append bytes to text")
            case "a" if old is not None:
                self.values[operation.key] = old + operation.value
            case "h":
                self.values[operation.key] = "hash"
                return Done(old or "")
            case _:
                self.values[operation.key] = operation.value
        return Done()


class FakeSession:
    def __init__(self) -> None:
        self.floor = 0
        self.results: dict[int, Any] = {}
        self.most = 0


class FakeNetwork:
    """INetwork of one client. The next fault of the cluster's list, else the nemesis' choice, befalls the next call."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.calls: list[tuple[str, str]] = []
        self.timeouts: list[float] = []
        self.cut: dict[str, type[Exception] | None] = {}

    def count(self, verb: str) -> int:
        return sum(each == verb for _, each in self.calls)

    def send(self, endpoint: str, verb: str, body: bytes) -> None:
        raise AssertionError("clients send nothing one-way")

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        self.calls.append((endpoint, verb))
        self.timeouts.append(timeout)
        clock, faults = self.cluster.clock, self.cluster.faults
        fault = faults.pop(0) if faults else self.cluster.nemesis()
        answer: Deferred[bytes] = Deferred(lambda _: timer.cancel())
        overdue = NotSent if fault is undialled else LostAnswer
        timer = clock.callLater(timeout, answer.errback, overdue("timeout"))
        if endpoint in self.cut:
            wrong = self.cut[endpoint]
            fault = silent if wrong is None else lambda *_: wrong("cut")

        def reply(result: Any) -> None:
            if result is not None and not answer.called:
                timer.cancel()
                answer.errback(result) if isinstance(result, Exception) else answer.callback(result)

        def arrive() -> None:
            clock.callLater(LATENCY, reply, fault(self.cluster, endpoint, verb, body))

        clock.callLater(LATENCY, arrive)
        return answer

    def close(self) -> Deferred[None]:
        return succeed(None)


# The faults.


def fine(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    return cluster.serve(endpoint, verb, body)


def refused(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    """Nobody listens."""
    return NotSent("refused")


def undialled(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    """No connection can be made until the time is up."""
    return None


def dropped(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    """The connection is lost before the request arrives."""
    return LostAnswer("dropped")


def silent(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    """Neither the request nor any news arrives."""
    return None


def lost(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    """The request is carried out; the answer is lost with the connection."""
    cluster.serve(endpoint, verb, body)
    return LostAnswer("lost")


def mute(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    """The request is carried out; nothing is heard of it."""
    cluster.serve(endpoint, verb, body)


def late(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    """The connection is lost; the request arrives a second later all the same."""
    cluster.clock.callLater(1.0, cluster.serve, endpoint, verb, body)
    return LostAnswer("late")


def unsettled(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    """It entered a log and was overwritten."""
    return ANSWERS.encode(Unsettled(1, 0))


def unsettled_done(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    """It entered a log, and took effect after leadership was lost."""
    cluster.serve(endpoint, verb, body)
    return ANSWERS.encode(Unsettled(1, 0))


def busy(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    return ANSWERS.encode(Busy(1, 0.3))


def not_leading(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    return ANSWERS.encode(NotLeading(0, 0))


def forgetful(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    """The servers have dropped all sessions."""
    for group in cluster.groups.values():
        group.forget_sessions()
    cluster.administrators.clear()
    return cluster.serve(endpoint, verb, body)


def elected(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    """The lead has passed on."""
    for group in cluster.groups.values():
        group.leader = cluster.random.randrange(3)
    return cluster.serve(endpoint, verb, body)


def rejected(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    return ANSWERS.encode(Rejected(1, "BadRequest", "bad"))


def nonsense(cluster: FakeCluster, endpoint: str, verb: str, body: bytes) -> Any:
    return b"nonsense"


def answering(answer: Any) -> Fault:
    """Answer this, whatever was asked."""
    return lambda *_: ANSWERS.encode(answer)
