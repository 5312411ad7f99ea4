"""The moments at which a member is worth killing, announced from within: at its core, its log, its rows, its machine.

Random kills hit them too seldom to find the famous bugs (hazards §0.5). Wrappers around the production classes, which
change nothing, call ``Sights.moment`` right before and right after what a promise rests on; whoever listens may kill
the member there and then. The rest of the turn in which it dies still runs, and reaches nobody: a dead host has no
clock, network or disk. What passes through here is also shown to Sights, which knows rare events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred

from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import Ready, Restored, Role, SnapshotInstalled, Ticket
from twisted_kv.interfaces import ICheckpoint, IConsensus, IDataStore, INetwork
from twisted_kv.machines.commands import PullRows
from twisted_kv.simulation.judges.core_sights import CoreSights
from twisted_kv.simulation.judges.sights import Sights
from twisted_kv.transport.wire import PEER_ROWS

_TWICE: Final = (
    "vote",  # the save that holds a vote for another
    "campaign",  # the save that holds a vote for itself
    "term",  # the save of a term without a vote
    "cut",  # the save that deletes entries
    "append",  # the save that adds entries
    "lead",  # telling anybody; the save of its first entry
    "commit",  # applying entries; their replies have left
    "checkpoint",  # the commit of a checkpoint; the log is not trimmed yet
    "trim",
    "install",  # the commit of a peer's rows; the log is not reset yet
    "reset",  # of the log behind a peer's rows; the memory is not loaded yet
    "configure",  # proposing one; one was applied
    "take",  # a chunk of a shard, likewise
    "freeze",
    "drop",
    "dropped",
)

_MOVES: Final[Mapping[bytes, str]] = {
    b"c": "configure",
    b"i": "take",
    b"f": "freeze",
    b"d": "drop",
    b"p": "dropped",
}
"""Tag of a group's command → moment."""

COPY_MOMENTS: Final = ("give walk", "give round", "give rest")
"""Reading rows of a copy for its taker: from the walk, from what changed since, or of what is frozen."""

MOMENTS: Final[tuple[str, ...]] = (
    *(f"{when} {what}" for what in _TWICE for when in ("before", "after")),
    *(f"save {what}" for what in _MOVES.values()),
    *COPY_MOMENTS,
    "begin checkpoint",
    "begin install",
    "end install",
)
"""The names of all moments."""

ELECTION_MOMENTS: Final = tuple(f"{when} {what}" for what in _TWICE[:3] + _TWICE[5:6] for when in ("before", "after"))
LOG_MOMENTS: Final = tuple(f"{when} {what}" for what in ("append", "cut", "commit") for when in ("before", "after"))
SNAPSHOT_MOMENTS: Final = (*(f"{when} {what}" for what in _TWICE[7:11] for when in ("before", "after")), *MOMENTS[-3:])
MOVE_MOMENTS: Final = (
    *(f"{when} {what}" for what in _TWICE[11:] for when in ("before", "save", "after")),
    *COPY_MOMENTS,
)


def tag_of(command: bytes) -> bytes:
    """The letter by which a sealed command says what it is (twisted_kv.codec): behind the version, the checksum, and
    what msgpack says of an array and of a string of one letter."""
    return command[7:8]


class SeenCore:
    """An IConsensus that announces what it is about to do.

    Args:
        node: the core within the wrappers, to look at.
    """

    def __init__(self, core: IConsensus, node: RaftNode, sights: Sights, gid: int, name: str) -> None:
        self._core = core
        self._sights = sights
        self._seen = CoreSights(sights, node, gid, name)
        self._gid = gid
        self._name = name
        self.compact = core.compact
        self.status = core.status

    def tick(self) -> None:
        was = self._seen.role
        self._core.tick()
        self._seen.ticked(was)

    def step(self, message: Any) -> None:
        after = self._seen.before(message)
        self._core.step(message)
        if after is not None:
            after()
        if isinstance(message, SnapshotInstalled):
            self._sights.moment("end install", self._name)

    def propose(self, command: bytes) -> Ticket:
        ticket: Ticket = self._core.propose(command)
        if self._gid:
            move = _MOVES.get(tag_of(command))
            if move is not None:
                if move == "take":
                    self._sights.pulled(self._gid, command, self._name)
                self._sights.moment(f"before {move}", self._name)
        self._seen.proposed(ticket)
        return ticket

    def read(self, token: int) -> None:
        self._core.read(token)
        self._seen.asked()

    def ready(self) -> Ready | None:
        ready: Ready | None = self._core.ready()
        if ready is not None:
            self._seen.took(ready)
            if ready.standing is not None and ready.standing.role is Role.LEADER:
                self._sights.moment("before lead", self._name)
            if ready.committed:
                self._sights.moment("before commit", self._name)
        return ready

    def advance(self, ready: Ready) -> None:
        self._core.advance(ready)
        if ready.committed:
            self._sights.moment("after commit", self._name)


