"""The scanner is checked against logs that SQLite itself wrote, and against what SQLite then makes of them."""

import os
import shutil
import sqlite3
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_kv.storage.wal import accepted, damage

HEADER, FRAME = 32, 24 + 4096


def connect(path):
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = OFF", "wal_autocheckpoint = 0", "secure_delete = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def crash(path, copy):
    """The files as a killed process leaves them."""
    for suffix in ("", "-wal"):
        shutil.copyfile(path + suffix, copy + suffix)
    return copy


def frames(wal):
    return (len(wal) - HEADER) // FRAME


def commits(wal):
    """Numbers of the frames that end a transaction."""
    sizes = [struct.unpack_from(">I", wal, HEADER + number * FRAME + 4)[0] for number in range(frames(wal))]
    return [number for number, size in enumerate(sizes) if size]


def flipped(wal, position, bit=1):
    changed = bytearray(wal)
    changed[position] ^= bit
    return bytes(changed)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A log of five transactions, the last of several frames."""
    path = str(tmp_path_factory.mktemp("wal") / "a.sqlite3")
    connection = connect(path)
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
    for number in range(3):
        connection.execute("INSERT INTO t VALUES (?, ?)", (number, bytes([number]) * 3000))
    connection.execute("INSERT INTO t VALUES (3, ?)", (os.urandom(12_000),))
    with open(f"{path}-wal", "rb") as file:
        yield file.read()
    connection.close()


def test_a_sound_log_has_no_damage(written):
    assert len(commits(written)) == 5 and commits(written)[-1] - commits(written)[-2] > 2
    assert damage(written) is None
    assert damage(b"") is None
    assert damage(written[:HEADER]) is None


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_sqlite_has_accepted_need_not_be_looked_at_again(written, data):
    """The verdict is the same from any frame before the bad one on."""
    position = data.draw(st.integers(HEADER, len(written) - 1))
    changed = flipped(written, position, 1 << data.draw(st.integers(0, 7)))
    right = data.draw(st.integers(0, (position - HEADER) // FRAME))
    assert damage(changed, right) == damage(changed)
    assert damage(written, right) is None


def test_the_end_of_what_sqlite_accepts_stands_in_its_index(tmp_path):
    connection = connect(str(tmp_path / "a.sqlite3"))
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
    index = (tmp_path / "a.sqlite3-shm").read_bytes()
    assert accepted(index) == frames((tmp_path / "a.sqlite3-wal").read_bytes()) > 0
    assert accepted(index[:95]) == accepted(flipped(index, 50)) == accepted(bytes(96)) == 0
    connection.close()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_hazard_34_a_flipped_bit_before_the_last_commit_is_noticed(written, data):
    last_transaction = HEADER + (commits(written)[-2] + 1) * FRAME
    position = data.draw(st.integers(0, last_transaction - 1))
    changed = flipped(written, position, 1 << data.draw(st.integers(0, 7)))
    # Whether the frame before the last transaction ends one is told by that frame alone.
    told_by = range(last_transaction - FRAME + 4, last_transaction - FRAME + 8)
    assert damage(changed) is not None or position in told_by


def test_hazard_34_a_stored_checksum_is_as_good_a_target_as_any(written):
    for number in commits(written)[:-1]:
        assert damage(flipped(written, HEADER + number * FRAME + 16)) is not None


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_torn_last_transaction_is_no_damage(written, data):
    """Power failed while the last transaction was written: in any order, in pieces, or cut short."""
    start = HEADER + (commits(written)[-2] + 1) * FRAME
    if data.draw(st.booleans()):
        assert damage(written[: data.draw(st.integers(start, len(written)))]) is None
    sector = data.draw(st.integers(start // 512 + 1, len(written) // 512 - 1)) * 512
    assert damage(written[:sector] + bytes(512) + written[sector + 512 :]) is None


def test_what_a_rolled_back_transaction_left_behind_is_no_damage(tmp_path):
    path = str(tmp_path / "a.sqlite3")
    connection = connect(path)
    connection.execute("PRAGMA cache_size = 10")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(number, os.urandom(4000)) for number in range(100)])
    connection.execute("ROLLBACK")
    connection.execute("INSERT INTO t VALUES (1, 'kept')")
    with open(f"{path}-wal", "rb") as file:
        wal = file.read()
    connection.close()
    assert frames(wal) > 50 > len(commits(wal)), "the transaction was spilled"
    assert damage(wal) is None
    # A torn last commit in front of such remains is still only torn.
    assert damage(flipped(wal, HEADER + commits(wal)[-1] * FRAME + 100)) is None


def test_frames_of_an_earlier_log_behind_the_end_are_no_damage(tmp_path):
    path = str(tmp_path / "a.sqlite3")
    connection = connect(path)
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
    for number in range(10):
        connection.execute("INSERT INTO t VALUES (?, ?)", (number, bytes(3000)))
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    for number in range(3):
        connection.execute("DELETE FROM t WHERE n = ?", (number,))
    with open(f"{path}-wal", "rb") as file:
        wal = file.read()
    connection.close()
    (salt,) = struct.unpack_from(">I", wal, 16)
    (last_salt,) = struct.unpack_from(">I", wal, HEADER + (frames(wal) - 1) * FRAME + 8)
    assert salt != last_salt, "the log was restarted over an earlier one"
    assert damage(wal) is None
    assert damage(flipped(wal, HEADER + 200)) is not None


def test_a_log_whose_header_alone_was_renewed_is_no_damage(written):
    """A restart writes the header first: torn, it stands before frames with other salts, all of them in place."""
    torn = bytearray(written)
    torn[16:32] = bytes(range(16))
    assert damage(bytes(torn)) is None


def test_hazard_34_sqlite_itself_would_lose_the_commits(tmp_path):
    """Why this module exists: SQLite opens such a file, drops what follows, and finds it in good order."""
    path = str(tmp_path / "a.sqlite3")
    connection = connect(path)
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
    for number in range(10):
        connection.execute("INSERT INTO t VALUES (?, ?)", (number, bytes(3000)))
    copy = crash(path, str(tmp_path / "b.sqlite3"))
    connection.close()
    with open(f"{copy}-wal", "rb+") as file:
        written = file.read()
        wal = flipped(written, HEADER + commits(written)[4] * FRAME + 1000)
        file.seek(0)
        file.write(wal)
    reopened = sqlite3.connect(copy)
    (left,) = reopened.execute("SELECT count(*) FROM t").fetchone()
    (verdict,) = reopened.execute("PRAGMA integrity_check").fetchone()
    reopened.close()
    assert left < 10 and verdict == "ok"
    assert damage(wal) is not None
