"""What must hold at every moment, seen where it happens: at each core, machine, log file and link of a member.

Election safety, state machine safety, no promise before it is durable and none forgotten (Raft Figures 2 and 3), one
group per shard, equal state at equal index (hazard 20), exactly once. Each finding is a line in ``wrong``. It watches
through wrappers around the production classes, which change nothing; what clients saw is judged elsewhere
(linearizability).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from twisted_kv.consensus.raft.invariants import Invariants, InvariantViolated
from twisted_kv.consensus.raft.messages import MESSAGES, AppendAck, AskVote, VoteAnswer
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import Entry, HardState, Ready, Restored, Role, SnapshotInstalled, Ticket
from twisted_kv.interfaces import ICheckpoint, IDataStore, INetwork
from twisted_kv.simulation.judges.checkers import (
    APPEND_ONLY,
    COMPLETE,
    DURABLE,
    EQUAL,
    EXACTLY_ONCE,
    FILES_FIT,
    LOG_MATCHING,
    NOT_FORGOTTEN,
    ONE_LEADER,
    ONE_ORDER,
    ONE_OWNER,
    SAVED_FIRST,
    SAVED_TO_APPLY,
    STOPPED,
    Violation,
)
from twisted_kv.simulation.judges.configurations import Chronicle
from twisted_kv.simulation.judges.files import Files
from twisted_kv.simulation.judges.history import Call, History
from twisted_kv.simulation.judges.moves import Moves
from twisted_kv.transport.wire import PEER_STEP, STEP

DIGEST_EVERY: Final = 16
WRONG_MAX: Final = 20

_FIGURE_3: Final = {
    "Election Safety": ONE_LEADER,
    "Leader Append-Only": APPEND_ONLY,
    "Log Matching": LOG_MATCHING,
    "Leader Completeness": COMPLETE,
    "State Machine Safety": ONE_ORDER,
}

Place = tuple[int, int]
"""Index of an entry, and position of a command in it."""


class Watch:
    """Watches every replica of a cluster, over all its boots.

    Attributes:
        wrong: what was found; at most WRONG_MAX of it.
        elected: called when a leader is seen for the first time.
        noticed: called with each finding, when it is made.
        now: virtual seconds.
        elections: when a leader was seen for the first time, and of which group.
        boots: when each member last began on what its disk gave back.
        chronicle: judges the configurations that the controllers make.
        files: judges what directories give back.
        moves: judges what the groups make of them, and what they answer.
        wiped: who lost its directory, and came back or may come back as a copy, which counts for nothing.
    """

    def __init__(self) -> None:
        self.wrong: list[Violation] = []
        self.elected: Callable[[], None] = lambda: None
        self.noticed: Callable[[Violation], None] = lambda violation: None
        self.now: Callable[[], float] = lambda: 0.0
        self.elections: list[tuple[float, int]] = []
        self.boots: dict[str, float] = {}
        self.wiped: set[str] = set()
        self.chronicle = Chronicle(self.found)
        self.files = Files(self.found)
        self.moves = Moves(self.found, self.chronicle.is_known)
        self._figures: dict[int, Invariants] = {}
        self._leaders: dict[tuple[int, int], str] = {}
        self._committed: dict[tuple[int, int], tuple[int, int]] = {}
        self._durable: dict[str, _Durable] = {}
        self._digests: dict[tuple[int, Place], tuple[int, str]] = {}
        self._served: dict[int, tuple[Place, frozenset[int]]] = {}

    def report(self, line: str) -> None:
        """A member ended as none should."""
        self.found(STOPPED, line)

    def found(self, checker: str, text: str) -> None:
        """Something is wrong."""
        if len(self.wrong) < WRONG_MAX:
            violation = Violation(checker, text)
            self.wrong.append(violation)
            self.noticed(violation)

    def restored(self, name: str, restored: Restored) -> None:
        """A replica starts on what its disk gave back: no term, vote or entry is ever forgotten (hazards 1 and 2)."""
        known, found = self._durable.get(name, _Durable()), restored.hard_state
        last = restored.entries[-1].index if restored.entries else restored.boundary.index
        voted = known.vote and (known.term, known.vote) != (found.term, found.vote)
        if found.term < known.term or (found.term == known.term and voted) or last < known.last:
            self.found(NOT_FORGOTTEN, f"{name} had saved {known} and came back with {found}, last entry {last}")
        self._durable[name] = _Durable(found.term, found.vote, last, found.term)
        self.boots[name] = self.now()

    def forgotten(self, name: str) -> None:
        """The directory of this replica was wiped on purpose."""
        self._durable.pop(name, None)
        self.files.forgotten(name)
        self.wiped.add(name)

    def saved(self, name: str, ready: Ready) -> None:
        """A save was carried out, whether or not anybody will be told."""
        durable = self._durable[name]
        durable.term_before = durable.term
        if ready.hard_state is not None:
            self._replaced(name, durable, ready.hard_state)
            durable.term, durable.vote = ready.hard_state.term, ready.hard_state.vote
        if ready.cut is not None:
            durable.last = min(durable.last, ready.cut - 1)
        if ready.entries:
            durable.last = max(durable.last, ready.entries[-1].index)

    def _replaced(self, name: str, durable: _Durable, state: HardState) -> None:
        """Terms never fall, and a vote is for the whole of its term (Raft §5.2)."""
        other_vote = durable.vote and state.vote != durable.vote
        if state.term < durable.term or (state.term == durable.term and other_vote):
            self.found(NOT_FORGOTTEN, f"{name} has saved {durable} and replaces it by {state}")

    def rows_committed(self, name: str, term: int) -> None:
        """Rows that stand in this term are about to be on disk; a log of an older one would not fit to them."""
        if term > self._durable[name].term:
            self.found(FILES_FIT, f"{name} commits rows of term {term}, and has saved only {self._durable[name]}")

    def begun_anew(self, name: str, index: int) -> None:
        """The log was reset behind rows that were installed."""
        self._durable[name].last = index

    def promised(self, name: str, message: Any) -> None:
        """A message leaves: what it promises is on disk (Figure 2, "updated on stable storage before responding").

        Or the very last save has ended its term. One save may cover several turns of a log: entries that were taken,
        and cut again for the leader of a later term. Their acknowledgment leaves behind that save, before any other, as
        if it had been on its way for long.
        """
        durable = self._durable[name]
        match message:
            case AppendAck(term=term, index=index):
                ended = durable.term_before <= term < durable.term
                kept = ended or (durable.term >= term and durable.last >= index)
            case AskVote(sender=candidate, term=term):
                kept = durable.term > term or (durable.term, durable.vote) == (term, candidate)
            case VoteAnswer(to=candidate, term=term, granted=True):
                kept = durable.term > term or (durable.term, durable.vote) == (term, candidate)
            case _:
                kept = True
        if not kept:
            self.found(SAVED_FIRST, f"{name} sends {message} and has saved only {durable}")

    def led(self, gid: int, term: int, name: str) -> None:
        """At most one leader per term (§5.2)."""
        other = self._leaders.get((gid, term))
        if not other:
            self._leaders[gid, term] = name
            self.elections.append((self.now(), gid))
            self.elected()
        elif other != name:
            self.found(ONE_LEADER, f"group {gid} has two leaders in term {term}: {other} and {name}")

    def looked_at(self, gid: int, core: RaftNode) -> None:
        """All of Raft Figure 3, as far as one more look at one core shows it.

        What a group's cores have shown is remembered over all replicas and boots.
        """
        if gid not in self._figures:
            self._figures[gid] = Invariants()
        try:
            self._figures[gid].observe((core,))
        except InvariantViolated as error:
            self.found(_FIGURE_3[error.name], f"group {gid}: {error}")
        boundary = core.log.boundary
        term, _ = self._committed.get((gid, boundary.index), (boundary.term, 0))
        if term != boundary.term:
            self.found(
                LOG_MATCHING, f"group {gid}: a log begins behind {boundary}, of term {term} where it was committed"
            )

    def committed(self, gid: int, entry: Entry, name: str) -> None:
        """If a replica has applied an entry at an index, no other ever applies another one there (§5.4.3)."""
        seen = (entry.term, zlib.crc32(b"\0".join(entry.commands)))
        known = self._committed.setdefault((gid, entry.index), seen)
        if known != seen:
            self.found(
                ONE_ORDER, f"group {gid} has two entries at {entry.index}: terms {known[0]} and {seen[0]} ({name})"
            )

    def applied(self, gid: int, place: Place, machine: Any, name: str) -> None:
        """A machine stands behind this command: it is in the own log (hazard 16), the same state is everywhere, and no
        shard in two groups."""
        if name in self._durable and place[0] > self._durable[name].last:
            self.found(SAVED_TO_APPLY, f"{name} applies {place[0]} and has saved only {self._durable[name]}")
        if place[0] % DIGEST_EVERY == 0:
            digest = machine.digest()
            known, whose = self._digests.setdefault((gid, place), (digest, name))
            if known != digest:
                self.found(EQUAL, f"{name} and {whose} differ at {place}")
        latest, before = self._served.get(gid, ((0, 0), frozenset()))
        if gid and place > latest:
            serving: frozenset[int] = machine.serving
            self._served[gid] = (place, serving)
            if serving != before:
                self._one_group_per_shard(gid, serving)

    def _one_group_per_shard(self, gid: int, serving: frozenset[int]) -> None:
        for other, (_, theirs) in self._served.items():
            if other != gid and serving & theirs:
                self.found(ONE_OWNER, f"shards {sorted(serving & theirs)} are served by groups {other} and {gid}")


class _Durable(msgspec.Struct):
    """What is on the disk of a member: its term and vote, the index of its last entry, and the term before the last
    save."""

    term: int = 0
    vote: int = 0
    last: int = 0
    term_before: int = 0


class WatchedCore:
    """An IConsensus that tells a Watch what goes through it."""

    def __init__(self, core: RaftNode, watch: Watch, gid: int, name: str, applied: int) -> None:
        self._core = core
        self._watch = watch
        self._gid = gid
        self._name = name
        self._applied = applied

    def tick(self) -> None:
        self._core.tick()

    def step(self, message: Any) -> None:
        if isinstance(message, SnapshotInstalled):
            self._applied = max(self._applied, message.index)
        self._core.step(message)
        # After every step, not only where the step leaves something to be done: a core may lead and lead no longer
        # before its owner asks.
        self._watch.looked_at(self._gid, self._core)

    def propose(self, command: bytes) -> Ticket:
        return self._core.propose(command)

    def read(self, token: int) -> None:
        self._core.read(token)

    def ready(self) -> Ready | None:
        ready = self._core.ready()
        if ready is not None:
            self._watch.looked_at(self._gid, self._core)
            if ready.standing is not None and ready.standing.role is Role.LEADER:
                self._watch.led(self._gid, ready.standing.term, self._name)
            for entry in ready.committed:
                self._commit(entry)
        return ready

    def advance(self, ready: Ready) -> None:
        self._core.advance(ready)

    def compact(self, index: int) -> None:
        self._core.compact(index)

    def status(self) -> Any:
        return self._core.status()

    def _commit(self, entry: Entry) -> None:
        if entry.index != self._applied + 1:
            self._watch.found(ONE_ORDER, f"{self._name} commits {entry.index} after {self._applied}")
        self._applied = entry.index
        self._watch.committed(self._gid, entry, self._name)


class WatchedMachine:
    """A machine that tells a Watch where it stands after each command; all else is the machine's own."""

    def __init__(self, machine: Any, watch: Watch, gid: int, name: str) -> None:
        self._machine = machine
        self._watch = watch
        self._gid = gid
        self._name = name
        self._place = (0, 0)

    def apply(self, index: int, command: bytes) -> Any:
        reply = self._machine.apply(index, command)
        self._place = (index, self._place[1] + 1 if self._place[0] == index else 0)
        self._watch.applied(self._gid, self._place, self._machine, self._name)
        if self._gid == 0:
            self._watch.chronicle.applied(self._place, command, reply, self._machine, self._name)
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)


