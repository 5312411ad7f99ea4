"""What each verb of a server does: read the body, look at it once, pass it on, seal the answer.

Whatever is wrong with a request is an answer (Rejected, NotLeading, Busy …), never an exception. A door changes
nothing by itself: writes go through the log, reads through a quorum. Knows no sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from twisted_kv.codec import Codec, Malformed
from twisted_kv.consensus.types import NOBODY, NotLeader
from twisted_kv.constants import CONFIGURATION_HELD_SECONDS, MIB, VALUE_BYTES_CEILING, WIRE_BODY_BYTES_MAX
from twisted_kv.errors import Overloaded
from twisted_kv.interfaces import Door, INetwork, LostAnswer, NotSent
from twisted_kv.machines.commands import (
    CHANGES,
    CLAIMS,
    DROPS,
    ENROLLS,
    GROUP_COMMANDS,
    OPENS,
    PULLS,
    QUERIES,
    READS,
    SCANS,
    WRITES,
    ConfigurationAnswer,
    Done,
    Freeze,
    Outcome,
    PullAnswer,
    PullRows,
    QueryConfiguration,
    Refused,
)
from twisted_kv.machines.group import GroupMachine
from twisted_kv.machines.operations import check_key, check_operation
from twisted_kv.replica.admission import Admission
from twisted_kv.replica.pending import LeadershipLost, Overwritten, ReadAbandoned
from twisted_kv.replica.replica import Replica
from twisted_kv.replica.waits import Waits
from twisted_kv.transport.wire import (
    ANSWERS,
    CTL_CHANGE,
    CTL_CLAIM,
    CTL_ENROLL,
    CTL_NEXT,
    CTL_QUERY,
    KV_OPEN,
    KV_READ,
    KV_SCAN,
    KV_WRITE,
    SHARD_DROP,
    SHARD_PULL,
    Busy,
    NotLeading,
    Outcomes,
    Rejected,
    Unsettled,
)

NOT_READY_SECONDS = 0.1
LEADER_SECONDS = 2.0
FORWARDED = "peer_"
"""Before a ctl_ verb: one controller asks its leader on behalf of somebody else; never passed on again."""
_NEWEST = QueryConfiguration(-1)
OUTCOMES_CHARACTERS_MAX = 4 * MIB  # a character may take four bytes on the wire

assert 4 * OUTCOMES_CHARACTERS_MAX <= VALUE_BYTES_CEILING < WIRE_BODY_BYTES_MAX


class Doors:
    """What the doors of both kinds of servers share.

    Args:
        node: of this replica, for answers.
        replica: None as long as the group has not formed.
    """

    def __init__(self, node: int, replica: Callable[[], Replica | None]) -> None:
        self._node = node
        self._replica = replica

    def _submit(self, command: bytes, told: Callable[[Any], Any]) -> Deferred[bytes]:
        """Through the log; ``told`` makes the answer of the machine's reply."""
        replica = self._replica()
        if replica is None:
            return self._tell(Busy(self._node, NOT_READY_SECONDS))
        try:
            done = replica.submit(command)
        except (NotLeader, Overloaded) as error:
            return self._tell(self._turned_away(error, replica))
        done.addCallbacks(told, self._failed, errbackArgs=(replica,))
        return done.addCallback(ANSWERS.encode)

    def _read(self, query: Any, told: Callable[[Any], Any]) -> Deferred[bytes]:
        """Through a quorum, without the log."""
        replica = self._replica()
        if replica is None:
            return self._tell(Busy(self._node, NOT_READY_SECONDS))
        try:
            done = replica.read(query)
        except NotLeader as error:
            return self._tell(self._turned_away(error, replica))
        done.addCallbacks(told, self._failed, errbackArgs=(replica,))
        return done.addCallback(ANSWERS.encode)

    def _turned_away(self, error: Exception, replica: Replica) -> Any:
        if isinstance(error, Overloaded):
            return Busy(self._node, error.retry_after, replica.leads)
        return NotLeading(self._node, replica.standing.leader)

    def _failed(self, failure: Failure, replica: Replica) -> Any:
        """What became of something that was accepted and not answered."""
        if failure.check(LeadershipLost):
            return Unsettled(self._node, replica.standing.leader)
        if failure.check(ReadAbandoned, Overwritten):
            return NotLeading(self._node, replica.standing.leader)
        return failure

    def _reject(self, error: str, text: str) -> Deferred[bytes]:
        return self._tell(Rejected(self._node, error, text))

    def _outcomes(self, outcomes: tuple[Outcome, ...]) -> Outcomes:
        """As many as fit into one answer, one at the least; the Clerk asks again for the rest, with the same ids."""
        size = 0
        for place, outcome in enumerate(outcomes):
            if isinstance(outcome, Done) and isinstance(outcome.value, str | bytes):
                size += len(outcome.value)
                if size > OUTCOMES_CHARACTERS_MAX and place:
                    return Outcomes(self._node, outcomes[:place])
        return Outcomes(self._node, outcomes)

    @staticmethod
    def _tell(answer: Any) -> Deferred[bytes]:
        return succeed(ANSWERS.encode(answer))


