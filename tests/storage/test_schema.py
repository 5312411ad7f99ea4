import sqlite3

import pytest

from twisted_kv.errors import StartRefused
from twisted_kv.storage.schema import DATA, LOG, Kind, bring_up_to_date, checksum, image


def opened(content):
    connection = sqlite3.connect(":memory:", isolation_level=None)
    made = bytearray(content)
    made[18:20] = b"\1\1"  # a database in memory cannot be in WAL mode
    connection.deserialize(bytes(made))
    return connection


@pytest.mark.parametrize("kind", [LOG, DATA])
def test_an_image_is_a_whole_database_in_wal_mode(kind):
    assert image(kind)[18:20] == b"\2\2"
    connection = opened(image(kind))
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA page_size").fetchone() == (4096,)
    assert connection.execute("PRAGMA user_version").fetchone() == (kind.format,)
    tables = connection.execute("SELECT name, strict FROM pragma_table_list WHERE type = 'table'").fetchall()
    assert {name for name, strict in tables if not strict} <= {
        "sqlite_schema",
        "sqlite_temp_schema",
        "_sqlite_migrations",
    }
    bring_up_to_date(connection, kind, "here")


def test_one_kind_is_not_taken_for_the_other():
    with pytest.raises(StartRefused, match=r"is no log\.sqlite3"):
        bring_up_to_date(opened(image(DATA)), LOG, "here")
    with pytest.raises(StartRefused, match=r"is no data\.sqlite3"):
        bring_up_to_date(sqlite3.connect(":memory:"), DATA, "here")


def test_a_newer_format_is_refused():
    connection = opened(image(LOG))
    connection.execute(f"PRAGMA user_version = {LOG.format + 1}")
    with pytest.raises(StartRefused, match="newer twisted-kv"):
        bring_up_to_date(connection, LOG, "here")


def test_an_older_format_gets_the_steps_that_it_lacks():
    first = Kind("x.sqlite3", 77, ("CREATE TABLE t (n INTEGER) STRICT; INSERT INTO t VALUES (1);",))
    second = Kind("x.sqlite3", 77, (*first.steps, "ALTER TABLE t ADD COLUMN m INTEGER; UPDATE t SET m = n + 1;"))
    connection = opened(image(first))
    bring_up_to_date(connection, second, "here")
    assert connection.execute("SELECT n, m FROM t").fetchall() == [(1, 2)]
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    bring_up_to_date(connection, second, "here")


def test_a_step_that_fails_leaves_nothing_behind():
    first = Kind("x.sqlite3", 78, ("CREATE TABLE t (n INTEGER) STRICT;",))
    broken = Kind("x.sqlite3", 78, (*first.steps, "CREATE TABLE u (n INTEGER); INSERT INTO nowhere VALUES (1);"))
    connection = opened(image(first))
    with pytest.raises(sqlite3.OperationalError):
        bring_up_to_date(connection, broken, "here")
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM pragma_table_list WHERE name = 'u'").fetchone() == (0,)


def test_a_checksum_tells_neighbours_apart():
    assert checksum(1, 23) != checksum(12, 3)
