"""What a store can raise, and what it says about the save.

Three outcomes, never guessed: it returned (durable); ``SaveRefused`` (certainly nothing of it is on disk); any
other sqlite3.Error or OSError (*unknown*: a commit whose fsync failed can be there after a restart, hazard 27, so
the process stops and answers nothing). Decides nothing about what a replica does then.
"""

from __future__ import annotations

import errno
import sqlite3

from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import SaveRefused


class Damaged(StartRefused):
    """Bytes on this disk are not those that were written. Nothing was repaired, cut off or deleted (hazard 34).

    The operator can act: move the whole directory away; the server then comes back as a copy. An older copy of the
    directory must not be put in its place: it has forgotten votes.
    """


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk had no room: the one failure that a replica survives (hazard 28).

    An exhausted quota counts only outside SQLite, which reports it like any other failed write.

    >>> is_disk_full(OSError(errno.ENOSPC, "No space left on device")), is_disk_full(OSError(errno.EIO, "I/O error"))
    (True, False)
    """
    if isinstance(error, sqlite3.Error):
        return error_code(error) == sqlite3.SQLITE_FULL
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, SaveRefused)


def error_code(error: sqlite3.Error) -> int:
    """The primary code of an error of SQLite; 0 for one that Python's own layer raised."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
