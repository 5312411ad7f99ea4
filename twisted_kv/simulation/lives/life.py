"""One seed, one life, one report.

A life has three parts. Under load everything that the plan allows goes wrong, and nothing unsafe may happen. Then the
faults stop, by an ending that the seed draws: all heals; or a majority of each group does and the rest stays dead or
cut off until later; or the power fails everywhere at one instant first. Last, everything must come right (recovery).

It decides what a life consists of; what must hold at any moment is in invariants, what must hold when faults have
stopped in recovery, what clients may see in linearizability.
"""

from __future__ import annotations

import gc
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from random import Random
from typing import Any, Final, Literal

import msgspec
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from twisted_kv.client.clerk import Clerk
from twisted_kv.errors import KVError
from twisted_kv.machines.configuration import shard_of
from twisted_kv.simulation.doors.clock import Runaway
from twisted_kv.simulation.doors.disk import InjectedError, InjectedFull
from twisted_kv.simulation.doors.wired import WiredHub
from twisted_kv.simulation.doors.world import Event, World, between, one_of
from twisted_kv.simulation.faults.knobs import USUAL, Knobs, draw_knobs
from twisted_kv.simulation.faults.nemesis import Nemesis
from twisted_kv.simulation.faults.plans import Hints, Plan
from twisted_kv.simulation.judges.checkers import (
    BROKEN,
    CALLS,
    DECIDED,
    DOOR,
    GENTLE,
    LEFT,
    LINEARIZABLE,
    LOGGED,
    MISREAD,
    STRANGERS,
    TOLD,
    Violation,
)
from twisted_kv.simulation.judges.history import History
from twisted_kv.simulation.judges.invariants import exactly_once
from twisted_kv.simulation.judges.linearizability import Verdict, findings
from twisted_kv.simulation.judges.majorities import LOOK_SECONDS, Majorities
from twisted_kv.simulation.lives.administration import Administration
from twisted_kv.simulation.lives.bulk import Hauler
from twisted_kv.simulation.lives.cluster import Cluster
from twisted_kv.simulation.lives.lodger import Lodger
from twisted_kv.simulation.lives.recovery import Recovery, Stuck
from twisted_kv.simulation.lives.reports import JUDGE, RUN, Report, shortened
from twisted_kv.simulation.lives.strangers import Stranger
from twisted_kv.simulation.lives.workload import (
    FULL_MIX,
    LAB_MIX,
    Administrator,
    Clerks,
    Client,
    IClerk,
    Owner,
    Rambler,
    SharedKeys,
    with_reads,
)

SHARDS: Final = 10
WARM_SECONDS: Final = 0.5
"""Virtual: clients call for so long before anything goes wrong."""
LONG_SECONDS: Final = 10.0
LONGER_SECONDS: Final = 12.0
"""Virtual: a life with too little load to mean anything suffers longer, at most by so much."""
CLOSING_SECONDS: Final = (0.3, 2.0)
LODGING: Final = "key0"
"""The tag of a key that all share."""
CLIENTS: Final = "clients"
"""The host of a Clerk that all share."""
WRITES_BEFORE_MIN: Final = 5
WRITES_DURING_MIN: Final = 10
"""With fewer writes done before the faults, or while they lasted, a life means nothing (hazards §1, habit e)."""

Ending = Literal["all heals", "a majority heals", "the power fails"]
ENDINGS: Final[Sequence[Ending]] = ("all heals", "the power fails", "a majority heals", "a majority heals")


