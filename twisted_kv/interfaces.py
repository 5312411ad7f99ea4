"""Every contract between rooms, in one place: the eight verbs, the machine, the doors.

A room that needs another knows it only by what stands here. These are ``Protocol`` classes: nobody
inherits, anybody who has the methods fits. The values that pass are frozen; the prose is the contract.

The ground imports nothing of ours, so the values that rooms exchange are named here as ``Any``-like
aliases where their definition belongs to a room (Entry, Ready … in consensus/types; Row, Changes … in
machines/rows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from twisted_kv.consensus.types import Ready, Ticket
    from twisted_kv.machines.rows import Changes, Row, RowKey

__all__ = [
    "Ask",
    "Door",
    "ICheckpoint",
    "IConsensus",
    "IDataStore",
    "IDisk",
    "ILogStore",
    "INetwork",
    "ISnapshot",
    "IStateMachine",
    "LostAnswer",
    "NotSent",
    "Random",
    "SaveRefused",
]

T = TypeVar("T")


class SaveRefused(Exception):
    """The disk is full and nothing of this save was written, for certain. Any other error of a save means *unknown*."""


class NotSent(Exception):
    """The request certainly did not reach the other side."""


class LostAnswer(Exception):
    """The request may have reached the other side; no answer did (connection lost, timeout)."""


Door = Callable[[bytes], "Deferred[bytes]"]
"""What answers one verb: a sealed body in, a Deferred of a sealed body out. It never fails with an
expected error: those are values inside the reply. A failure means a bug or a stopping server."""

Ask = Callable[[Sequence[str], str, bytes, float], "Deferred[Any]"]
"""(endpoints, verb, body, timeout seconds) → the answer of whichever of these servers leads, as a value of
transport/wire. Hints are followed and other servers tried until the timeout, then it fails with a KVError."""


class IConsensus(Protocol):
    """The order of commands: eight verbs, the same for Raft and Paxos.

    Pure: no clock, no disk, no network; randomness is a ``Random`` given to it. It calls nobody and
    answers with values. The owner calls verbs as things arrive, then takes one Ready, carries it out in
    the order *save, send, apply, answer*, and calls ``advance``. There is at most one Ready outstanding.
    """

    def tick(self) -> None:
        """One tick of the clock has passed (constants.TICK_SECONDS)."""

    def step(self, message: Any) -> None:
        """Take a message of a peer, or a local event (consensus/types: SaveStalled, SnapshotInstalled, …).

        A message that is stale, from a stranger or not for this node changes nothing; it never raises.
        """

    def propose(self, command: bytes) -> Ticket:
        """Queue a command for the log; commands of one turn share entries.

        Returns:
            the (term, index, position) at which the command stands if it is committed.
        Raises:
            NotLeader: this replica does not lead; with the leader's id if known.
        """

    def read(self, token: int) -> None:
        """Ask for a linearizable read; the token comes back in a later Ready, with an index to wait for.

        Raises:
            NotLeader: as for propose. A change of leadership later drops waiting tokens silently: the
                owner fails them when Ready.role shows it.
        """

    def ready(self) -> Ready | None:
        """What must be saved, sent, applied; None when there is nothing. Not called again before advance."""

    def advance(self, ready: Ready) -> None:
        """All of this Ready is done: saved durably, sent, applied."""

    def compact(self, index: int) -> None:
        """Forget what is at or below this applied index; a checkpoint on disk covers it."""

    def status(self) -> Any:
        """A consensus/types.Status: node, role, term, leader, commit, applied, last, voter, peers."""


class IStateMachine(Protocol):
    """The meaning of commands: controller or group. Pure and deterministic.

    The same commands in the same order give the same replies, rows and chores on every replica: no clock,
    no randomness, no iteration over unordered sets.
    """

    def apply(self, index: int, command: bytes) -> Any:
        """Carry out one committed command and return its reply (a frozen Struct).

        Expected refusals are replies. An exception means a bug or damage: the replica stops.
        """

    def query(self, query: Any) -> Any:
        """Answer without changing anything (not even for duplicate suppression)."""

    def chores(self) -> Sequence[Any]:
        """What is left for a leader to do, derived from state alone; each chore is a frozen, hashable value."""

    def take_changes(self) -> Changes:
        """Rows changed and copies dropped since the last call; ownership passes to the caller."""

    def load(self, rows: Iterable[Row]) -> None:
        """Take rows in (at start, or from a snapshot); called as often as there are chunks, after ``clear``."""

    def clear(self) -> None:
        """Forget everything; the next calls are ``load``."""

    def tidy(self) -> None:
        """Free some of the memory of what is gone; called at every tick, so that no turn frees all of it."""

    def digest(self) -> int:
        """A 32-bit hash of the whole state: equal on replicas that applied the same index."""

    def status(self) -> Mapping[str, Any]:
        """Plain numbers for people: keys, bytes, shards, migrations."""


class ILogStore(Protocol):
    """The hard state and the entries of one replica, in log.sqlite3. Every method is blocking: run by an IDisk.

    SaveRefused: the disk is full and nothing was saved, for certain; any other error of ``save`` means *unknown*: the
    process must stop and answer nothing.
    """

    def identity(self) -> Mapping[str, str]:
        """Who this directory belongs to: cluster, kind, gid, node, incarnation, consensus, voters …"""

    def bind(self, identity: Mapping[str, str]) -> None:
        """Add or replace facts of the identity, durably, in one transaction."""

    def restore(self) -> Any:
        """A consensus/types.Restored: hard state, boundary, entries above it (or an empty one when blank)."""

    def save(self, ready: Ready) -> None:
        """Hard state, cut and entries of a Ready in one transaction; durable on return.

        The cut deletes every entry at or above its index first; entries are upserted by index; nothing is
        assumed about contiguity.
        """

    def trim(self, index: int, term: int, rows_max: int) -> bool:
        """Delete at most rows_max entries at or below index and move the boundary; True when all are gone.

        ``term`` is the term of the entry at ``index``.
        """

    def reset(self, index: int, term: int) -> None:
        """Drop all entries: the state at (index, term) has come from elsewhere. Keeps term and vote."""

    def close(self) -> None: ...


class IDataStore(Protocol):
    """The applied state of one replica as rows, in data.sqlite3, and the (index, term) it stands at."""

    def position(self) -> tuple[int, int]:
        """(index, term) of the last committed checkpoint; (0, 0) when blank."""

    def rows(self, after: RowKey | None, bytes_max: int) -> Sequence[Row]:
        """The next rows in key order, about bytes_max of them; empty at the end. For loading at start."""

    def checkpoint(self, fresh: bool = False) -> ICheckpoint:
        """Open the one write transaction. ``fresh`` deletes every row first (a snapshot is installed)."""

    def snapshot(self) -> ISnapshot:
        """A consistent view on a read-only connection, to stream from while writes go on."""

    def close(self) -> None: ...


class ICheckpoint(Protocol):
    """One transaction, however many turns it is written in."""

    def write(self, rows: Sequence[Row]) -> None:
        """Upsert rows; a row whose value is None is deleted."""

    def drop(self, shard: int, num: int, rows_max: int) -> bool:
        """Delete at most rows_max rows of a copy; True when none is left."""

    def commit(self, index: int, term: int) -> None:
        """Make all of it durable as the state at (index, term)."""

    def abort(self) -> None:
        """Forget all of it."""


class ISnapshot(Protocol):
    """A consistent view of all rows as they stood at (index, term)."""

    index: int
    term: int

    def rows(self, after: RowKey | None, bytes_max: int) -> Sequence[Row]:
        """The next rows in key order; empty at the end."""

    def close(self) -> None: ...


class IDisk(Protocol):
    """The disk door: runs blocking work, one piece after the other, in the order given."""

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Fires with the result, or fails with what the work raised. Inline disks fire before returning."""

    def close(self) -> Deferred[None]:
        """Fires when all that was given has run; nothing may be given any more."""


class INetwork(Protocol):
    """The network door. Endpoints are Twisted client endpoint strings and nothing is assumed about them."""

    def send(self, endpoint: str, verb: str, body: bytes) -> None:
        """One way, may be lost, never raises; small bodies overtake large ones."""

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        """Ask and wait. A Deferred[bytes] that can be cancelled.

        Fails with NotSent when the request certainly did not reach the other
        side, with LostAnswer (lost connection, timeout) when it may have.
        """

    def close(self) -> Deferred[None]:
        """Close every link; fires when all are gone."""
