"""Lanes: calls on their way to one group, in batches.

All calls that were queued in a reactor turn leave together, in the order of the calls; while several batches are under
way the rest waits and grows into the next batch. A batch is formed anew for every attempt, so a call that was given up
is never sent again. Decides from each answer what becomes of each call: settled, sent again with the same ids, or
handed back to the Clerk because it belongs elsewhere. Contract §5.2; hazards 40-42.

Knows one group's servers through a Seeker; refuses to know configurations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, Protocol

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_kv.client.calls import Call
from twisted_kv.client.seeking import UNSETTLING, Seeker, trouble_of, unknown
from twisted_kv.client.sessions import Session
from twisted_kv.constants import KIB
from twisted_kv.errors import by_name
from twisted_kv.machines.commands import (
    GROUP_COMMANDS,
    READS,
    Done,
    Expired,
    Open,
    Operation,
    Outcome,
    Read,
    Refused,
    Write,
    WrongGroup,
)
from twisted_kv.transport.wire import KV_OPEN, KV_READ, KV_WRITE, Busy, Outcomes, Rejected

BATCH_CALLS_MAX: Final = 128
"""Of all that was queued in a turn: so client, leader and followers work at once, each on another batch."""
BATCH_BYTES: Final = 512 * KIB
BATCHES_UNDER_WAY_MAX: Final = 6
FULL_SESSION_SECONDS: Final = 0.1
LAST_WORD_SECONDS: Final = 0.01
"""An attempt ends so much before the deadline, for how it ended decides what may be said then."""
LAST_TRY_SECONDS: Final = 0.05
"""While the leader is sought, a call that was tried before and has less time than this left is not sent again."""
_BY_NUMBER: Final = attrgetter("number")


class Desk(Protocol):
    """The Clerk, as its lanes see it."""

    def route(self, call: Call) -> None:
        """Find the lane of this call."""

    def misled(self, call: Call, gid: int, told: WrongGroup) -> None:
        """Group ``gid`` does not serve the call's shard."""

    def set_aside(self, call: Call) -> None:
        """Try again a little later."""

    def session_of(self, shard: int) -> Session:
        """The session of a shard, perhaps not opened yet."""

    def unopened(self, gid: int, count: int) -> list[Session]:
        """At most so many sessions, not opened and not asked for, of shards that the group seems to serve."""

    def session_lost(self, session: Session) -> None:
        """The servers do not know it any more."""

    def doubt(self) -> None:
        """A group cannot be reached: perhaps it lives elsewhere now."""


class Request(msgspec.Struct, frozen=True):
    """One attempt: what is asked, and what to do with the outcomes, with a rejection, and otherwise."""

    verb: str
    body: bytes
    seconds_max: float
    told: Callable[[Sequence[Outcome]], None]
    rejected: Callable[[Rejected], None]
    bounced: Callable[[Any], None]


