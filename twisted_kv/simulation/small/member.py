"""One member of a small group: a core behind its eight verbs, a disk in memory, and the corridor between them.

It carries out each Ready in the order of the contract (early, save, mail, apply, answer, advance), one at a time; a
save takes as many turns as the disk takes, and what is under way when the member dies is on the disk or is not.
Checkpoints are rows at what was applied when they began, and let the log be cut; rows of a peer replace everything.
What it refuses to know: what goes wrong, and what must hold.

Source: interfaces.IConsensus for the order, replica/replica.py and replica/checkpoints.py for what an owner does.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import Any, Protocol

import msgspec

from twisted_kv.consensus.types import (
    NOBODY,
    DiskFull,
    Entry,
    NotLeader,
    Position,
    ReadIndex,
    Ready,
    Restored,
    Role,
    SaveResumed,
    SaveStalled,
    SnapshotFailed,
    SnapshotInstalled,
    SnapshotSource,
    Standing,
    Status,
)
from twisted_kv.interfaces import IConsensus
from twisted_kv.simulation.explorer.node import Disk


class Killed(Exception):
    """The member that was about to do something died there and then."""


class Rows(msgspec.Struct, frozen=True):
    """What a machine contains: all commands up to an entry, as one digest."""

    index: int = 0
    term: int = 0
    digest: int = 0

    def with_entry(self, entry: Entry) -> Rows:
        """One entry more is applied."""
        return Rows(entry.index, entry.term, zlib.crc32(b"\0".join([b"", *entry.commands]), self.digest + 1))


class ILog(Protocol):
    """The part of a log store that a member needs (interfaces.ILogStore)."""

    def restore(self) -> Restored:
        """What is on the disk."""

    def save(self, ready: Ready) -> None:
        """All of it, or an exception."""

    def reset(self, index: int, term: int) -> None:
        """Begin anew after these rows."""

    def trim(self, index: int, term: int, rows_max: int) -> bool:
        """Forget the beginning."""


class MemoryLog:
    """A log store whose disk is a value."""

    def __init__(self) -> None:
        self.disk = Disk()

    def restore(self) -> Restored:
        return Restored(self.disk.hard_state, self.disk.boundary, self.disk.entries)

    def save(self, ready: Ready) -> None:
        self.disk = self.disk.after(ready)

    def reset(self, index: int, term: int) -> None:
        self.disk = Disk(self.disk.hard_state, Position(index, term))

    def trim(self, index: int, term: int, rows_max: int) -> bool:
        self.disk = self.disk.beyond(Position(index, term))
        return True


class Judge(Protocol):
    """Who is told of what a member does (small.promises)."""

    def changed(self, member: Member) -> None:
        """Something happened to the core."""

    def applied(self, member: Member, entry: Entry) -> None:
        """The machine contains this entry."""

    def acknowledged(self, member: Member, entry: Entry, commands: tuple[bytes, ...]) -> None:
        """Whoever proposed these commands for the place of this entry was told that they are done."""

    def read_began(self, token: int) -> None:
        """Somebody asks."""

    def read_answered(self, member: Member, token: int) -> None:
        """Somebody is answered from what is applied."""

    def reads_abandoned(self, tokens: Collection[int]) -> None:
        """Nobody will be answered."""

    def shrank(self, member: Member) -> None:
        """The disk holds less than before."""


class Group(Protocol):
    """What members of one group share."""

    @property
    def judge(self) -> Judge:
        """Who is told of everything."""

    def boot(self, member: Member, restored: Restored, applied: int) -> IConsensus:
        """A core as after a start of the process."""

    def log_of(self, member: Member, disk: MemoryLog) -> ILog:
        """The log of a member as it uses it."""

    def post(self, message: Any) -> None:
        """A message leaves."""

    def save_turns(self, member: Member) -> int:
        """How many turns the save that begins now takes."""

    def fetch_turns(self, member: Member) -> int:
        """How many turns rows take to come."""

    def rows_of(self, member: Member, peer: int) -> Rows | None:
        """What a peer gives when it is asked for its rows; None: it cannot be reached."""

    def moment(self, member: Member, name: str) -> None:
        """A member has come to a moment. Raises Killed."""


class Member:
    """One of the group.

    Attributes:
        number: place in the group, from 1; ``node`` is its id, which is negative once its disk was wiped.
        up: a process runs.
        held: it runs, and gets no processor: neither time nor messages.
        pace: ticks a turn.
        full: its disk refuses saves.
        stall_ticks: own ticks after which an unfinished save is told to the core.
        standing: role, term and leader as the core has told them last.
        silence: own ticks since a message came.
        heard: node → own tick at which something of it came last; ``ticks`` counts them.
        checkpoint_every: entries after which a checkpoint is written; 0: never.
        checkpoint_lag: the log is cut behind the checkpoint before the one that was written.
    """

    def __init__(self, group: Group, number: int, stall_ticks: int) -> None:
        self._group = group
        self.number = self.node = number
        self.name = f"g1-{number}"
        self.log = MemoryLog()
        self.rows = Rows()
        self.up = self.held = self.full = False
        self.pace = 1.0
        self._credit = 0.0
        self.stall_ticks = stall_ticks
        self.checkpoint_every = 0
        self.checkpoint_lag = False
        self._begin()

    def _begin(self) -> None:
        self.machine = self.rows
        self.standing = Standing(Role.FOLLOWER, 0, NOBODY)
        self.saving: Ready | None = None
        self._saving_ticks = 0
        self._due = 0
        self.stalled = False
        self.fetching: SnapshotSource | None = None
        self._fetch_due = 0
        self._checkpoint: tuple[int, Rows] | None = None
        self._covered: list[Rows] = []
        self._waiting: dict[tuple[int, int], list[bytes]] = {}
        self._reads: dict[int, ReadIndex | None] = {}
        self.silence = self.ticks = 0
        self.heard: dict[int, int] = {}

    # ── life and death ─────────────────────────────────────────────────────────────────────────────

    def boot(self) -> None:
        """Start on what the disk holds."""
        assert not self.up
        disk = self.log.disk
        if not disk.holds(self.rows.index, self.rows.term):
            # It died between the commit of a peer's rows and the reset of its log.
            self._store().reset(self.rows.index, self.rows.term)
        self._begin()
        self.store = self._store()
        self.core = self._group.boot(self, self.store.restore(), self.rows.index)
        self.up, self.held = True, False
        self._group.judge.changed(self)

    def _store(self) -> ILog:
        return self._group.log_of(self, self.log)

    def die(self, durable: bool) -> None:
        """The process is gone.

        Args:
            durable: whether a save that is under way is on the disk all the same.
        """
        self.up = self.held = False
        self._abandon()
        if durable and self.saving is not None and self.saving.must_save and not self.full:
            self.store.save(self.saving)
        self._group.judge.shrank(self)

    def wipe(self) -> None:
        """The directory is gone too; whoever comes back is a copy."""
        assert not self.up
        self.log, self.rows, self.node = MemoryLog(), Rows(), -self.number

    # ── what comes in ──────────────────────────────────────────────────────────────────────────────

    @property
    def status(self) -> Status:
        """The core's own words."""
        status: Status = self.core.status()
        return status

    @property
    def leads(self) -> bool:
        """Whether it believes to lead, and takes calls."""
        return self.up and not self.held and not self.stalled and self.standing.role is Role.LEADER

    def elapse(self) -> int:
        """A turn has passed; how many ticks that is for this member."""
        self._credit += self.pace
        ticks = int(self._credit)
        self._credit -= ticks
        return ticks

    def tick(self) -> None:
        """A tick of its own clock."""
        self.ticks += 1
        self.silence += 1
        if self.saving is not None:
            self._saving_ticks += 1
            if self._saving_ticks > self.stall_ticks and not self.stalled:
                self._stall(SaveStalled())
        self.core.tick()

    def take(self, message: Any) -> None:
        """A message arrives."""
        if not self.stalled:
            self.silence = 0
            self.heard[message.sender] = self.ticks
            self.step(message)

    def step(self, event: Any) -> None:
        """A message, or a local event."""
        self.core.step(event)
        self._group.judge.changed(self)

    def propose(self, command: bytes) -> bool:
        """Whether it was taken."""
        try:
            ticket = self.core.propose(command)
        except NotLeader:
            return False
        waiting = self._waiting.setdefault((ticket.term, ticket.index), [])
        assert ticket.position == len(waiting), "tickets are given in order"
        waiting.append(command)
        return True

    def read(self, token: int) -> bool:
        """Whether it was taken."""
        try:
            self.core.read(token)
        except NotLeader:
            return False
        self._reads[token] = None
        self._group.judge.read_began(token)
        return True

    # ── the pump ───────────────────────────────────────────────────────────────────────────────────

    def pump(self, turn: int) -> None:
        """Do all that can be done now."""
        while self.saving is None:
            ready = self.core.ready()
            if ready is None:
                return
            if ready.standing is not None:
                self.standing = ready.standing
                if ready.standing.role is not Role.LEADER:
                    self._abandon()
            self._post(ready.early)
            self.saving, self._saving_ticks = ready, 0
            self._due = turn + (self._group.save_turns(self) if ready.must_save else 0)
            self._end_save(turn)

    def _end_save(self, turn: int) -> None:
        ready = self.saving
        if ready is None or turn < self._due:
            return
        if ready.must_save:
            if self.full:
                if not self.stalled:
                    self._stall(DiskFull())
                return
            self.store.save(ready)
            if ready.cut is not None:
                self._group.judge.shrank(self)
        self.saving = None
        if self.stalled:
            self.stalled = False
            self.step(SaveResumed())
        self._post(ready.messages)
        for entry in ready.committed:
            self._apply(entry)
        for read in ready.reads:
            if read.token in self._reads:
                self._reads[read.token] = read
        self._answer()
        self.core.advance(ready)
        self._group.judge.changed(self)
        if ready.fetch is not None:
            self.fetching = ready.fetch
            self._fetch_due = turn + self._group.fetch_turns(self)

    def _stall(self, event: SaveStalled | DiskFull) -> None:
        self.stalled = True
        self._abandon()
        self.step(event)

    def _abandon(self) -> None:
        """Nobody who waits is told anything."""
        self._waiting.clear()
        self._group.judge.reads_abandoned(self._reads)
        self._reads.clear()

    def _post(self, messages: tuple[Any, ...]) -> None:
        for message in messages:
            self._group.post(message)

    def _apply(self, entry: Entry) -> None:
        self.machine = self.machine.with_entry(entry)
        self._group.judge.applied(self, entry)
        waiting = self._waiting.pop((entry.term, entry.index), None)
        if waiting:
            self._group.judge.acknowledged(self, entry, tuple(waiting))

    def _answer(self) -> None:
        for token, read in list(self._reads.items()):
            if read is not None and read.index <= self.machine.index:
                del self._reads[token]
                self._group.judge.read_answered(self, token)

    # ── what takes turns ───────────────────────────────────────────────────────────────────────────

    def work(self, turn: int) -> None:
        """A turn of the disk and of what is fetched."""
        self._end_save(turn)
        if self.fetching is not None and self.saving is None and turn >= self._fetch_due:
            self._install(self.fetching)
        self._checkpoint_if_due(turn)

    def _install(self, source: SnapshotSource) -> None:
        """Rows have come, or will not: refused if they are no newer, or of a term that was not heard of."""
        self.fetching = None
        rows = self._group.rows_of(self, source.peer)
        if rows is None or rows.index <= self.machine.index or rows.term > self.status.term:
            self.step(SnapshotFailed())
            return
        self._group.moment(self, "before install")
        self.rows = self.machine = rows
        self._checkpoint, self._covered = None, [rows]
        self._group.moment(self, "after install")
        self.store.reset(rows.index, rows.term)
        self.step(SnapshotInstalled(rows.index, rows.term))
        self._group.judge.shrank(self)

    def _checkpoint_if_due(self, turn: int) -> None:
        if self._checkpoint is not None:
            due, rows = self._checkpoint
            if turn >= due:
                self._checkpoint = None
                self._end_checkpoint(rows)
        elif self.checkpoint_every and self.machine.index - self.rows.index >= self.checkpoint_every:
            self._group.moment(self, "begin checkpoint")
            self._checkpoint = turn + self._group.save_turns(self), self.machine

    def _end_checkpoint(self, rows: Rows) -> None:
        """The rows are durable, and the log is cut behind them, or behind those before them."""
        self._group.moment(self, "before checkpoint")
        self.rows = rows
        self._group.moment(self, "after checkpoint")
        self._covered.append(rows)
        if self.checkpoint_lag and len(self._covered) < 2:
            return
        cut = self._covered.pop(0) if self.checkpoint_lag else rows
        self._covered = [rows]
        if self.log.disk.boundary.index < cut.index <= self.status.applied:
            self.core.compact(cut.index)
            self.store.trim(cut.index, cut.term, 1 << 30)
            self._group.judge.changed(self)
