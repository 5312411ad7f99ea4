"""One SQLite file: how it is opened, how a transaction ends, and when its write-ahead log is moved into it.

Decides the pragmas, reads the two that durability rests on back, and turns what SQLite says into one of three
outcomes (faults). SQLite's own automatic checkpoint is off: it swallows the error of a failed fsync and may try
again with success, when the kernel has long dropped the page. Ours is a statement of its own, whose error stops
the replica like any other.

One connection per file writes and checkpoints, all others are read-only (hazard 36: SQLite before 3.51.3 can
lose a WAL that two connections reset). Knows no table.

Source: ecosystem.md §4.3; hazards 27, 29, 36; https://sqlite.org/wal.html.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from typing import Any, Final, Literal
from urllib.parse import quote

from twisted_kv.constants import MIB
from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import SaveRefused
from twisted_kv.storage import wal
from twisted_kv.storage.faults import Damaged, error_code, is_disk_full
from twisted_kv.storage.schema import PAGE_BYTES, Kind, bring_up_to_date

_SYNCHRONOUS: Final = {"OFF": 0, "NORMAL": 1, "FULL": 2, "EXTRA": 3}
DURABLE: Final = ("FULL", "EXTRA")
"""The settings with which a commit is on the disk when it returns; NORMAL loses commits to a power cut in WAL mode."""

# Measured: moving 1 MiB costs 0.5-1.6 ms, 4 MiB of large entries 6 ms, 16 MiB 28 ms; a commit 0.2 ms.
_MOVE_BYTES: Final = 1 * MIB
# After a large checkpoint of rows the -wal file is cut back to this at its next restart; below, it is reused.
_WAL_KEPT_BYTES: Final = 4 * MIB
# How long a statement waits for a stranger's lock; nobody but us should ever write.
_LOCK_SECONDS: Final = 1.0
_COMMIT_PAGES: Final = 2

# macOS has none.
_sync_data: Final = getattr(os, "fdatasync", os.fsync)

Statement = tuple[str, Sequence[Any]]


class SqliteFile:
    """The writing connection of one file.

    Args:
        path: an existing file.
        kind: which schema it has.
        synchronous: FULL, unless losing acknowledged writes is wanted.
    Raises:
        StartRefused: another kind or a newer format, or it cannot be opened.
        Damaged: it is not what was written; nothing was changed.
    """

    def __init__(self, path: str, kind: Kind, synchronous: str) -> None:
        self.path = path
        self.kind = kind
        self._wal_path = f"{path}-wal"
        self._wal: int | None = None
        self._durable = synchronous in DURABLE
        self._unmoved_bytes = 0
        if complaint := _lost_in_wal(path):
            raise damaged(self._wal_path, complaint)
        with reading(path):
            self.connection = _connect(path, "rw")
            try:
                bring_up_to_date(self.connection, kind, path)
                self._set_pragmas(synchronous)
                if self._wal_bytes():
                    self.move_wal("TRUNCATE")
            except BaseException:
                self.connection.close()
                raise

    def write(self, statements: Sequence[Statement], size: int) -> None:
        """Carry out statements as one transaction, durable on return; a single one needs no BEGIN.

        Args:
            statements: SQL with its parameters.
            size: about how many bytes they carry.
        Raises:
            SaveRefused: certainly nothing was written.
            sqlite3.Error: unknown; the process must stop.
        """
        with self.guarded() as connection:
            if len(statements) == 1:
                connection.execute(*statements[0])
            else:
                connection.execute("BEGIN IMMEDIATE")
                for sql, parameters in statements:
                    connection.execute(sql, parameters)
                connection.execute("COMMIT")
        self._unmoved_bytes += size + _COMMIT_PAGES * PAGE_BYTES
        if self._unmoved_bytes >= _MOVE_BYTES:
            self.move_wal()

    @contextmanager
    def guarded(self) -> Iterator[sqlite3.Connection]:
        """The connection; what fails inside ends the transaction, and SQLITE_FULL becomes SaveRefused.

        SQLITE_FULL is definite wherever it comes from: SQLite returns it when a page cannot be had or write()
        answers ENOSPC, and then the frame that would commit was not written. A failed fsync is an SQLITE_IOERR.
        """
        try:
            yield self.connection
        except BaseException as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            if is_disk_full(error):
                self.move_wal("TRUNCATE")  # gives back what the attempt took, and often more
                raise SaveRefused(f"{self.path}: {error}") from error
            raise

    def sync_wal(self) -> None:
        """Bring to the disk what an open transaction has written so far.

        Written at its commit, all of it, it would keep every other fsync on this disk waiting, that of a log too.

        Raises:
            OSError: unknown; the process must stop, for the kernel may have dropped what it could not write.
        """
        if self._durable:
            if self._wal is None:
                self._wal = os.open(self._wal_path, os.O_RDONLY | os.O_CLOEXEC)
            _sync_data(self._wal)

    def move_wal(self, how: Literal["PASSIVE", "TRUNCATE"] = "PASSIVE") -> None:
        """Copy what was committed from the write-ahead log to its place. A full disk keeps it where it is.

        PASSIVE takes what no reader still needs and never waits for one.
        """
        self._unmoved_bytes = 0
        try:
            self.connection.execute(f"PRAGMA wal_checkpoint({how})")
        except sqlite3.OperationalError as error:
            if not is_disk_full(error):
                raise

    def give_back_wal(self) -> None:
        """Move all of the write-ahead log, and cut its file back where it is large; waits a moment for readers."""
        self.move_wal()
        if self._wal_bytes() > _WAL_KEPT_BYTES:
            self.move_wal("TRUNCATE")

    def bytes_used(self) -> int:
        """Bytes of pages in use, and of the write-ahead log; pages that were freed are reused, not counted."""
        (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
        (free,) = self.connection.execute("PRAGMA freelist_count").fetchone()
        return (int(pages) - int(free)) * PAGE_BYTES + self._wal_bytes()

    def close(self) -> None:
        """Roll back what is open, and close."""
        if self._wal is not None:
            os.close(self._wal)
            self._wal = None
        self.connection.close()

    def _set_pragmas(self, synchronous: str) -> None:
        execute = self.connection.execute
        wanted = _SYNCHRONOUS[synchronous]
        execute(f"PRAGMA synchronous = {wanted}")
        execute("PRAGMA fullfsync = ON")  # macOS, where fsync alone does not reach the platter
        execute("PRAGMA checkpoint_fullfsync = ON")
        execute("PRAGMA secure_delete = OFF")  # Debian's build overwrites what is deleted: twice the work of a trim
        execute("PRAGMA cell_size_check = ON")
        execute("PRAGMA wal_autocheckpoint = 0")
        execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        (mode,) = execute("PRAGMA journal_mode = WAL").fetchone()
        (level,) = execute("PRAGMA synchronous").fetchone()
        if (mode, level) != ("wal", wanted):
            raise StartRefused(
                f"{self.path} has journal_mode {mode} and synchronous {level}, not wal and {wanted}: "
                "put the directory on a local file system"
            )

    def _wal_bytes(self) -> int:
        return os.stat(self._wal_path).st_size


def open_reader(path: str) -> sqlite3.Connection:
    """A connection that cannot write. While it holds a transaction, the write-ahead log grows."""
    return _connect(path, "ro")


def _lost_in_wal(path: str) -> str | None:
    """What SQLite would drop without a word from the write-ahead log, as it finds it now (wal)."""
    try:
        with open(f"{path}-wal", "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return None
            with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                return wal.damage(content, _accepted_frames(path))
    except FileNotFoundError:
        return None


def _accepted_frames(path: str) -> int:
    with reading(path):
        # Reading recovers the index of the write-ahead log, and changes nothing else.
        connection = open_reader(path)
        try:
            connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
        finally:
            connection.close()
    try:
        with open(f"{path}-shm", "rb") as file:
            return wal.accepted(file.read(96))
    except FileNotFoundError:
        return 0


def damaged(path: str, complaint: str) -> Damaged:
    """The one line for bytes that are not what was written."""
    return Damaged(f"{path} is damaged ({complaint}): move the whole directory away, it then comes back as a copy")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """What SQLite says of a file that cannot be read, as StartRefused or Damaged."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # of ours: a closed connection is no damage
    except sqlite3.DatabaseError as error:
        if error_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise damaged(path, str(error)) from error
        if error_code(error) == 0:  # of Python's making, and it would quote the value
            raise damaged(path, "text that is not UTF-8") from None
        raise StartRefused(
            f"{path} cannot be opened: {error}; check its owner, the room on the disk, and who else has it open"
        ) from error
    except UnicodeDecodeError as error:  # SQLite quotes a damaged schema in its message
        raise damaged(path, "its schema") from error


def _connect(path: str, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file://{quote(os.path.abspath(path))}?mode={mode}",
        uri=True,
        timeout=_LOCK_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