class Lane(ABC):
    """Calls of one kind for one group.

    Args:
        seeker: of the group, shared with its other lane.
    """

    log = Logger()

    def __init__(self, desk: Desk, gid: int, seeker: Seeker, clock: IReactorTime) -> None:
        self._desk = desk
        self._gid = gid
        self._seeker = seeker
        self._clock = clock
        self._queue: deque[Call] = deque()
        self._under_way = 0
        self._timer: IDelayedCall | None = None
        self._retired = False

    def take(self, call: Call) -> None:
        """Queue a call; it leaves at the end of this turn. One that was tried before has waited longest."""
        (self._queue.appendleft if call.trouble else self._queue.append)(call)
        if self._timer is None:
            self._timer = self._clock.callLater(0, self._flush)

    def recall(self) -> list[Call]:
        """Give back what is queued; what is under way is routed anew if it ends in vain."""
        queued = [call for call in self._queue if not call.settled]
        self._queue.clear()
        return queued

    def retire(self) -> list[Call]:
        """The group is not to be asked any more: recall, and send nothing from now on."""
        self._retired = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self.recall()

    # What follows differs between reads and writes.

    @abstractmethod
    def _next_request(self) -> Request | None:
        """What to ask next; None: nothing waits."""

    @abstractmethod
    def _ready(self, call: Call) -> bool:
        """Whether the call can be sent now; if not, it is kept somewhere else."""

    @abstractmethod
    def _told(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> None:
        """What became of the calls, as far as the answer goes."""

    # What follows is shared.

    def _flush(self) -> None:
        self._timer = None
        pause = self._seeker.pause()
        if pause > 0:
            self._flush_in(pause)
            return
        # As long as the leader is sought one batch finds it; several would only be turned away together.
        while self._under_way < (BATCHES_UNDER_WAY_MAX if self._seeker.found else 1):
            request = self._next_request()
            if request is None:
                return
            self._under_way += 1
            attempt = self._seeker.attempt(request.verb, request.body, request.seconds_max)
            attempt.addCallback(self._answered, request).addErrback(self._broke)

    def _flush_in(self, seconds: float) -> None:
        if self._timer is None and not self._retired:
            self._timer = self._clock.callLater(seconds, self._flush)

    def _answered(self, answer: Any, request: Request) -> None:
        self._under_way -= 1
        kind = type(answer)
        if kind is Outcomes:
            request.told(answer.outcomes)
        elif kind is Rejected:
            request.rejected(answer)
        else:
            request.bounced(answer)
            if kind is not Busy and self._seeker.pause() > 0:
                self._desk.doubt()
        self._flush_in(0)

    def _broke(self, failure: Failure) -> None:
        self.log.failure("An answer of group {gid} could not be dealt with", failure, gid=self._gid)

    def _load(self) -> list[Call]:
        """The calls of the next batch."""
        calls: list[Call] = []
        size, company = 0, BATCH_CALLS_MAX
        queue = self._queue
        now = self._clock.seconds()
        last_word = now + LAST_WORD_SECONDS
        last_try = last_word if self._seeker.found else now + LAST_TRY_SECONDS
        if queue and (pace := queue[0].pace) is not None and pace.wait is not None:
            # Many wait: whoever can no longer be answered in time makes room, and is not left in doubt.
            last_word = last_try = now + max(self._seeker.latency, LAST_TRY_SECONDS)
        while queue:
            call = queue[0]
            in_time = call.deadline > (last_try if call.trouble else last_word)
            if in_time and not call.settled and self._ready(call):
                company = min(company, call.company)
                if calls and (len(calls) >= company or size + call.size > BATCH_BYTES):
                    break
                calls.append(call)
                size += call.size
                call.flying = True
            queue.popleft()
        # Waiting for sessions and retries have mixed them up.
        calls.sort(key=_BY_NUMBER)
        return calls

    def _request(self, verb: str, body: bytes, calls: list[Call]) -> Request:
        """An attempt for these calls."""

        def told(outcomes: Sequence[Outcome]) -> None:
            self._told(calls, outcomes)
            # What did not fit into the answer was carried out too: the same ids bring its outcome.
            self._send_again(calls[len(outcomes) :], "the answer was too long", unsettled=True)

        def rejected(answer: Rejected) -> None:
            self._rejected(calls, answer)

        def bounced(answer: Any) -> None:
            busy = answer.retry_after if isinstance(answer, Busy) else None
            self._send_again(calls, trouble_of(answer), isinstance(answer, UNSETTLING), busy)

        return Request(verb, body, self._seconds_max(calls), told, rejected, bounced)

    def _seconds_max(self, calls: Sequence[Call]) -> float:
        """As long as a call is waited for; while the leader is sought, as long as all of them are."""
        last_word = self._clock.seconds() + LAST_WORD_SECONDS
        latest = max(call.deadline for call in calls) - last_word
        if self._seeker.found:
            return latest
        return min(latest, max(min(call.deadline for call in calls) - last_word, LAST_TRY_SECONDS - LAST_WORD_SECONDS))

    def _send_again(
        self, calls: Sequence[Call], trouble: str, unsettled: bool = False, busy: float | None = None
    ) -> None:
        for call in reversed(calls):
            if call.settled:
                continue
            call.flying = False
            call.unsettled = call.unsettled or unsettled
            call.trouble = trouble
            call.busy = busy
            self._desk.route(call)

    def _rejected(self, calls: Sequence[Call], answer: Rejected) -> None:
        """One bad call spoils its batch: halve the company until it stands alone."""
        if len(calls) > 1:
            for call in calls:
                call.company = (len(calls) + 1) // 2
            self._send_again(calls, trouble_of(answer))
        elif not calls[0].settled:
            may_have = calls[0].sequence and calls[0].unsettled
            calls[0].fail(unknown(trouble_of(answer)) if may_have else by_name(answer.error, answer.text))


class ReadLane(Lane):
    """Gets: no sessions, and nothing to lose by asking twice."""

    def _next_request(self) -> Request | None:
        calls = self._load()
        if not calls:
            return None
        return self._request(KV_READ, READS.encode(Read(tuple(call.key for call in calls))), calls)

    def _ready(self, call: Call) -> bool:
        return True

    def _told(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> None:
        for call, outcome in zip(calls, outcomes, strict=False):
            if call.settled:
                continue
            call.flying = False
            if isinstance(outcome, Done):
                call.succeed(call.default if outcome.value is None else outcome.value)
            elif isinstance(outcome, WrongGroup):
                self._desk.misled(call, self._gid, outcome)
            elif isinstance(outcome, Refused):
                call.fail(by_name(outcome.error, outcome.text))


class WriteLane(Lane):
    """Writes, each under the session of its shard; sessions are opened here when first needed.

    Who writes to several shards will write to more: each time that some must be opened, as many others are opened with
    them as were before, so that the round trips are few, and the sessions no more than twice what is needed.
    """

    def __init__(self, desk: Desk, gid: int, seeker: Seeker, clock: IReactorTime) -> None:
        super().__init__(desk, gid, seeker, clock)
        self._unopened: list[Session] = []
        self._opened_so_far = 0

    def recall(self) -> list[Call]:
        queued = super().recall()
        for session in self._unopened:
            session.opening = False
            queued += session.take_waiting()
        self._unopened.clear()
        return queued

    def _next_request(self) -> Request | None:
        calls = [] if self._unopened else self._load()
        if calls:
            operations = tuple(
                Operation(call.verb, call.key, call.value, session.number, call.sequence, session.floor)  # type: ignore[arg-type]
                for call in calls
                if (session := call.session) is not None
            )
            return self._request(KV_WRITE, GROUP_COMMANDS.encode(Write(operations)), calls)
        return self._opening() if self._unopened else None

    def _ready(self, call: Call) -> bool:
        if call.sequence:
            return True
        session = self._desk.session_of(call.shard)
        if session.admit(call):
            return True
        session.waiting.append(call)
        if not session.number and not session.opening:
            session.opening = True
            self._unopened.append(session)
        return False

    def _told(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> None:
        for call, outcome in zip(calls, outcomes, strict=False):
            if call.settled:
                continue
            call.flying = False
            if isinstance(outcome, Done):
                call.succeed(outcome.value)
            elif isinstance(outcome, WrongGroup):
                self._desk.misled(call, self._gid, outcome)
            elif isinstance(outcome, Expired):
                self._expired(call)
            elif outcome.error == "Overloaded":
                # The one refusal that servers do not keep: this attempt was not executed, another one may be.
                call.trouble, call.busy = outcome.text, FULL_SESSION_SECONDS
                self._desk.set_aside(call)
            else:
                call.fail(by_name(outcome.error, outcome.text))

    def _expired(self, call: Call) -> None:
        """Only a call of which no earlier attempt may have been executed can go on, as another one (hazard 40)."""
        assert call.session is not None
        self._desk.session_lost(call.session)
        if call.unsettled:
            call.fail(unknown("the servers have forgotten the session"))
        else:
            call.renew()
            self._desk.route(call)

    def _opening(self) -> Request:
        """Open sessions of one nonce, all shards together."""
        nonce = self._unopened[0].nonce
        sessions = [session for session in self._unopened if session.nonce == nonce]
        self._unopened = [session for session in self._unopened if session.nonce != nonce]
        ahead = [session for session in self._desk.unopened(self._gid, self._opened_so_far) if session.nonce == nonce]
        for session in ahead:
            session.opening = True
        sessions += ahead

        def told(outcomes: Sequence[Outcome]) -> None:
            self._opened(sessions, outcomes)

        def rejected(answer: Rejected) -> None:
            for call in self._unqueued(sessions):
                call.fail(by_name(answer.error, answer.text))

        def bounced(answer: Any) -> None:
            for call in self._unqueued(sessions):
                call.trouble = trouble_of(answer)
                call.busy = answer.retry_after if isinstance(answer, Busy) else None
                self._desk.route(call)

        body = GROUP_COMMANDS.encode(Open(tuple(session.shard for session in sessions), nonce))
        seconds_max = max(call.deadline for session in sessions for call in session.waiting) - self._clock.seconds()
        return Request(KV_OPEN, body, seconds_max, told, rejected, bounced)

    def _opened(self, sessions: Sequence[Session], outcomes: Sequence[Outcome]) -> None:
        for session, outcome in zip(sessions, outcomes, strict=False):
            if isinstance(outcome, Done):
                self._opened_so_far += 1
                session.opened(outcome.value)
        for session, outcome in zip(sessions, outcomes, strict=False):
            if isinstance(outcome, Done):
                continue
            for call in self._unqueued([session]):
                if isinstance(outcome, WrongGroup):
                    self._desk.misled(call, self._gid, outcome)
                elif isinstance(outcome, Refused):
                    call.fail(by_name(outcome.error, outcome.text))

    def _unqueued(self, sessions: Sequence[Session]) -> list[Call]:
        """The calls that waited for these sessions, which were not opened."""
        calls = []
        for session in sessions:
            session.opening = False
            calls += session.take_waiting()
        return calls
