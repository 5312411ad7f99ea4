"""What a member's files give back: what was written, and nothing else; and only one process and connection writes.

A log that is opened holds exactly what was saved, cut and trimmed (hazards 13, 16, 34), and the entry at which the
rows stand, or begins there (hazards 31, 33). Rows that are loaded make the state that stood there when somebody wrote
them down (hazards 18, 28, 32). Rows of a peer replace no entry that was saved behind them (hazard 31). A snapshot's
connection cannot write (hazard 36).

It watches through wrappers around the production stores and machine, which change nothing. What a file holds is
remembered over all boots; what a message promises is in ``invariants``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

import msgspec

from twisted_kv.consensus.types import Position, Ready, Restored
from twisted_kv.interfaces import ICheckpoint, IDataStore, ISnapshot
from twisted_kv.simulation.judges.checkers import AS_WRITTEN, NOT_FORGOTTEN, ONE_WRITER

_WRITES_NOTHING: Final = "DELETE FROM rows WHERE 0"
"""Needs a connection that may write, and changes nothing."""


class Files:
    """Watches the files of all members of a cluster, over all their boots.

    Args:
        found: told which checker found what.
    """

    def __init__(self, found: Callable[[str, str], None]) -> None:
        self._found = found
        self._logs: dict[str, _Log] = {}
        self._stood: dict[tuple[int, int], tuple[int, str]] = {}

    def forgotten(self, name: str) -> None:
        """The directory of this member was wiped on purpose."""
        self._logs.pop(name, None)

    def restored(self, name: str, restored: Restored, position: Position) -> None:
        """A member has read its log; its rows stand at a position."""
        entries = {entry.index: entry.term for entry in restored.entries}
        boundary = restored.boundary
        if boundary.index > position.index or not _holds(boundary, entries, position):
            self._found(AS_WRITTEN, f"{name} has rows at {position}, its log is {_spelled(boundary, entries)}")
        known = self._logs.setdefault(name, _Log())
        begun_anew = not entries and boundary == position and not _holds(known.boundary, known.entries, position)
        if not begun_anew and (boundary, entries) != (known.boundary, known.entries):
            was = _spelled(known.boundary, known.entries)
            self._found(AS_WRITTEN, f"{name} had saved {was}, and came back with {_spelled(boundary, entries)}")
        known.boundary, known.entries = boundary, entries

    def saved(self, name: str, ready: Ready) -> None:
        """A save was carried out."""
        known = self._logs.setdefault(name, _Log())
        if ready.cut is not None:
            known.entries = {index: term for index, term in known.entries.items() if index < ready.cut}
        known.entries.update((entry.index, entry.term) for entry in ready.entries)

    def trimmed(self, name: str, boundary: Position) -> None:
        """Everything up to here is gone, or will be without further notice."""
        known = self._logs.setdefault(name, _Log())
        if boundary.index > known.boundary.index:
            known.boundary = boundary
            known.entries = {index: term for index, term in known.entries.items() if index > boundary.index}

    def begun_anew(self, name: str, position: Position) -> None:
        """The log was emptied behind rows of a peer that stand here."""
        known = self._logs.setdefault(name, _Log())
        behind = [index for index in known.entries if index > position.index]
        if behind and _holds(known.boundary, known.entries, position):
            lost = f"{min(behind)} to {max(behind)}"
            self._found(
                NOT_FORGOTTEN, f"{name} gave up entries {lost}, saved behind {position}, for rows that end there"
            )
        known.boundary, known.entries = position, {}

    def stood(self, gid: int, index: int, digest: int, name: str) -> None:
        """The state at an index was written as rows, or made from them."""
        known, whose = self._stood.setdefault((gid, index), (digest, name))
        if known != digest:
            self._found(AS_WRITTEN, f"the rows of {name} at {index} are not the state that {whose} had there")

    def opened_to_read(self, name: str, connection: sqlite3.Connection) -> None:
        """A member has opened another connection to its rows."""
        try:
            connection.execute(_WRITES_NOTHING)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY:
                return
        self._found(ONE_WRITER, f"a connection on which {name} reads a snapshot can write")


class _Log(msgspec.Struct):
    """What a log file holds: where it begins, and index → term of what is behind."""

    boundary: Position = Position(0, 0)
    entries: dict[int, int] = {}


def _holds(boundary: Position, entries: dict[int, int], position: Position) -> bool:
    return position == boundary or entries.get(position.index) == position.term


def _spelled(boundary: Position, entries: dict[int, int]) -> str:
    """In few words: runs of entries of one term."""
    runs: list[list[int]] = []
    for index, term in sorted(entries.items()):
        if runs and runs[-1][1:] == [index - 1, term]:
            runs[-1][1] = index
        else:
            runs.append([index, index, term])
    told = ", ".join(f"{first}-{last} of term {term}" for first, last, term in runs)
    return f"({told or 'nothing'} behind {boundary.index} of term {boundary.term})"


class KeptLog:
    """A log store of which Files knows what it holds; all else is the store's own.

    Args:
        rows: the data store beside it.
    """

    def __init__(self, log: Any, rows: IDataStore, files: Files, name: str) -> None:
        self._log = log
        self._rows = rows
        self._files = files
        self._name = name

    def restore(self) -> Restored:
        restored: Restored = self._log.restore()
        self._files.restored(self._name, restored, Position(*self._rows.position()))
        return restored

    def save(self, ready: Ready) -> None:
        self._log.save(ready)
        self._files.saved(self._name, ready)

    def trim(self, index: int, term: int, rows_max: int) -> bool:
        done: bool = self._log.trim(index, term, rows_max)
        self._files.trimmed(self._name, Position(index, term))
        return done

    def reset(self, index: int, term: int) -> None:
        self._log.reset(index, term)
        self._files.begun_anew(self._name, Position(index, term))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class KeptRows:
    """A machine and the data store that holds its rows, of one boot of one member.

    Args:
        position: where the rows stand on disk.

    Attributes:
        machine: it, watched.
    """

    def __init__(
        self, machine: Any, position: Callable[[], tuple[int, int]], files: Files, gid: int, name: str
    ) -> None:
        self._position = position
        self._files = files
        self._gid = gid
        self._name = name
        self._taken = 0
        self.machine = _KeptMachine(machine, self)

    def watched(self, store: IDataStore) -> IDataStore:
        """The data store, watched."""
        return _KeptData(store, self)

    def taken(self, digest: int) -> None:
        """Changes were taken from the machine, to be written."""
        self._taken = digest

    def loaded(self, digest: int) -> None:
        """The machine was made from the rows on disk."""
        self._files.stood(self._gid, self._position()[0], digest, self._name)

    def committed(self, index: int) -> None:
        """What was taken is on disk."""
        self._files.stood(self._gid, index, self._taken, self._name)

    def opened_to_read(self, snapshot: Any) -> None:
        """A snapshot was given out."""
        self._files.opened_to_read(self._name, snapshot._connection)


class _KeptMachine:
    def __init__(self, machine: Any, rows: KeptRows) -> None:
        self._machine = machine
        self._rows = rows
        self._loading = False

    def clear(self) -> None:
        self._machine.clear()
        self._loading = True

    def take_changes(self) -> Any:
        digest = self._machine.digest()
        if self._loading:
            self._rows.loaded(digest)
        else:
            self._rows.taken(digest)
        self._loading = False
        return self._machine.take_changes()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)


class _KeptData:
    """An IDataStore."""

    def __init__(self, store: Any, kept: KeptRows) -> None:
        self._store = store
        self._kept = kept
        self.position = store.position
        self.rows = store.rows

    def checkpoint(self, fresh: bool = False) -> ICheckpoint:
        checkpoint: ICheckpoint = self._store.checkpoint(fresh)
        return checkpoint if fresh else _KeptCheckpoint(checkpoint, self._kept)

    def snapshot(self) -> ISnapshot:
        snapshot: ISnapshot = self._store.snapshot()
        self._kept.opened_to_read(snapshot)
        return snapshot

    def close(self) -> None:
        self._store.close()


class _KeptCheckpoint:
    def __init__(self, checkpoint: ICheckpoint, kept: KeptRows) -> None:
        self._checkpoint = checkpoint
        self._kept = kept
        self.write = checkpoint.write
        self.drop = checkpoint.drop
        self.abort = checkpoint.abort

    def commit(self, index: int, term: int) -> None:
        self._checkpoint.commit(index, term)
        self._kept.committed(index)
