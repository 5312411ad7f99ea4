"""The ControllerClerk: the calls of an administrator, each making at most one configuration.

A change carries a session and a number of its own, unchanged over all retries, so a repeat finds the configuration
that the first attempt made (contract §5.7). Decides what is an argument error before anything is sent, and what may be
said when nobody answered. Refuses to judge the change itself: that is for the controller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_kv.client.calls import is_timeout
from twisted_kv.client.seeking import Seeker, unknown
from twisted_kv.codec import Malformed
from twisted_kv.constants import CALL_TIMEOUT_SECONDS
from twisted_kv.errors import BadRequest, Unavailable, WrongType, by_name
from twisted_kv.interfaces import INetwork, Random
from twisted_kv.machines.commands import (
    QUERIES,
    Administer,
    Change,
    Configured,
    Done,
    Enroll,
    Expired,
    Join,
    Leave,
    Move,
    QueryConfiguration,
    Readdress,
    Refused,
)
from twisted_kv.machines.configuration import Configuration
from twisted_kv.transport.wire import (
    ADMINISTER,
    CTL_CHANGE,
    CTL_ENROLL,
    CTL_QUERY,
    ENROLL,
    IAM,
    WHO,
    WHO_REQUEST,
    Iam,
    Who,
)

Groups = Mapping[int, Sequence[str]]
"""gid → Twisted client endpoint strings of its servers."""


class ControllerClerk:
    """An administrator of one cluster; calls in flight are independent changes.

    Args:
        controllers: Twisted client endpoints of controller servers, at least one.
        random: draws session ids; seed it from the system unless this is a simulation.
        network: used, not owned.
        check_endpoint: raises ValueError for text that nobody could dial.

    Every call returns a Deferred[Configuration] that may be cancelled: the configuration that the change made, or the
    newest one if there was nothing to change. Every call fails with BadRequest or a kind of it (NoSuchGroup,
    NoSuchShard, GroupExists, WrongType): nothing was changed; OutcomeUnknown (never a query): it was changed once or
    not at all; Unavailable, Overloaded: nothing was changed within ``timeout`` seconds; NotAuthorized.
    """

    def __init__(
        self,
        controllers: Sequence[str],
        clock: IReactorTime,
        random: Random,
        network: INetwork,
        check_endpoint: Callable[[str], object] = str,
    ) -> None:
        self._check_endpoint = check_endpoint
        self._clock = clock
        self._random = random
        self._network = network
        self._seeker = Seeker(controllers, clock, random, network)
        self._session = Enrolment(self._draw_nonce())
        self._probes: dict[Deferred[Any], None] = {}
        self._closed = False

    def join(
        self,
        groups: Groups,
        *,
        identities: Mapping[int, str] | None = None,
        timeout: float = CALL_TIMEOUT_SECONDS,
    ) -> Deferred[Configuration]:
        """Add groups, all in one configuration; shards are spread anew.

        Args:
            identities: gid → group id as learned by ``probe``: no other servers can then serve under the gid.
        """

        def change() -> Change:
            known = tuple(sorted((identities or {}).items()))
            return Join(
                tuple(sorted((_whole("gid", gid), self._servers(servers)) for gid, servers in _items(groups))), known
            )

        return self._change(change, timeout)

    def leave(self, gids: Iterable[int], *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[Configuration]:
        """Take groups out, all in one configuration; their shards go to those that stay."""
        return self._change(lambda: Leave(_wholes(gids)), timeout)

    def move(self, shard: int, gid: int, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[Configuration]:
        """Give one shard to one group; nothing else moves."""
        return self._change(lambda: Move(_whole("shard", shard), _whole("gid", gid)), timeout)

    def readdress(
        self, gid: int, endpoints: Sequence[str], *, timeout: float = CALL_TIMEOUT_SECONDS
    ) -> Deferred[Configuration]:
        """Give a known group new endpoints; nothing moves."""
        return self._change(lambda: Readdress(_whole("gid", gid), self._servers(endpoints)), timeout)

    def query(self, num: int = -1, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[Configuration]:
        """Configuration ``num``; -1, or a number above the newest, gives the newest. Through a quorum."""
        return ensureDeferred(self._query(num, timeout))

    def probe(self, endpoints: Iterable[str], *, timeout: float = 2.0) -> Deferred[dict[str, Iam | None]]:
        """Ask servers who they are; no quorum is needed. Fires with endpoint → what it said, None if nothing."""
        asked = tuple(dict.fromkeys(endpoints))
        probes = [self._who(endpoint, timeout) for endpoint in asked]
        return gatherResults(probes).addCallback(lambda said: dict(zip(asked, said, strict=True)))

    def close(self) -> Deferred[None]:
        """Give up every call. Fires when nothing of this Clerk is left in the reactor."""
        self._closed = True
        self._seeker.close()
        for probe in list(self._probes):
            probe.cancel()
        return succeed(None)

    def _change(self, change: Any, timeout: float) -> Deferred[Configuration]:
        return ensureDeferred(self._carry_out(change, timeout))

    async def _carry_out(self, described: Any, timeout: float) -> Configuration:
        deadline = self._deadline(timeout)
        change = described()
        while True:
            session = self._session
            number = await self._enrolled(session, deadline)
            sequence, floor = session.begin()
            body = ADMINISTER.encode(Administer(number, sequence, floor, change))
            try:
                answer, unsettled = await self._ask(CTL_CHANGE, body, deadline, changes=True)
            finally:
                session.end(sequence)
            if isinstance(answer, Configured):
                return answer.configuration
            if isinstance(answer, Refused):
                # These two are not kept by the servers: an earlier attempt may still be carried out.
                if unsettled and answer.error in ("Overloaded", "Unavailable"):
                    raise unknown(answer.text)
                raise by_name(answer.error, answer.text)
            assert isinstance(answer, Expired), answer
            if self._session is session:
                self._session = Enrolment(self._draw_nonce())
            if unsettled:
                raise unknown("the controllers have forgotten the session")

    async def _enrolled(self, session: Enrolment, deadline: float) -> int:
        """The number of the session; several calls may ask at once and are told the same one."""
        if not session.number:
            answer, _ = await self._ask(CTL_ENROLL, ENROLL.encode(Enroll(session.nonce)), deadline, changes=False)
            outcome = answer.outcomes[0]
            if isinstance(outcome, Refused):
                raise by_name(outcome.error, outcome.text)
            assert isinstance(outcome, Done), outcome
            session.number = outcome.value
        return session.number

    def _deadline(self, timeout: float) -> float:
        if not is_timeout(timeout):
            raise BadRequest(f"a timeout is a number of seconds above 0, not {timeout!r}")
        return self._clock.seconds() + timeout

    async def _query(self, num: int, timeout: float) -> Configuration:
        deadline = self._deadline(timeout)
        body = QUERIES.encode(QueryConfiguration(_whole("configuration number", num)))
        answer, _ = await self._ask(CTL_QUERY, body, deadline, changes=False)
        if isinstance(answer, Refused):
            raise by_name(answer.error, answer.text)
        configuration: Configuration = answer.configuration
        return configuration

    async def _ask(self, verb: str, body: bytes, deadline: float, changes: bool) -> tuple[Any, bool]:
        if self._closed:
            raise Unavailable("this Clerk is closed")
        return await self._seeker.ask(verb, body, deadline, changes)

    def _who(self, endpoint: str, timeout: float) -> Deferred[Iam | None]:
        asked = self._network.call(endpoint, WHO, WHO_REQUEST.encode(Who()), timeout)
        self._probes[asked] = None

        def ended(result: bytes | Failure) -> Iam | None:
            del self._probes[asked]
            try:
                return None if isinstance(result, Failure) else IAM.decode(result)
            except Malformed:
                return None

        return asked.addBoth(ended)

    def _servers(self, endpoints: Any) -> tuple[str, ...]:
        texts = _texts(endpoints)
        try:
            for text in texts:
                self._check_endpoint(text)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        return texts

    def _draw_nonce(self) -> bytes:
        return self._random.getrandbits(128).to_bytes(16, "big")


class Enrolment:
    """An administrator's session, as client/sessions has it for shards; there are too few changes to bound them."""

    def __init__(self, nonce: bytes) -> None:
        self.nonce = nonce
        self.number = 0
        self._next = 1
        self._in_flight: set[int] = set()

    def begin(self) -> tuple[int, int]:
        """The sequence of a new change, and the floor."""
        sequence = self._next
        self._next += 1
        self._in_flight.add(sequence)
        return sequence, min(self._in_flight)

    def end(self, sequence: int) -> None:
        """Its answer is wanted no longer."""
        self._in_flight.discard(sequence)


def _items(groups: Any) -> Iterable[tuple[Any, Any]]:
    if not isinstance(groups, Mapping):
        raise WrongType(f"groups are a mapping of gid to endpoints, not {type(groups).__name__}")
    return groups.items()


def _wholes(gids: Any) -> tuple[int, ...]:
    if isinstance(gids, str | bytes) or not isinstance(gids, Iterable):
        raise WrongType(f"gids are a sequence of whole numbers, not {type(gids).__name__}")
    return tuple(_whole("gid", gid) for gid in gids)


def _whole(what: str, number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise WrongType(f"a {what} is a whole number, not {type(number).__name__}")
    if not -(2**63) <= number < 2**63:
        raise BadRequest(f"the {what} {number} is out of any range")
    return number


def _texts(endpoints: Any) -> tuple[str, ...]:
    if isinstance(endpoints, str | bytes) or not isinstance(endpoints, Iterable):
        raise WrongType(f"the servers of a group are a sequence of endpoint strings, not {type(endpoints).__name__}")
    texts = tuple(endpoints)
    for text in texts:
        if not isinstance(text, str):
            raise WrongType(f"an endpoint is text, not {type(text).__name__}")
    return texts
