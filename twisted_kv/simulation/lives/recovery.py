"""What must come right once faults have stopped, and by when: safety is worth little where nothing happens any more.

Liveness, as it is meant here. Let H be those who have healed: all members, or a majority of the voters of each group
and of the controllers, while the others stay dead or cut off. Within RETURN_SECONDS of virtual time for each of the
following, one after the other:

1. every call comes back that a client has made; they make no more;
2. an administrator can list every group again;
3. every group and the controllers have a leader in H; all in H stand at the same index; all groups follow the newest
   configuration and have nothing left to move;
4. every key that was ever touched can be read, and every shard be scanned; a scan is a read of all its keys;
5. all of H that belong to one group hold the same (equal digests).

And each group elects at most once, counted from ``GRACE_SECONDS`` after the last moment at which one of H booted, or
faults stopped. In that time the healed find each other: whatever was still on its way has arrived, and every election
timer that ran has fired. Who leads then may have to go once more, because a member with a later term comes back; twice
is a group that does not find its rest. When nothing is left to be done, leaders stay and idle members are quiet.

It decides what that means, and asks; it stops and heals nothing by itself but the rest that it cuts off.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import ensureDeferred

from twisted_kv.constants import ELECTION_TICKS, TICK_SECONDS
from twisted_kv.errors import KVError
from twisted_kv.simulation.doors.world import World, one_of, shuffled
from twisted_kv.simulation.judges.book import home_of
from twisted_kv.simulation.judges.checkers import (
    CALLS,
    EQUAL,
    ONE_ELECTION,
    QUIET,
    READABLE,
    SCANNED,
    SETTLES,
    Violation,
)
from twisted_kv.simulation.judges.history import History
from twisted_kv.simulation.lives.administration import Administration
from twisted_kv.simulation.lives.cluster import CONTROLLERS, Cluster
from twisted_kv.transport.wire import PEER_STEP

FORM_SECONDS: Final = 30.0
"""Virtual: fresh groups form, elect and follow the first configuration."""
RETURN_SECONDS: Final = 60.0
REST_SECONDS: Final = 3.0
RESTS_MAX: Final = 5
"""Longer than a server that was asked to stop may take."""
GRACE_SECONDS: Final = 2 * ELECTION_TICKS * TICK_SECONDS
"""The longest election timeout of a member whose clock is right; who hears nobody for so long has asked for votes."""
SCAN_BYTES: Final = (1, 200, 1 << 16)
"""What a chunk of a scan may hold: one key, some, all."""
STEPS_PER_MEMBER_MAX: Final = 25
"""Consensus messages per member in an idle second; the labs allow 20 (scenarios §3.1-9)."""


class Stuck(AssertionError):
    """Something did not come right in time; there is no use in going on."""

    def __init__(self, checker: str, text: str) -> None:
        super().__init__(text)
        self.violation = Violation(checker, text)


class Recovery:
    """Asks for all of it, of a cluster whose faults have stopped.

    Args:
        groups: gids of those that are to be joined.
        wrong: is given what does not hold, but need not end the life.
        drift: clocks of members run slower or faster by up to this part.

    Attributes:
        final: the last value read of every key.
    """

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        groups: Collection[int],
        history: History,
        wrong: list[Violation],
        drift: float = 0.0,
    ) -> None:
        self.final: dict[str, str | None] = {}
        self._world = world
        self._cluster = cluster
        self._groups = groups
        self._history = history
        self._wrong = wrong
        self._grace_seconds = GRACE_SECONDS / (1 - drift)
        self._steps_per_second_max = STEPS_PER_MEMBER_MAX * (1 + drift)
        self._random = world.random_for("recovery")
        self._auditor = cluster.clerk("auditor")
        self._admin = Administration(cluster, "admin")
        self._since = 0.0

    def everybody(self) -> Mapping[int, Sequence[str]]:
        """gid → names of all members; the controllers under CONTROLLERS. Rivals are no part of the cluster."""
        return {gid: names for gid, names in self._cluster.groups.items() if gid >= 0}

    def form(self) -> None:
        """Fresh groups and controllers become a cluster that serves."""
        self.join_all()
        self._settle(self.everybody(), "at first")

    def cut_off_the_rest(self, clients: Sequence[str]) -> Mapping[int, Sequence[str]]:
        """Keep but a majority of each group; each of the others dies, or lives on apart from everybody.

        Args:
            clients: names of hosts that the rest cannot reach either.
        Returns:
            gid → who has healed. A wiped member counts for nothing, so it is no part of a majority.
        """
        healed: dict[int, Sequence[str]] = {}
        rest: list[str] = []
        for gid, members in self.everybody().items():
            whole = [name for name in members if name not in self._cluster.watch.wiped]
            chosen = shuffled(self._random, whole)[: len(members) // 2 + 1]
            healed[gid] = [name for name in members if name in chosen]
            rest += [name for name in members if name not in chosen]
        self._cluster.hub.partition(rest, [*clients, *(name for names in healed.values() for name in names)])
        for name in rest:
            dies = self._random.random() < 0.5
            self._world.trace.tell(name, "stays dead" if dies else "stays cut off")
            if dies and name in self._cluster.alive:
                self._cluster.kill(name)
        return healed

    def come_right(self, actors: Sequence[Any], healed: Mapping[int, Sequence[str]]) -> None:
        """All five, of those who have healed; and no group elects more than once.

        Raises:
            Stuck: something took too long.
        """
        self._since = self._world.clock.seconds()
        self.let_all_come_back(actors)
        self.join_all()
        self._settle(healed, "after the faults")
        self._read_everything()
        self._scan_everything()
        self._settle(healed, "after the last reads")
        self._be_equal(healed)
        self._elect_once(healed)

    def let_all_come_back(self, actors: Sequence[Any]) -> None:
        """No more calls; those under way come back."""
        for actor in actors:
            actor.stop()
        self._until(lambda: all(actor.idle for actor in actors), CALLS, "calls have not come back")

    def join_all(self) -> None:
        """List every group, so that all data is served."""
        joined: list[Any] = []
        groups = {gid: self._cluster.endpoints(gid) for gid in self._groups}

        async def join() -> None:
            listed = (await self._admin.query(-1, timeout=FORM_SECONDS)).groups
            missing = {gid: endpoints for gid, endpoints in groups.items() if gid not in listed}
            if missing:
                await self._admin.join(missing, timeout=FORM_SECONDS)

        ensureDeferred(join()).addBoth(joined.append)
        self._until(lambda: joined, CALLS, "groups could not be joined")
        if joined[0] is not None:
            raise Stuck(SETTLES, f"groups could not be joined: {joined[0].getErrorMessage()}")

    def rest(self) -> None:
        """A healed cluster keeps its leaders and is quiet.

        Who was asked to stop while there were faults may take its time, and lead until then: when it has ended, the
        calm begins anew.
        """
        for _ in range(RESTS_MAX):
            begun = self._world.clock.seconds()
            terms = self._terms()
            steps = self._cluster.hub.tally.attempts[PEER_STEP]
            self._world.run_for(REST_SECONDS)
            changed = self._terms()
            said = self._cluster.hub.tally.attempts[PEER_STEP] - steps
            if changed != terms:
                self._world.run_for(REST_SECONDS)
            if not self._cluster.dead and max(self._cluster.watch.boots.values()) <= begun:
                break
        if changed != terms:
            self._blame(ONE_ELECTION, f"leaders changed in the calm: {terms} became {changed}")
        # Rivals talk among themselves as well.
        members = sum(map(len, self._cluster.groups.values()))
        rate = said / REST_SECONDS / members
        if rate > self._steps_per_second_max:
            self._blame(QUIET, f"{rate:.0f} messages per member and second while idle")

    # ── step by step ───────────────────────────────────────────────────────────────────────────────

    def _settle(self, healed: Mapping[int, Sequence[str]], when: str) -> None:
        if not self._world.run_until(lambda: not self._unsettled(healed), RETURN_SECONDS):
            raise Stuck(SETTLES, f"{when}, {RETURN_SECONDS} s later: {self._unsettled(healed)}")

    def _unsettled(self, healed: Mapping[int, Sequence[str]]) -> str:
        """What is left to be done by the healed; "" when nothing is."""
        for gid, names in healed.items():
            if self._leader(names) is None:
                return f"group {gid} has no leader among {', '.join(names)}"
            applied = {replica.applied if (replica := self._cluster.replica(name)) else -1 for name in names}
            if len(applied) > 1:
                return f"members of group {gid} stand at {sorted(applied)}"
        configuration = self._cluster.newest_configuration()
        newest = configuration.num
        for gid, names in healed.items():
            if gid == CONTROLLERS:
                continue
            endpoints = self._cluster.endpoints(gid)
            if configuration.groups.get(gid, endpoints) != endpoints:
                return f"group {gid} is listed at {configuration.groups[gid]}"
            status = self._cluster.machine(names[0]).status()
            if status["configuration"] < newest:
                return f"group {gid} is at configuration {status['configuration']} of {newest}"
            if status["migrations"]:
                return f"group {gid} has {status['migrations']} migrations to finish"
        return ""

    def _read_everything(self) -> None:
        """Every key that was ever touched, into the history."""
        reading = {key: self._read(key) for key in sorted(self._history.by_key())}
        self._until(lambda: all(deferred.called for deferred in reading.values()), CALLS, "the last reads hang")

    def _read(self, key: str) -> Any:
        call = self._history.begin("auditor", "get", key, None, self._world.clock.seconds())

        def told(value: str | None) -> None:
            self._history.succeeded(call, value)
            self.final[key] = value

        def failed(failure: Any) -> None:
            self._history.failed(call)
            self._blame(READABLE, f"{key} cannot be read: {failure.getErrorMessage()}")

        return self._auditor.get(key, None, timeout=RETURN_SECONDS).addCallbacks(told, failed)

    def _scan_everything(self) -> None:
        """Every shard, chunk by chunk; what a scan shows of a key, or does not show, is what a read was told."""
        shards = len(self._cluster.newest_configuration().shards)
        touched: list[list[str]] = [[] for _ in range(shards)]
        for key in sorted(self._history.by_key()):
            touched[home_of(key, shards)].append(key)
        scanning = [ensureDeferred(self._scan(shard, keys)) for shard, keys in enumerate(touched)]
        failures: list[Any] = []
        for scan in scanning:
            scan.addErrback(failures.append)
        self._until(lambda: all(scan.called for scan in scanning), CALLS, "the last scans hang")
        for failure in failures:
            self._blame(READABLE, f"a shard cannot be scanned: {failure.getErrorMessage()}")

    async def _scan(self, shard: int, keys: Sequence[str]) -> None:
        at = self._world.clock.seconds()
        calls = {key: self._history.begin("auditor/scan", "get", key, None, at) for key in keys}
        shown: dict[str, Any] = {}
        after: str | None = None
        bytes_max = one_of(self._random, SCAN_BYTES)
        try:
            while True:
                chunk = await self._auditor.scan(shard, after, bytes_max, timeout=RETURN_SECONDS)
                order = [*([] if after is None else [after]), *chunk.keys]
                if order != sorted(set(order)) or not set(chunk.keys) <= calls.keys():
                    self._blame(SCANNED, f"shard {shard} after {after!r} shows {chunk.keys}; there were {keys}")
                shown.update(zip(chunk.keys, chunk.values, strict=True))
                if chunk.last:
                    break
                if not chunk.keys:
                    self._blame(SCANNED, f"shard {shard} after {after!r} shows nothing, and there is more")
                    break
                after = chunk.keys[-1]
        except KVError:
            for call in calls.values():
                self._history.failed(call)
            raise
        for key, call in calls.items():
            self._history.succeeded(call, shown.get(key))

    def _be_equal(self, healed: Mapping[int, Sequence[str]]) -> None:
        """Replicas that have applied the same index hold the same (hazard 20)."""
        for gid, names in healed.items():
            digests = {name: self._cluster.machine(name).digest() for name in names}
            if gid == CONTROLLERS:
                for name in names:
                    self._cluster.watch.chronicle.compare(self._cluster.machine(name), name)
            if len(set(digests.values())) > 1:
                self._blame(EQUAL, f"members of group {gid} differ: {digests}")

    def _elect_once(self, healed: Mapping[int, Sequence[str]]) -> None:
        watch = self._cluster.watch
        # Who comes back with a later term is heard of only when the leader's next words reach it.
        self._world.run_for(self._since + self._grace_seconds - self._world.clock.seconds())
        for gid, names in healed.items():
            found = max(self._since, *(watch.boots.get(name, 0.0) for name in names)) + self._grace_seconds
            moments = [f"{at:.3f}" for at, elected in watch.elections if elected == gid and at > found]
            if len(moments) > 1:
                self._blame(ONE_ELECTION, f"group {gid} had elections at {', '.join(moments)} s, after {found:.3f} s")

    # ── asking ─────────────────────────────────────────────────────────────────────────────────────

    def _leader(self, names: Sequence[str]) -> str | None:
        """Who of these leads, in the highest term."""
        leading = [
            (replica.standing.term, name)
            for name in names
            if (replica := self._cluster.replica(name)) is not None and replica.leads
        ]
        return max(leading)[1] if leading else None

    def _terms(self) -> Mapping[int, tuple[str | None, int]]:
        terms = {}
        for gid in self.everybody():
            name = self._cluster.leader(gid)
            replica = self._cluster.replica(name) if name is not None else None
            terms[gid] = (name, replica.standing.term if replica is not None else 0)
        return terms

    def _until(self, predicate: Callable[[], Any], checker: str, complaint: str) -> None:
        if not self._world.run_until(lambda: bool(predicate()), RETURN_SECONDS):
            calls = "; ".join(str(call) for call in self._history.open[:5])
            raise Stuck(checker, f"{complaint} after {RETURN_SECONDS} s: {calls} {self._unsettled(self.everybody())}")

    def _blame(self, checker: str, text: str) -> None:
        self._wrong.append(Violation(checker, text))
