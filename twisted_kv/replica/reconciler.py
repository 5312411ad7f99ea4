"""Carries out what a machine's state says is left to do, while this replica leads.

Level-triggered: chores are derived from state, never remembered, so a crash or a change of leader costs nothing
and two rival leaders are harmless (every decision is a log command that names its configuration number). A chore
that fails is tried again after a pause. All I/O of configuration changes is here; no meaning is (machines/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_kv.codec import Malformed
from twisted_kv.consensus.types import NotLeader
from twisted_kv.constants import CONFIGURATION_HELD_SECONDS, ROWS_CHUNK_BYTES, SHARDS_DEFAULT, VALUE_BYTES_DEFAULT
from twisted_kv.errors import KVError, StartRefused
from twisted_kv.interfaces import Ask
from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    GROUP_COMMANDS,
    PULLS,
    QUERIES,
    AskDrop,
    Claim,
    ConfigurationAnswer,
    Configure,
    Done,
    Drop,
    Dropped,
    Found,
    FoundCluster,
    Freeze,
    HandOver,
    Install,
    NextConfiguration,
    Pull,
    PullAnswer,
    PullRows,
    QueryConfiguration,
    Read,
)
from twisted_kv.machines.configuration import NO_GROUP, Configuration
from twisted_kv.machines.group import GroupMachine
from twisted_kv.replica.pending import LeadershipLost, Overwritten, ReadAbandoned
from twisted_kv.replica.replica import Replica
from twisted_kv.transport.wire import CTL_CLAIM, CTL_NEXT, CTL_QUERY, SHARD_DROP, SHARD_PULL

ROUND_SECONDS = 0.1
PAUSE_SECONDS = 0.1
ASK_SECONDS = 2.0
HAND_OVER_SECONDS = 10.0
"""A taker that elects a leader, or stands still for a while, is not taken for dead: all that is not copied yet would
then be out of service."""
REST_SECONDS_MAX = 1.0
CHORES_AT_ONCE = 8


class NotYet(Exception):
    """The other side is not there yet; ask again after a pause."""


class Reconciler:
    """Runs the chores of one machine.

    Args:
        chores: what is left to do now (IStateMachine.chores).
        work: chore type → what carries one out; its Deferred fails when it should be tried again.
    """

    log = Logger()

    def __init__(
        self,
        replica: Replica,
        chores: Callable[[], Sequence[Any]],
        work: Mapping[type, Callable[[Any], Any]],
        clock: IReactorTime,
    ) -> None:
        self._replica = replica
        self._chores = chores
        self._work = work
        self._clock = clock
        self._running: dict[Any, Deferred[None]] = {}
        self._resting: dict[Any, float] = {}
        self._told: set[Any] = set()
        self._round: IDelayedCall | None = None
        self._stopped = False

    def start(self) -> None:
        """Look every ROUND_SECONDS, besides when poked."""
        self._round = self._clock.callLater(ROUND_SECONDS, self._next_round)

    def stop(self) -> None:
        """Cancel all."""
        self._stopped = True
        if self._round is not None and self._round.active():
            self._round.cancel()
        self._cancel(list(self._running))

    def poke(self) -> None:
        """State has changed: start what is new, cancel what is no longer wanted."""
        if self._stopped:
            return
        wanted = dict.fromkeys(self._chores() if self._replica.leads else ())
        self._cancel([chore for chore in self._running if chore not in wanted])
        self._told.intersection_update(wanted)
        now = self._clock.seconds()
        for chore in wanted:
            if len(self._running) >= CHORES_AT_ONCE:
                break
            if chore not in self._running and self._resting.get(chore, 0.0) <= now:
                self._begin(chore)

    def _next_round(self) -> None:
        self._round = self._clock.callLater(ROUND_SECONDS, self._next_round)
        now = self._clock.seconds()
        self._resting = {chore: until for chore, until in self._resting.items() if until > now}
        self.poke()

    def _begin(self, chore: Any) -> None:
        running: Deferred[None] = ensureDeferred(self._work[type(chore)](chore))
        self._running[chore] = running
        running.addErrback(self._not_done, chore)
        running.addCallback(self._ended, chore)

    def _not_done(self, failure: Failure, chore: Any) -> None:
        self._resting[chore] = self._clock.seconds() + PAUSE_SECONDS
        if failure.check(CancelledError, NotYet, NotLeader, LeadershipLost, ReadAbandoned, Overwritten) is None:
            if failure.check(KVError, Malformed) is None:
                self.log.failure("A chore broke: {chore}", failure, chore=type(chore).__name__)
            elif chore not in self._told:
                self._told.add(chore)
                self.log.info("{chore} waits: {error}", chore=type(chore).__name__, error=failure.getErrorMessage())

    def _ended(self, _: None, chore: Any) -> None:
        self._running.pop(chore, None)

    def _cancel(self, chores: Sequence[Any]) -> None:
        for chore in chores:
            self._running[chore].cancel()


class ControllerChores:
    """What a controller leaves to be done: found the cluster, once."""

    def __init__(
        self, replica: Replica, random: Random, shards: int = SHARDS_DEFAULT, value_bytes_max: int = VALUE_BYTES_DEFAULT
    ) -> None:
        self._replica = replica
        self._random = random
        self._shards = shards
        self._value_bytes_max = value_bytes_max

    @property
    def work(self) -> Mapping[type, Callable[[Any], Any]]:
        return {FoundCluster: self.found}

    async def found(self, _: FoundCluster) -> None:
        """Draw the cluster's id."""
        cluster = f"{self._random.getrandbits(128):032x}"
        await self._replica.submit(CONTROLLER_COMMANDS.encode(Found(cluster, self._shards, self._value_bytes_max)))


