"""Serves the rows of this replica's newest checkpoint to a peer that is too far behind for the log.

A snapshot is a read-only transaction; it lives for a bounded time, since a long reader pins the write-ahead log,
and at most SNAPSHOTS_MAX are open. While a chunk is on its way the next one is read. Knows nothing of what the rows
mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_kv.codec import Malformed
from twisted_kv.constants import STREAM_CHUNK_BYTES
from twisted_kv.interfaces import IDataStore, IDisk, ISnapshot
from twisted_kv.machines.rows import Row, RowKey
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
        self._open: dict[int, _Opened] = {}

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
        opened = self._open.get(number)
        if opened is None:
            return ROWS_ANSWER.encode(EXPIRED)
        size = min(request.bytes_max, STREAM_CHUNK_BYTES)
        rows = await (opened.take(request.after, size) or self._read(opened, request.after, size))
        if not rows:
            self._close(number)
        elif number in self._open:
            # While this is on its way, what will be asked for next.
            opened.turn = self._clock.callLater(0, self._read_ahead, opened, rows[-1].key, size)
        snapshot = opened.snapshot
        return ROWS_ANSWER.encode(RowsAnswer(number, snapshot.index, snapshot.term, tuple(rows), not rows))

    def _read(self, opened: _Opened, after: RowKey | None, size: int) -> Deferred[Sequence[Row]]:
        return self._disk.run(partial(opened.snapshot.rows, after, size))

    def _read_ahead(self, opened: _Opened, after: RowKey, size: int) -> None:
        opened.ahead = (after, size, self._read(opened, after, size))

    async def _begin(self) -> int:
        while len(self._open) >= SNAPSHOTS_MAX:
            self._close(min(self._open))
        snapshot = await self._disk.run(self._data_store.snapshot)
        self._count += 1
        number = self._count
        self._open[number] = _Opened(snapshot, self._clock.callLater(SNAPSHOT_SECONDS_MAX, self._close, number))
        return number

    def _close(self, number: int) -> None:
        opened = self._open.pop(number, None)
        if opened is not None:
            opened.give_up()
            # Behind the pieces of it that were asked for already: read from a closed one, they would look like damage.
            closed = self._disk.run(opened.snapshot.close)
            closed.addErrback(lambda failure: self.log.failure("A snapshot could not be closed", failure))


class _Opened:
    """A snapshot, and what was read of it before anybody asked.

    Attributes:
        turn: when the next chunk will be read.
        ahead: behind which row, how many bytes, and what is read there.
    """

    def __init__(self, snapshot: ISnapshot, expiry: IDelayedCall) -> None:
        self.snapshot = snapshot
        self.expiry = expiry
        self.turn: IDelayedCall | None = None
        self.ahead: tuple[RowKey, int, Deferred[Sequence[Row]]] | None = None

    def take(self, after: RowKey | None, size: int) -> Deferred[Sequence[Row]] | None:
        """What was read ahead, if this is it. Whatever else was read, or would be, is given up."""
        ahead = self.ahead
        if ahead is not None and ahead[:2] == (after, size):
            self.ahead = None
            return ahead[2]
        self._forget()
        return None

    def give_up(self) -> None:
        """Nobody will ask any more."""
        if self.expiry.active():
            self.expiry.cancel()
        self._forget()

    def _forget(self) -> None:
        if self.turn is not None and self.turn.active():
            self.turn.cancel()
        if self.ahead is not None:
            _, _, rows = self.ahead
            rows.addErrback(lambda _: None)  # whoever asks for it is told
            self.ahead = None


def _can_be_asked_for(after: RowKey | None) -> bool:
    """A body can carry larger integers than SQLite knows."""
    return after is None or max(after.shard, after.num) < 1 << 63