class Shape(msgspec.Struct, frozen=True):
    """What a seed draws besides the faults themselves.

    Attributes:
        groups: gid → number of members.
        log_bytes_max: small figures mean checkpoints, cuts and snapshots all the time.
        timeouts: seconds that the calls of a client or an administrator may take, one after the other; short ones make
            unknown outcomes.
        seconds: virtual, of the part in which things go wrong.
        administrators: how many change configurations at once, if any do.
        reads: share of the calls that are reads; None: as the mix says.
        ending: how the faults stop.
        shared_clerk: all clients call through one Clerk.
        at_once: calls that a Rambler makes at once.
        cancels: share of the calls that are cancelled.
        closing_seconds: (least, most) time after which a Clerk is closed and replaced; None: never.
        fidgets: administrators move the shards in use to and fro.
        wire: all that crosses goes through the production transport.
        haulers: how many clients have large values.
        lodgers: how many have keys that come and go.
        one_process, rivals, knobs: as Cluster takes them.
        apart_from_clients: whether those that stay cut off cannot be reached by clients either.
    """

    groups: Mapping[int, int]
    log_bytes_max: int
    owners: int
    ramblers: int
    keys: int
    full_mix: bool
    timeouts: tuple[float, ...]
    seconds: float
    controllers: int = 3
    administrators: int = 1
    reads: float | None = None
    one_process: bool = False
    rivals: Mapping[int, int] = {}
    knobs: Knobs = USUAL
    ending: Ending = "all heals"
    apart_from_clients: bool = True
    shared_clerk: bool = False
    at_once: int = 1
    cancels: float = 0.0
    closing_seconds: tuple[float, float] | None = None
    fidgets: bool = False
    wire: bool = False
    haulers: int = 0
    lodgers: int = 0


def run_seed(seed: int, plan: Plan, sink: Callable[[Event], None] | None = None) -> Report:
    """Live one life and judge it.

    Args:
        sink: is given every event of the trace.
    """
    world = World(seed, sink)
    with tempfile.TemporaryDirectory(prefix="twisted-kv-", dir=_memory_directory()) as path:
        shape = draw_shape(world.random_for("shape"), plan)
        life = Life(world, plan, shape, path)
        with shape.knobs.in_force(), _listening(life):
            try:
                life.live()
            except Stuck as stuck:
                life.wrong.append(stuck.violation)
            except (AssertionError, KVError, Runaway):
                life.wrong.append(Violation(BROKEN, traceback.format_exc()))
            finally:
                life.end()
            gc.collect()
    violations = tuple(dict.fromkeys(life.violations()))
    return Report(
        seed,
        plan.name,
        violations,
        tuple(shortened(life.story(), violations)) if violations else (),
        world.trace.digest(),
        life.figures(),
        dict(world.reached),
        "" if violations else life.void(),
    )


def draw_shape(random: Random, plan: Plan) -> Shape:
    """What a seed draws besides its faults (swarm testing: every knob somewhere, never all the same)."""
    hints = plan.shape
    groups = {100 + number: one_of(random, hints.members) for number in range(one_of(random, hints.groups))}
    first = next(iter(groups))
    shape = Shape(
        groups=groups,
        log_bytes_max=one_of(random, hints.log_bytes_max),
        owners=one_of(random, (1, 3)),
        ramblers=one_of(random, (2, 4)),
        keys=one_of(random, (1, 3, 8)),
        full_mix=random.random() < 0.5,
        timeouts=tuple(one_of(random, (0.4, 1.5, LONG_SECONDS)) for _ in range(3)),
        seconds=one_of(random, (4.0, 8.0, 12.0)),
        controllers=one_of(random, hints.controllers),
        administrators=one_of(random, hints.administrators),
        reads=hints.reads,
        one_process=hints.one_process,
        rivals={first: groups[first]} if hints.rivals else {},
        knobs=USUAL if plan.is_gentle else _drawn_knobs(random, hints),
        # A process that all share has no majority that could heal without the rest.
        ending=one_of(random, ENDINGS[:2] if hints.one_process else ENDINGS),
        apart_from_clients=random.random() < 0.5,
        shared_clerk=random.random() < hints.shared_clerk,
        at_once=one_of(random, hints.at_once),
        cancels=0.0 if plan.is_gentle else one_of(random, hints.cancels),
        closing_seconds=None if plan.is_gentle else one_of(random, (None, None, CLOSING_SECONDS)),
        fidgets=random.random() < hints.fidgets,
        wire=one_of(random, hints.wire),
        lodgers=one_of(random, hints.lodgers),
    )
    return _with_parts(random, shape) if shape.wire else shape