class GroupChores:
    """What a group leaves to be done: follow configurations, pull, freeze, have copies dropped.

    Args:
        identity: this group's id, by which it claims its membership.
        controllers: endpoints of the controllers.
        ask: finds whoever of some endpoints can answer.
        machine: knows the cluster this group belongs to, "" until first contact.
        asked_at: copy (shard, num) whose taker is waited for → when it last asked here, by the doors.
        stranger: told once when the controllers are of another cluster: the server must stop.
    """

    log = Logger()

    def __init__(
        self,
        gid: int,
        identity: str,
        replica: Replica,
        controllers: Sequence[str],
        ask: Ask,
        clock: IReactorTime,
        machine: GroupMachine,
        asked_at: dict[tuple[int, int], float],
        stranger: Callable[[StartRefused], None],
    ) -> None:
        self._gid = gid
        self._identity = identity
        self._replica = replica
        self._controllers = controllers
        self._ask = ask
        self._clock = clock
        self._machine = machine
        self._asked_at = asked_at
        self._stranger = stranger

    @property
    def work(self) -> Mapping[type, Callable[[Any], Any]]:
        return {
            NextConfiguration: self.next_configuration,
            Pull: self.pull,
            HandOver: self.hand_over,
            AskDrop: self.ask_drop,
        }

    async def next_configuration(self, chore: NextConfiguration) -> None:
        """Fetch the next configuration, find out whether it means this very group, log it."""
        query, patience = QueryConfiguration(chore.num, self._gid), CONFIGURATION_HELD_SECONDS + ASK_SECONDS
        answer = _told(await self._ask(self._controllers, CTL_NEXT, QUERIES.encode(query), patience))
        bound = self._machine.cluster
        if bound and answer.cluster != bound:
            self._stranger(StartRefused(f"this group belongs to cluster {bound}, the controllers to {answer.cluster}"))
            raise NotYet
        if answer.configuration.num != chore.num:
            raise NotYet
        mine = await self._is_mine(answer.configuration, answer.claimed_by)
        reply = await self._replica.submit(GROUP_COMMANDS.encode(Configure(answer.cluster, answer.configuration, mine)))
        if not isinstance(reply, Done):
            self.log.error("Configuration {num} was refused: {reply}", num=chore.num, reply=reply)
            raise NotYet

    async def _is_mine(self, configuration: Configuration, claimed_by: str) -> bool:
        member = configuration.member(self._gid)
        if member is None or self._gid == NO_GROUP:
            return False
        if not claimed_by:
            claim = CONTROLLER_COMMANDS.encode(Claim(self._gid, member.joined, self._identity))
            granted = await self._ask(self._controllers, CTL_CLAIM, claim, ASK_SECONDS)
            if not isinstance(granted, Done):
                raise NotYet
            claimed_by = granted.value
        if claimed_by != self._identity:
            self.log.warn("Group {gid} of configuration {num} is another group", gid=self._gid, num=configuration.num)
        return claimed_by == self._identity

    async def pull(self, chore: Pull) -> None:
        """Fetch one chunk of a copy and log it; the state then asks for the next.

        What is served meanwhile is copied at half the pace that would be possible: both groups have other work.
        """
        begun = self._clock.seconds()
        request = PullRows(chore.shard, chore.source.num, chore.cursor, ROWS_CHUNK_BYTES, chore.hand)
        answer = await self._ask_source(chore, SHARD_PULL, PULLS.encode(request))
        if not isinstance(answer, PullAnswer) or answer.state not in ("rows", "ahead", "gone"):
            raise NotYet
        if answer.state == "gone":
            # A new leader works on what was applied before it led; all its log read, the copy may be here already.
            await self._replica.read(Read(()))
            self.log.error("Shard {shard} is gone from group {gid}", shard=chore.shard, gid=chore.source.gid)
            raise NotYet
        if answer.state == "ahead" and not (answer.level or chore.hurried):
            # Not so long that the giver thinks its taker gone.
            await deferLater(self._clock, min(self._clock.seconds() - begun, REST_SECONDS_MAX))
        facts = (answer.rows, answer.cursor, answer.level, answer.last, answer.total_bytes)
        await self._replica.submit(GROUP_COMMANDS.encode(Install(chore.shard, chore.num, chore.chunk, *facts)))

    async def _ask_source(self, chore: Pull | AskDrop, verb: str, request: bytes) -> Any:
        """Ask the giver where it was last known to listen, else where it may listen by now."""
        try:
            return await self._ask(chore.endpoints, verb, request, ASK_SECONDS)
        except KVError:
            # The pull itself holds back the configuration that would tell that the source has moved house.
            endpoints = await self._other_endpoints(chore)
            if not endpoints:
                raise
            return await self._ask(endpoints, verb, request, ASK_SECONDS)

    async def _other_endpoints(self, chore: Pull | AskDrop) -> tuple[str, ...]:
        """Where the giver may listen by the newest configuration, if not where it was asked in vain; else empty."""
        source, in_vain = chore.source, ((), chore.endpoints)
        newest = (await self._configuration(-1, source.gid)).configuration
        endpoints = newest.endpoints_of(source)
        if endpoints not in in_vain:
            return endpoints
        # Who left and joined again is another member, and the one it was is readdressed no more. It is asked under its
        # new name unless others have claimed that; a copy's own name, (shard, num), is no other group's.
        again = next((member for member in newest.members + newest.former[::-1] if member.gid == source.gid), None)
        if again is None or again.endpoints in in_vain:
            return ()
        claims = [
            (await self._configuration(joined, source.gid)).claimed_by for joined in (source.joined, again.joined)
        ]
        return again.endpoints if claims[1] in ("", claims[0]) else ()

    async def _configuration(self, num: int, gid: int) -> ConfigurationAnswer:
        query = QUERIES.encode(QueryConfiguration(num, gid))
        return _told(await self._ask(self._controllers, CTL_QUERY, query, ASK_SECONDS))

    async def hand_over(self, chore: HandOver) -> None:
        """Freeze a copy whose taker has not asked for long: it must not hold back later configurations."""
        copy, now = (chore.shard, chore.num), self._clock.seconds
        self._asked_at[copy] = now()
        try:
            while (patience := self._asked_at[copy] + HAND_OVER_SECONDS - now()) > 0:
                await deferLater(self._clock, patience)
        finally:
            del self._asked_at[copy]
        await self._replica.submit(GROUP_COMMANDS.encode(Freeze(chore.shard, chore.num)))

    async def ask_drop(self, chore: AskDrop) -> None:
        """Have the giver drop what was taken over, then owe it no longer."""
        if chore.endpoints:
            drop = GROUP_COMMANDS.encode(Drop(chore.shard, chore.source.num))
            answer = await self._ask_source(chore, SHARD_DROP, drop)
            if not (isinstance(answer, Done) and answer.value is True):
                raise NotYet
        await self._replica.submit(GROUP_COMMANDS.encode(Dropped(chore.shard, chore.source.num)))


def _told(answer: Any) -> ConfigurationAnswer:
    if not isinstance(answer, ConfigurationAnswer):
        raise NotYet
    return answer
