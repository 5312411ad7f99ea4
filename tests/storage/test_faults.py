import errno
import sqlite3

import pytest

from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import SaveRefused
from twisted_kv.storage.faults import Damaged, error_code, is_disk_full


def full_error() -> sqlite3.Error:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA max_page_count = 2")
    connection.execute("CREATE TABLE t (b)")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("INSERT INTO t VALUES (?)", (bytes(100_000),))
    return caught.value


def test_only_a_lack_of_room_is_a_full_disk():
    """Hazards 27 and 28: everything else is unknown, and stops the replica."""
    assert is_disk_full(full_error())
    assert is_disk_full(OSError(errno.ENOSPC, "full"))
    assert is_disk_full(OSError(errno.EDQUOT, "quota"))
    assert is_disk_full(SaveRefused("full"))
    assert not is_disk_full(OSError(errno.EIO, "bad"))
    assert not is_disk_full(sqlite3.OperationalError("disk I/O error"))
    assert not is_disk_full(ValueError("full"))


def test_the_code_of_an_error_without_one_is_zero():
    assert error_code(full_error()) == sqlite3.SQLITE_FULL
    assert error_code(sqlite3.OperationalError("made by Python")) == 0


def test_damage_refuses_the_start():
    assert issubclass(Damaged, StartRefused)
    assert not issubclass(SaveRefused, StartRefused)