class WatchedLog:
    """A log store that tells a Watch what is durable; all else is the store's own."""

    def __init__(self, log: Any, watch: Watch, name: str) -> None:
        self._log = log
        self._watch = watch
        self._name = name

    def restore(self) -> Restored:
        restored: Restored = self._log.restore()
        self._watch.restored(self._name, restored)
        return restored

    def save(self, ready: Ready) -> None:
        self._log.save(ready)
        self._watch.saved(self._name, ready)

    def reset(self, index: int, term: int) -> None:
        self._log.reset(index, term)
        self._watch.begun_anew(self._name, index)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class WatchedData:
    """An IDataStore that tells a Watch which rows will be durable."""

    def __init__(self, store: IDataStore, watch: Watch, name: str) -> None:
        self._store = store
        self._watch = watch
        self._name = name
        self.position = store.position
        self.rows = store.rows
        self.snapshot = store.snapshot
        self.close = store.close

    def checkpoint(self, fresh: bool = False) -> ICheckpoint:
        return _WatchedCheckpoint(self._store.checkpoint(fresh), self._watch, self._name)


class _WatchedCheckpoint:
    def __init__(self, checkpoint: ICheckpoint, watch: Watch, name: str) -> None:
        self._checkpoint = checkpoint
        self._watch = watch
        self._name = name
        self.write = checkpoint.write
        self.drop = checkpoint.drop
        self.abort = checkpoint.abort

    def commit(self, index: int, term: int) -> None:
        self._watch.rows_committed(self._name, term)
        self._checkpoint.commit(index, term)


