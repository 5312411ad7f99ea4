"""A whole simulated cluster for the tests of an application: real servers and Clerks, virtual time, faults on request.

    with SimulatedCluster(seed=1) as cluster:
        clerk = cluster.clerk()
        cluster.run(my_application(clerk))
        cluster.history.check()

The names here are public and stay; everything below them in ``twisted_kv.simulation`` may change. No reactor runs and
none is imported. docs/testing.md tells how to use it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from twisted_kv.client import controller_clerk
from twisted_kv.constants import SHARDS_DEFAULT, SHARDS_MAX
from twisted_kv.simulation.doors.network import RELIABLE
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.lives.cluster import CONTROLLERS, Cluster
from twisted_kv.simulation.lives.recording import Misused, NotLinearizable, RecordedHistory, SimulatedClerk

__all__ = [
    "Misused",
    "NotLinearizable",
    "RecordedHistory",
    "SimulatedClerk",
    "SimulatedCluster",
    "StoreBroken",
    "Stuck",
]

Work = Callable[[], Any] | Coroutine[Any, Any, Any] | Deferred[Any]

RUN_SECONDS: Final = 600.0
FIRST_GID: Final = 100
FORMING_SECONDS: Final = 60.0
SECONDS_MAX: Final = 1e9


class Stuck(AssertionError):
    """What was to be done is not done within its virtual time."""


class StoreBroken(AssertionError):
    """The store itself broke one of its rules: a bug of twisted-kv, worth a report with the seed."""


class SimulatedCluster:
    """Controllers and joined groups in one process, in virtual time. A context manager, used once.

    Args:
        seed: the same seed and the same test give the same run, event by event.
        groups: how many groups; their gids are 100, 101, …
        members: servers of each group.
        controllers: how many.
        shards: of the cluster.

    Attributes:
        history: what the Clerks of this cluster asked and were told.
        clock: virtual time (IReactorTime), for code that wants a reactor to wait on.
    """

    def __init__(
        self, seed: int = 1, groups: int = 2, members: int = 3, controllers: int = 3, shards: int = SHARDS_DEFAULT
    ) -> None:
        if groups < 1 or members < 1 or controllers < 1:
            raise Misused("a cluster has at least one group, one member in each, and one controller")
        if not 1 <= shards <= SHARDS_MAX:
            raise Misused(f"a cluster has 1 to {SHARDS_MAX} shards")
        self.seed = seed
        self._shape = (groups, members, controllers, shards)
        self._cluster: Cluster | None = None
        self._path = ""
        self._closed = self._running = False
        self._clerks = 0
        self._begun: list[Deferred[Any]] = []

    def __enter__(self) -> Self:
        if self._closed or self._cluster is not None:
            raise Misused("this cluster was used already: make another one")
        groups, members, controllers, shards = self._shape
        self._path = tempfile.mkdtemp(prefix="twisted-kv-", dir=_memory_directory())
        self._world = World(self.seed)
        self.clock: IReactorTime = self._world.host("test").clock
        self.history = RecordedHistory(self.clock)
        sizes = {FIRST_GID + number: members for number in range(groups)}
        self._cluster = Cluster(self._world, self._path, controllers, sizes, shards)
        try:
            administrator = self.controller_clerk("testing/joins")
            self.run(administrator.join(self.endpoints, timeout=FORMING_SECONDS))
            self.settle()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wrong = [*self._there.watch.wrong, *[failure.getTraceback() for failure in self._there.hub.broken]]
        unheard: list[Failure] = []
        for work in self._begun:
            work.addErrback(unheard.append)
        failed = list(unheard)
        self._close()
        if wrong and error is None:
            raise StoreBroken(f"seed {self.seed}: " + "; ".join(map(str, wrong)))
        if failed and error is None:
            failed[0].raiseException()

    # ── clients and time ───────────────────────────────────────────────────────────────────────────

    def clerk(self, name: str = "") -> SimulatedClerk:
        """A Clerk on a host of its own, recorded.

        Args:
            name: of the host, for partitions; "clerk-1", "clerk-2" … unless given.
        """
        cluster, name = self._there, self._fresh(name)
        host, random = self._world.host(name), self._world.random_for(f"{name}/clerk")
        endpoints = cluster.endpoints(CONTROLLERS)
        return SimulatedClerk(name, self.history, endpoints, host.clock, random, cluster.hub.at(host))

    def controller_clerk(self, name: str = "") -> controller_clerk.ControllerClerk:
        """A ControllerClerk on a host of its own."""
        return self._there.controller_clerk(self._fresh(name))

    def start(self, work: Work) -> Deferred[Any]:
        """Begin something and go on; it proceeds whenever time passes.

        Args:
            work: a coroutine, a Deferred, or a function that gives one (or just returns).
        Returns:
            a Deferred of what comes of it; ``run`` it to wait for it. If it fails and nobody asks, its error is raised
            where the cluster is left.
        """
        self._there  # noqa: B018
        outer, self._running = self._running, True
        try:
            if callable(work):
                work = work()
            if not isinstance(work, Deferred):
                work = ensureDeferred(work if isinstance(work, Coroutine) else _done(work))
        finally:
            self._running = outer
        self._begun.append(work)
        return work

    def run(self, work: Work, timeout: float = RUN_SECONDS) -> Any:
        """Let time pass until something is done; gives its result or raises its error.

        Args:
            work: as for ``start``.
            timeout: virtual seconds.
        Raises:
            Stuck: it was not done in time. Misused: called by something that runs already.
        """
        self._refuse_within("run()", "await it")
        deferred, outcome = self.start(work), list[Any]()
        deferred.addBoth(outcome.append)
        if not self._pass_until(lambda: bool(outcome), timeout):
            waiting = "".join([f"\n  waits: {call}" for call in self.history.open])
            deferred.addErrback(lambda failure: None)
            deferred.cancel()
            raise Stuck(
                f"not done after {timeout} virtual seconds (seed {self.seed}); time that passes outside of the "
                f"simulation, such as a real reactor's, passes for nobody here{waiting}"
            )
        [result] = outcome
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def pass_time(self, seconds: float) -> None:
        """Let this much virtual time pass."""
        if not 0 <= seconds < SECONDS_MAX:
            raise Misused(f"{seconds} seconds cannot pass; 0 or more can, below {SECONDS_MAX:g}")
        self._refuse_within("pass_time()", "await sleep() instead")
        self._pass_until(lambda: False, seconds)

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after so much virtual time."""
        self._there  # noqa: B018
        return deferLater(self.clock, seconds)

    def settle(self, timeout: float = FORMING_SECONDS) -> None:
        """Let time pass until every group has a leader and nothing is left to move.

        Raises:
            Stuck: that did not come true in so many virtual seconds; the text says what is missing.
        """
        self._refuse_within("settle()", "await sleep() instead")
        if self.dead:
            raise Misused(f"{', '.join(self.dead)} cannot settle while dead: restart or heal first")
        if not self._pass_until(lambda: not self._there.unsettled(), timeout):
            raise Stuck(f"{self._there.unsettled()} after {timeout} virtual seconds (seed {self.seed})")

    @property
    def now(self) -> float:
        """Virtual seconds since the cluster was made."""
        return self.clock.seconds()

    # ── who is there, and what can happen to them ──────────────────────────────────────────────────

    @property
    def groups(self) -> Mapping[int, Sequence[str]]:
        """gid → names of its servers."""
        return {gid: names for gid, names in self._there.groups.items() if gid != CONTROLLERS}

    @property
    def controllers(self) -> Sequence[str]:
        """Names of the controllers."""
        return self._there.groups[CONTROLLERS]

    @property
    def servers(self) -> Sequence[str]:
        """Names of all, controllers first."""
        return [*self.controllers, *[name for names in self.groups.values() for name in names]]

    @property
    def endpoints(self) -> Mapping[int, Sequence[str]]:
        """gid → endpoints, as ``ControllerClerk.join`` takes them."""
        return {gid: self._there.endpoints(gid) for gid in self.groups}

    @property
    def dead(self) -> Sequence[str]:
        """Names of the servers that are not running."""
        return self._there.dead

    def leader(self, gid: int) -> str | None:
        """The server that leads this group, as far as its members know."""
        if gid not in self.groups:
            raise Misused(f"there is no group {gid}; there are {sorted(self.groups)}")
        return self._there.leader(gid)

    def kill(self, *names: str) -> None:
        """SIGKILL at this instant: all that is not on disk is gone."""
        for name in self._servers(names):
            if name in self.dead:
                raise Misused(f"{name} is dead already")
            self._there.kill(name)

    def restart(self, *names: str) -> None:
        """Boot dead servers on what their disks hold."""
        for name in self._servers(names):
            if name not in self.dead:
                raise Misused(f"{name} is running")
            self._there.restart(name)

    def pause(self, *names: str) -> None:
        """SIGSTOP: they do nothing, and do not know it."""
        for name in self._servers(names):
            if name in self.dead or self._there.held(name):
                raise Misused(f"{name} does not run")
            self._there.hold(name)

    def resume(self, *names: str) -> None:
        """SIGCONT."""
        for name in self._servers(names):
            if name in self.dead or not self._there.held(name):
                raise Misused(f"{name} is not paused")
            self._there.release(name)

    def partition(self, *sides: Iterable[str]) -> None:
        """Cut every link between servers or Clerks of different sides; who is on no side keeps all links.

        Args:
            sides: names, at least two sides.
        """
        named = [[side] if isinstance(side, str) else list(side) for side in sides]
        if len(named) < 2:
            raise Misused("a partition has at least two sides")
        everybody = [name for side in named for name in side]
        if not all(isinstance(name, str) for name in everybody):
            raise Misused("sides are made of names: of a Clerk, clerk.name")
        strangers = set(everybody) - {*self.servers, *self.history.clerks}
        if strangers:
            raise Misused(f"nobody is called {', '.join(sorted(strangers))}")
        if len(set(everybody)) < len(everybody):
            raise Misused("somebody is on two sides")
        self._there.hub.partition(*named)

    def network(self, loss: float = 0.0, duplicates: float = 0.0, delay: tuple[float, float] = (0.001, 0.005)) -> None:
        """From now on each link loses, repeats and delays what crosses it.

        Args:
            loss, duplicates: probabilities, below 1.
            delay: (least, most) seconds each way.
        """
        if not (0 <= loss < 1 and 0 <= duplicates < 1 and 0 <= delay[0] <= delay[1]):
            raise Misused("probabilities are 0 or more and below 1, delays (least, most) seconds")
        self._there.hub.conditions = msgspec.structs.replace(
            RELIABLE,
            request_seconds=delay,
            reply_seconds=delay,
            request_loss=loss,
            reply_loss=loss,
            duplicate=duplicates,
        )

    def heal(self) -> None:
        """Every link is whole and reliable, the paused go on, the dead boot. ``settle`` waits until all is well."""
        cluster = self._there
        cluster.hub.heal()
        cluster.hub.conditions = RELIABLE
        for name in cluster.alive:
            if cluster.held(name):
                cluster.release(name)
        for name in list(cluster.dead):
            if name in cluster.dead:
                cluster.restart(name)

    # ── within ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def _there(self) -> Cluster:
        if self._cluster is None:
            state = "is closed" if self._closed else "is not open yet"
            raise Misused(f"this cluster {state}: use it as `with SimulatedCluster() as cluster:`")
        return self._cluster

    def _pass_until(self, done: Callable[[], bool], seconds: float) -> bool:
        self._running = True
        try:
            return self._world.run_until(done, seconds)
        finally:
            self._running = False

    def _refuse_within(self, what: str, instead: str) -> None:
        self._there  # noqa: B018
        if self._running:
            raise Misused(f"{what} lets time pass, and it passes already: {instead}")

    def _fresh(self, name: str) -> str:
        self._there  # noqa: B018
        if not name:
            self._clerks += 1
            name = f"clerk-{self._clerks}"
        if name in self.history.clerks or name in self._there.alive or name in self._there.dead:
            raise Misused(f"there is a {name} already")
        self.history.clerks.append(name)
        return name

    def _servers(self, names: Sequence[str]) -> Sequence[str]:
        strangers = [name for name in names if name not in self.servers]
        if strangers or not names:
            raise Misused(f"{', '.join(strangers) or 'nobody'}: servers are called {', '.join(self.servers)}")
        return names

    def _close(self) -> None:
        cluster, self._cluster, self._closed = self._cluster, None, True
        if cluster is not None:
            for name in list(cluster.alive):
                cluster.kill(name)
        shutil.rmtree(self._path, ignore_errors=True)


async def _done(result: Any) -> Any:
    return result


def _memory_directory() -> str | None:
    """Where files cost no disk, if there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
