"""Serves the rows of this replica's newest checkpoint to a peer that is too far behind for the log.

A snapshot is a read-only transaction; it lives for a bounded time, since a long reader pins the write-ahead log,
and at most SNAPSHOTS_MAX are open. Knows nothing of what the rows mean.
"""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_kv.codec import Malformed
from twisted_kv.constants import STREAM_CHUNK_BYTES
from twisted_kv.interfaces import IDataStore, IDisk, ISnapshot
from twisted_kv.machines.rows import RowKey
from twisted_kv.transport.wire import ROWS_ANSWER, ROWS_REQUEST, RowsAnswer, RowsRequest

SNAPSHOT_SECONDS_MAX = 120.0
SNAPSHOTS_MAX = 4
EXPIRED = RowsAnswer(0, 0, 0, (), True)


class Snapshots:
    """The door PEER_ROWS."""

    log = Logger()

    def __init__(self, gid: int, data_store: IDataStore, disk: IDisk, clock: IReactorTime) -> None:
        self._gid = gid
        self._data_store = data_store
        self._disk = disk
        self._clock = clock
        self._count = 0
        self._open: dict[int, tuple[ISnapshot, IDelayedCall]] = {}

    def answer(self, body: bytes) -> Deferred[bytes]:
        """One chunk of rows; a new snapshot is opened when the request names none."""
        try:
            request = ROWS_REQUEST.decode(body)
        except Malformed:
            return succeed(ROWS_ANSWER.encode(EXPIRED))
        if request.gid != self._gid or not _can_be_asked_for(request.after):
            return succeed(ROWS_ANSWER.encode(EXPIRED))
        return ensureDeferred(self._chunk(request))

    def stop(self) -> None:
        """Close all."""
        for number in list(self._open):
            self._close(number)

    async def _chunk(self, request: RowsRequest) -> bytes:
        number = request.snapshot or await self._begin()
        if number not in self._open:
            return ROWS_ANSWER.encode(EXPIRED)
        snapshot, _ = self._open[number]
        size = min(request.bytes_max, STREAM_CHUNK_BYTES)
        rows = await self._disk.run(partial(snapshot.rows, request.after, size))
        last = not rows
        if last:
            self._close(number)
        return ROWS_ANSWER.encode(RowsAnswer(number, snapshot.index, snapshot.term, tuple(rows), last))

    async def _begin(self) -> int:
        while len(self._open) >= SNAPSHOTS_MAX:
            self._close(min(self._open))
        snapshot = await self._disk.run(self._data_store.snapshot)
        self._count += 1
        number = self._count
        self._open[number] = (snapshot, self._clock.callLater(SNAPSHOT_SECONDS_MAX, self._close, number))
        return number

    def _close(self, number: int) -> None:
        opened = self._open.pop(number, None)
        if opened is not None:
            snapshot, expiry = opened
            if expiry.active():
                expiry.cancel()
            # Behind the pieces of it that were asked for already: read from a closed one, they would look like damage.
            closed = self._disk.run(snapshot.close)
            closed.addErrback(lambda failure: self.log.failure("A snapshot could not be closed", failure))


def _can_be_asked_for(after: RowKey | None) -> bool:
    """A body can carry larger integers than SQLite knows."""
    return after is None or max(after.shard, after.num) < 1 << 63