class GroupDoors(Doors):
    """Data for Clerks, shards for other groups.

    Args:
        asked_at: copy (shard, num) whose taker is waited for → when it last asked here; the chores name the copies.
    """

    def __init__(
        self,
        node: int,
        replica: Callable[[], Replica | None],
        machine: GroupMachine,
        clock: IReactorTime,
        asked_at: dict[tuple[int, int], float],
    ) -> None:
        super().__init__(node, replica)
        self._machine = machine
        self._clock = clock
        self._asked_at = asked_at
        self._admission = Admission(clock)

    @property
    def doors(self) -> Mapping[str, Door]:
        """verb → door."""
        return {
            KV_WRITE: self.write,
            KV_READ: self.read,
            KV_OPEN: self.open,
            KV_SCAN: self.scan,
            SHARD_PULL: self.pull,
            SHARD_DROP: self.drop,
        }

    def write(self, body: bytes) -> Deferred[bytes]:
        """KV_WRITE: the body, once looked at, is the command itself."""
        return self._admitted(body, self._write)

    def _write(self, body: bytes) -> Deferred[bytes]:
        try:
            command = WRITES.decode(body)
        except Malformed as error:
            return self._reject("BadRequest", str(error))
        if not command.operations:
            return self._reject("BadRequest", "not a batch of writes")
        limit = self._machine.configuration.value_bytes_max
        for operation in command.operations:
            refused = check_operation(operation, limit)
            if refused is not None:
                return self._reject(refused.error, refused.text)
        turned_away = self._machine.turned_away(command)
        if turned_away is not None:
            return self._tell(self._outcomes(turned_away))
        return self._submit(body, self._outcomes)

    def read(self, body: bytes) -> Deferred[bytes]:
        """KV_READ."""
        return self._admitted(body, self._read_keys)

    def _read_keys(self, body: bytes) -> Deferred[bytes]:
        try:
            query = READS.decode(body)
        except Malformed as error:
            return self._reject("BadRequest", str(error))
        for key in query.keys:
            refused = check_key(key)
            if refused is not None:
                return self._reject(refused.error, refused.text)
        return self._read(query, self._outcomes)

    def _admitted(self, body: bytes, door: Door) -> Deferred[bytes]:
        """Pass a request on, unless there is no room: that is said before anything of it is read."""
        size = len(body)
        retry_after = self._admission.refused(size)
        if retry_after is not None:
            return self._tell(Busy(self._node, retry_after, leads=True))
        self._admission.enter(size)

        def leave(answer: Any) -> Any:
            self._admission.leave(size)
            return answer

        return door(body).addBoth(leave)

    def open(self, body: bytes) -> Deferred[bytes]:
        """KV_OPEN."""
        try:
            command = OPENS.decode(body)
        except Malformed as error:
            return self._reject("BadRequest", str(error))
        if len(command.nonce) != 16:
            return self._reject("BadRequest", "not a request for sessions")
        return self._submit(body, self._outcomes)

    def scan(self, body: bytes) -> Deferred[bytes]:
        """KV_SCAN: keys and values of one shard, in key order, a chunk at a time."""
        try:
            query = SCANS.decode(body)
        except Malformed as error:
            return self._reject("BadRequest", str(error))
        return self._read(query, lambda answer: answer)

    def pull(self, body: bytes) -> Deferred[bytes]:
        """SHARD_PULL: any replica may give what is frozen, for it never changes; a leader also what is served."""
        try:
            query = PULLS.decode(body)
        except Malformed as error:
            return self._reject("BadRequest", str(error))
        return ensureDeferred(self._pull(query)).addCallback(ANSWERS.encode)

    async def _pull(self, query: PullRows) -> Any:
        frozen = False
        while True:
            replica = self._replica()
            if replica is None:
                return Busy(self._node, NOT_READY_SECONDS)
            if not replica.leads and not self._machine.is_frozen(query.shard, query.num):
                return NotLeading(self._node, replica.standing.leader)
            answer: PullAnswer = replica.query(query)
            if (query.shard, query.num) in self._asked_at:
                self._asked_at[query.shard, query.num] = self._clock.seconds()
            if answer.state == "sorting":
                await deferLater(self._clock, 0)
            elif answer.state == "handing" and not frozen:
                frozen = True
                try:
                    await replica.submit(GROUP_COMMANDS.encode(Freeze(query.shard, query.num)))
                except (NotLeader, Overloaded) as error:
                    return self._turned_away(error, replica)
                except (LeadershipLost, Overwritten):
                    return NotLeading(self._node, replica.standing.leader)
            else:
                return answer

    def drop(self, body: bytes) -> Deferred[bytes]:
        """SHARD_DROP."""
        try:
            DROPS.decode(body)
        except Malformed as error:
            return self._reject("BadRequest", str(error))
        return self._submit(body, lambda reply: reply)


