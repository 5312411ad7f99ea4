"""A ControllerClerk whose every word is judged: what it was told, of which changes, and what it had sent.

It decides which (session, sequence) a call went by, by listening to what its Clerk asks; whether what was told is true
is for the Chronicle. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_kv.client.seeking import Seeker
from twisted_kv.errors import KVError
from twisted_kv.machines.configuration import Configuration
from twisted_kv.simulation.judges.configurations import Chronicle, Ids
from twisted_kv.simulation.lives.cluster import Cluster
from twisted_kv.transport.wire import ADMINISTER, CTL_CHANGE


class Administration:
    """The calls of one administrator, who makes one change at a time.

    Args:
        name: of a host of its own.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._name = name
        self._chronicle: Chronicle = cluster.watch.chronicle
        self._clerk = cluster.controller_clerk(name)
        # Which ids a change goes by is nothing that a ControllerClerk would tell anybody but the controllers.
        self._asked = Overheard(self._clerk._seeker)
        self._clerk._seeker = self._asked  # type: ignore[assignment]

    def join(self, groups: Mapping[int, Sequence[str]], *, timeout: float) -> Deferred[Configuration]:
        return self._changing(lambda: self._clerk.join(groups, timeout=timeout))

    def leave(self, gids: Iterable[int], *, timeout: float) -> Deferred[Configuration]:
        return self._changing(lambda: self._clerk.leave(gids, timeout=timeout))

    def move(self, shard: int, gid: int, *, timeout: float) -> Deferred[Configuration]:
        return self._changing(lambda: self._clerk.move(shard, gid, timeout=timeout))

    def query(self, num: int = -1, *, timeout: float) -> Deferred[Configuration]:
        heard = self._chronicle.heard

        def told(configuration: Configuration) -> Configuration:
            if num == -1:
                self._chronicle.told_newest(heard, configuration, self._name)
            else:
                self._chronicle.told_numbered(num, heard, configuration, self._name)
            return configuration

        return self._clerk.query(num, timeout=timeout).addCallback(told)

    def _changing(self, change: Callable[[], Deferred[Configuration]]) -> Deferred[Configuration]:
        self._asked.sent.clear()

        def done(configuration: Configuration) -> Configuration:
            self._chronicle.told_done(tuple(self._asked.sent), configuration, self._name)
            return configuration

        def failed(failure: Failure) -> Failure:
            if isinstance(failure.value, KVError) and failure.value.definite:
                self._chronicle.told_refused(tuple(self._asked.sent), self._name)
            return failure

        return change().addCallbacks(done, failed)


class Overheard:
    """A Seeker that remembers which changes it was asked for.

    Attributes:
        sent: in the order of their first attempts.
    """

    def __init__(self, seeker: Seeker) -> None:
        self._seeker = seeker
        self.close = seeker.close
        self.sent: dict[Ids, None] = {}

    async def ask(self, verb: str, body: bytes, deadline: float, changes: bool) -> tuple[Any, bool]:
        if verb == CTL_CHANGE:
            change = ADMINISTER.decode(body)
            self.sent[change.session, change.sequence] = None
        return await self._seeker.ask(verb, body, deadline, changes)