class WatchedNetwork:
    """An INetwork that tells a Watch what a core says to its peers."""

    def __init__(self, network: INetwork, watch: Watch, name: str) -> None:
        self._network = network
        self._watch = watch
        self._name = name
        self.call = network.call
        self.close = network.close

    def send(self, endpoint: str, verb: str, body: bytes) -> None:
        if verb == PEER_STEP:
            for message in MESSAGES.decode(STEP.decode(body).body):
                self._watch.promised(self._name, message)
        self._network.send(endpoint, verb, body)


def exactly_once(history: History, final: Mapping[str, str | None]) -> list[Violation]:
    """What is wrong with the last values of keys to which clients only appended (scenarios §2.2).

    Every acknowledged token stands there once, every other one at most once, and the acknowledged ones of a client in
    the order of its calls.

    The history's checker sees this too; here it is told in words.
    """
    return [
        violation
        for key, calls in sorted(history.by_key().items())
        if key in final and all(call.verb in ("append", "get") for call in calls)
        for violation in _tokens_wrong(key, [call for call in calls if call.verb == "append"], final[key] or "")
    ]


def _tokens_wrong(key: str, appends: list[Call], value: str) -> list[Violation]:
    wrong = []
    places: dict[str, int] = {}
    for call in appends:
        token = call.argument or ""
        count = value.count(token)
        if call.known and count == 0:
            wrong.append(Violation(DURABLE, f"{key}: {token} of {call.client} was acknowledged and is gone"))
        elif count > 1:
            wrong.append(Violation(EXACTLY_ONCE, f"{key}: {token} of {call.client} stands {count} times"))
        elif call.known:
            place = value.index(token)
            if place < places.get(call.client, -1):
                wrong.append(Violation(EXACTLY_ONCE, f"{key}: {token} of {call.client} stands before an earlier one"))
            places[call.client] = place
    return wrong
