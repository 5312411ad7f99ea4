"""What members owe while faults last: who cannot serve says so, and who can be led is led.

Liveness after the faults is recovery's business. Here each promise stands on its own, is judged at every tick of a
core, by the ticks and the clock of its own host, and with bounds that honest members never come near:

- Who leads hears a majority, or leads no longer after a few election timeouts (hazard 7; thesis §6.2).
- Who leads has a disk that saves, or leads no longer after a few times the corridor's own patience (hazards 7 and 28).
- Who cannot serve lets nobody wait: calls at one that does not lead, or has stopped, are told (hazards 15 and 27).
- Who hears nobody at all keeps its term, and so deposes nobody when it comes back (hazard 8; thesis §9.6).
- A save that failed is of unknown outcome; no other one follows it in this life of the process (hazard 27).
- What a controller passed on to its leader and was not answered is told as unknown (hazard 40).

It watches through wrappers around the production classes, which change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_kv.consensus.quorum import is_quorum
from twisted_kv.consensus.raft.messages import AppendAck, AppendRefused, HeartbeatAck
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.raft.roles import Leader
from twisted_kv.consensus.types import Ready, Ticket
from twisted_kv.interfaces import Door, IConsensus, IDisk, INetwork, LostAnswer, SaveRefused
from twisted_kv.replica.doors import FORWARDED
from twisted_kv.replica.replica import STALL_SECONDS, Replica
from twisted_kv.simulation.doors.disk import method_of
from twisted_kv.simulation.judges.checkers import (
    FORWARDED_UNKNOWN,
    KEEPS_TERM,
    LEADS_ALONE,
    LEADS_ON,
    SAVED_ONCE,
    WAITS,
)
from twisted_kv.transport.wire import ANSWERS, CTL_QUERY, Unsettled

PATIENCE: Final = 3
"""So many times the bound that the programs have themselves."""

Found = Callable[[str, str], None]
"""Is told which checker has found what."""


class ServingCore:
    """An IConsensus that judges, at each tick, whether its member may still serve.

    Args:
        node: the core within the wrappers, to look at.
        replica: the corridor around it; None until it is there.
    """

    def __init__(
        self,
        core: IConsensus,
        node: RaftNode,
        clock: IReactorTime,
        replica: Callable[[], Replica | None],
        found: Found,
        name: str,
    ) -> None:
        self._core = core
        self._state = node._state
        self._clock = clock
        self._replica = replica
        self._found = found
        self._name = name
        self._ticks = 0
        self._heard_at = 0
        self._role: Any = None
        self._answered: dict[int, int] = {}
        self._saving_since: float | None = None
        self._useless_since: float | None = None
        self.propose: Callable[[bytes], Ticket] = core.propose
        self.read = core.read
        self.compact = core.compact
        self.status = core.status

    def tick(self) -> None:
        state, term = self._state, self._state.term
        self._core.tick()
        self._ticks += 1
        if state.term > term and state.others and self._ticks - self._heard_at >= state.settings.election_ticks:
            self._found(KEEPS_TERM, f"{self._name} has heard nobody, and went from term {term} to {state.term}")
        if isinstance(state.role, Leader):
            self._hears_a_majority(state.role)
        self._serves_or_says_so()

    def step(self, message: Any) -> None:
        sender = getattr(message, "sender", None)
        if sender is not None:
            self._heard_at = self._ticks
        if isinstance(message, (AppendAck, AppendRefused, HeartbeatAck)) and message.term == self._state.term:
            self._answered[message.sender] = self._ticks
        self._core.step(message)

    def ready(self) -> Ready | None:
        ready: Ready | None = self._core.ready()
        if ready is not None and ready.must_save:
            self._saving_since = self._clock.seconds()
        return ready

    def advance(self, ready: Ready) -> None:
        self._saving_since = None
        self._core.advance(ready)

    def _hears_a_majority(self, role: Leader) -> None:
        """Three election timeouts of its own; it gives up after one."""
        state = self._state
        if role is not self._role:
            self._role = role
            self._answered = dict.fromkeys(state.others, self._ticks)
        since = self._ticks - PATIENCE * state.settings.election_ticks
        heard = {voter for voter in state.others if self._answered[voter] >= since}
        if not is_quorum(heard | {state.node}, state.voters):
            self._found(LEADS_ALONE, f"{self._name} leads term {state.term} and hears only {sorted(heard)}")

    def _serves_or_says_so(self) -> None:
        replica, now = self._replica(), self._clock.seconds()
        if replica is None:
            return
        patience = PATIENCE * STALL_SECONDS
        hangs = self._saving_since is not None and now - self._saving_since > patience
        if hangs and replica.leads:
            self._found(LEADS_ON, f"{self._name} leads, and its save began {now - (self._saving_since or 0):.1f} s ago")
        if isinstance(self._state.role, Leader) and not hangs:
            self._useless_since = None
            return
        if self._useless_since is None:
            self._useless_since = now
        if now - self._useless_since > patience and waiting(replica):
            self._found(WAITS, f"{waiting(replica)} calls wait at {self._name}, which cannot serve them")


def waiting(replica: Replica) -> int:
    """How many calls wait at a replica for their outcome."""
    return len(replica._commands) + len(replica._reads)


def ended(replica: Replica | None, found: Found, name: str) -> None:
    """A process ends: if its replica has stopped before, nobody waits there (replica.Replica.stop)."""
    if replica is not None and replica._stopped and waiting(replica):
        found(WAITS, f"{waiting(replica)} calls wait at {name}, which has stopped")


class SavingDisk:
    """An IDisk of a log: a save that failed is the last one (hazard 27). A full disk has certainly not saved."""

    def __init__(self, disk: IDisk, found: Found, name: str) -> None:
        self._disk = disk
        self._found = found
        self._name = name
        self._failed = False
        self.close = disk.close

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        if method_of(work) != "save":
            return self._disk.run(work)
        if self._failed:
            self._found(SAVED_ONCE, f"{self._name} saves again although a save has failed, which may have been done")
        return self._disk.run(work).addErrback(self._has_failed)

    def _has_failed(self, failure: Failure) -> Failure:
        self._failed = failure.check(SaveRefused) is None
        return failure


class Forwards:
    """An INetwork of a controller, and its doors: what was passed on and not answered is told as unknown.

    A query may be refused: it changes nothing.

    Args:
        lost: called whenever a change was passed on and not answered.
    """

    def __init__(self, network: INetwork, found: Found, lost: Callable[[], None], name: str) -> None:
        self._network = network
        self._found = found
        self._told_of_loss = lost
        self._name = name
        self._lost: set[bytes] = set()
        self.send = network.send
        self.close = network.close

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        asked = self._network.call(endpoint, verb, body, timeout)
        if verb.startswith(FORWARDED) and verb != FORWARDED + CTL_QUERY:
            asked.addErrback(self._not_answered, body)
        return asked

    def watched(self, doors: Mapping[str, Door]) -> Mapping[str, Door]:
        """The doors, whose answers are looked at."""

        def watched(door: Door) -> Door:
            return lambda body: door(body).addCallback(self._answers, body)

        return {verb: watched(door) for verb, door in doors.items()}

    def _not_answered(self, failure: Failure, body: bytes) -> Failure:
        if failure.check(LostAnswer) is not None:
            self._lost.add(body)
            self._told_of_loss()
        return failure

    def _answers(self, answer: bytes, body: bytes) -> bytes:
        # The door answers in the very turn in which it learns of the loss.
        if body in self._lost:
            self._lost.discard(body)
            told = ANSWERS.decode(answer)
            if not isinstance(told, Unsettled):
                self._found(FORWARDED_UNKNOWN, f"{self._name} was not answered by the leader, and says {told}")
        return answer