class SeenLog:
    """A log store that announces its saves; all else is the store's own."""

    def __init__(self, log: Any, sights: Sights, gid: int, node: int, name: str) -> None:
        self._log = log
        self._of_group = gid != 0
        self._sights = sights
        self._node = node
        self._name = name

    def restore(self) -> Restored:
        restored: Restored = self._log.restore()
        self._sights.restored(self._name)
        return restored

    def save(self, ready: Ready) -> None:
        kinds = list(self._kinds(ready))
        for kind in kinds:
            if kind != "lead":
                self._sights.moment(f"before {kind}", self._name)
        self._log.save(ready)
        for kind in kinds:
            self._sights.moment(f"after {kind}", self._name)
        if self._of_group:
            for entry in ready.entries:
                for command in entry.commands:
                    move = _MOVES.get(tag_of(command))
                    if move is not None:
                        self._sights.moment(f"save {move}", self._name)

    def reset(self, index: int, term: int) -> None:
        self._sights.moment("before reset", self._name)
        self._log.reset(index, term)
        self._sights.log_was_reset(self._name)
        self._sights.moment("after reset", self._name)

    def trim(self, index: int, term: int, rows_max: int) -> bool:
        self._sights.moment("before trim", self._name)
        done: bool = self._log.trim(index, term, rows_max)
        self._sights.moment("after trim", self._name)
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def _kinds(self, ready: Ready) -> Iterator[str]:
        if ready.hard_state is not None:
            vote = ready.hard_state.vote
            yield "term" if not vote else "campaign" if vote == self._node else "vote"
        if ready.cut is not None:
            yield "cut"
        if ready.entries:
            yield "append"
            if not ready.entries[0].commands:
                yield "lead"


class SeenData:
    """An IDataStore that announces its transactions."""

    def __init__(self, store: IDataStore, sights: Sights, name: str) -> None:
        self._store = store
        self._sights = sights
        self._name = name
        self.position = store.position
        self.rows = store.rows
        self.snapshot = store.snapshot
        self.close = store.close

    def checkpoint(self, fresh: bool = False) -> ICheckpoint:
        checkpoint = self._store.checkpoint(fresh)
        self._sights.moment("begin install" if fresh else "begin checkpoint", self._name)
        return _SeenCheckpoint(checkpoint, self._sights, self._name, fresh)


class SeenNetwork:
    """An INetwork that shows the rows of peers; all else is the network's own.

    Args:
        term: the latest of which its member has heard.
    """

    def __init__(self, network: INetwork, sights: Sights, term: Callable[[], int]) -> None:
        self._network = network
        self._sights = sights
        self._term = term
        self.send = network.send
        self.close = network.close

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        asked = self._network.call(endpoint, verb, body, timeout)
        return asked.addCallback(self._look_at) if verb == PEER_ROWS else asked

    def _look_at(self, answer: bytes) -> bytes:
        self._sights.rows_came(answer, self._term())
        return answer


class _SeenCheckpoint:
    def __init__(self, checkpoint: ICheckpoint, sights: Sights, name: str, fresh: bool) -> None:
        self._checkpoint = checkpoint
        self._sights = sights
        self._name = name
        self._fresh = fresh
        self._pieces = 0
        self.drop = checkpoint.drop
        self.abort = checkpoint.abort

    def write(self, rows: Any) -> None:
        self._checkpoint.write(rows)
        self._pieces += 1

    def commit(self, index: int, term: int) -> None:
        what = "install" if self._fresh else "checkpoint"
        self._sights.moment(f"before {what}", self._name)
        self._checkpoint.commit(index, term)
        if self._fresh:
            self._sights.rows_replaced(self._name, self._pieces)
        self._sights.moment(f"after {what}", self._name)


class SeenMachine:
    """A machine that shows what it was told to do; all else is the machine's own."""

    def __init__(self, machine: Any, sights: Sights, gid: int, name: str) -> None:
        self._machine = machine
        self._sights = sights
        self._gid = gid
        self._name = name
        self._place = (0, 0)

    def apply(self, index: int, command: bytes) -> Any:
        reply = self._machine.apply(index, command)
        self._place = (index, self._place[1] + 1 if self._place[0] == index else 0)
        self._sights.applied(self._gid, self._place, self._machine, command, reply, self._name)
        if self._gid:
            move = _MOVES.get(tag_of(command))
            if move is not None:
                self._sights.moment(f"after {move}", self._name)
        return reply

    def query(self, query: Any) -> Any:
        answer = self._machine.query(query)
        # What is served its door gives if it leads, and else keeps to itself.
        leads = self._name in self._sights.leading.get(self._gid, {})
        if isinstance(query, PullRows) and (answer.state == "rows" or (answer.state == "ahead" and leads)):
            self._sights.gave(query, answer)
            walk, round_, rest = COPY_MOMENTS
            here = rest if answer.state == "rows" else round_ if query.cursor.walked else walk
            self._sights.moment(here, self._name)
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)
