"""Clusters under fire, round by round: load, then faults, then calm, then judgment.

Decides what a round consists of and when it means nothing: a round with too little load before the faults, or after
them, is void, which is not green. A cluster lives through several rounds; then another one is made, so that members can
lose their disks again. Nothing is judged by time, but for one generous bound on the calm.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
from chaos_clients import Crowd, Load
from chaos_judge import Record, judged
from chaos_nemesis import Nemesis, chosen
from chaos_onlooker import Onlooker
from chaos_servers import Fleet, compiled_shim, new_directory
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher

from twisted_kv import KVError
from twisted_kv.simulation.judges.history import History

CALM_SECONDS_MAX: Final = 240.0
"""For all to come right after the last fault. Nothing but a cluster that is stuck takes so long, on any machine."""
CALM_RATE_SHARE_MIN: Final = 0.1
"""In the calm, of the rate before the faults."""
LOOK_SECONDS: Final = 0.3
STEP_SECONDS: Final = 20.0


class Settings(msgspec.Struct, frozen=True):
    """What a run is made of.

    Attributes:
        seed: of all dice.
        groups: how many.
        warm_seconds, fault_seconds, calm_seconds: with load, before, during and after the faults of a round.
        rounds_per_cluster: then another one is made.
        faults: families or names in FAULTS; none: all.
        plant: a name of child/plants.py.
        mounts: whether small disks can be mounted.
        rate_min: calls per second that take effect before the faults; below, a round says too little.
        churn: whether groups join, leave and move.
    """

    seed: int
    groups: int = 3
    warm_seconds: float = 5.0
    fault_seconds: float = 40.0
    calm_seconds: float = 5.0
    rounds_per_cluster: int = 10
    faults: tuple[str, ...] = ()
    plant: str | None = None
    mounts: bool = False
    rate_min: float = 20.0
    churn: bool = True


class Round(msgspec.Struct):
    """What became of a round.

    Attributes:
        cluster, number: which cluster of the seed, which of its rounds, both from 1.
        seconds: it took, all in all.
        calls: that were judged; those that failed for certain leave no trace in the history.
        rates: calls per second that took effect, before the faults and in the calm.
        worst_gap_seconds: longest time without any call that took effect, while faults raged.
        elections: terms with a leader, of all groups.
        void: why the round means nothing; "" if it does.
        evidence: the directory with logs and history, kept after a violation.
    """

    seed: int
    cluster: int
    number: int
    seconds: float = 0.0
    calls: int = 0
    ok: int = 0
    failed: int = 0
    unknown: int = 0
    changes: int = 0
    elections: int = 0
    replicas_compared: int = 0
    rates: tuple[float, float] = (0.0, 0.0)
    worst_gap_seconds: float = 0.0
    faults: dict[str, int] = {}
    violations: list[str] = []
    void: str = ""
    evidence: str = ""
    plant: str | None = None

    @property
    def counts(self) -> bool:
        """Whether its minutes are worth anything."""
        return not self.void and self.plant is None

    def __str__(self) -> str:
        verdict = "VIOLATION" if self.violations else f"void: {self.void}" if self.void else "ok"
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        return (
            f"seed {self.seed} cluster {self.cluster} round {self.number}: {verdict}; {self.seconds:.0f} s, "
            f"{self.calls} calls ({self.ok} ok, {self.failed} failed, {self.unknown} unknown), "
            f"{self.rates[0]:.0f}/s before and {self.rates[1]:.0f}/s after, {self.changes} changes, "
            f"{self.elections} elections, worst gap {self.worst_gap_seconds:.1f} s; faults: {faults or 'none'}"
        )


class Stuck(Exception):
    """Something did not come right although all was calm."""


async def rounds(reactor: Any, settings: Settings, cluster: int, say: Callable[[str], None]) -> AsyncIterator[Round]:
    """Round after round, without end; each cluster is gone before the next is made, and when this is closed.

    Args:
        cluster: the first one, from 1.
        say: told what is being done, line by line.
    """
    while True:
        scene = Scene(reactor, settings, cluster, say)
        try:
            await scene.start()
            for number in range(1, settings.rounds_per_cluster + 1):
                result = await scene.round(number)
                yield result
                if result.violations:
                    break  # what is wrong stays wrong: the next would only say so again
        finally:
            await scene.stop()
        cluster += 1


class Scene:
    """One cluster, its clients and its nemesis."""

    def __init__(self, reactor: Any, settings: Settings, cluster: int, say: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._settings = settings
        self._cluster = cluster
        self._say = say
        self._random = Random(f"{settings.seed}/{cluster}")
        self._directory = new_directory()
        self._keep = False
        self._load: Load | None = None
        self._logged: list[str] = []
        shim = compiled_shim(self._directory)
        gids = tuple(100 + number for number in range(settings.groups))
        fleet_random, nemesis_random, crowd_random = (Random(self._random.getrandbits(64)) for _ in range(3))
        self._fleet = Fleet(reactor, self._directory, fleet_random, gids, shim, settings.plant, settings.mounts)
        self._onlooker = Onlooker(reactor, self._fleet)
        faults = chosen(settings.faults, self._fleet.can_fail_disks, settings.mounts or self._fleet.can_fail_disks)
        self._nemesis = Nemesis(reactor, nemesis_random, self._fleet, self._onlooker, faults)
        self._record = Record(self._fleet)
        self._crowd = Crowd(reactor, crowd_random, self._fleet)

    async def start(self) -> None:
        """All servers up, all groups formed and joined.

        Raises:
            Stuck: they are not.
        """
        globalLogPublisher.addObserver(self._heard)
        full = "a tmpfs of its own for one member of each group" if self._settings.mounts else "no tmpfs"
        shim = "the shim for all" if self._fleet.can_fail_disks else "no shim: there is no C compiler"
        self._say(f"cluster {self._cluster} in {self._directory}; disks that fail: {full}, {shim}")
        await self._fleet.start()
        self._onlooker.start()
        await self._come_to_rest()

    async def stop(self) -> None:
        """End every process, close every connection; the directory stays only as evidence."""
        self._nemesis.stop()
        if self._load is not None:
            self._load.stop()
        await self._crowd.close()
        await self._onlooker.close()
        await self._fleet.stop()
        globalLogPublisher.removeObserver(self._heard)
        if not self._keep:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def round(self, number: int) -> Round:
        """Load, faults, calm, judgment."""
        result = Round(self._settings.seed, self._cluster, number, plant=self._settings.plant)
        history, final = History(), dict[str, str | None]()
        begun = self._reactor.seconds()
        counted, elections = Counter(self._nemesis.count), self._record.elections
        try:
            await self._live(result, history, final)
        except Stuck as stuck:
            result.violations.append(f"settles: {stuck}")
        result.faults = dict(self._nemesis.count - counted)
        result.calls = len(history)
        result.failed, result.unknown = history.failed_count, history.unknown_count
        result.ok = result.calls - result.unknown - len(history.open)
        found = await deferToThread(lambda: [*judged(history, final), *self._record.violations()])
        found += [*sorted(self._onlooker.wrong), *(f"logged: by a Clerk: {each}" for each in self._logged)]
        result.violations = found + result.violations
        self._onlooker.wrong.clear()
        self._logged.clear()
        result.elections = self._record.elections - elections
        result.seconds = self._reactor.seconds() - begun
        if result.violations:
            self._keep_evidence(result, history, begun)
        return result

    async def _live(self, result: Round, history: History, final: dict[str, str | None]) -> None:
        seconds = self._reactor.seconds
        load = self._load = self._crowd.load(f"c{result.cluster}r{result.number}", history)
        administrators = self._crowd.administrators() if self._settings.churn else []
        load.start()
        try:
            # Connections and sessions come first, and take their time on a busy machine.
            await self._until(lambda: "" if load.warm else "clients have not had their first answer")
            begun = seconds()
            await self._pass(self._settings.warm_seconds)
            before = len(load.between(begun, seconds())) / (seconds() - begun)
            raging = seconds()
            self._nemesis.start()
            for administrator in administrators:
                administrator.start()
            await self._pass(self._settings.fault_seconds)
            result.worst_gap_seconds = load.worst_gap(raging, seconds())
        finally:
            for administrator in administrators:
                administrator.stop()
            self._nemesis.calm()
        await self._until(lambda: "" if all(each.idle for each in administrators) else "changes have not come back")
        result.changes = sum(administrator.changes for administrator in administrators)
        await self._come_to_rest()
        calm = seconds()
        await self._pass(self._settings.calm_seconds)
        after = len(load.between(calm, seconds())) / (seconds() - calm)
        load.stop()
        await self._until(lambda: "" if load.idle else f"calls have not come back: {history.open[:3]}")
        result.rates = (round(before, 1), round(after, 1))
        if before < self._settings.rate_min:
            result.void = f"only {before:.1f} calls per second before the faults"
        elif after < CALM_RATE_SHARE_MIN * before:
            result.void = f"only {after:.1f} calls per second in the calm, {before:.1f} before the faults"
        result.violations += [f"told: {line}" for each in load.clients for line in each.wrong[:1]]
        result.violations += [f"not broken: {line}" for each in administrators for line in each.wrong]
        await self._read_everything(history, final)
        await self._come_to_rest(quiet=True)
        result.violations += [f"equal digests: {line}" for line in await deferToThread(self._differing)]
        result.replicas_compared = len(self._fleet.servers)

    def _differing(self) -> list[str]:
        try:
            return list(self._onlooker.differing())
        except Exception as error:
            return [f"files could not be read: {error!r}"]

    async def _come_to_rest(self, quiet: bool = False) -> None:
        """Everybody runs, every group is joined and led, every shard is where it belongs."""
        num: list[int | None] = [None]

        def unrest() -> str:
            for server in self._fleet:
                self._fleet.spawn(server)  # one that was still ending when the calm began
            return self._onlooker.unrest(num[0], quiet) if num[0] is not None else "groups could not be joined"

        joining = ensureDeferred(self._join_all())
        joining.addCallbacks(lambda found: num.__setitem__(0, found), lambda failure: None)
        try:
            await self._until(unrest)
        finally:
            joining.cancel()

    async def _join_all(self) -> int:
        groups = {gid: self._fleet.announced(gid) for gid in self._fleet.groups if gid}
        while True:
            try:
                newest = await self._crowd.admin.query(-1, timeout=STEP_SECONDS)
                missing = {gid: servers for gid, servers in groups.items() if gid not in newest.groups}
                if not missing:
                    return int(newest.num)
                await self._crowd.admin.join(missing, timeout=STEP_SECONDS)
            except KVError:
                await deferLater(self._reactor, LOOK_SECONDS)

    async def _read_everything(self, history: History, final: dict[str, str | None]) -> None:
        async def read(key: str) -> None:
            call = history.begin("auditor", "get", key, None, self._reactor.seconds())
            try:
                final[key] = await self._crowd.auditor.get(key, None, timeout=CALM_SECONDS_MAX)
            except KVError as error:
                history.failed(call)
                raise Stuck(f"{key} cannot be read in the calm: {error}") from error
            history.succeeded(call, final[key])

        ended = await DeferredList([ensureDeferred(read(key)) for key in sorted(history.by_key())], consumeErrors=True)
        for succeeded, failure in ended:
            if not succeeded:
                failure.raiseException()

    async def _until(self, complaint: Callable[[], str]) -> None:
        deadline = self._reactor.seconds() + CALM_SECONDS_MAX
        while True:
            await self._onlooker.look()
            why = complaint()
            if not why:
                return
            if self._reactor.seconds() > deadline:
                raise Stuck(f"after {CALM_SECONDS_MAX:.0f} s of calm: {why}")
            await deferLater(self._reactor, LOOK_SECONDS)

    def _pass(self, seconds: float) -> Deferred[None]:
        return deferLater(self._reactor, seconds)

    def _heard(self, event: dict[str, Any]) -> None:
        """A Clerk of ours has logged a failure: a bug."""
        failure = event.get("log_failure")
        if failure is not None:
            self._logged.append(failure.getTraceback())

    def _keep_evidence(self, result: Round, history: History, begun: float) -> None:
        self._keep = True
        result.evidence = str(self._directory)
        with open(self._directory / "history.txt", "w") as file:
            for key, calls in sorted(history.by_key().items()):
                file.write(f"{key}\n")
                file.writelines(f"  {call}\n" for call in calls)
        with open(self._directory / "story.txt", "w") as file:
            file.writelines(f"{moment:10.3f} s {line}\n" for moment, line in self._nemesis.story)
            file.write(f"round {result.number} began at {begun:.3f} s\n")
            file.writelines(f"{violation}\n" for violation in result.violations)


def recorded(path: Path) -> list[Round]:
    """The rounds in a record, one line of JSON each; none if there is no such file."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Round) for line in path.read_bytes().splitlines() if line]


def write(path: Path, result: Round) -> None:
    """Add a round to a record, durably."""
    with open(path, "ab") as file:
        file.write(msgspec.json.encode(result) + b"\n")
        file.flush()
        os.fsync(file.fileno())
