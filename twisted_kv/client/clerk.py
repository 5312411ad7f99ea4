"""The Clerk: the calls of a user, each taken to the group that serves its key, and settled once.

Decides where a call belongs, from a cached configuration that is fetched anew when a group says that it is not the
one; whom to believe when they differ; and what is refused before anything is sent. A call is never failed because
nobody serves its shard at the moment: it waits and looks again until its time is up (scenario 47).

Source: contract §3 and §5; scenarios 11-20. Exactly-once is the work of sessions and lanes; deadlines are in calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from math import inf
from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_kv.client.calls import READ, Call, Calls, is_timeout
from twisted_kv.client.lanes import ReadLane, WriteLane
from twisted_kv.client.pace import Pace
from twisted_kv.client.seeking import Seeker, trouble_of
from twisted_kv.client.sessions import Session
from twisted_kv.constants import CALL_TIMEOUT_SECONDS, VALUE_BYTES_CEILING
from twisted_kv.errors import BadRequest, NoSuchShard, Overloaded, Unavailable, by_name
from twisted_kv.interfaces import INetwork, Random
from twisted_kv.machines.commands import (
    QUERIES,
    SCANS,
    ConfigurationAnswer,
    QueryConfiguration,
    Scan,
    Scanned,
    WrongGroup,
)
from twisted_kv.machines.configuration import Configuration, shard_of
from twisted_kv.machines.operations import check_key, check_write
from twisted_kv.machines.rows import Value
from twisted_kv.transport.wire import CTL_QUERY, KV_SCAN, Rejected

LOOK_AGAIN_SECONDS: Final = 0.1
DOUBT_SECONDS: Final = 1.0
SCAN_SECONDS: Final = 2.0
_NEWEST: Final = QUERIES.encode(QueryConfiguration(-1))


class Clerk:
    """A client of one cluster; any number of calls may be in flight.

    Args:
        controllers: Twisted client endpoints of controller servers, at least one.
        random: draws session ids and spreads load; seed it from the system unless this is a simulation, for two
            Clerks with the same ids would answer for each other (hazard 42).
        network: used, not owned; closing it is up to whoever made it.

    Every call returns a Deferred that may be cancelled: the call is then neither tried again nor waited for, but what
    was sent may still take effect, once. Every call fails with

    - BadRequest or a kind of it: the servers, or the checks here, refused it;
    - OutcomeUnknown (never a get): it may have taken effect, once;
    - Unavailable, Overloaded: it did not and will not take effect within ``timeout`` seconds;
    - NotAuthorized: it may not.
    """

    log = Logger()

    def __init__(self, controllers: Sequence[str], clock: IReactorTime, random: Random, network: INetwork) -> None:
        self._clock = clock
        self._random = random
        self._network = network
        self._controllers = Seeker(controllers, clock, random, network)
        self._calls = Calls(clock)
        self._configuration: Configuration | None = None
        self._value_bytes_max = VALUE_BYTES_CEILING
        self._roads: dict[tuple[int, tuple[str, ...]], Road] = {}
        self._retired: list[Road] = []
        self._table: list[Road | None] = []
        self._sessions: dict[int, Session] = {}
        self._nonce = self._draw_nonce()
        self._set_aside: list[Call] = []
        self._newest_heard = 0
        self._asked_for = 0
        self._doubted = False
        self._asked_at = -inf
        self._looking = False
        self._closed = False

    def get(self, key: str, default: Any = "", *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[Any]:
        """Fires with the value, or with ``default`` when the key is absent. Linearizable."""
        return self._begin(READ, key, None, default, timeout)

    def put(self, key: str, value: Value, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[None]:
        """Replace the value. Fires with None."""
        return self._begin("p", key, value, None, timeout)

    def append(self, key: str, value: Value, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[None]:
        """Add to the end of the value; an absent key is put. Fires with None; WrongType if text meets bytes."""
        return self._begin("a", key, value, None, timeout)

    def delete(self, key: str, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[bool]:
        """Remove the key. Fires with True if it was there."""
        return self._begin("d", key, None, None, timeout)

    def put_hash(self, key: str, value: Value, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[Any]:
        """Store the hash of old value and argument (contract §3). Fires with the old value, "" when absent."""
        return self._begin("h", key, value, None, timeout)

    def scan(
        self, shard: int, after: str | None, bytes_max: int, *, timeout: float = CALL_TIMEOUT_SECONDS
    ) -> Deferred[Scanned]:
        """Keys of one shard in order, after a key (None: from the first), about ``bytes_max`` of keys and values.

        Fires with the next chunk, linearizable in itself; fails with NoSuchShard, Unavailable, Overloaded.
        """
        return ensureDeferred(self._scan(Scan(shard, after, bytes_max), self._clock.seconds() + timeout))

    def configuration(self, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[Configuration]:
        """Fires with the newest configuration, asked of the controllers; fails with Unavailable, Overloaded."""
        return ensureDeferred(self._newest(self._clock.seconds() + timeout))

    def close(self) -> Deferred[None]:
        """Give up every call and forget the servers. Fires when nothing of this Clerk is left in the reactor."""
        if not self._closed:
            self._closed = True
            self._calls.close("this Clerk was closed")
            for road in [*self._roads.values(), *self._retired]:
                road.close()
            self._controllers.close()
        return succeed(None)

    def _begin(self, verb: str, key: str, value: Value | None, default: Any, timeout: float) -> Deferred[Any]:
        refused = check_key(key) if verb == READ else check_write(verb, key, value, self._value_bytes_max)
        if refused is not None:
            return fail(by_name(refused.error, refused.text))
        if not is_timeout(timeout):
            return fail(BadRequest(f"a timeout is a number of seconds above 0, not {timeout!r}"))
        if self._closed:
            return fail(Unavailable("this Clerk is closed"))
        # A subclass of str or bytes (an enumeration, marked-up text) is its content: nothing else can cross.
        key = str.__str__(key)
        if isinstance(value, str):
            value = str.__str__(value)
        elif value is not None:
            value = bytes(memoryview(value))
        call = self._calls.begin(verb, key, value, default, timeout)
        self.route(call)
        return call.deferred

    async def _scan(self, scan: Scan, deadline: float) -> Scanned:
        body = SCANS.encode(scan)
        configuration = self._configuration or await self._newest(deadline)
        if not 0 <= scan.shard < len(configuration.shards):
            raise NoSuchShard(f"shard {scan.shard}: there are {len(configuration.shards)}")
        while True:
            road = self._table[scan.shard]
            if road is not None:
                # Not until the deadline: meanwhile the group may have come to live elsewhere.
                until = min(deadline, self._clock.seconds() + SCAN_SECONDS)
                try:
                    answer, _ = await road.seeker.ask(KV_SCAN, body, until, changes=False)
                except Unavailable:
                    answer = None
                if isinstance(answer, Scanned):
                    return answer
            if self._clock.seconds() + LOOK_AGAIN_SECONDS >= deadline or self._closed:
                raise Unavailable(f"no group served shard {scan.shard}")
            await self._controllers.sleep(LOOK_AGAIN_SECONDS)
            newest = await self._newest(deadline)
            self._table[scan.shard] = self._road_to(newest.shards[scan.shard])

    async def _newest(self, deadline: float) -> Configuration:
        answer, _ = await self._controllers.ask(CTL_QUERY, _NEWEST, deadline, changes=False)
        configuration: Configuration = answer.configuration
        self._adopt(configuration)
        return configuration

    # The desk of the lanes.

    def route(self, call: Call) -> None:
        """Queue the call for the group that serves its key, or set it aside until one does."""
        if self._configuration is None:
            self.set_aside(call)
            return
        call.shard = shard_of(call.key, len(self._table))
        road = self._table[call.shard]
        if road is not None:
            road.take(call)
            return
        call.trouble = f"no group serves shard {call.shard} in configuration {self._configuration.num}"
        self.set_aside(call)

    def misled(self, call: Call, gid: int, told: WrongGroup) -> None:
        """Group ``gid`` does not serve the call's shard. Follow its hint once; then ask the controllers."""
        assert self._configuration is not None
        call.trouble, call.busy = f"group {gid} does not serve shard {call.shard}", None
        self._newest_heard = max(self._newest_heard, told.num)
        hinted = self._road_to(told.gid) if told.gid != gid else None
        if hinted is None or call.redirected or self._behind:
            self._table[call.shard] = self._road_to(self._configuration.shards[call.shard])
            self.set_aside(call)
        else:
            call.redirected = True
            self._table[call.shard] = hinted
            self.route(call)

    def set_aside(self, call: Call) -> None:
        """Try again when the controllers have answered, after a pause unless there is news."""
        call.redirected = False
        self._set_aside.append(call)
        self._look()

    def session_of(self, shard: int) -> Session:
        session = self._sessions.get(shard)
        if session is None:
            session = self._sessions[shard] = Session(shard, self._nonce, self.route)
        return session

    def unopened(self, gid: int, count: int) -> list[Session]:
        road = self._road_to(gid)
        shards = (shard for shard, there in enumerate(self._table) if there is not None and there is road)
        sessions = (self.session_of(shard) for shard in shards)
        return list(islice((session for session in sessions if not (session.number or session.opening)), count))

    def session_lost(self, session: Session) -> None:
        """The next write of the shard opens another one; a new nonce, or the servers would give the old one again."""
        if self._sessions.get(session.shard) is session:
            self.log.info("The servers have forgotten the session of shard {shard}", shard=session.shard)
            del self._sessions[session.shard]
            self._nonce = self._draw_nonce()
            for call in session.take_waiting():
                self.route(call)

    def doubt(self) -> None:
        """Look for a newer configuration, but not all the time."""
        if self._clock.seconds() - self._asked_at >= DOUBT_SECONDS:
            self._doubted = True
            self._look()

    # Configurations.

    @property
    def _behind(self) -> bool:
        """Whether the controllers have a newer one. A number that they were asked for in vain is not of theirs."""
        return self._configuration is None or max(self._configuration.num, self._asked_for) < self._newest_heard

    def _look(self) -> None:
        if not self._looking and not self._closed:
            self._looking = True
            ensureDeferred(self._look_for_configurations()).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self._looking = False
        self.log.failure("Looking for a configuration failed", failure)

    async def _look_for_configurations(self) -> None:
        """Ask the controllers as long as calls are set aside, and try those again after each answer."""
        while not self._closed and (self._doubted or any(not call.settled for call in self._set_aside)):
            if not self._behind and not self._doubted:
                await self._controllers.sleep(LOOK_AGAIN_SECONDS * (0.5 + 0.5 * self._random.random()))
            doubted, self._doubted = self._doubted, False
            self._asked_at, heard = self._clock.seconds(), self._newest_heard
            answer = await self._controllers.attempt(CTL_QUERY, _NEWEST, inf)
            if isinstance(answer, ConfigurationAnswer):
                self._asked_for = heard
                self._adopt(answer.configuration)
                if doubted:
                    self._forget_detours()
            else:
                await self._controllers.sleep(self._controllers.pause())
            self._try_again(answer)
        self._set_aside.clear()
        self._looking = False

    def _try_again(self, answer: Any) -> None:
        """Route what was set aside; without any configuration, keep it until its time is up."""
        waiting = [call for call in self._set_aside if not call.settled]
        self._set_aside = []
        for call in waiting:
            if self._configuration is not None:
                self.route(call)
            elif isinstance(answer, Rejected):
                call.fail(by_name(answer.error, answer.text))
            else:
                call.trouble = f"no configuration: {trouble_of(answer)}"
                self._set_aside.append(call)

    def _adopt(self, configuration: Configuration) -> None:
        """Take a newer configuration; what is queued for groups that are not in it finds another way."""
        known = self._configuration
        if self._closed or (known is not None and configuration.num <= known.num):
            return
        self.log.info("Configuration {num}", num=configuration.num)
        self._configuration = configuration
        self._value_bytes_max = configuration.value_bytes_max
        listed = {(member.gid, member.endpoints) for member in configuration.members + configuration.former}
        queued: list[Call] = []
        for address in [address for address in self._roads if address not in listed]:
            road = self._roads.pop(address)
            queued += road.retire()
            self._retired.append(road)
        self._retired = [road for road in self._retired if not road.seeker.idle]
        self._table = [self._road_to(gid) for gid in configuration.shards]
        for call in queued:
            self.route(call)

    def _forget_detours(self) -> None:
        """Go where the configuration says, with all that is queued: a group that another one named may be gone."""
        assert self._configuration is not None
        self._table = [self._road_to(gid) for gid in self._configuration.shards]
        for call in [call for road in self._roads.values() for call in road.recall()]:
            self.route(call)

    def _road_to(self, gid: int) -> Road | None:
        """The road to a group that is listed, or was; None if it is not known."""
        assert self._configuration is not None
        for member in self._configuration.members + self._configuration.former:
            if member.gid == gid and member.endpoints:
                address = (gid, member.endpoints)
                if address not in self._roads:
                    seeker = Seeker(member.endpoints, self._clock, self._random, self._network)
                    self._roads[address] = Road(self, gid, seeker, self._clock)
                return self._roads[address]
        return None

    def _draw_nonce(self) -> bytes:
        return self._random.getrandbits(128).to_bytes(16, "big")


