"""What a replica must not forget: term and vote, the entries of its log, and whom the directory belongs to.

A save is one transaction, and one statement when only entries changed, for each statement in a thread may wait
5 ms for the GIL (ecosystem.md §4.4). Every entry is sealed with its index and term under one checksum, so damage
shows when it is read; a damaged entry refuses the start and is never taken for a torn write (hazard 34).

Assumes nothing about contiguity: Raft appends, Paxos fills slots in any order. Knows no protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from twisted_kv.codec import Codec, Malformed
from twisted_kv.consensus.types import Entry, HardState, Position, Ready, Restored
from twisted_kv.constants import MIB
from twisted_kv.storage.schema import LOG, checksum
from twisted_kv.storage.sqlite_file import SqliteFile, Statement, damaged, reading

_ENTRIES: Codec[Entry] = Codec(Entry)

# Entries per statement: three parameters each; each number of entries is a statement that SQLite keeps prepared.
_UPSERT_MAX: Final = 64
# Deleting an entry walks all its pages, so a slice of a trim is bounded by bytes as well as by rows.
_TRIM_BYTES: Final = 4 * MIB


class LogStore:
    """An ILogStore in one file.

    Args:
        path: an existing file, of which this is the only writer.
        synchronous: FULL, unless losing acknowledged writes is wanted.
    Raises:
        StartRefused: it is not a log that this program can read.
    """

    def __init__(self, path: str, synchronous: str) -> None:
        self._file = SqliteFile(path, LOG, synchronous)

    def identity(self) -> Mapping[str, str]:
        with reading(self._file.path):
            facts = self._file.connection.execute("SELECT name, value, crc FROM identity").fetchall()
        for name, value, crc in facts:
            self._check(checksum(name, value) == crc, f"the identity's {name}")
        return {name: value for name, value, _ in facts}

    def bind(self, identity: Mapping[str, str]) -> None:
        facts = [(name, value, checksum(name, value)) for name, value in identity.items()]
        if facts:
            self._file.write([("REPLACE INTO identity VALUES (?, ?, ?)", fact) for fact in facts], 0)

    def restore(self) -> Restored:
        """What was saved.

        Its cost follows the size of the log: all pages are looked at, all entries decoded.

        Raises:
            Damaged: a page or an entry is not what was written.
        """
        with reading(self._file.path):
            (complaint,) = self._file.connection.execute("PRAGMA quick_check(1)").fetchone()
            self._check(complaint == "ok", complaint.replace("\n", " "))
            boundary = self.boundary()
            return Restored(self.hard_state(), boundary, tuple(self._entries_above(boundary.index)))

    def hard_state(self) -> HardState:
        """Term and vote as last saved."""
        return HardState(*self._one_row("SELECT term, vote, crc FROM hard_state", "the hard state"))

    def boundary(self) -> Position:
        """Where the log begins; rows at or below it that a trim has left behind do not count."""
        return Position(*self._one_row("SELECT idx, term, crc FROM boundary", "the boundary"))

    def holds(self, position: Position) -> bool:
        """Whether the entry at this very index and term was saved, or the log begins right behind it."""
        if position == self.boundary():
            return True
        with reading(self._file.path):
            found = self._file.connection.execute(
                "SELECT 1 FROM entries WHERE idx = ? AND term = ?", (position.index, position.term)
            )
            return found.fetchone() is not None

    def save(self, ready: Ready) -> None:
        statements: list[Statement] = []
        if ready.hard_state is not None:
            term, vote = ready.hard_state.term, ready.hard_state.vote
            statements.append(("REPLACE INTO hard_state VALUES (1, ?, ?, ?)", (term, vote, checksum(term, vote))))
        if ready.cut is not None:
            statements.append(("DELETE FROM entries WHERE idx >= ?", (ready.cut,)))
        size = 0
        for start in range(0, len(ready.entries), _UPSERT_MAX):
            parameters: list[int | bytes] = []
            for entry in ready.entries[start : start + _UPSERT_MAX]:
                sealed = _ENTRIES.encode(entry)
                parameters += (entry.index, entry.term, sealed)
                size += len(sealed)
            statements.append((_upsert(len(parameters) // 3), parameters))
        if statements:
            self._file.write(statements, size)

    def trim(self, index: int, term: int, rows_max: int) -> bool:
        """Delete at most rows_max entries at or below index, a few MiB at most, and move the boundary.

        The boundary goes first: what is left below it after a crash is ignored, and deleted by the next trim.
        """
        statements: list[Statement] = []
        if index > self.boundary().index:
            statements.append(_boundary(index, term))
        last = self._end_of_slice(index, rows_max)
        if last is not None:
            statements.append(("DELETE FROM entries WHERE idx <= ?", (last,)))
        if statements:
            self._file.write(statements, 0)
        left = self._file.connection.execute("SELECT 1 FROM entries WHERE idx <= ? LIMIT 1", (index,))
        return left.fetchone() is None

    def reset(self, index: int, term: int) -> None:
        self._file.write([("DELETE FROM entries", ()), _boundary(index, term)], 0)

    def entry_bytes(self) -> int:
        """Bytes of the entries above the boundary, sealed: what a limit of the log is compared with."""
        (size,) = self._file.connection.execute(
            "SELECT coalesce(sum(length(entry)), 0) FROM entries WHERE idx > (SELECT idx FROM boundary)"
        ).fetchone()
        return int(size)

    def bytes_used(self) -> int:
        """Bytes of the file in use and of its write-ahead log; about 40 kB when blank."""
        return self._file.bytes_used()

    def shrink(self) -> None:
        """Give the room of the write-ahead log back to the disk; waits up to a second for readers."""
        self._file.move_wal("TRUNCATE")

    def close(self) -> None:
        self._file.close()

    def _entries_above(self, index: int) -> Iterator[Entry]:
        found = self._file.connection.execute(
            "SELECT idx, term, entry FROM entries WHERE idx > ? ORDER BY idx", (index,)
        )
        for idx, term, sealed in found:
            try:
                entry = _ENTRIES.decode(sealed)
            except Malformed as error:
                raise damaged(self._file.path, f"entry {idx}: {error}") from None
            self._check((entry.index, entry.term) == (idx, term), f"entry {idx} says that it is {entry.index}")
            yield entry

    def _end_of_slice(self, index: int, rows_max: int) -> int | None:
        found = self._file.connection.execute(
            "SELECT idx, length(entry) FROM entries WHERE idx <= ? ORDER BY idx LIMIT ?", (index, rows_max)
        )
        last, size = None, 0
        for idx, entry_bytes in found:
            size += entry_bytes
            if last is not None and size > _TRIM_BYTES:
                break
            last = idx
        found.close()
        return last

    def _one_row(self, sql: str, what: str) -> tuple[int, int]:
        with reading(self._file.path):
            row = self._file.connection.execute(sql).fetchone()
        self._check(row is not None and checksum(*row[:2]) == row[2], what)
        return row[0], row[1]

    def _check(self, right: bool, what: str) -> None:
        if not right:
            raise damaged(self._file.path, what)


@cache
def _upsert(count: int) -> str:
    return "REPLACE INTO entries VALUES " + ", ".join(["(?, ?, ?)"] * count)


def _boundary(index: int, term: int) -> Statement:
    return "REPLACE INTO boundary VALUES (1, ?, ?, ?)", (index, term, checksum(index, term))
