"""Looks into the directory of a replica without changing it, also while the replica runs.

Opens both files read-only and tells what a person asks first: whose directory it is, term and vote, how far the log
and the checkpoint reach, what is in it. Decides nothing; decodes no entry.
"""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from twisted_kv.admin.running import Refusal
from twisted_kv.storage.schema import DATA, LOG, Kind

READ_SECONDS = 1.0
_LOG_EXTENT = "SELECT count(*) AS entries, min(idx) AS first, max(idx) AS last, sum(bytes) AS bytes FROM log"


def replicas(directory: Path) -> list[Path]:
    """The replica directories at or right below this one (a kv-node has two).

    Raises:
        Refusal: there is none.
    """
    found = [each for each in (directory, directory / "controller", directory / "group") if (each / LOG.file).exists()]
    if not found:
        raise Refusal(f"{directory} is no replica directory: there is no {LOG.file} in it")
    return found


def inspected(directory: Path) -> dict[str, Any]:
    """What one replica directory holds, as plain values."""
    with closing(opened(directory, LOG)) as log:
        report: dict[str, Any] = {
            "directory": str(directory),
            "identity": {row["name"]: row["value"] for row in log.query("SELECT name, value FROM identity ORDER BY 1")},
            "hard_state": next(log.query("SELECT term, vote FROM hard_state"), None),
            "boundary": next(log.query("SELECT idx, term FROM boundary"), None),
            "log": next(
                log.query(
                    "SELECT count(*) AS entries, min(idx) AS first, max(idx) AS last, sum(bytes) AS bytes FROM log"
                )
            ),
        }
    with closing(opened(directory, DATA)) as data:
        report["position"] = next(data.query("SELECT idx, term FROM position"), None)
        report["rows"] = {row["space"]: row["rows"] for row in data.query("SELECT space, rows FROM spaces")}
        report["copies"] = list(data.query("SELECT shard, num, keys, bytes FROM copies"))
    return report


def rows(directory: Path, table: str) -> Iterator[dict[str, Any]]:
    """The rows of one table or view of either file; bytes in base64.

    Raises:
        Refusal: there is no such table.
    """
    names: list[str] = []
    for kind in (LOG, DATA):
        with closing(opened(directory, kind)) as database:
            names += [*database.table_names(), *database.view_names()]
            if table in names:
                for row in database.query(f'SELECT * FROM "{table}"'):
                    yield {name: readable(value) for name, value in row.items()}
                return
    raise Refusal(f"there is no table {table}; there are {', '.join(sorted(names))}")


def opened(directory: Path, kind: Kind) -> Database:
    """One file, read-only.

    Raises:
        Refusal: it cannot be read.
    """
    path = directory / kind.file
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=READ_SECONDS, isolation_level=None)
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise Refusal(f"{path}: {error}") from None
    return Database(connection, execute_plugins=False, recursive_triggers=False)


def readable(value: Any) -> Any:
    """A value as JSON can carry it."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