class ControllerDoors(Doors):
    """Configurations for everybody, changes for administrators.

    A client may know only one controller, and that one need not lead: what it asks is then asked of the leader.

    Args:
        peers: node → endpoint of every controller.
        waits: who waits for a configuration.
    """

    def __init__(
        self,
        node: int,
        replica: Callable[[], Replica | None],
        peers: Mapping[int, str],
        network: INetwork,
        waits: Waits,
    ) -> None:
        super().__init__(node, replica)
        self._peers = peers
        self._network = network
        self._waits = waits

    @property
    def doors(self) -> Mapping[str, Door]:
        """verb → door; each for clients and, under the name that is never passed on, for fellow controllers."""
        own: dict[str, Door] = {
            CTL_ENROLL: self.enroll,
            CTL_CHANGE: self.change,
            CTL_CLAIM: self.claim,
            CTL_QUERY: self.query,
        }
        passed_on = {verb: self._or_of_the_leader(verb, door) for verb, door in own.items()}
        return passed_on | {FORWARDED + verb: door for verb, door in own.items()} | {CTL_NEXT: self.next}

    def _or_of_the_leader(self, verb: str, door: Door) -> Door:
        def answer(body: bytes) -> Deferred[bytes]:
            return door(body).addCallback(self._pass_on, verb, body)

        return answer

    def _pass_on(self, answer: bytes, verb: str, body: bytes) -> bytes | Deferred[bytes]:
        """The leader's answer in place of NotLeading; the body is the same, so it takes effect once."""
        turned = ANSWERS.decode(answer)
        if not isinstance(turned, NotLeading) or turned.leader in (NOBODY, self._node):
            return answer
        asked = self._network.call(self._peers[turned.leader], FORWARDED + verb, body, LEADER_SECONDS)
        return asked.addErrback(self._in_vain, answer, turned)

    def _in_vain(self, failure: Failure, answer: bytes, turned: NotLeading) -> bytes:
        if failure.check(NotSent):
            return answer
        failure.trap(LostAnswer)
        return ANSWERS.encode(Unsettled(self._node, turned.leader))

    def enroll(self, body: bytes) -> Deferred[bytes]:
        """CTL_ENROLL."""
        return self._command(body, ENROLLS, lambda outcome: self._outcomes((outcome,)))

    def change(self, body: bytes) -> Deferred[bytes]:
        """CTL_CHANGE."""
        return self._command(body, CHANGES, lambda reply: reply)

    def claim(self, body: bytes) -> Deferred[bytes]:
        """CTL_CLAIM."""
        return self._command(body, CLAIMS, lambda reply: reply)

    def query(self, body: bytes) -> Deferred[bytes]:
        """CTL_QUERY: through a quorum, so that it reflects every change completed before."""
        try:
            query = QUERIES.decode(body)
        except Malformed as error:
            return self._reject("BadRequest", str(error))
        return self._read(query, self._founded)

    def next(self, body: bytes) -> Deferred[bytes]:
        """CTL_NEXT: as CTL_QUERY, but not before the configuration is there, or a while has passed.

        So a group that waits for the next one asks once in CONFIGURATION_HELD_SECONDS. Who knows no leader holds
        nobody: others may have news.
        """
        try:
            query = QUERIES.decode(body)
        except Malformed as error:
            return self._reject("BadRequest", str(error))

        def come() -> bool:
            replica = self._replica()
            if replica is None or replica.standing.leader == NOBODY:
                return True
            newest: ConfigurationAnswer = replica.query(_NEWEST)
            return newest.configuration.num >= query.num

        ask = self._or_of_the_leader(CTL_QUERY, self.query)
        waited = self._waits.until(come, CONFIGURATION_HELD_SECONDS)
        return waited.addCallback(lambda goes_on: ask(body) if goes_on else self._tell(NotLeading(self._node, NOBODY)))

    def _founded(self, answer: ConfigurationAnswer | Refused) -> Any:
        if isinstance(answer, ConfigurationAnswer) and not answer.cluster:
            return Busy(self._node, NOT_READY_SECONDS)
        return answer

    def _command(self, body: bytes, codec: Codec[Any], told: Callable[[Any], Any]) -> Deferred[bytes]:
        try:
            codec.decode(body)
        except Malformed as error:
            return self._reject("BadRequest", str(error))
        return self._submit(body, told)
