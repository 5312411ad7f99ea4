import os
import resource
import sqlite3
from contextlib import contextmanager

import pytest

from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import SaveRefused
from twisted_kv.storage.faults import Damaged
from twisted_kv.storage.schema import LOG, image
from twisted_kv.storage.sqlite_file import SqliteFile, open_reader, reading

INSERT = "REPLACE INTO entries VALUES (?, ?, ?)"


@pytest.fixture
def path(tmp_path):
    # Characters that mean something in a URI.
    directory = tmp_path / "50% of #1? ü"
    directory.mkdir()
    made = directory / "log.sqlite3"
    made.write_bytes(image(LOG))
    return str(made)


@pytest.fixture
def file(path):
    opened = SqliteFile(path, LOG, "FULL")
    yield opened
    opened.close()


@contextmanager
def files_no_longer_than(size):
    """Every write beyond this size fails with EFBIG, which SQLite reports like a broken disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def indices(connection):
    return [index for (index,) in connection.execute("SELECT idx FROM entries ORDER BY idx")]


@pytest.mark.parametrize(("name", "level"), [("FULL", 2), ("EXTRA", 3), ("OFF", 0)])
def test_hazard_29_durability_is_what_was_asked_for(path, name, level):
    file = SqliteFile(path, LOG, name)
    read_back = {
        pragma: file.connection.execute(f"PRAGMA {pragma}").fetchone()[0]
        for pragma in ("journal_mode", "synchronous", "secure_delete", "wal_autocheckpoint")
    }
    file.close()
    assert read_back == {"journal_mode": "wal", "synchronous": level, "secure_delete": 0, "wal_autocheckpoint": 0}


def test_hazard_29_a_setting_that_does_not_stick_refuses_the_start(path, monkeypatch):
    class Deaf(sqlite3.Connection):
        def execute(self, sql, *parameters):
            return super().execute("SELECT 1" if sql.startswith("PRAGMA synchronous =") else sql, *parameters)

    def connect(*arguments, connect=sqlite3.connect, **options):
        connection = connect(*arguments, factory=Deaf, **options)
        sqlite3.Connection.execute(connection, "PRAGMA synchronous = OFF")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(StartRefused, match="synchronous 0, not wal and 2"):
        SqliteFile(path, LOG, "FULL")


def test_statements_are_one_transaction(file):
    with pytest.raises(sqlite3.IntegrityError):
        file.write([(INSERT, (1, 1, b"a")), (INSERT, (2, None, b"b"))], 0)
    assert indices(file.connection) == []
    file.write([(INSERT, (1, 1, b"a")), (INSERT, (2, 1, b"b"))], 0)
    assert indices(file.connection) == [1, 2]


def test_hazard_36_a_reader_cannot_write(file, path):
    reader = open_reader(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute(INSERT, (1, 1, b"a"))
    reader.close()
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        open_reader(f"{path}-not-there")


def test_hazard_27_a_failing_write_is_unknown_and_never_called_refused(file, path):
    file.write([(INSERT, (1, 1, b"a"))], 0)
    with files_no_longer_than(os.path.getsize(f"{path}-wal") + 100), pytest.raises(sqlite3.OperationalError) as caught:
        file.write([(INSERT, (2, 1, bytes(10_000)))], 0)
    assert caught.value.sqlite_errorname.startswith("SQLITE_IOERR")


def test_hazard_27_a_failing_move_of_the_log_is_not_swallowed(file, path):
    """SQLite's own automatic checkpoint would report nothing."""
    file.write([(INSERT, (1, 1, bytes(100_000)))], 0)
    with files_no_longer_than(os.path.getsize(path)), pytest.raises(sqlite3.OperationalError, match="I/O"):
        file.move_wal()


@pytest.mark.parametrize("extra", [0, 1])
def test_hazard_28_a_full_disk_refuses_with_nothing_written(file, extra):
    """A single statement, and a transaction of two."""
    file.connection.execute("PRAGMA max_page_count = 12")
    statements = [(INSERT, (1 + number, 1, bytes(100_000))) for number in range(1 + extra)]
    with pytest.raises(SaveRefused, match="full"):
        file.write(statements, 0)
    assert not file.connection.in_transaction
    assert indices(file.connection) == []
    file.connection.execute("PRAGMA max_page_count = 1000")
    file.write(statements, 0)
    assert indices(file.connection) == list(range(1, 2 + extra))


def test_moving_the_log_waits_for_no_reader_and_bounds_the_log(file, path):
    reader = open_reader(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM entries").fetchall()
    for number in range(40):
        file.write([(INSERT, (number % 5, 1, bytes(100_000)))], 100_000)
    assert os.path.getsize(f"{path}-wal") > 4_000_000, "a reader keeps all of it"
    reader.close()
    file.move_wal("TRUNCATE")
    assert os.path.getsize(f"{path}-wal") == 0
    for number in range(200):
        file.write([(INSERT, (number % 5, 1, bytes(100_000)))], 100_000)
    assert os.path.getsize(f"{path}-wal") < 2_000_000


def test_hazard_28_a_full_disk_leaves_the_log_where_it_is(file):
    class Full:
        def execute(self, sql):
            error = sqlite3.OperationalError(sql)
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    file.write([(INSERT, (1, 1, b"a"))], 0)
    real, file.connection = file.connection, Full()
    file.move_wal()
    file.connection = real
    assert indices(file.connection) == [1]


def test_bytes_used_counts_pages_in_use_and_the_log(file, path):
    """Scenario §3.6-55."""
    blank = file.bytes_used()
    file.write([(INSERT, (1, 1, bytes(400_000)))], 0)
    assert file.bytes_used() >= 400_000 + os.path.getsize(f"{path}-wal")
    file.write([("DELETE FROM entries", ())], 0)
    file.move_wal("TRUNCATE")
    assert os.path.getsize(path) > 400_000
    assert file.bytes_used() == blank


def test_hazard_34_a_damaged_write_ahead_log_is_refused_and_left_alone(tmp_path, file, path):
    for number in range(5):
        file.write([(INSERT, (number, 1, bytes(3000)))], 0)
    copy = tmp_path / "copy.sqlite3"
    wal = tmp_path / "copy.sqlite3-wal"
    with open(path, "rb") as main, open(f"{path}-wal", "rb") as log:
        copy.write_bytes(main.read())
        damaged = bytearray(log.read())
    damaged[32 + 24 + 500] ^= 4
    wal.write_bytes(damaged)
    with pytest.raises(Damaged, match="a commit stands behind it"):
        SqliteFile(str(copy), LOG, "FULL")
    assert wal.read_bytes() == damaged


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"this is no database" * 500, "not a database"),
        (image(LOG)[:5000], "malformed"),
        (b"", r"is no log\.sqlite3"),
    ],
)
def test_hazard_34_what_is_no_whole_database_is_refused(path, content, complaint):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(StartRefused, match=complaint):
        SqliteFile(path, LOG, "FULL")


def test_text_that_cannot_be_read_is_damage_and_is_not_quoted():
    connection = sqlite3.connect(":memory:")
    with pytest.raises(Damaged, match="not UTF-8") as caught, reading("here"):
        connection.execute("SELECT CAST(x'53454352ff' AS TEXT)").fetchone()
    assert "SECR" not in str(caught.value)


def test_what_we_closed_ourselves_is_not_called_damaged(file, path):
    """Nobody throws a directory away for a mistake of ours."""
    file.close()
    with pytest.raises(sqlite3.ProgrammingError), reading(path):
        file.connection.execute("SELECT 1")
