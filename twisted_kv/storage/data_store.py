"""The applied state of a replica as rows, and the (index, term) at which they stood.

A checkpoint is one transaction, in whatever number of turns it is written: rows, the copies they belong to and the
position appear together or not at all (hazards 18 and 32). Its cost follows the rows that changed.

SQLite has no checksum on a page, so every row carries its own, and the position carries how many rows there are
and the sum of their checksums: a full reading notices a changed row, a lost one and one too many (hazard 34). What
is damaged is refused, never handed on.

Knows nothing of what rows mean.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from twisted_kv.constants import KIB
from twisted_kv.machines.rows import Row, RowKey, Value
from twisted_kv.storage.schema import DATA, checksum
from twisted_kv.storage.sqlite_file import SqliteFile, damaged, open_reader, reading

_ROW_BYTES: Final = 64
_BEFORE_ALL: Final = (-(1 << 63), 0, "", "")

_STATEMENT_ROWS: Final = 250
# Of more than the disk's own reading ahead, Linux takes the beginning.
_AHEAD_BYTES: Final = 128 * KIB
_STATEMENTS_KEPT: Final = 16

T = TypeVar("T")


class Tally(NamedTuple):
    """How many rows, and the sum of their checksums."""

    row_count: int = 0
    crc_sum: int = 0


class DataStore:
    """An IDataStore in one file.

    Args:
        path: an existing file, of which this is the only writer.
        synchronous: FULL, unless losing acknowledged writes is wanted.
    Raises:
        StartRefused: it is not a data file that this program can read.
    """

    def __init__(self, path: str, synchronous: str) -> None:
        _read_ahead(path)
        self._file = SqliteFile(path, DATA, synchronous)
        self._reading: _Reading | None = None

    def position(self) -> tuple[int, int]:
        index, term, _ = _standing(self._file.connection, self._file.path)
        return index, term

    def rows(self, after: RowKey | None, bytes_max: int) -> Sequence[Row]:
        """The next rows in key order, about bytes_max of them but at least one; empty at the end.

        Raises:
            Damaged: a row is not what was written; at the end of an unbroken reading also if one is missing.
        """
        assert not self._file.connection.in_transaction, "rows are read at start, before any checkpoint"
        if after is None or self._reading is None:
            _, _, tally = _standing(self._file.connection, self._file.path)
            self._reading = _Reading(self._file.connection, self._file.path, tally)
        return self._reading.rows(after, bytes_max)

    def checkpoint(self, fresh: bool = False) -> Checkpoint:
        self._reading = None
        return Checkpoint(self._file, fresh)

    def snapshot(self) -> Snapshot:
        return Snapshot(self._file.path)

    def bytes_used(self) -> int:
        """Bytes of the file in use and of its write-ahead log."""
        return self._file.bytes_used()

    def close(self) -> None:
        self._file.close()


class Checkpoint:
    """An ICheckpoint: the one write transaction of a data store.

    Raises, from every method that writes:
        SaveRefused: the disk is full; the whole checkpoint is undone and this object is spent.
        sqlite3.Error: unknown; the process must stop.
    """

    def __init__(self, file: SqliteFile, fresh: bool) -> None:
        assert not file.connection.in_transaction, "one checkpoint at a time"
        self._file = file
        self._open = True
        self._index_before, _, tally = _standing(file.connection, file.path)
        # No row stands behind it; None where nobody has looked.
        self._end: tuple[int, int, str, str] | None = _BEFORE_ALL if fresh else None
        self._row_count, self._crc_sum = Tally() if fresh else tally
        with file.guarded() as connection:
            connection.execute("BEGIN IMMEDIATE")
            if fresh:
                connection.execute("DELETE FROM rows")

    def write(self, rows: Sequence[Row]) -> None:
        assert self._open
        changed = {(row.shard, row.num, row.space, row.name): row.value for row in rows}
        written = [(*key, value, _crc(*key, value)) for key, value in changed.items() if value is not None]
        deleted = [key for key, value in changed.items() if value is None]
        with self._file.guarded() as connection:
            if not self._follow_all(list(changed)):
                for keys in _some(list(changed)):
                    self._forget(connection, keys)
            for some in _some(written):
                connection.execute(_upsert(len(some)), [field for row in some for field in row])
            connection.executemany("DELETE FROM rows WHERE shard = ? AND num = ? AND space = ? AND name = ?", deleted)
            self._file.sync_wal()
        self._row_count += len(written)
        self._crc_sum += sum([crc for *_, crc in written])

    def drop(self, shard: int, num: int, rows_max: int) -> bool:
        assert self._open
        with self._file.guarded() as connection:
            found = connection.execute(
                "SELECT space, name, crc FROM rows WHERE shard = ? AND num = ? ORDER BY space, name LIMIT ?",
                (shard, num, rows_max + 1),
            ).fetchall()
            slice_ = found[:rows_max]
            if slice_:
                space, name, _ = slice_[-1]
                connection.execute(
                    "DELETE FROM rows WHERE shard = ? AND num = ? AND (space, name) <= (?, ?)",
                    (shard, num, space, name),
                )
                self._row_count -= len(slice_)
                self._crc_sum -= sum(crc for _, _, crc in slice_)
        return len(found) <= rows_max

    def commit(self, index: int, term: int) -> None:
        assert self._open
        assert index >= self._index_before, "the applied state never goes back"
        self._open = False
        facts = (index, term, self._row_count, self._crc_sum)
        with self._file.guarded() as connection:
            connection.execute("REPLACE INTO position VALUES (1, ?, ?, ?, ?, ?)", (*facts, checksum(*facts)))
            connection.execute("COMMIT")
        self._file.give_back_wal()

    def abort(self) -> None:
        """Forget all of it; harmless when it has failed already."""
        self._open = False
        if self._file.connection.in_transaction:
            self._file.connection.execute("ROLLBACK")

    def _follow_all(self, keys: list[tuple[int, int, str, str]]) -> bool:
        """Whether they stand behind all that there is, as the rows of a snapshot do: then they replace nothing."""
        if self._end is None or not keys:
            return False
        follow = keys[0] > self._end and keys == sorted(keys)
        self._end = max(self._end, *keys)
        return follow

    def _forget(self, connection: sqlite3.Connection, keys: Sequence[tuple[int, int, str, str]]) -> None:
        """Take what will be replaced or deleted out of the tally."""
        found = connection.execute(_tally(len(keys)), [field for key in keys for field in key])
        row_count, crc_sum = found.fetchone()
        self._row_count -= row_count
        self._crc_sum -= crc_sum


class Snapshot:
    """An ISnapshot on a connection of its own.

    While it is open the write-ahead log cannot be reused and grows: its owner bounds its life.
    """

    def __init__(self, path: str) -> None:
        self._connection = open_reader(path)
        try:
            self._connection.execute("BEGIN")
            self.index, self.term, tally = _standing(self._connection, path)
        except BaseException:
            self._connection.close()
            raise
        self._reading = _Reading(self._connection, path, tally)

    def rows(self, after: RowKey | None, bytes_max: int) -> Sequence[Row]:
        """As DataStore.rows."""
        return self._reading.rows(after, bytes_max)

    def close(self) -> None:
        self._connection.close()


class _Reading:
    """Rows page by page, each checked, and all of them tallied as long as no page is left out."""

    def __init__(self, connection: sqlite3.Connection, path: str, expected: Tally) -> None:
        self._connection = connection
        self._path = path
        self._expected = expected
        self._last: RowKey | None = None
        self._row_count, self._crc_sum = Tally()
        self._unbroken = True

    def rows(self, after: RowKey | None, bytes_max: int) -> Sequence[Row]:
        if after is None:
            self._row_count, self._crc_sum = Tally()
        self._unbroken = after is None or (self._unbroken and after == self._last)
        with reading(self._path):
            page = self._page(after, bytes_max)
        if page:
            self._last = page[-1].key
        elif self._unbroken and (self._row_count, self._crc_sum) != self._expected:
            complaint = (
                f"{self._row_count} rows were read, of other content than the {self._expected.row_count} written"
            )
            raise damaged(self._path, complaint)
        return page

    def _page(self, after: RowKey | None, bytes_max: int) -> list[Row]:
        start = _BEFORE_ALL if after is None else (after.shard, after.num, after.space, after.name)
        found = self._connection.execute(
            "SELECT shard, num, space, name, value, crc FROM rows "
            "WHERE (shard, num, space, name) > (?, ?, ?, ?) ORDER BY shard, num, space, name",
            start,
        )
        page: list[Row] = []
        size = crc_sum = 0
        try:
            for shard, num, space, name, value, crc in found:
                # Damage can change the type of a field, too: SQLite does not look again, not even in a STRICT table.
                if _crc(shard, num, space, name, value) != crc:
                    raise TypeError
                size += _ROW_BYTES + len(name) + len(value)
                if size > bytes_max and page:
                    break
                page.append(Row(shard, num, space, name, value))
                crc_sum += crc
        except TypeError:
            raise damaged(self._path, f"a row of copy ({shard}, {num})") from None
        finally:
            found.close()
        self._row_count += len(page)
        self._crc_sum += crc_sum
        return page


def _read_ahead(path: str) -> None:
    """Ask the kernel for the whole file, which is read page by page, in the order of the keys, in a moment.

    A million rows took 37 s from a disk that nobody had read, and 3 s behind this. Before SQLite opens it: closing a
    file gives up the locks that the process has on it.
    """
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            for start in range(0, os.fstat(file.fileno()).st_size, _AHEAD_BYTES):
                os.posix_fadvise(file.fileno(), start, _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)


def _some(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces for one statement each: in a thread the GIL is given up and taken back with every step of one."""
    for start in range(0, len(rows), _STATEMENT_ROWS):
        yield rows[start : start + _STATEMENT_ROWS]


