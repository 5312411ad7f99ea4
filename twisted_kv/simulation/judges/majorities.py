"""A majority that can talk has a leader, whatever goes wrong around it (Raft §5.2; contract: any minority may fail).

Somebody looks at a cluster again and again. Of each group it finds the majorities whose members all run, have sound
disks for their logs, and reach each other both ways over links that lose one message in ten at most. If one of them
has been like that for LEADERLESS_SECONDS, and so long nobody in the whole group has led, it has found something.

It decides who counts as able, and for how long nobody may lead; it looks from outside and knows no core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, Final, Protocol

from twisted_kv.constants import ELECTION_TICKS, TICK_SECONDS
from twisted_kv.simulation.doors.disk import USUAL_SECONDS, SimDisk
from twisted_kv.simulation.doors.network import RELIABLE, UNRELIABLE, Hub
from twisted_kv.simulation.judges.checkers import LED

LOOK_SECONDS: Final = 0.1
LEADERLESS_SECONDS: Final = 20 * ELECTION_TICKS * TICK_SECONDS
"""Twenty election timeouts of a clock that is right: time for ten elections at the least, of which each is won by
somebody more often than not."""


class Onlooker(Protocol):
    """What is seen of a cluster."""

    hub: Hub

    @property
    def groups(self) -> Mapping[int, Sequence[str]]: ...

    @property
    def alive(self) -> Sequence[str]: ...

    def held(self, name: str) -> bool: ...

    def replica(self, name: str) -> Any: ...

    def disks(self, name: str) -> Sequence[SimDisk]: ...


class Majorities:
    """Looks at all groups of a cluster.

    Args:
        wiped: members that count for nothing.
        found: is told which checker has found what.
        slowest: how fast the slowest clock of a member runs.
    """

    def __init__(
        self, cluster: Onlooker, wiped: set[str], found: Callable[[str, str], None], slowest: float = 1.0
    ) -> None:
        self._cluster = cluster
        self._wiped = wiped
        self._found = found
        self._patience = LEADERLESS_SECONDS / slowest
        self._since: dict[tuple[str, ...], float] = {}

    def look(self, now: float) -> None:
        """Once more."""
        since: dict[tuple[str, ...], float] = {}
        for gid, members in self._cluster.groups.items():
            if gid < 0:
                continue  # a second set of processes, which the controllers turn away
            running = [name for name in members if name in self._cluster.alive and not self._cluster.held(name)]
            if any(self._leads(name) for name in running):
                continue
            able = [name for name in running if self._is_able(name)]
            for majority in combinations(able, len(members) // 2 + 1):
                if all(self._reach(one, other) for one, other in combinations(majority, 2)):
                    since[majority] = self._since.get(majority, now)
                    if now - since[majority] > self._patience:
                        self._found(LED, f"group {gid} has had no leader for {self._patience:.1f} s: {majority} could")
        self._since = since

    def _leads(self, name: str) -> bool:
        replica = self._cluster.replica(name)
        return replica is not None and bool(replica.leads)

    def _is_able(self, name: str) -> bool:
        replica = self._cluster.replica(name)
        if name in self._wiped or replica is None or replica._stopped:
            return False
        log, _ = self._cluster.disks(name)
        return log.seconds == USUAL_SECONDS and not (log.stalled or log.full or log.fails_before or log.fails_after)

    def _reach(self, one: str, other: str) -> bool:
        hub = self._cluster.hub
        return not (hub.severed(one, other) or hub.severed(other, one)) and all(
            link in (RELIABLE, UNRELIABLE) for link in (hub.link(one, other), hub.link(other, one))
        )
