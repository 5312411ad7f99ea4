"""Load while a large shard moves: ``python -m benchmarks.loads.moving MOVE``.

Fills one shard, finds out how much the cluster can do, then puts at a share of that, evenly spread over three shards:
the one that moves, another of the group it leaves, one of the group it comes to. In the shard that moves, appends go on
too. When all is at the other group every key is read, and is compared with what was acknowledged. Says ``moving`` when
the move was asked for, ``half`` when half has come, ``moved`` when nothing is on its way any more, and last a Moved as
JSON.

Decides what is written and what counts as lost. Knows servers only by their status and what a Clerk says.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from random import Random
from time import perf_counter
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from benchmarks.figures import percentile
from benchmarks.loads.closed_loop import run, together
from benchmarks.loads.open_loop import Book, Pace
from benchmarks.tasks import PATIENCE_SECONDS
from twisted_kv import Clerk, ControllerClerk
from twisted_kv.admin.asking import ask_all, is_status
from twisted_kv.errors import OutcomeUnknown
from twisted_kv.machines.configuration import shard_of
from twisted_kv.transport.network import PBNetwork

AT_ONCE: Final = 256
OTHER_KEYS: Final = 1_000
CHAINS: Final = 8
CHAIN_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 0.5
SETTLE_SECONDS: Final = 1.0
STRIDE: Final = 1_000_003
"""A prime: numbers are written far from each other."""
STREAMS: Final = ("moved", "giver", "taker")


@dataclass(frozen=True)
class Move:
    """What is done.

    Attributes:
        servers: endpoints of all servers of both groups.
        keys: in the shard that moves, of ``value_bytes`` each.
        share: of what a closed loop reaches, the rate of puts.
        saturation_seconds: for which the closed loop runs.
        calm_seconds: of load before the move, and again after it.
    """

    endpoints: tuple[str, ...]
    servers: tuple[str, ...]
    giver: int
    taker: int
    keys: int
    value_bytes: int
    share: float
    saturation_seconds: float
    calm_seconds: float

    def as_argument(self) -> str:
        """The one argument of the process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> Move:
        """The reverse."""
        fields = json.loads(text)
        return cls(**{**fields, "endpoints": tuple(fields["endpoints"]), "servers": tuple(fields["servers"])})


@dataclass(frozen=True)
class Look:
    """What servers said of the move at one moment.

    Attributes:
        seconds: since the move was asked for.
        bytes, total_bytes: here, and in all, as the taker knows.
    """

    seconds: float
    bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Phase:
    """Latencies of puts in one stretch of time, in milliseconds."""

    puts: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass
class Moved:
    """What came of it.

    Attributes:
        fill_seconds: to put all keys.
        saturation: puts per second of the closed loop.
        rate: puts per second of the load.
        move_seconds: from the call to nothing being on its way.
        gap_ms: the longest time without an answer of the shard that moved, from the call to the end.
        calm, meanwhile, after: stream → its latencies before the move, from the call to its end, and behind it.
        stalls_ms: server → the longest that its reactor stood still in a minute, from the call to the end.
        checked, lost: keys that were read, and those that had another value than was acknowledged; ``first_lost`` is
            one.
        appends, appends_wrong: that were acknowledged; that are missing, twice, or out of order.
        errors: stream and class → calls that failed.
        late_ms: how late the load itself was at worst.
    """

    fill_seconds: float = 0.0
    saturation: float = 0.0
    rate: float = 0.0
    move_seconds: float = 0.0
    gap_ms: float = 0.0
    calm: dict[str, Phase] = field(default_factory=dict)
    meanwhile: dict[str, Phase] = field(default_factory=dict)
    after: dict[str, Phase] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    stalls_ms: dict[str, float] = field(default_factory=dict)
    checked: int = 0
    lost: int = 0
    first_lost: str = ""
    appends: int = 0
    appends_wrong: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    first_errors: dict[str, str] = field(default_factory=dict)
    late_ms: float = 0.0


