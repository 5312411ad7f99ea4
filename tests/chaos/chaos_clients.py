"""The load of a chaos run: the simulator's clients over real Clerks, each with links of its own, and administrators.

Decides who calls what, how often and for how long; every round has new keys and tokens, so that its history can be
judged alone. The Clerks live as long as the cluster: their sessions and what they know of it go through all rounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from random import Random
from typing import Any, Final

from chaos_servers import SHARDS, Fleet
from twisted.internet.defer import DeferredList
from twisted.logger import Logger

from twisted_kv import Clerk, ControllerClerk
from twisted_kv.simulation.doors.world import one_of
from twisted_kv.simulation.judges.history import Call, History, Verb
from twisted_kv.simulation.lives.workload import (
    CALLS_PER_KEY_MAX,
    FULL_MIX,
    LAB_MIX,
    Administrator,
    Client,
    Owner,
    Rambler,
)

OWNERS: Final = 2
RAMBLERS: Final = 4
READERS: Final = 2
ADMINISTRATORS: Final = 2
SHARED_KEYS: Final = 6
UNKNOWN_PER_KEY_MAX: Final = 6
READ_ONLY: Final[Mapping[Verb, float]] = {"get": 1.0}
TIMEOUTS: Final = (0.5, 2.0, 10.0)
"""Of a call, client by client: short ones make unknown outcomes, long ones go through many retries."""
CHURN_SECONDS: Final = (0.5, 5.0)
PAUSE_SECONDS: Final = (0.0, 0.04)


class Crowd:
    """The Clerks of all clients and administrators of one cluster."""

    log = Logger()

    def __init__(self, reactor: Any, random: Random, fleet: Fleet) -> None:
        self._reactor = reactor
        self._random = random
        self._fleet = fleet
        controllers = fleet.announced(0)
        self._clerks = [Clerk(controllers, reactor) for _ in range(OWNERS + RAMBLERS + READERS)]
        self._admins = [ControllerClerk(controllers, reactor) for _ in range(ADMINISTRATORS)]
        self.auditor = Clerk(controllers, reactor)
        self.admin = ControllerClerk(controllers, reactor)

    def load(self, name: str, history: History) -> Load:
        """New clients over the same Clerks."""
        load = Load(self._reactor)
        load.clients = list(self._clients(name, history, load))
        return load

    def administrators(self) -> list[Administrator]:
        """Two at once, who know nothing of each other."""
        groups = {gid: self._fleet.announced(gid) for gid in self._fleet.groups if gid}
        return [
            Administrator(
                clerk, groups, SHARDS, self._reactor, Random(self._random.getrandbits(64)), CHURN_SECONDS, timeout=8.0
            )
            for clerk in self._admins
        ]

    async def close(self) -> None:
        """Give up every call."""
        everybody = [*self._clerks, *self._admins, self.auditor, self.admin]
        await DeferredList([clerk.close() for clerk in everybody])

    def _clients(self, name: str, history: History, load: Load) -> Iterator[Client]:
        keys = SharedKeys(name)
        mix = one_of(self._random, (LAB_MIX, FULL_MIX))
        kinds: list[tuple[type[Client], dict[str, Any]]] = [(TimedOwner, {})] * OWNERS
        kinds += [(TimedRambler, {"keys": keys, "mix": mix})] * RAMBLERS
        kinds += [(TimedRambler, {"keys": keys, "mix": READ_ONLY})] * READERS
        for number, (clerk, (kind, more)) in enumerate(zip(self._clerks, kinds, strict=True)):
            random = Random(self._random.getrandbits(64))
            client = kind(
                f"{name}.{number}",
                clerk,
                history,
                self._reactor,
                random,
                PAUSE_SECONDS,
                TIMEOUTS[number % len(TIMEOUTS)],
                **more,
            )
            client.load = load  # type: ignore[attr-defined]
            yield client


class Load:
    """The clients of one round.

    Attributes:
        answered: when each call that took effect came back.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.clients: list[Client] = []
        self.answered: list[float] = []

    @property
    def idle(self) -> bool:
        """Whether every call has come back, after ``stop``."""
        return all(client.idle for client in self.clients)

    @property
    def warm(self) -> bool:
        """Whether there have been several answers for each client."""
        return len(self.answered) >= 3 * len(self.clients)

    def start(self) -> None:
        """Begin to call."""
        for client in self.clients:
            client.start()

    def stop(self) -> None:
        """Make no further call."""
        for client in self.clients:
            client.stop()

    def told(self) -> None:
        """A call took effect."""
        self.answered.append(self._reactor.seconds())

    def between(self, begin: float, end: float) -> list[float]:
        """When calls came back that took effect, within this time."""
        return [moment for moment in self.answered if begin <= moment < end]

    def worst_gap(self, begin: float, end: float) -> float:
        """The longest time without any."""
        moments = [begin, *self.between(begin, end), end]
        return max(later - earlier for earlier, later in pairwise(moments))


class TimedOwner(Owner):
    """An Owner that says when."""

    load: Load

    def succeeded(self, call: Call) -> None:
        super().succeeded(call)
        self.load.told()


class TimedRambler(Rambler):
    """A Rambler that says when."""

    load: Load

    def succeeded(self, call: Call) -> None:
        super().succeeded(call)
        self.load.told()


class SharedKeys:
    """The shared keys of one round, each replaced by a fresh one in time, spread over all shards."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._made = 0
        self._calls: dict[str, int] = {}
        self._unknown: dict[str, int] = {}
        self._names = [self._fresh() for _ in range(SHARED_KEYS)]

    def pick(self, random: Random) -> str:
        """One of them."""
        place = one_of(random, range(len(self._names)))
        name = self._names[place]
        if self._calls[name] >= CALLS_PER_KEY_MAX or self._unknown[name] >= UNKNOWN_PER_KEY_MAX:
            name = self._names[place] = self._fresh()
        self._calls[name] += 1
        return name

    def unsettled(self, name: str) -> None:
        """A call on it has an unknown outcome."""
        self._unknown[name] += 1

    def _fresh(self) -> str:
        self._made += 1
        name = f"{self._prefix}/shared{self._made}"
        self._calls[name] = self._unknown[name] = 0
        return name
