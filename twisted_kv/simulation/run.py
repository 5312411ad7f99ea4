"""One seed, one run, one report; and many seeds, over processes.

A run has two phases. First everything that the plan allows goes wrong under load, and nothing unsafe may happen. Then
all is healed, and everything must come right: every call comes back, every shard settles, replicas are equal, clients'
histories are linearizable, and the cluster rests. A violation comes with the seed and the command that replays it.

It decides what a run consists of; what must hold at any moment is in invariants, what clients may see in
linearizability.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any, Final

import msgspec
from twisted.internet.defer import ensureDeferred
from twisted.logger import LogEvent, LogLevel, globalLogBeginner, globalLogPublisher

from twisted_kv.errors import KVError
from twisted_kv.simulation.clock import Runaway
from twisted_kv.simulation.cluster import Cluster
from twisted_kv.simulation.disk import InjectedError, InjectedFull
from twisted_kv.simulation.history import History
from twisted_kv.simulation.invariants import exactly_once
from twisted_kv.simulation.linearizability import findings
from twisted_kv.simulation.nemesis import PLANS, Nemesis, Plan
from twisted_kv.simulation.workload import FULL_MIX, LAB_MIX, Administrator, Client, Owner, Rambler, SharedKeys
from twisted_kv.simulation.world import Event, World, one_of
from twisted_kv.transport.wire import PEER_STEP

SHARDS: Final = 10
FORM_SECONDS: Final = 30.0
"""Virtual: three fresh groups form, elect and follow the first configuration."""
RETURN_SECONDS: Final = 60.0
"""Virtual, from the calm on: within this every call has come back and everything has settled."""
LONG_SECONDS: Final = 10.0
REST_SECONDS: Final = 3.0
STEPS_PER_MEMBER_MAX: Final = 25
"""Consensus messages per member in an idle second; the labs allow 20 (scenarios §3.1-9)."""
STORY_LINES: Final = 40


class Shape(msgspec.Struct, frozen=True):
    """What a seed draws besides the faults themselves.

    Attributes:
        groups: gid → number of members.
        log_bytes_max: small figures mean checkpoints, cuts and snapshots all the time.
        timeouts: seconds that the calls of a client may take, client by client; short ones make unknown outcomes.
        seconds: virtual, of the phase in which things go wrong.
    """

    groups: Mapping[int, int]
    log_bytes_max: int
    owners: int
    ramblers: int
    keys: int
    full_mix: bool
    timeouts: tuple[float, ...]
    seconds: float


class Report(msgspec.Struct, frozen=True):
    """What became of a run.

    Attributes:
        violations: in words; none: all is well.
        story: what happened besides the traffic, the end of it.
        digest: of the whole trace; the same for the same seed, plan and program.
        figures: how much was done, for people.
    """

    seed: int
    plan: str
    violations: tuple[str, ...]
    story: tuple[str, ...]
    digest: str
    figures: Mapping[str, float]

    def __str__(self) -> str:
        if not self.violations:
            figures = ", ".join(f"{name} {value:g}" for name, value in self.figures.items())
            return f"seed {self.seed}, plan {self.plan}: ok ({figures})"
        lines = [f"seed {self.seed}, plan {self.plan}: VIOLATION", *(f"  {line}" for line in self.violations)]
        lines += ["  what happened before:", *(f"    {line}" for line in self.story)]
        return "\n".join([*lines, f"  replay: {replay_command(self.seed, self.plan)}"])


def replay_command(seed: int, plan: str) -> str:
    """What a person types to see a run again."""
    return f"twisted-kv simulate --seed {seed} --plan {plan} --trace"


def main(seeds: int, jobs: int, seed: int | None, plan: str, trace: bool, echo: Callable[[str], None] = print) -> int:
    """The command ``simulate``.

    Args:
        seeds: how many, from 1 on.
        jobs: processes.
        seed: this one alone instead.
        plan: a name in PLANS.
        trace: tell every event of a single seed.
        echo: takes the lines of the report.
    Returns:
        the exit status: 1 after a violation.
    Raises:
        KeyError: there is no such plan.
    """
    wanted = PLANS[plan]
    _be_silent()
    failed = 0
    if seed is not None:
        report = run_seed(seed, wanted, (lambda event: echo(str(event))) if trace else None)
        echo(str(report))
        return 1 if report.violations else 0
    for report in _reports(range(1, seeds + 1), wanted, jobs):
        failed += bool(report.violations)
        echo(str(report))
    echo(f"{seeds} seeds of plan {plan}: {failed} with violations")
    return 1 if failed else 0


def run_seed(seed: int, plan: Plan, sink: Callable[[Event], None] | None = None) -> Report:
    """Live one life and judge it.

    Args:
        sink: is given every event of the trace.
    """
    world = World(seed, sink)
    with tempfile.TemporaryDirectory(prefix="twisted-kv-", dir=_memory_directory()) as path:
        run = _Run(world, plan, path)
        with _listening(run):
            try:
                run.live()
            except (AssertionError, KVError, Runaway) as error:
                run.wrong.append(f"{error}" if isinstance(error, _Stuck) else traceback.format_exc())
            finally:
                run.end()
            gc.collect()
    return Report(
        seed,
        plan.name,
        tuple(run.violations()),
        tuple(str(event) for event in list(world.trace.story)[-STORY_LINES:]),
        world.trace.digest(),
        run.figures(),
    )


def draw_shape(random: Random) -> Shape:
    """What a seed draws besides its faults (swarm testing: every knob somewhere, never all the same)."""
    return Shape(
        groups={100 + number: one_of(random, (3, 3, 3, 5)) for number in range(one_of(random, (2, 2, 3)))},
        log_bytes_max=one_of(random, (500, 2_000, 10_000, 1 << 20)),
        owners=one_of(random, (1, 3)),
        ramblers=one_of(random, (2, 4)),
        keys=one_of(random, (1, 3, 8)),
        full_mix=random.random() < 0.5,
        timeouts=tuple(one_of(random, (0.4, 1.5, LONG_SECONDS)) for _ in range(3)),
        seconds=one_of(random, (4.0, 8.0, 12.0)),
    )


class _Stuck(AssertionError):
    """Something did not come right in time."""


class _Run:
    """One life: a cluster, its clients, its nemesis, and what was found wrong."""

    def __init__(self, world: World, plan: Plan, path: str) -> None:
        self.world = world
        self.wrong: list[str] = []
        self._plan = plan
        self._shape = draw_shape(world.random_for("shape"))
        self._history = History()
        self._final: dict[str, str | None] = {}
        self._cluster = Cluster(world, path, 3, self._shape.groups, SHARDS, self._shape.log_bytes_max)
        self._nemesis = Nemesis(world, self._cluster, plan)
        self._cluster.watch.elected = self._nemesis.elected
        self._clients = list(self._make_clients())
        self._auditor = self._cluster.clerk("auditor")
        self._admin = self._cluster.controller_clerk("admin")
        self._administrator = Administrator(
            self._cluster.controller_clerk("churn"),
            {gid: self._cluster.endpoints(gid) for gid in self._shape.groups},
            SHARDS,
            world.clock,
            world.random_for("churn"),
            plan.churn_seconds or (0.0, 0.0),
        )

    def live(self) -> None:
        """Both phases.

        Raises:
            _Stuck: something that must come right in time did not.
        """
        self.world.trace.tell("run", "begins", plan=self._plan.name, shape=self._shape)
        self._join_all()
        self._suffer()
        self.world.trace.tell("run", "calm")
        self._nemesis.calm()
        self._let_all_come_back()
        self._join_all()
        self._read_everything()
        self._be_equal()
        self._rest()

    def end(self) -> None:
        """Close every file."""
        for name in self._cluster.alive:
            self._cluster.kill(name)

    def violations(self) -> Iterator[str]:
        """All that was found wrong."""
        yield from self._cluster.watch.wrong
        yield from self.wrong
        for failure in self._cluster.hub.broken:
            if failure.check(InjectedError, InjectedFull) is None:
                yield f"a door failed: {failure.getTraceback()}"
        actors: Sequence[Any] = [*self._clients, self._administrator]
        for actor in actors:
            yield from actor.wrong
        for finding in findings(self._history):
            yield f"{finding.key} is not linearizable: {finding.verdict.value}: {finding.reason}"
        yield from exactly_once(self._history, self._final)
        trouble = self._history.failed_count + self._history.unknown_count
        if trouble and self._plan.is_gentle:
            yield f"{trouble} calls failed although nothing was wrong"

    def figures(self) -> Mapping[str, float]:
        """How much was done."""
        return {
            "calls": len(self._history),
            "failed": self._history.failed_count,
            "unknown": self._history.unknown_count,
            "faults": self._nemesis.faults,
            "changes": self._administrator.changes,
            "events": self.world.events,
            "seconds": round(self.world.clock.seconds(), 1),
        }

    def heard(self, event: LogEvent) -> None:
        """What the program logs belongs to the story; a failure that was not injected is a bug."""
        facts = {name: value for name, value in event.items() if isinstance(value, int | float) and name[:4] != "log_"}
        facts.pop("isError", None)
        if event["log_level"] >= LogLevel.info and event.get("log_format"):
            self.world.trace.tell(self.world.clock.running, str(event["log_format"]), **facts)
        failure = event.get("log_failure")
        if failure is not None and failure.check(InjectedError, InjectedFull) is None:
            self.wrong.append(f"logged by {self.world.clock.running}: {failure.getTraceback()}")

    # ── the phases ─────────────────────────────────────────────────────────────────────────────────

    def _suffer(self) -> None:
        for client in self._clients:
            client.start()
        self._nemesis.start()
        if self._plan.churn_seconds is not None:
            self._administrator.start()
        self.world.run_for(self._shape.seconds)

    def _let_all_come_back(self) -> None:
        actors: Sequence[Any] = [*self._clients, self._administrator]
        for actor in actors:
            actor.stop()
        self._until(lambda: all(actor.idle for actor in actors), "calls have not come back")

    def _join_all(self) -> None:
        """Every group is listed, so that all data is served; then everything settles."""
        joined: list[Any] = []
        groups = {gid: self._cluster.endpoints(gid) for gid in self._shape.groups}

        async def join() -> None:
            listed = (await self._admin.query(-1, timeout=FORM_SECONDS)).groups
            missing = {gid: endpoints for gid, endpoints in groups.items() if gid not in listed}
            if missing:
                await self._admin.join(missing, timeout=FORM_SECONDS)

        ensureDeferred(join()).addBoth(joined.append)
        self._until(lambda: joined, "groups could not be joined")
        if joined[0] is not None:
            joined[0].raiseException()
        if not self._cluster.settle(RETURN_SECONDS):
            raise _Stuck(f"after {RETURN_SECONDS} s: {self._cluster.unsettled()}")

    def _read_everything(self) -> None:
        """Every key that was ever touched, into the history."""
        reading = {key: self._read(key) for key in sorted(self._history.by_key())}
        self._until(lambda: all(deferred.called for deferred in reading.values()), "the last reads hang")

    def _read(self, key: str) -> Any:
        call = self._history.begin("auditor", "get", key, None, self.world.clock.seconds())

        def told(value: str | None) -> None:
            self._history.succeeded(call, value)
            self._final[key] = value

        def failed(failure: Any) -> None:
            self._history.failed(call)
            self.wrong.append(f"{key} cannot be read in the calm: {failure.getErrorMessage()}")

        return self._auditor.get(key, None, timeout=RETURN_SECONDS).addCallbacks(told, failed)

    def _be_equal(self) -> None:
        """Replicas that have applied the same index hold the same (hazard 20)."""
        if not self._cluster.settle(RETURN_SECONDS):
            raise _Stuck(f"after the last reads: {self._cluster.unsettled()}")
        for gid, names in self._cluster.groups.items():
            digests = {name: self._cluster.machine(name).digest() for name in names}
            if len(set(digests.values())) > 1:
                self.wrong.append(f"members of group {gid} differ: {digests}")

    def _rest(self) -> None:
        """A healed cluster keeps its leaders and is quiet."""
        terms = self._terms()
        steps = self._cluster.hub.tally.attempts[PEER_STEP]
        self.world.run_for(REST_SECONDS)
        if self._terms() != terms:
            self.wrong.append(f"leaders changed in the calm: {terms} became {self._terms()}")
        members = sum(map(len, self._cluster.groups.values()))
        rate = (self._cluster.hub.tally.attempts[PEER_STEP] - steps) / REST_SECONDS / members
        if rate > STEPS_PER_MEMBER_MAX:
            self.wrong.append(f"{rate:.0f} messages per member and second while idle")

    def _terms(self) -> Mapping[int, tuple[str | None, int]]:
        terms = {}
        for gid in self._cluster.groups:
            name = self._cluster.leader(gid)
            replica = self._cluster.replica(name) if name is not None else None
            terms[gid] = (name, replica.standing.term if replica is not None else 0)
        return terms

    def _until(self, predicate: Callable[[], Any], complaint: str) -> None:
        if not self.world.run_until(lambda: bool(predicate()), RETURN_SECONDS):
            calls = "; ".join(str(call) for call in self._history.open[:5])
            raise _Stuck(f"{complaint} after {RETURN_SECONDS} s: {calls} {self._cluster.unsettled()}")

    def _make_clients(self) -> Iterator[Client]:
        shape, world = self._shape, self.world
        keys = SharedKeys(shape.keys)
        mix = FULL_MIX if shape.full_mix else LAB_MIX
        kinds = [Owner] * shape.owners + [partial(Rambler, keys=keys, mix=mix)] * shape.ramblers
        for number, kind in enumerate(kinds):
            name = f"client-{number}"
            clerk = self._cluster.clerk(name)
            timeout = LONG_SECONDS if self._plan.is_gentle else shape.timeouts[number % len(shape.timeouts)]
            yield kind(name, clerk, self._history, world.clock, world.random_for(name), timeout=timeout)


@contextmanager
def _listening(run: _Run) -> Iterator[None]:
    globalLogPublisher.addObserver(run.heard)  # type: ignore[arg-type]
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(run.heard)  # type: ignore[arg-type]


def _reports(seeds: range, plan: Plan, jobs: int) -> Iterator[Report]:
    if jobs <= 1:
        yield from (run_seed(seed, plan) for seed in seeds)
        return
    # Spawned, not forked: the calling process may hold a reactor, threads and open files.
    with multiprocessing.get_context("spawn").Pool(jobs, _be_silent) as pool:
        yield from pool.imap_unordered(partial(run_seed, plan=plan), seeds)


def _be_silent() -> None:
    """Before logging has begun Twisted prints what is critical; here the report says it."""
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


def _memory_directory() -> str | None:
    """Where files cost no disk, if there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