class Chain:
    """Appends to one key, one after the other; knows what its value must be.

    Attributes:
        acknowledged: numbers that were.
        unknown: numbers that may be there, once.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.acknowledged: list[int] = []
        self.unknown: set[int] = set()

    async def run(self, reactor: Any, clerk: Clerk, stopped: list[bool]) -> None:
        """Append until something stands in ``stopped``."""
        number = 0
        while not stopped:
            number += 1
            try:
                await clerk.append(self.key, f"{number} ")
                self.acknowledged.append(number)
            except OutcomeUnknown:
                self.unknown.add(number)
            except Exception as error:
                print(f"append: {error}", file=sys.stderr)
            await deferLater(reactor, CHAIN_SECONDS)

    def wrong(self, value: str) -> int:
        """How many numbers of the value are missing, too many, or out of order.

        >>> chain = Chain("k")
        >>> chain.acknowledged, chain.unknown = [1, 3], {2}
        >>> [chain.wrong(value) for value in ("1 3 ", "1 2 3 ", "1 ", "1 1 3 ", "3 1 ", "1 3 4 ")]
        [0, 0, 1, 1, 1, 1]
        """
        there = [int(word) for word in value.split()]
        missing = len(set(self.acknowledged) - set(there))
        foreign = len(set(there) - set(self.acknowledged) - self.unknown)
        twice = len(there) - len(set(there))
        return missing + foreign + twice or int(there != sorted(there))


class Values:
    """What stands under the keys of the shard that moves."""

    def __init__(self, tag: str, keys: int, value_bytes: int) -> None:
        self._tag = tag
        self._padding = "v" * value_bytes
        self._bytes = value_bytes
        self._acknowledged: dict[int, int] = {}
        self._unknown: dict[int, int] = {}
        self.keys = keys

    def key(self, number: int) -> str:
        """Of a number from 0 to ``keys`` − 1."""
        return f"{{{self._tag}}}{number:08d}"

    def value(self, number: int, version: int) -> str:
        """As long as all others."""
        return f"{number}.{version}.{self._padding}"[: self._bytes]

    def wrote(self, number: int, version: int, acknowledged: bool) -> None:
        """A version was written, or may have been."""
        if acknowledged:
            self._acknowledged[number] = version
            self._unknown.pop(number, None)
        else:
            self._unknown[number] = version

    def is_right(self, number: int, value: str) -> bool:
        """Whether this can be what stands there."""
        version = self._acknowledged.get(number, 0)
        return value in (self.value(number, version), self.value(number, self._unknown.get(number, version)))


def tag_of(shard: int, shards: int) -> str:
    """A tag whose keys all belong to a shard.

    >>> shard_of(f"{{{tag_of(7, 128)}}}x", 128)
    7
    """
    return next(tag for number in range(1_000_000) if shard_of(tag := f"t{number}", shards) == shard)


def phase_of(latencies_us: list[int]) -> Phase:
    """Of ascending latencies."""
    if not latencies_us:
        return Phase(0, 0.0, 0.0, 0.0)
    p50, p99 = (percentile(latencies_us, percent) / 1000 for percent in (50, 99))
    return Phase(len(latencies_us), p50, p99, latencies_us[-1] / 1000)


class Mover:
    """One run."""

    def __init__(self, reactor: Any, move: Move) -> None:
        self._reactor = reactor
        self._move = move
        self._clerk = Clerk(list(move.endpoints), reactor)
        self._administrator = ControllerClerk(list(move.endpoints), reactor)
        self._network = PBNetwork(reactor)
        self._random = Random(1)
        self._books = {stream: Book() for stream in STREAMS}
        self._moved = Moved()
        self._version = 0

    async def go(self) -> str:
        """All of it; returns a Moved as JSON."""
        move, moved = self._move, self._moved
        try:
            configuration = await self._administrator.query()
            shards, self._before = configuration.shards, configuration.num
            leaving, staying = [shard for shard, gid in enumerate(shards) if gid == move.giver][:2]
            tags = [tag_of(shard, len(shards)) for shard in (leaving, staying, shards.index(move.taker))]
            self._tags = dict(zip(STREAMS, tags, strict=True))
            self._values = Values(tags[0], move.keys, move.value_bytes)
            moved.fill_seconds = await self._fill()
            moved.saturation = await self._saturate()
            moved.rate = move.share * moved.saturation
            await self._under_load(leaving)
            await self._check()
        finally:
            await self._clerk.close()
            await self._administrator.close()
            await self._network.close()
        return json.dumps(asdict(moved))

    async def _fill(self) -> float:
        began = perf_counter()
        numbers = iter(range(self._move.keys))

        async def worker() -> None:
            for number in numbers:
                await self._clerk.put(self._values.key(number), self._values.value(number, 0), timeout=PATIENCE_SECONDS)

        await together([worker() for _ in range(AT_ONCE)])
        return perf_counter() - began

    async def _saturate(self) -> float:
        """The closed loop, over the same keys as the load."""
        ends = perf_counter() + self._move.saturation_seconds
        answered = 0

        async def one(number: int) -> None:
            nonlocal answered
            while perf_counter() < ends:
                await self._put(STREAMS[number % len(STREAMS)])
                answered += 1

        await together([one(number) for number in range(AT_ONCE)])
        return answered / self._move.saturation_seconds

    def _put(self, stream: str) -> Deferred[Any]:
        if stream == "moved":
            # Every key once before any comes again: no two puts of one key are under way together.
            self._version += 1
            version, number = self._version, self._version * STRIDE % self._values.keys
            done = self._clerk.put(self._values.key(number), self._values.value(number, version))

            def ended(result: Any) -> Any:
                self._values.wrote(number, version, acknowledged=not isinstance(result, Failure))
                return result

            return done.addBoth(ended)
        number = int(self._random.random() * OTHER_KEYS)
        return self._clerk.put(f"{{{self._tags[stream]}}}{number:08d}", self._values.value(number, 0))

    async def _under_load(self, shard: int) -> None:
        move, moved = self._move, self._moved
        chains = [Chain(f"{{{self._tags['moved']}}}chain{number}") for number in range(CHAINS)]
        stopped: list[bool] = []

        def issue(number: int, due: float) -> None:
            stream = STREAMS[number % len(STREAMS)]
            self._books[stream].enter(due, self._put(stream))

        pace = Pace(self._reactor, moved.rate, issue)
        loads = [Deferred.fromCoroutine(pace.run())]
        loads += [Deferred.fromCoroutine(chain.run(self._reactor, self._clerk, stopped)) for chain in chains]
        await deferLater(self._reactor, SETTLE_SECONDS)
        began = perf_counter()
        await deferLater(self._reactor, move.calm_seconds)
        called = perf_counter()
        print("moving", flush=True)
        await self._administrator.move(shard, move.taker, timeout=PATIENCE_SECONDS)
        await self._until_moved(called)
        ended = perf_counter()
        print("moved", flush=True)
        await deferLater(self._reactor, move.calm_seconds)
        finished = perf_counter()
        pace.stop()
        stopped.append(True)
        await DeferredList(loads)
        moved.move_seconds = ended - called
        moved.gap_ms = 1000 * self._books["moved"].longest_gap(called, ended)
        moved.late_ms = 1000 * pace.late
        for stream, book in self._books.items():
            moved.calm[stream] = phase_of(book.between(began, called))
            moved.meanwhile[stream] = phase_of(book.between(called, ended))
            moved.after[stream] = phase_of(book.between(ended, finished))
            for name, count in book.errors.items():
                moved.errors[f"{stream} {name}"] = count
                moved.first_errors[f"{stream} {name}"] = book.first_errors[name]
        for chain in chains:
            moved.appends += len(chain.acknowledged)
            moved.appends_wrong += chain.wrong(await self._clerk.get(chain.key, timeout=PATIENCE_SECONDS))

    async def _until_moved(self, called: float) -> None:
        """Look at the servers until nothing is on its way."""
        half = False
        while True:
            await deferLater(self._reactor, LOOK_SECONDS)
            answers = await ask_all(self._network, self._move.servers, "status")
            members = [answer for answer in answers.values() if is_status(answer)]
            newest = max(member["configuration"] for member in members)
            arriving = [copy for member in members for copy in member["arriving"]]
            if arriving:
                here, total = max((copy["bytes"], copy["total_bytes"]) for copy in arriving)
                self._moved.looks.append(Look(perf_counter() - called, here, total))
                if not half and 2 * here >= total:
                    half = True
                    print("half", flush=True)
            for at, answer in answers.items():
                if is_status(answer):
                    self._moved.stalls_ms[at] = max(self._moved.stalls_ms.get(at, 0.0), answer["stall_ms"])
            done = not any(member["migrations"] or member["configuration"] < newest for member in members)
            if done and len(members) == len(self._move.servers) and newest > self._before:
                return

    async def _check(self) -> None:
        """Read every key."""
        numbers = iter(range(self._values.keys))

        async def worker() -> None:
            for number in numbers:
                value = await self._clerk.get(self._values.key(number), timeout=PATIENCE_SECONDS)
                self._moved.checked += 1
                if not self._values.is_right(number, value):
                    self._moved.lost += 1
                    self._moved.first_lost = self._moved.first_lost or f"{self._values.key(number)}: {value[:40]!r}"

        await together([worker() for _ in range(AT_ONCE)])


if __name__ == "__main__":
    run(lambda reactor: Mover(reactor, Move.from_argument(sys.argv[1])).go())