@lru_cache(_STATEMENTS_KEPT)
def _upsert(count: int) -> str:
    return (
        f"INSERT INTO rows VALUES {', '.join(['(?, ?, ?, ?, ?, ?)'] * count)} "
        "ON CONFLICT DO UPDATE SET value = excluded.value, crc = excluded.crc"
    )


@lru_cache(_STATEMENTS_KEPT)
def _tally(count: int) -> str:
    # The keys first, and each looked up: the planner would rather read all rows.
    return (
        f"WITH wanted (shard, num, space, name) AS (VALUES {', '.join(['(?, ?, ?, ?)'] * count)}) "
        "SELECT count(*), coalesce(sum(crc), 0) FROM wanted CROSS JOIN rows USING (shard, num, space, name)"
    )


def _crc(shard: int, num: int, space: str, name: str, value: Value) -> int:
    kind, body = ("s", value.encode()) if isinstance(value, str) else ("b", value)
    return zlib.crc32(body, zlib.crc32(f"{shard} {num} {len(space)} {len(name)} {kind}{space}{name}".encode()))


def _standing(connection: sqlite3.Connection, path: str) -> tuple[int, int, Tally]:
    with reading(path):
        row = connection.execute("SELECT idx, term, row_count, crc_sum, crc FROM position").fetchone()
    if row is None or checksum(*row[:4]) != row[4]:
        raise damaged(path, "the position")
    index, term, row_count, crc_sum, _ = row
    return index, term, Tally(row_count, crc_sum)