def _with_parts(random: Random, shape: Shape) -> Shape:
    """Bodies cross in parts: because they are large, or because parts are tiny."""
    if random.random() < 0.4:
        return msgspec.structs.replace(shape, haulers=1)
    part_bytes = one_of(random, (150, 400, 2_000))
    return msgspec.structs.replace(shape, knobs=msgspec.structs.replace(shape.knobs, part_bytes=part_bytes))


def _drawn_knobs(random: Random, hints: Hints) -> Knobs:
    """Any knobs with which a group that nothing disturbs keeps its leader.

    Not so with the shortest election timeout and clocks of which one runs three times as fast as another: followers
    then give up between two heartbeats.
    """
    knobs = draw_knobs(random, hints.drift, hints.sessions_max, hints.chunk_bytes)
    slowest, fastest = 1 - knobs.drift, 1 + knobs.drift
    if knobs.settings.election_ticks * slowest <= 1.2 * knobs.settings.heartbeat_ticks * fastest:
        return msgspec.structs.replace(knobs, drift=0.1)
    return knobs


class Life:
    """A cluster, its clients, its nemesis, and what was found wrong."""

    def __init__(self, world: World, plan: Plan, shape: Shape, path: str) -> None:
        self.world = world
        self.wrong: list[Violation] = []
        self._plan = plan
        self._shape = shape
        self._path = path
        self._history = History(world.trace.note)
        self._cluster = Cluster(
            world,
            path,
            shape.controllers,
            shape.groups,
            SHARDS,
            shape.log_bytes_max,
            shape.knobs,
            shape.one_process,
            shape.rivals,
            shape.wire,
        )
        self._nemesis = Nemesis(world, self._cluster, plan)
        self._cluster.watch.elected = self._nemesis.elected
        self._cluster.watch.now = world.clock.seconds
        self._cluster.watch.noticed = self._noticed
        self._keys = SharedKeys(shape.keys)
        self._clerks: list[Clerks] = []
        self._hosts: list[str] = []
        self._clients = list(self._make_clients())
        self._closing_random = world.random_for("closing")
        self._calm = False
        self._shown: list[Event] = []
        self._administrators = list(self._make_administrators())
        self._strangers = list(self._make_strangers())
        watch = self._cluster.watch
        self._majorities = Majorities(self._cluster, watch.wiped, watch.found, 1 - shape.knobs.drift)
        self._recovery = Recovery(world, self._cluster, shape.groups, self._history, self.wrong, shape.knobs.drift)
        self._writes_before = 0
        self._writes_during = 0

    def live(self) -> None:
        """All three parts.

        Raises:
            Stuck: something that must come right in time did not.
        """
        self.world.trace.tell(RUN, "begins", plan=self._plan.name, shape=self._shape)
        self._recovery.form()
        if not self._shape.wire:
            # Streams take their time to stand again, and who waits for that is not to blame.
            self._look_at_majorities()
        self._suffer()
        if self._plan.is_gentle:
            # Whatever the ending does to them, calls were to succeed while nothing was wrong, and somebody listed.
            self._recovery.let_all_come_back(self._administrators)
            self._recovery.join_all()
            self._recovery.let_all_come_back(self._actors)
        self._stop_the_faults()
        self._recovery.rest()
        if self._shape.wire:
            self.world.trace.tell(RUN, "everybody stops")
            if not self._cluster.close():
                self.wrong.append(Violation(LEFT, "not everybody has stopped in time"))
            self.wrong += [Violation(LEFT, line) for line in self._cluster.hub.left]

    def end(self) -> None:
        """Close every file."""
        for name in self._cluster.alive:
            self._cluster.kill(name)

    def violations(self) -> Iterator[Violation]:
        """All that was found wrong."""
        yield from self._cluster.watch.wrong
        yield from self.wrong
        for failure in self._cluster.hub.broken:
            if failure.check(InjectedError, InjectedFull) is None:
                yield Violation(DOOR, failure.getTraceback())
        yield from (Violation(MISREAD, line) for line in self._cluster.hub.misread)
        for stranger in self._strangers:
            yield from (Violation(STRANGERS, line) for line in stranger.wrong)
        for actor in self._actors:
            yield from (Violation(TOLD, line) for line in actor.wrong)
        for clerks in self._clerks:
            yield from (Violation(CALLS, line) for line in clerks.wrong)
        for finding in findings(self._history):
            checker = DECIDED if finding.verdict is Verdict.UNDECIDED else LINEARIZABLE
            if finding.at is not None:
                self._shown.append(Event(finding.at, JUDGE, f"finds later what shows here: {checker}", ()))
            yield Violation(checker, f"{finding.key}: {finding.reason}")
        yield from exactly_once(self._history, self._recovery.final)
        trouble = self._history.failed_count + self._history.unknown_count
        if trouble and self._plan.is_gentle:
            yield Violation(GENTLE, f"{trouble} calls failed although nothing was wrong")

    def story(self) -> Sequence[Event]:
        """What happened besides the traffic, and when what was found in the end shows; once ``violations`` was read."""
        return sorted([*self.world.trace.story, *self._shown], key=lambda event: event.at)

    def void(self) -> str:
        """Why nothing follows from this life, though nothing was found; "" if something does."""
        if self._writes_before < WRITES_BEFORE_MIN:
            return f"{self._writes_before} writes before the faults, of {WRITES_BEFORE_MIN} at least"
        if self._writes_during < WRITES_DURING_MIN:
            return f"{self._writes_during} writes during the faults, of {WRITES_DURING_MIN} at least"
        return ""

    def figures(self) -> Mapping[str, float]:
        """How much was done."""
        return {
            "calls": len(self._history),
            "writes": self._writes_before + self._writes_during,
            "failed": self._history.failed_count,
            "unknown": self._history.unknown_count,
            "faults": self._nemesis.faults,
            "changes": sum(administrator.changes for administrator in self._administrators),
            "events": self.world.events,
            "seconds": round(self.world.clock.seconds(), 1),
        }

    def heard(self, event: LogEvent) -> None:
        """What the program logs belongs to the story; a failure that was not injected is a bug.

        A process that is killed in the middle of a call does not say how that call ended.
        """
        if self.world.clock.running in self._cluster.dead:
            return
        failure = event.get("log_failure")
        if event["log_level"] >= LogLevel.info and event.get("log_format"):
            facts = {} if failure is None or failure.type is None else {"failure": failure.type.__name__}
            self.world.trace.tell(self.world.clock.running, self._told(event), **facts)
        if failure is not None and failure.check(InjectedError, InjectedFull) is None:
            violation = Violation(LOGGED, f"by {self.world.clock.running}: {failure.getTraceback()}")
            self.wrong.append(violation)
            self._noticed(violation)

    # ── the parts ──────────────────────────────────────────────────────────────────────────────────

    def _suffer(self) -> None:
        for client in self._clients:
            client.start()
        self.world.run_for(WARM_SECONDS)
        self._writes_before = self._history.writes_count
        self.world.trace.tell(RUN, "faults begin")
        self._nemesis.start()
        for stranger in self._strangers:
            stranger.start()
        for clerks in self._clerks:
            self._close_later(clerks)
        if self._plan.churn_seconds is not None:
            for administrator in self._administrators:
                administrator.start()
        self.world.run_for(self._shape.seconds)
        self.world.run_until(lambda: self._writes_since() >= WRITES_DURING_MIN, LONGER_SECONDS)
        self._writes_during = self._writes_since()

    def _writes_since(self) -> int:
        """Writes done since the faults began."""
        return self._history.writes_count - self._writes_before

    def _stop_the_faults(self) -> None:
        self._calm = True
        for stranger in self._strangers:
            stranger.stop()
        if self._shape.ending == "the power fails":
            self.world.trace.tell(RUN, "the power fails")
            for name in list(self._cluster.alive):
                self._cluster.kill(name)
        self.world.trace.tell(RUN, "faults end", by=self._shape.ending)
        self._nemesis.calm()
        if self._shape.ending == "a majority heals":
            clients = self._hosts if self._shape.apart_from_clients else []
            healed = self._recovery.cut_off_the_rest(clients)
            self._recovery.come_right(self._actors, healed)
            self.world.trace.tell(RUN, "the rest heals")
            self._nemesis.calm()
        self._recovery.come_right(self._actors, self._recovery.everybody())

    def _look_at_majorities(self) -> None:
        self._majorities.look(self.world.clock.seconds())
        self.world.clock.callLater(LOOK_SECONDS, self._look_at_majorities)

    def _servers(self) -> Sequence[str]:
        """Where everybody listens."""
        cluster = self._cluster
        return [endpoint for gid in cluster.groups if gid >= 0 for endpoint in cluster.endpoints(gid)]

    def _make_strangers(self) -> Iterator[Stranger]:
        """Where there are ports."""
        hub, world = self._cluster.hub, self.world
        if isinstance(hub, WiredHub):
            reactor = hub.streams.reactor(world.host("stranger"))
            yield Stranger(reactor, world.random_for("stranger"), self._servers)

    # ── who is there ───────────────────────────────────────────────────────────────────────────────

    @property
    def _actors(self) -> Sequence[Any]:
        return [*self._clients, *self._administrators]

    def _make_clients(self) -> Iterator[Client]:
        shape, world = self._shape, self.world
        mix = with_reads(FULL_MIX if shape.full_mix else LAB_MIX, shape.reads)
        kinds: list[Callable[..., Client]] = [Owner] * shape.owners + [
            partial(Rambler, keys=self._keys, mix=mix, at_once=shape.at_once)
        ] * shape.ramblers
        kinds += [Hauler] * shape.haulers + [partial(Lodger, tag=LODGING)] * shape.lodgers
        shared = self._make_clerk(CLIENTS) if shape.shared_clerk else None
        for number, kind in enumerate(kinds):
            name = f"client-{number}"
            clerk = shared or self._make_clerk(name)
            yield kind(
                name,
                clerk,
                self._history,
                world.clock,
                world.random_for(name),
                timeout=self._timeout(number),
                cancels=shape.cancels,
            )

    def _timeout(self, number: int) -> float:
        """How long the calls of a client or an administrator may take."""
        timeouts = self._shape.timeouts
        return LONG_SECONDS if self._plan.is_gentle else timeouts[number % len(timeouts)]

    def _make_clerk(self, name: str) -> IClerk:
        """A Clerk on a host of its own, or one after the other, each on another."""
        names = (f"{name}~{number}" if number else name for number in count())

        def make() -> Clerk:
            self._hosts.append(next(names))
            return self._cluster.clerk(self._hosts[-1])

        if self._shape.closing_seconds is None:
            return make()
        self._clerks.append(Clerks(make))
        return self._clerks[-1]

    def _close_later(self, clerks: Clerks) -> None:
        """While things go wrong, Clerks come and go."""
        assert self._shape.closing_seconds is not None
        seconds = between(self._closing_random, *self._shape.closing_seconds)
        self.world.clock.callLater(seconds, self._close, clerks)

    def _close(self, clerks: Clerks) -> None:
        if not self._calm:
            clerks.replace()
            self._close_later(clerks)

    def _make_administrators(self) -> Iterator[Administrator]:
        favourites = sorted({shard_of(key, SHARDS) for key in self._keys.names}) if self._shape.fidgets else []
        for number in range(self._shape.administrators):
            name = f"churn-{number}"
            yield Administrator(
                Administration(self._cluster, name),
                self._cluster.addresses,
                SHARDS,
                self.world.clock,
                self.world.random_for(name),
                self._plan.churn_seconds or (0.0, 0.0),
                timeout=self._timeout(number),
                favourites=favourites,
            )

    def _noticed(self, violation: Violation) -> None:
        """The story tells at which moment something was found."""
        self.world.trace.tell(JUDGE, f"finds: {violation.checker}")

    def _told(self, event: LogEvent) -> str:
        """The words of an event, the same in every run: no path, no address, one line."""
        line = formatEvent(event).replace(self._path, "…").partition("\n")[0]
        return re.sub(r"0x[0-9a-f]+", "0x…", line)


@contextmanager
def _listening(life: Life) -> Iterator[None]:
    globalLogPublisher.addObserver(life.heard)  # type: ignore[arg-type]
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(life.heard)  # type: ignore[arg-type]


def _memory_directory() -> str | None:
    """Where files cost no disk, if there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