class Road:
    """The two lanes to one group: reads and writes travel apart, since a read waits for no disk."""

    def __init__(self, desk: Clerk, gid: int, seeker: Seeker, clock: IReactorTime) -> None:
        self.seeker = seeker
        self.reads = ReadLane(desk, gid, seeker, clock)
        self.writes = WriteLane(desk, gid, seeker, clock)
        self._reading, self._writing = Pace(clock), Pace(clock)

    def take(self, call: Call) -> None:
        """Queue a call in its lane; a new one that could not be answered in time is refused."""
        pace = self._reading if call.verb == READ else self._writing
        if call.pace is not pace:
            if call.pace is not None:
                call.pace.waiting -= 1
            elif (retry_after := pace.refused(call.deadline)) is not None:
                call.fail(Overloaded(f"{pace.waiting} calls wait for this group already", retry_after))
                return
            call.pace = pace
            pace.waiting += 1
        (self.reads if call.verb == READ else self.writes).take(call)

    def recall(self) -> list[Call]:
        """Gives back what is queued."""
        return self.reads.recall() + self.writes.recall()

    def retire(self) -> list[Call]:
        """Send nothing more; gives back what was queued."""
        return self.reads.retire() + self.writes.retire()

    def close(self) -> None:
        """Send nothing more, and wait for nothing."""
        self.retire()
        self.seeker.close()
