"""Brings the applied state to disk in checkpoints, cuts the log behind them, and replaces both from a peer.

A checkpoint is one transaction of only what changed, as it stood at one index; it is written in slices with turns
between them, so that the reactor never waits for all of it. The log is cut only after its commit, and keeps what
came after the checkpoint before, so that a follower a little behind needs no rows. Rows from a peer go into one
``fresh`` transaction: data first, then the log (house.md, two files, one order). Knows rows, not their meaning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_kv.codec import Malformed
from twisted_kv.consensus.types import Entry, SnapshotFailed, SnapshotInstalled, SnapshotSource
from twisted_kv.constants import ROWS_CHUNK_BYTES, STREAM_CHUNK_BYTES
from twisted_kv.interfaces import (
    ICheckpoint,
    IDataStore,
    IDisk,
    ILogStore,
    INetwork,
    IStateMachine,
    LostAnswer,
    NotSent,
    SaveRefused,
)
from twisted_kv.machines.rows import ChangedRows, Changes, Row
from twisted_kv.replica.replica import Replica
from twisted_kv.transport.wire import PEER_ROWS, ROWS_ANSWER, ROWS_REQUEST, RowsAnswer, RowsRequest

ENTRY_OVERHEAD_BYTES = 32
SLICE_ROWS = 500
KEPT_TIMES_MAX = 4
"""So many times ``log_bytes_max`` may be kept behind a checkpoint for followers that are a little behind."""
ROWS_TIMEOUT_SECONDS = 5.0
FULL_PAUSE_SECONDS = 2.0
"""Before rows are asked for again that found no room: they may be many."""
NEVER = -1


class FetchFailed(Exception):
    """The rows of a peer did not arrive whole, or are no newer than what is here."""


class Checkpoints:
    """Everything that touches data.sqlite3 after the start.

    Args:
        log_bytes_max: checkpoint when this many bytes were applied since the last one; NEVER: never.
        failed: told when a write failed, so that its outcome is unknown: the replica must stop.
    """

    log = Logger()

    def __init__(
        self,
        gid: int,
        replica: Replica,
        machine: IStateMachine,
        log_store: ILogStore,
        data_store: IDataStore,
        log_disk: IDisk,
        data_disk: IDisk,
        network: INetwork,
        clock: IReactorTime,
        log_bytes_max: int,
        compact: Callable[[int], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._gid = gid
        self._replica = replica
        self._machine = machine
        self._log_store = log_store
        self._data_store = data_store
        self._log_disk = log_disk
        self._data_disk = data_disk
        self._network = network
        self._clock = clock
        self._log_bytes_max = log_bytes_max
        self._compact = compact
        self._failed = failed
        self._bytes = 0
        self._last: tuple[int, int] = (0, 0)
        self._unwritten = Changes([], ChangedRows())
        self._covered: deque[tuple[int, int]] = deque()
        self._kept_bytes = 0
        self._busy: Deferred[None] | None = None
        self._wanted: tuple[SnapshotSource, str] | None = None
        self._stopped = False
        self._written = 0
        self._written_rows = 0
        self._written_seconds = 0.0
        self._fetched_bytes = 0

    @property
    def busy(self) -> bool:
        """Whether a transaction is open."""
        return self._busy is not None

    def status(self) -> Mapping[str, Any]:
        """``checkpoints``: written since the start; ``checkpoint_rows``, ``checkpoint_ms``: of the last one;
        ``fetched_bytes``: of a peer's rows that are on their way here, 0 when there are none."""
        return {
            "checkpoints": self._written,
            "checkpoint_rows": self._written_rows,
            "checkpoint_ms": round(1000 * self._written_seconds, 1),
            "fetched_bytes": self._fetched_bytes,
        }

    def applied(self, entries: tuple[Entry, ...]) -> None:
        """Count what was applied; begin a checkpoint when it is enough."""
        self._last = (entries[-1].index, entries[-1].term)
        if self._log_bytes_max == NEVER:
            return
        for entry in entries:
            self._bytes += ENTRY_OVERHEAD_BYTES + sum(map(len, entry.commands))
        if self._bytes > self._log_bytes_max:
            self._begin_checkpoint()

    def fetch(self, source: SnapshotSource, endpoint: str) -> None:
        """Replace everything here by the rows of a peer, as soon as no checkpoint is being written."""
        if self._busy is None:
            self._run(self._install(source, endpoint))
        else:
            self._wanted = (source, endpoint)

    def make_room(self) -> Deferred[None]:
        """The disk is full: a checkpoint now, and the log is cut up to it. Fires when that is done or was in vain."""
        done: Deferred[None] = Deferred()
        if self._busy is None and self._last != (0, 0):
            self._covered.clear()
            self._covered.append(self._last)
            self._begin_checkpoint()
        if self._busy is None:
            done.callback(None)
        else:
            self._busy.addBoth(lambda _: done.callback(None))
        return done

    def stop(self) -> Deferred[None]:
        """Abandon what is open; fires when nothing of this room runs any more."""
        self._stopped = True
        done: Deferred[None] = Deferred()
        if self._busy is None:
            done.callback(None)
        else:
            self._busy.addBoth(lambda _: done.callback(None))
            self._busy.cancel()
        return done

    # ── a checkpoint ───────────────────────────────────────────────────────────────────────────────

    def _begin_checkpoint(self) -> None:
        if self._busy is not None or self._stopped:
            return
        self._kept_bytes += self._bytes
        self._bytes = 0
        self._run(self._write(merged(self._unwritten, self._machine.take_changes()), *self._last))

    async def _write(self, changes: Changes, index: int, term: int) -> None:
        """Write a checkpoint and cut the log; on a full disk the changes are kept for the next one."""
        self._unwritten = changes
        begun = self._clock.seconds()
        try:
            await self._write_all(changes, index, term)
            self._unwritten = Changes([], ChangedRows())
            self._written += 1
            self._written_rows, self._written_seconds = len(changes.rows), self._clock.seconds() - begun
            self.log.debug("Checkpoint at {index}: {rows} rows", index=index, rows=len(changes.rows))
            await self._cut(index, term)
        except SaveRefused:
            self.log.error("The disk is full: the checkpoint at {index} waits for room", index=index)
            self._bytes += self._log_bytes_max // 2

    async def _write_all(self, changes: Changes, index: int, term: int) -> None:
        run = self._data_disk.run
        checkpoint = await run(self._data_store.checkpoint)
        try:
            for shard, num in changes.dropped:
                while not await run(partial(checkpoint.drop, shard, num, SLICE_ROWS)):
                    await self._next_turn()
            for _ in changes.rows.arrange():
                await self._next_turn()
            for rows in slices(changes):
                await run(partial(checkpoint.write, rows))
                await self._next_turn()
        except BaseException:
            self._abort(checkpoint)
            raise
        await run(partial(checkpoint.commit, index, term))

    async def _cut(self, index: int, term: int) -> None:
        """Forget the log up to the checkpoint before this one; data.sqlite3 holds all of it, and more.

        Up to this very one if that would keep too much: a single entry may be larger than all that should be kept.
        """
        self._covered.append((index, term))
        if self._kept_bytes > KEPT_TIMES_MAX * self._log_bytes_max:
            self._covered = deque([(index, term)])
            await self._next_turn()  # an inline disk is here before the core was told that this is applied
        elif len(self._covered) < 2:
            return
        self._kept_bytes = 0
        old_index, old_term = self._covered.popleft()
        self._compact(old_index)
        while not await self._log_disk.run(partial(self._log_store.trim, old_index, old_term, SLICE_ROWS)):
            await self._next_turn()

    # ── rows of a peer ─────────────────────────────────────────────────────────────────────────────

    async def _install(self, source: SnapshotSource, endpoint: str) -> None:
        try:
            await self._fetch_and_replace(source, endpoint)
        except (FetchFailed, NotSent, LostAnswer, Malformed) as error:
            self.log.info("Rows of node {peer} did not arrive: {error}", peer=source.peer, error=str(error))
            self._replica.step(SnapshotFailed())
        except SaveRefused as refused:
            await self._wait_for_room(source, refused)
        finally:
            self._fetched_bytes = 0

    async def _wait_for_room(self, source: SnapshotSource, refused: SaveRefused) -> None:
        """The disk is full. Everything is as before if the rows were refused; if it was the log, only a start helps."""
        index, _ = await self._data_disk.run(self._data_store.position)
        if index > self._replica.applied:
            raise refused  # the rows are there, but memory and log are not: opening ends it, with the room held back
        self.log.error("The disk is full: the rows of node {peer} wait for room", peer=source.peer)
        self._replica.release(self._replica.applied)
        await deferLater(self._clock, FULL_PAUSE_SECONDS)
        self._replica.step(SnapshotFailed())

    async def _fetch_and_replace(self, source: SnapshotSource, endpoint: str) -> None:
        run = self._data_disk.run
        checkpoint = await run(partial(self._data_store.checkpoint, True))
        chunks: deque[tuple[Row, ...]] = deque()
        held = False
        try:
            answer = await self._receive(checkpoint, endpoint, chunks)
            await self._replica.hold()
            held = True
            if answer.index <= self._replica.applied:
                raise FetchFailed(f"they stand at {answer.index}, and {self._replica.applied} is applied here")
            if answer.term > self._replica.standing.term:
                # Data of a term that this log has not heard of would look like damage at the next start.
                raise FetchFailed(f"they are of term {answer.term}, and {self._replica.standing.term} is known here")
        except BaseException:
            self._abort(checkpoint)
            self._discard(chunks)
            if held:
                self._replica.release(self._replica.applied)
            raise
        # From here to the release the pump is still: the two files and the memory change as one.
        await run(partial(checkpoint.commit, answer.index, answer.term))
        await self._log_disk.run(partial(self._log_store.reset, answer.index, answer.term))
        await self._replace(chunks)
        self._bytes = 0
        self._unwritten = Changes([], ChangedRows())
        self._covered = deque([(answer.index, answer.term)])
        self._last = (answer.index, answer.term)
        self.log.info("Rows of node {peer} installed at {index}", peer=source.peer, index=answer.index)
        self._replica.release(answer.index)
        self._replica.step(SnapshotInstalled(answer.index, answer.term))

    async def _receive(self, checkpoint: ICheckpoint, endpoint: str, chunks: deque[tuple[Row, ...]]) -> RowsAnswer:
        """All rows of the peer's snapshot; each chunk is written while the next one is on its way."""
        snapshot, after, first = 0, None, None
        written: Deferred[None] = succeed(None)
        try:
            while True:
                request = ROWS_REQUEST.encode(RowsRequest(self._gid, snapshot, after, STREAM_CHUNK_BYTES))
                body = await self._network.call(endpoint, PEER_ROWS, request, ROWS_TIMEOUT_SECONDS)
                answer = ROWS_ANSWER.decode(body)
                first = first or answer
                if answer.snapshot == 0 or (answer.index, answer.term) != (first.index, first.term):
                    raise FetchFailed("the peer's snapshot has expired")
                await written
                if answer.rows:
                    written = self._data_disk.run(partial(checkpoint.write, answer.rows))
                    chunks.append(answer.rows)
                    after = answer.rows[-1].key
                    self._fetched_bytes += len(body)
                if answer.last:
                    return answer
                snapshot = answer.snapshot
        except Exception:
            await written  # whatever else has failed: a write that did is told first
            raise

    async def _replace(self, chunks: deque[tuple[Row, ...]]) -> None:
        """Build the machine anew of what was written: its values are those that came, and are not read again."""
        self._machine.clear()
        while chunks:
            self._machine.load(chunks.popleft())
            await self._next_turn()
        self._machine.take_changes()

    def _discard(self, chunks: deque[tuple[Row, ...]]) -> None:
        """Free what came in vain, a chunk a turn: a million rows at once take a third of a second."""
        if chunks and not self._stopped:
            chunks.popleft()
            self._clock.callLater(0, self._discard, chunks)

    # ── one at a time ──────────────────────────────────────────────────────────────────────────────

    def _run(self, work: object) -> None:
        assert self._busy is None
        running: Deferred[None] = ensureDeferred(work)  # type: ignore[arg-type]
        self._busy = running
        running.addErrback(self._ended_badly)
        running.addCallback(self._ended)

    def _ended_badly(self, failure: Failure) -> None:
        if not self._stopped:
            self._failed(failure)

    def _ended(self, _: None) -> None:
        self._busy = None
        if self._stopped:
            return
        if self._wanted is not None:
            (source, endpoint), self._wanted = self._wanted, None
            self._run(self._install(source, endpoint))
        elif self._log_bytes_max != NEVER and self._bytes > self._log_bytes_max:
            self._begin_checkpoint()

    def _abort(self, checkpoint: ICheckpoint) -> None:
        """Behind whatever is still being written, on the same disk."""
        aborted = self._data_disk.run(checkpoint.abort)
        aborted.addErrback(lambda failure: self.log.failure("A transaction could not be rolled back", failure))

    def _next_turn(self) -> Deferred[None]:
        return deferLater(self._clock, 0)


def merged(older: Changes, newer: Changes) -> Changes:
    """Both, as one: newer rows replace older ones, and a copy dropped since takes its older rows with it."""
    return Changes(older.dropped + newer.dropped, newer.rows.upon(older.rows, set(newer.dropped)))


def slices(changes: Changes) -> Iterator[list[Row]]:
    """The changed rows in pieces of at most SLICE_ROWS rows and about ROWS_CHUNK_BYTES, in the order of their keys."""
    rows: list[Row] = []
    size = 0
    for row in changes.rows.rows():
        rows.append(row)
        size += row.size
        if len(rows) >= SLICE_ROWS or size >= ROWS_CHUNK_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows
