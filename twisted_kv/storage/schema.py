"""The tables of the two files, as migrations, and the format version that follows from them.

A file is made from an image: the migrations run once per process, in memory, and every new file is a copy of the
result, so that a file exists whole or not at all. An existing file of an older format is brought up to date in
place; of a newer one, or of another kind, it is refused. Knows nothing of what the rows mean, but for the views
that people read.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from twisted_kv.errors import StartRefused

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

PAGE_BYTES: Final = 4096


class Kind(NamedTuple):
    """What a file is for.

    Attributes:
        file: its name in the directory.
        application_id: in its header, so that one file is never taken for another.
        steps: one script per format version, oldest first; a step that was ever released never changes.
    """

    file: str
    application_id: int
    steps: tuple[str, ...]

    @property
    def format(self) -> int:
        """The format version that this program writes."""
        return len(self.steps)


def checksum(*facts: object) -> int:
    """The CRC-32 of a row of facts, none of which holds a NUL.

    >>> checksum(1, 23) == checksum(12, 3)
    False
    """
    return zlib.crc32("\0".join(map(str, facts)).encode())


LOG: Final = Kind(
    "log.sqlite3",
    0x746B766C,
    (
        f"""
        CREATE TABLE identity (
            name TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE hard_state (
            one INTEGER PRIMARY KEY CHECK (one = 1), term INTEGER NOT NULL, vote INTEGER NOT NULL, crc INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE boundary (
            one INTEGER PRIMARY KEY CHECK (one = 1), idx INTEGER NOT NULL, term INTEGER NOT NULL, crc INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE entries (idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, entry BLOB NOT NULL) STRICT;
        INSERT INTO hard_state VALUES (1, 0, 0, {checksum(0, 0)});
        INSERT INTO boundary VALUES (1, 0, 0, {checksum(0, 0)});
        CREATE VIEW log AS SELECT idx, term, length(entry) AS bytes FROM entries;
        """,
    ),
)

DATA: Final = Kind(
    "data.sqlite3",
    0x746B7664,
    (
        f"""
        CREATE TABLE rows (
            shard INTEGER NOT NULL, num INTEGER NOT NULL, space TEXT NOT NULL, name TEXT NOT NULL,
            value ANY NOT NULL, crc INTEGER NOT NULL,
            PRIMARY KEY (shard, num, space, name)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE position (
            one INTEGER PRIMARY KEY CHECK (one = 1), idx INTEGER NOT NULL, term INTEGER NOT NULL,
            row_count INTEGER NOT NULL, crc_sum INTEGER NOT NULL, crc INTEGER NOT NULL
        ) STRICT;
        INSERT INTO position VALUES (1, 0, 0, 0, 0, {checksum(0, 0, 0, 0)});
        CREATE VIEW keys AS SELECT shard, num, name AS key, value FROM rows WHERE space = 'key';
        CREATE VIEW copies AS
            SELECT shard, num, count(*) AS keys, sum(length(CAST(name AS BLOB)) + length(CAST(value AS BLOB))) AS bytes
            FROM rows WHERE space = 'key' GROUP BY shard, num;
        CREATE VIEW spaces AS SELECT space, count(*) AS rows FROM rows GROUP BY space;
        """,
    ),
)

_images: dict[Kind, bytes] = {}


def image(kind: Kind) -> bytes:
    """The bytes of a new, empty file of this kind."""
    if kind not in _images:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute(f"PRAGMA application_id = {kind.application_id}")
        _migrate(connection, kind)
        made = bytearray(connection.serialize())
        connection.close()
        # Read and write version 2: a file born in WAL mode needs no conversion at first opening (fileformat2 §1.3.3).
        made[18:20] = b"\2\2"
        _images[kind] = bytes(made)
    return _images[kind]


def bring_up_to_date(connection: sqlite3.Connection, kind: Kind, path: str) -> None:
    """Check what an existing file is, and carry out what it lacks.

    Raises:
        StartRefused: it is no file of this kind, or of a newer format.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != kind.application_id or version < 1:
        raise StartRefused(f"{path} is no {kind.file} of twisted-kv; move it away, or name another directory")
    if version > kind.format:
        raise StartRefused(
            f"{path} has format {version}, this program knows up to {kind.format}: start it with a newer twisted-kv"
        )
    if version < kind.format:
        _migrate(connection, kind)


def _migrate(connection: sqlite3.Connection, kind: Kind) -> None:
    # Imported here: it takes 0.4 s, and opening a file that is up to date needs none of it.
    from sqlite_utils import Database, Migrations

    migrations = Migrations("twisted_kv")
    for number, script in enumerate(kind.steps, 1):
        _add_step(migrations, number, script)
    migrations.apply(Database(connection, execute_plugins=False, recursive_triggers=False))


def _add_step(migrations: Migrations, number: int, script: str) -> None:
    @migrations(name=f"format_{number}")
    def step(db: Database) -> None:
        # Statement by statement: executescript would commit in the middle of the migration's transaction.
        for statement in script.split(";"):
            if statement.strip():
                db.conn.execute(statement)
        db.conn.execute(f"PRAGMA user_version = {number}")
